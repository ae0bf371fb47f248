// Sources of the table: the lists of public scanners, published ways around them, and the
// functions' documentation. A row without names covers the module and all its submodules. A row
// with "*" covers the module alone, because people have packages of that name.
#include "scan/dangerous_names.hpp"

#include <algorithm>
#include <array>
#include <string>

#include "base/str_cat.hpp"
#include "pickle/python_names.hpp"
#include "torch/weights_only.hpp"

namespace flatbed::pth {

namespace {

constexpr std::string_view kUnjudged = "code of a package";
constexpr std::string_view kCode = "runs code";
constexpr std::string_view kProcess = "starts processes";
constexpr std::string_view kFiles = "reads, writes or removes files";
constexpr std::string_view kNetwork = "uses the network";
constexpr std::string_view kAttributes = "reaches attributes or calls by name";
constexpr std::string_view kPickle = "loads another pickle, which no scan sees";
constexpr std::string_view kNative = "loads or calls native code";
constexpr std::string_view kProgram = "changes the running program";

struct Row {
  std::string_view module;
  std::string_view names;  // separated by blanks; "x*" means all names that begin with x
  std::string_view reason;
};

// clang-format off
constexpr std::array kRows{
    // Classes in modules that are dangerous otherwise: what torch.compile leaves in a model, and
    // subclasses of tensors. Their code is that of a package. The first row counts.
    Row{"torch._dynamo.eval_frame", "OptimizedModule OptimizeContext RunOnlyContext DisableContext "
                                    "_TorchDynamoContext null_context", kUnjudged},
    Row{"torch._dynamo.convert_frame", "CatchErrorsWrapper ConvertFrame ConvertFrameAssert "
                                       "ConvertFrameBox ConvertFrameReturn Tracker", kUnjudged},
    Row{"torch._dynamo.repro.after_dynamo", "WrapBackendDebug", kUnjudged},
    Row{"torch._dynamo.repro.after_aot", "WrapCompilerDebug", kUnjudged},
    Row{"torch._dynamo.hooks", "Hooks", kUnjudged},
    Row{"torch._dynamo.output_graph", "OutputGraph", kUnjudged},
    Row{"torch._dynamo.backends.debugging", "eager eager_* aot_eager* pre_dispatch_eager "
                                            "boxed_nop*", kUnjudged},
    Row{"torch._dynamo.backends.common", "AotAutograd aot_autograd", kUnjudged},
    Row{"torch._dynamo.backends.inductor", "inductor", kUnjudged},
    Row{"torch._dynamo.backends.cudagraphs", "*", kUnjudged},
    Row{"torch._inductor.compile_fx", "compile_fx", kUnjudged},
    Row{"torch._functorch.partitioners", "min_cut_rematerialization_partition "
                                         "default_partition", kUnjudged},
    Row{"torch.testing._internal.two_tensor", "TwoTensor TwoTensorMode", kUnjudged},
    Row{"torch.testing._internal.logging_tensor", "LoggingTensor LoggingTensorMode "
                                                  "LoggingTensorReentrant", kUnjudged},
    Row{"torch.testing._internal.subclasses", "*", kUnjudged},
    Row{"torch.testing._internal.custom_tensor", "*", kUnjudged},
    Row{"torch.testing._internal.common_subclass", "*", kUnjudged},
    // Built-in functions.
    Row{"builtins", "eval exec execfile compile __import__ breakpoint input raw_input help", kCode},
    Row{"builtins", "open file", kFiles},
    Row{"builtins", "getattr setattr delattr globals locals vars apply map filter", kAttributes},
    Row{"builtins", "exit quit reload __build_class__ __loader__ __spec__", kProgram},
    // Processes and the system.
    Row{"os", "", "runs commands, reaches files and processes"},
    Row{"posix", "", "runs commands, reaches files and processes"},
    Row{"nt", "", "runs commands, reaches files and processes"},
    Row{"subprocess", "", kProcess},
    Row{"_posixsubprocess", "", kProcess},
    Row{"_winapi", "", kProcess},
    Row{"popen2", "", kProcess},
    Row{"commands", "*", kProcess},
    Row{"pty", "", kProcess},
    Row{"pipes", "*", kProcess},
    Row{"multiprocessing", "", kProcess},
    Row{"_multiprocessing", "", kProcess},
    Row{"concurrent.futures", "", kProcess},
    Row{"asyncio", "", kProcess},
    Row{"platform", "", kProcess},
    Row{"webbrowser", "", kProcess},
    Row{"antigravity", "", kProcess},
    Row{"_osx_support", "", kProcess},
    Row{"_aix_support", "", kProcess},
    Row{"_pyrepl", "", kProcess},
    Row{"uuid", "_*", kProcess},
    Row{"psutil", "", kProcess},
    Row{"pexpect", "", kProcess},
    Row{"ptyprocess", "", kProcess},
    Row{"sh", "*", kProcess},
    Row{"plumbum", "", kProcess},
    Row{"fabric", "", kProcess},
    Row{"invoke", "*", kProcess},
    Row{"distutils", "", kProcess},
    Row{"setuptools", "", kProcess},
    Row{"pkg_resources", "", kProcess},
    Row{"pip", "", kProcess},
    Row{"ensurepip", "", kProcess},
    Row{"venv", "", kProcess},
    Row{"virtualenv", "", kProcess},
    Row{"test.support", "", kProcess},
    // Code from texts.
    Row{"code", "*", kCode},
    Row{"codeop", "", kCode},
    Row{"runpy", "", kCode},
    Row{"timeit", "", kCode},
    Row{"trace", "*", kCode},
    Row{"profile", "*", kCode},
    Row{"cProfile", "", kCode},
    Row{"pstats", "", kCode},
    Row{"pdb", "", kCode},
    Row{"bdb", "", kCode},
    Row{"cmd", "*", kCode},
    Row{"doctest", "", kCode},
    Row{"pydoc", "", kCode},
    Row{"idlelib", "", kCode},
    Row{"lib2to3", "", kCode},
    Row{"importlib", "", kCode},
    Row{"_frozen_importlib", "", kCode},
    Row{"_frozen_importlib_external", "", kCode},
    Row{"imp", "", kCode},
    Row{"_imp", "", kCode},
    Row{"zipimport", "", kCode},
    Row{"pkgutil", "", kCode},
    Row{"modulefinder", "", kCode},
    Row{"py_compile", "", kFiles},
    Row{"compileall", "", kFiles},
    Row{"zipapp", "", kFiles},
    Row{"types", "CodeType FunctionType LambdaType MethodType ModuleType CellType", kCode},
    Row{"typing", "ForwardRef ForwardRef.* _eval_type get_type_hints", kCode},
    Row{"dataclasses", "make_dataclass _create_fn", kCode},
    Row{"unittest", "", kCode},
    Row{"_interpreters", "", kCode},
    Row{"_xxsubinterpreters", "", kCode},
    Row{"_testcapi", "", kCode},
    Row{"_testinternalcapi", "", kCode},
    Row{"tkinter", "", kCode},
    Row{"_tkinter", "", kCode},
    Row{"turtle", "", kCode},
    Row{"IPython", "", kCode},
    Row{"ipykernel", "", kCode},
    Row{"jinja2", "", kCode},
    Row{"mako", "", kCode},
    Row{"numexpr", "", kCode},
    Row{"sympy", "sympify S parse_expr", kCode},
    Row{"sympy.parsing", "", kCode},
    Row{"sympy.core.sympify", "", kCode},
    Row{"sympy.utilities", "", kCode},
    Row{"pandas", "eval read_pickle read_* DataFrame.eval DataFrame.query DataFrame.to_*", kCode},
    Row{"pandas.io", "", kFiles},
    Row{"pandas.core.computation", "", kCode},
    // Calls by way of another function.
    Row{"operator", "attrgetter itemgetter methodcaller call", kAttributes},
    Row{"_operator", "attrgetter itemgetter methodcaller call", kAttributes},
    Row{"functools", "partial partialmethod reduce singledispatch cached_property", kAttributes},
    Row{"_functools", "partial reduce", kAttributes},
    Row{"itertools", "starmap accumulate", kAttributes},
    Row{"inspect", "", kAttributes},
    Row{"_collections_abc", "", kAttributes},
    Row{"string", "Formatter Formatter.*", kAttributes},
    // The program itself.
    Row{"sys", "", kProgram},
    Row{"site", "", kProgram},
    Row{"sitecustomize", "", kProgram},
    Row{"sysconfig", "", kProgram},
    Row{"gc", "", kProgram},
    Row{"atexit", "", kProgram},
    Row{"signal", "", kProgram},
    Row{"_signal", "", kProgram},
    Row{"_thread", "", kProgram},
    Row{"threading", "Thread Timer setprofile settrace Thread.* Timer.*", kProgram},
    Row{"sched", "", kProgram},
    Row{"weakref", "finalize", kProgram},
    Row{"_posixshmem", "", kProgram},
    Row{"faulthandler", "", kProgram},
    Row{"tracemalloc", "", kProgram},
    // Native code.
    Row{"ctypes", "", kNative},
    Row{"_ctypes", "", kNative},
    Row{"cffi", "", kNative},
    Row{"mmap", "", kNative},
    Row{"msvcrt", "", kNative},
    Row{"winreg", "", kNative},
    // Other unpicklers.
    Row{"pickle", "", kPickle},
    Row{"_pickle", "", kPickle},
    Row{"pickletools", "", kPickle},
    Row{"marshal", "", kPickle},
    Row{"shelve", "", kPickle},
    Row{"copyreg", "add_extension _extension_registry dispatch_table pickle", kPickle},
    Row{"dill", "", kPickle},
    Row{"cloudpickle", "", kPickle},
    Row{"pickle5", "", kPickle},
    Row{"jsonpickle", "", kPickle},
    Row{"joblib", "load Memory Parallel delayed hash dump", kPickle},
    Row{"joblib.numpy_pickle", "load* _unpickle NumpyUnpickler*", kPickle},
    Row{"joblib.memory", "", kPickle},
    Row{"joblib.externals", "", kPickle},
    Row{"sklearn.externals.joblib", "load", kPickle},
    Row{"yaml", "load load_all unsafe_load full_load unsafe_load_all full_load_all", kPickle},
    Row{"ruamel.yaml", "load", kPickle},
    // Files.
    Row{"io", "open open_code FileIO TextIOWrapper", kFiles},
    Row{"_io", "open open_code FileIO TextIOWrapper", kFiles},
    Row{"_pyio", "", kFiles},
    Row{"codecs", "open EncodedFile", kFiles},
    Row{"pathlib", "Path.* PosixPath.* WindowsPath.*", kFiles},
    Row{"pathlib._local", "Path.* PosixPath.* WindowsPath.*", kFiles},
    Row{"shutil", "", kFiles},
    Row{"tempfile", "", kFiles},
    Row{"fileinput", "", kFiles},
    Row{"linecache", "", kFiles},
    Row{"glob", "", kFiles},
    Row{"filecmp", "", kFiles},
    Row{"zipfile", "", kFiles},
    Row{"tarfile", "", kFiles},
    Row{"gzip", "", kFiles},
    Row{"bz2", "", kFiles},
    Row{"lzma", "", kFiles},
    Row{"sqlite3", "", kFiles},
    Row{"_sqlite3", "", kFiles},
    Row{"dbm", "", kFiles},
    Row{"readline", "", kFiles},
    Row{"logging", "FileHandler basicConfig", kFiles},
    Row{"logging.config", "", kCode},
    Row{"logging.handlers", "", kNetwork},
    Row{"xml.etree.ElementTree", "parse iterparse", kFiles},
    // The network.
    Row{"socket", "", kNetwork},
    Row{"_socket", "", kNetwork},
    Row{"socketserver", "", kNetwork},
    Row{"ssl", "", kNetwork},
    Row{"http", "", kNetwork},
    Row{"urllib", "", kNetwork},
    Row{"urllib3", "", kNetwork},
    Row{"httplib2", "", kNetwork},
    Row{"httpx", "", kNetwork},
    Row{"requests", "", kNetwork},
    Row{"aiohttp", "", kNetwork},
    Row{"websockets", "", kNetwork},
    Row{"ftplib", "", kNetwork},
    Row{"smtplib", "", kNetwork},
    Row{"smtpd", "", kNetwork},
    Row{"imaplib", "", kNetwork},
    Row{"poplib", "", kNetwork},
    Row{"nntplib", "", kNetwork},
    Row{"telnetlib", "", kNetwork},
    Row{"xmlrpc", "", kNetwork},
    Row{"asyncore", "", kNetwork},
    Row{"asynchat", "", kNetwork},
    Row{"wsgiref", "", kNetwork},
    Row{"paramiko", "", kNetwork},
    Row{"huggingface_hub", "", kNetwork},
    Row{"transformers.dynamic_module_utils", "", kCode},
    // numpy.
    Row{"numpy", "load save savez fromfile memmap loadtxt genfromtxt savetxt vectorize "
                 "apply_along_axis frompyfunc fromfunction", kFiles},
    Row{"numpy.f2py", "", kCode},
    Row{"numpy.testing", "", kCode},
    Row{"numpy.distutils", "", kProcess},
    Row{"numpy.ctypeslib", "", kNative},
    Row{"numpy.lib.npyio", "", kFiles},
    Row{"numpy.lib._npyio_impl", "", kFiles},
    Row{"numpy.lib.format", "", kFiles},
    Row{"numpy.lib._format_impl", "", kFiles},
    Row{"numpy.lib.utils", "", kFiles},
    Row{"numpy.compat", "", kFiles},
    // torch.
    Row{"torch", "load save compile", kPickle},
    Row{"torch.serialization", "load save _load _legacy_load _open_file* add_safe_globals "
                               "set_default_load_endianness", kPickle},
    Row{"torch.hub", "", kCode},
    Row{"torch.package", "", kCode},
    Row{"torch.ops", "", kNative},
    Row{"torch._ops", "", kNative},
    Row{"torch.classes", "", kNative},
    Row{"torch._classes", "", kNative},
    Row{"torch.library", "", kCode},
    Row{"torch._dynamo", "", kCode},
    Row{"torch._inductor", "", kCode},
    Row{"torch._functorch", "", kCode},
    Row{"torch.export", "load", kPickle},
    Row{"torch.jit", "load script trace CompilationUnit export", kCode},
    Row{"torch.jit.annotations", "", kCode},
    Row{"torch.jit.frontend", "", kCode},
    Row{"torch.jit.unsupported_tensor_ops", "", kCode},
    Row{"torch.fx.graph_module", "reduce_graph_module reduce_package_graph_module "
                                 "reduce_deploy_graph_module _forward_from_src _exec_with_source "
                                 "_deserialize_graph_module", kCode},
    Row{"torch.fx._lazy_graph_module", "", kCode},
    Row{"torch.fx.experimental.symbolic_shapes", "", kCode},
    Row{"torch.utils.cpp_extension", "", kNative},
    Row{"torch.utils.bottleneck", "", kCode},
    Row{"torch.utils.collect_env", "", kProcess},
    Row{"torch.utils._config_module", "", kPickle},
    Row{"torch.utils.show_pickle", "", kPickle},
    Row{"torch.utils.model_dump", "", kPickle},
    Row{"torch.utils.benchmark", "", kCode},
    Row{"torch.utils.data.datapipes", "", kCode},
    Row{"torch.utils._import_utils", "", kCode},
    Row{"torch.distributed.rpc", "", kCode},
    Row{"torch.distributed.nn", "", kCode},
    Row{"torch.distributed.distributed_c10d", "", kPickle},
    Row{"torch.distributed.elastic", "", kProcess},
    Row{"torch.distributed.run", "", kProcess},
    Row{"torch.distributed.launch", "", kProcess},
    Row{"torch.multiprocessing", "", kProcess},
    Row{"torch.testing", "", kCode},
    // TensorFlow and Keras.
    Row{"tensorflow", "io.* raw_ops.* load_library load_op_library py_function numpy_function "
                      "saved_model.*", kFiles},
    Row{"tensorflow.io", "", kFiles},
    Row{"tensorflow.python.lib.io", "", kFiles},
    Row{"keras.utils", "get_file get_source_inputs func_load", kCode},
    Row{"keras.src.utils.python_utils", "", kCode},
    Row{"keras.layers", "Lambda", kCode},
};
// clang-format on

// Modules that nothing should reach as an attribute of another.
constexpr std::array<std::string_view, 16> kCoreModules{
    "os",      "posix",  "nt",     "sys",    "subprocess", "builtins", "__builtin__", "importlib",
    "_pickle", "ctypes", "shutil", "socket", "pickle",     "runpy",    "pty",         "marshal"};

// Modules often import others under a name with underscores before it: argparse._os is os.
bool is_core_module(std::string_view name) {
  const std::string_view bare = name.substr(std::min(name.find_first_not_of('_'), name.size()));
  return std::ranges::find(kCoreModules, name) != kCoreModules.end() ||
         std::ranges::find(kCoreModules, bare) != kCoreModules.end();
}

bool within(std::string_view module, std::string_view parent) {
  return module.starts_with(parent) &&
         (module.size() == parent.size() || module[parent.size()] == '.');
}

bool lists(std::string_view names, std::string_view name) {
  while (!names.empty()) {
    const std::string_view first = names.substr(0, names.find(' '));
    names.remove_prefix(std::min(names.size(), first.size() + 1));
    if (first == name) return true;
    if (first.ends_with('*') && name.starts_with(first.substr(0, first.size() - 1))) return true;
  }
  return false;
}

// The reason in the table's row for a name, or empty.
std::string_view find_reason(std::string_view module, std::string_view qualname) {
  const std::string_view outer = qualname.substr(0, qualname.find('.'));
  for (const Row& row : kRows) {
    if (row.names.empty() && within(module, row.module)) return row.reason;
    if (row.module != module) continue;
    // An attribute of a function or class is as dangerous as the function or class.
    if (lists(row.names, qualname) || lists(row.names, outer)) return row.reason;
  }
  // A module that is imported as a name of its package.
  const std::string inner = str_cat(module, ".", outer);
  for (const Row& row : kRows) {
    if ((row.names.empty() || row.names == "*") && row.module == inner) return row.reason;
  }
  return {};
}

bool is_dunder(std::string_view name) {
  return name.size() > 4 && name.starts_with("__") && name.ends_with("__") && name != "__new__" &&
         name != "__init__";
}

// The names that a dotted name reaches on its way: os.path's os.system is os.system.
std::string_view find_dotted_reason(std::string_view qualname) {
  for (std::string_view rest = qualname; !rest.empty();) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    if (is_core_module(part) || is_dunder(part)) return kAttributes;
    if (dot == rest.npos) break;
    rest.remove_prefix(dot + 1);
    if (const std::string_view reason = find_reason(part, rest); !reason.empty()) return reason;
  }
  return {};
}

// Strips what Python does not strip but other readers may.
std::string_view trimmed(std::string_view name) {
  const auto odd = [](char c) { return static_cast<unsigned char>(c) <= 0x20 || c == '\x7F'; };
  while (!name.empty() && odd(name.front())) name.remove_prefix(1);
  while (!name.empty() && odd(name.back())) name.remove_suffix(1);
  return name;
}

bool is_name(std::string_view name) {
  return !name.empty() && std::none_of(name.begin(), name.end(), [](char c) {
    return static_cast<unsigned char>(c) <= 0x20 || c == '\x7F';
  });
}

}  // namespace

NameJudgement judge_name(std::string_view module, std::string_view qualname) {
  if (!is_name(module) || !is_name(qualname)) {
    const std::string_view clean = trimmed(module), clean_name = trimmed(qualname);
    const bool other = clean.size() + clean_name.size() < module.size() + qualname.size();
    if (other && is_name(clean) && is_name(clean_name)) {
      const NameJudgement judgement = judge_name(clean, clean_name);
      if (judgement.severity == ScanVerdict::dangerous) return judgement;
    }
    return {ScanVerdict::unknown, "not a name that a pickler writes"};
  }
  if (loads_global(module, qualname)) return {ScanVerdict::plain, ""};
  std::string_view reason = find_reason(module, qualname);
  if (reason == kUnjudged) reason = {};
  if (reason.empty() && qualname.find('.') != qualname.npos) reason = find_dotted_reason(qualname);
  if (reason.empty() && (is_core_module(qualname) || is_dunder(qualname)) && module != "copyreg")
    reason = kAttributes;
  if (!reason.empty()) return {ScanVerdict::dangerous, reason};
  return {};
}

NameJudgement judge_spelling(std::string_view module, std::string_view qualname,
                             unsigned protocol) {
  const PythonName modern = python3_name({module, qualname});
  const NameJudgement renamed = judge_name(modern.module, modern.name);
  if (renamed.severity == ScanVerdict::dangerous) return renamed;
  const NameJudgement spelled = judge_name(module, qualname);
  if (spelled.severity == ScanVerdict::dangerous) return spelled;
  return protocol < 3 ? renamed : spelled;
}

bool leads_anywhere(std::string_view attribute) {
  return is_core_module(attribute) || is_dunder(attribute);
}

}  // namespace flatbed::pth
