// judge_name(): every name that torch 2.14 allows is plain, every known gadget is dangerous, all
// others are unknown.
#include "scan/dangerous_names.hpp"

#include <gtest/gtest.h>

#include <random>
#include <sstream>
#include <string>
#include <string_view>

#include "base/bytes.hpp"
#include "scan/stream_scan.hpp"
#include "support/pickle_asm.hpp"
#include "torch/weights_only.hpp"

namespace flatbed::pth {
namespace {

// torch._weights_only_unpickler._get_allowed_globals() of torch 2.14.1.
constexpr std::string_view kAllowed = R"(
_codecs.encode builtins.bytearray builtins.complex builtins.set collections.Counter
collections.OrderedDict torch.BFloat16Storage torch.BFloat16Tensor torch.BoolStorage
torch.BoolTensor torch.ByteStorage torch.ByteTensor torch.CharStorage torch.CharTensor
torch.ComplexDoubleStorage torch.ComplexFloatStorage torch.DoubleStorage torch.DoubleTensor
torch.FloatStorage torch.FloatTensor torch.HalfStorage torch.HalfTensor torch.IntStorage
torch.IntTensor torch.LongStorage torch.LongTensor torch.QInt32Storage torch.QInt8Storage
torch.QUInt2x4Storage torch.QUInt4x2Storage torch.QUInt8Storage torch.ShortStorage
torch.ShortTensor torch.Size torch.Tensor torch._tensor._rebuild_from_type_v2
torch._utils._rebuild_device_tensor_from_cpu_tensor torch._utils._rebuild_device_tensor_from_numpy
torch._utils._rebuild_meta_tensor_no_storage torch._utils._rebuild_nested_tensor
torch._utils._rebuild_parameter torch._utils._rebuild_parameter_with_state
torch._utils._rebuild_qtensor torch._utils._rebuild_sparse_tensor torch._utils._rebuild_tensor
torch._utils._rebuild_tensor_v2 torch._utils._rebuild_tensor_v3
torch._utils._rebuild_wrapper_subclass torch.bcomplex32 torch.bfloat16 torch.bits16 torch.bits1x8
torch.bits2x4 torch.bits4x2 torch.bits8 torch.bool torch.complex128 torch.complex32
torch.complex64 torch.cuda.BFloat16Storage torch.cuda.BFloat16Tensor torch.cuda.BoolStorage
torch.cuda.BoolTensor torch.cuda.ByteStorage torch.cuda.ByteTensor torch.cuda.CharStorage
torch.cuda.CharTensor torch.cuda.ComplexDoubleStorage torch.cuda.ComplexFloatStorage
torch.cuda.DoubleStorage torch.cuda.DoubleTensor torch.cuda.FloatStorage torch.cuda.FloatTensor
torch.cuda.HalfStorage torch.cuda.HalfTensor torch.cuda.IntStorage torch.cuda.IntTensor
torch.cuda.LongStorage torch.cuda.LongTensor torch.cuda.ShortStorage torch.cuda.ShortTensor
torch.cuda.sparse.BFloat16Tensor torch.cuda.sparse.ByteTensor torch.cuda.sparse.CharTensor
torch.cuda.sparse.DoubleTensor torch.cuda.sparse.FloatTensor torch.cuda.sparse.HalfTensor
torch.cuda.sparse.IntTensor torch.cuda.sparse.LongTensor torch.cuda.sparse.ShortTensor
torch.device torch.float16 torch.float32 torch.float4_e2m1fn_x2 torch.float64 torch.float8_e4m3fn
torch.float8_e4m3fnuz torch.float8_e5m2 torch.float8_e5m2fnuz torch.float8_e8m0fnu torch.int1
torch.int16 torch.int2 torch.int3 torch.int32 torch.int4 torch.int5 torch.int6 torch.int64
torch.int7 torch.int8 torch.nn.parameter.Parameter torch.per_channel_affine
torch.per_channel_affine_float_qparams torch.per_channel_symmetric torch.per_tensor_affine
torch.per_tensor_symmetric torch.qint32 torch.qint8 torch.quint2x4 torch.quint4x2 torch.quint8
torch.serialization._get_layout torch.sparse.BFloat16Tensor torch.sparse.ByteTensor
torch.sparse.CharTensor torch.sparse.DoubleTensor torch.sparse.FloatTensor torch.sparse.HalfTensor
torch.sparse.IntTensor torch.sparse.LongTensor torch.sparse.ShortTensor torch.storage.TypedStorage
torch.storage.UntypedStorage torch.uint1 torch.uint16 torch.uint2 torch.uint3 torch.uint32
torch.uint4 torch.uint5 torch.uint6 torch.uint64 torch.uint7 torch.uint8
)";

constexpr std::string_view kGadgets = R"(
builtins.eval builtins.exec builtins.compile builtins.open builtins.getattr builtins.apply
builtins.breakpoint builtins.__import__ builtins.globals builtins.input builtins.setattr
builtins.delattr builtins.vars os.system os.popen posix.system nt.system subprocess.Popen
subprocess.check_output pty.spawn multiprocessing.util.spawnv_passfds _posixsubprocess.fork_exec
asyncio.unix_events._UnixSubprocessTransport._start uuid._get_command_stdout
_osx_support._read_output _aix_support._read_cmd_output _pyrepl.pager.pipe_pager
imaplib.IMAP4_stream pydoc.pipepager pydoc.locate webbrowser.open pipes.Template platform.popen
runpy._run_code code:InteractiveInterpreter.runcode codeop.compile_command timeit.timeit
trace:Trace.run trace:Trace.runctx cProfile.run cProfile.runctx profile.run profile:Profile.run
pdb.run bdb.Bdb.run doctest.debug_script idlelib.pyshell.ModifiedInterpreter.runcode
idlelib.run.Executive.runcode idlelib.calltip.get_entity idlelib.debugobj.ObjectTreeItem.SetText
lib2to3.pgen2.grammar.Grammar.loads lib2to3.pgen2.pgen.ParserGenerator.make_label types.CodeType
types.FunctionType marshal.loads _interpreters.run_string _xxsubinterpreters.run_string
test.support.script_helper.assert_python_ok venv.main ensurepip._run_pip pip.main
operator.attrgetter operator.itemgetter operator.methodcaller _operator.attrgetter
functools.partial functools.reduce pkgutil.resolve_name importlib.import_module imp.load_source
inspect.getattr_static gc.get_objects site.main pickle.loads _pickle.loads dill.loads dill.load
joblib.load cloudpickle.cloudpickle._make_function cloudpickle.cloudpickle.subimport
torch.serialization.load torch.load shelve.open numpy.load pandas.read_pickle ctypes.CDLL
_io.FileIO io.open logging.FileHandler distutils.file_util.write_file shutil.rmtree
tempfile.mktemp zipfile.ZipFile tarfile.open sqlite3.connect urllib.request.urlopen
requests.api.get http.client.HTTPSConnection aiohttp.client.ClientSession socket.create_connection
ssl.get_server_certificate smtplib.SMTP torch._dynamo.guards.GuardBuilder.get
torch._inductor.codecache.compile_file
torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression
torch.jit.unsupported_tensor_ops.execWrapper torch.utils.bottleneck.__main__.run_cprofile
torch.utils.collect_env.run torch.utils._config_module.ConfigModule.load_config
torch.utils.data.datapipes.utils.decoder.basichandlers torch.jit.annotations.parse_type_line
torch.distributed.rpc.internal.PythonUDF torch.hub.load torch.fx.graph_module.reduce_graph_module
numpy.f2py.crackfortran.getlincoef numpy.testing._private.utils.runstring sys.modules sys.exit
torch.serialization.os
)";

constexpr std::string_view kOthers = R"(
argparse.Namespace builtins.frozenset builtins.bytes builtins.object builtins.list builtins.int
collections.defaultdict collections.deque collections.namedtuple copyreg._reconstructor
copyreg.__newobj__ datetime.datetime pathlib.PosixPath uuid.UUID numpy.ndarray numpy.dtype
numpy.core.multiarray._reconstruct numpy._core.multiarray.scalar
numpy.random._pickle.__randomstate_ctor torch.nn.modules.linear.Linear torch._utils.torch
torch.storage._load_from_bytes torch.optim.sgd.SGD torch._utils._rebuild_sparse_csr_tensor
torch.sparse.BoolTensor torch.cuda.QInt8Storage torch.UntypedStorage torch.ComplexFloatTensor
torch.FloatTensors torch.float33 OrderedDict.collections osx.system oss.path
omegaconf.dictconfig.DictConfig types.SimpleNamespace io.BytesIO _io.BytesIO code.model.Net
re._compile decimal.Decimal threading.Lock joblib.numpy_pickle.NumpyArrayWrapper __main__.Config
models.yolo.Model torch.jit._pickle.build_intlist
)";

// Each "module.name" of a list, parted at its colon or else its last dot.
template <typename Check>
void for_each(std::string_view list, Check check) {
  std::istringstream words{std::string(list)};
  for (std::string word; words >> word;) {
    const std::size_t colon = word.find(':');
    const std::size_t dot = colon == word.npos ? word.rfind('.') : colon;
    check(word.substr(0, dot), word.substr(dot + 1));
  }
}

TEST(DangerousNames, AllowsExactlyWhatTorchAllows) {
  std::size_t count = 0;
  for_each(kAllowed, [&](const std::string& module, const std::string& name) {
    ++count;
    EXPECT_TRUE(loads_global(module, name)) << module << "." << name;
    EXPECT_EQ(judge_name(module, name).severity, ScanVerdict::plain) << module << "." << name;
    // One character more or less, or another module, is another name.
    EXPECT_NE(judge_name(module, name + "_").severity, ScanVerdict::plain) << name;
    EXPECT_NE(judge_name(module + "x", name).severity, ScanVerdict::plain) << module;
    EXPECT_NE(judge_name(module, "_" + name).severity, ScanVerdict::plain) << name;
  });
  EXPECT_EQ(count, 145u);
}

TEST(DangerousNames, NamesEveryKnownGadget) {
  for_each(kGadgets, [](const std::string& module, const std::string& name) {
    EXPECT_EQ(judge_name(module, name).severity, ScanVerdict::dangerous) << module << "." << name;
  });
}

TEST(DangerousNames, FindsGadgetsWhereverTheDotsAreSplit) {
  for_each(kGadgets, [](const std::string& module, const std::string& name) {
    const std::size_t dot = module.find('.');
    if (dot == module.npos) return;
    // As an attribute of the outermost package, which imports its parts or does not.
    const std::string outer = module.substr(0, dot);
    const std::string rest = module.substr(dot + 1) + "." + name;
    EXPECT_NE(judge_name(outer, rest).severity, ScanVerdict::plain) << outer << " " << rest;
  });
}

TEST(DangerousNames, LeavesOtherNamesUnknown) {
  for_each(kOthers, [](const std::string& module, const std::string& name) {
    EXPECT_EQ(judge_name(module, name).severity, ScanVerdict::unknown) << module << "." << name;
  });
}

TEST(DangerousNames, TakesNoNameThatItDoesNotKnowForPlain) {
  constexpr std::string_view kCharacters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_._019\r\t ";
  std::mt19937 random(1);
  const auto word = [&](std::size_t limit) {
    std::string out;
    for (std::size_t i = random() % limit + 1; i > 0; --i)
      out += kCharacters[random() % kCharacters.size()];
    return out;
  };
  for (int i = 0; i < 100'000; ++i) {
    const std::string module = i % 2 == 0 ? word(12) : "torch";
    const std::string name = word(12);
    EXPECT_EQ(judge_name(module, name).severity == ScanVerdict::plain, loads_global(module, name));
    EXPECT_NE(judge_name(module, name + "9z").severity, ScanVerdict::plain) << module << name;
  }
}

// The verdict on a pickle in memory.
ScanVerdict verdict_of(const std::string& pickle) {
  ScanLog log;
  ScanBytes bytes(as_bytes(pickle));
  static_cast<void>(scan_record(bytes, log, {}));
  return log.verdict();
}

TEST(DangerousNames, AreFoundInEveryFormOfAnImport) {
  using test::pickle::finish;
  using test::pickle::global;
  using test::pickle::text;
  for_each(kGadgets, [](const std::string& module, const std::string& name) {
    const std::string memo = text(module) + "q\x01" + text(name) + "q\x02" + "00h\x01h\x02\x93";
    const std::string text_memo = "V" + name + "\np5\n0V" + module + "\ng5\n\x93";
    for (const std::string& body :
         {global(module, name) + ")R", text(module) + text(name) + "\x93)R",
          "(i" + module + "\n" + name + "\n", "(" + global(module, name) + "o0N", memo + ")\x81",
          text_memo + ")R", global(module, name) + "2)R0N"})
      EXPECT_EQ(verdict_of(finish(body)), ScanVerdict::dangerous) << module << " " << name;
    EXPECT_NE(verdict_of(finish(global(module + "x", name + "x") + ")R")), ScanVerdict::plain);
  });
}

}  // namespace
}  // namespace flatbed::pth
