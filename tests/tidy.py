"""The style page of CONTRIBUTING.md as a test: layers, words, sizes and forms that a compiler does
not check. Prints one line per finding; exit status 1 if there is any.

Usage: tidy.py            over the checkout that it lies in
"""

import ast
import glob
import math
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOP_FOLDERS = {"include", "src", "cuda", "mpi", "remote", "tools", "tests", "bench", "spec", "doc", "python",
               "examples"}
CPP = (".cpp", ".hpp", ".h", ".c")
MAX_COLUMNS = 100
MAX_COLUMNS_PYTHON = 120
MAX_LINES = 60
MAX_LINES_IN_TESTS = 70
TABLE_OF_CODES = "include/flatbed/error.hpp"
MAX_SUBJECT = 72
LAST_WITHOUT_SUBJECT_LIMIT = "264716f1985d169cbd00c437febe37761cbca003"

# Codes that no test can bring about on a sound machine.
UNTESTABLE = {"device_error", "internal_error"}

# Public headers that the rooms below checkpoint may use: the vocabulary, nothing that opens files.
VOCABULARY = {f"flatbed/{unit}.hpp"
              for unit in ("available_memory", "byte_source", "cast", "dtype", "error", "export", "file_info",
                           "page_lock", "result", "scan_finding", "seal_state", "source_folder", "tensor",
                           "torch_module", "unsafe_objects", "value", "version", "byte_sink")}

# The rooms of src/, lowest first. A room includes itself and the rows below its own; rooms in one
# row do not know each other. No source lies outside a room.
ROOMS = [
    ["base"],
    ["io"],
    ["value", "safetensors", "archive", "pickle", "cast"],
    ["torch"],
    ["checkpoint"],
    ["save", "scan"],
    ["load"],
    ["ranks"],
    ["series"],
    ["c"],
]
LOWEST_OVER_PUBLIC = "checkpoint"  # from this room up, every public header may be included


def make_room_layers():
    """One row of LAYERS for each room."""
    below, every_header = [], False
    for row in ROOMS:
        every_header = every_header or LOWEST_OVER_PUBLIC in row
        for room in row:
            allowed = [*below, room] + (["flatbed"] if every_header else [])
            yield rf"src/{room}/", "|".join(f"{name}/" for name in allowed)
        below += row


# (files, what they may include with quotes). The first row that fits a file counts.
LAYERS = [
    (r"include/flatbed/", r"flatbed/"),
    (r"src/c/", r"flatbed/|c/|base/str_cat\.hpp$"),  # over what everybody has
    *make_room_layers(),
    (r"src/", r"(?!)"),
    (r"cuda/", r"flatbed/(c_handles|cuda|device|error|export|flatbed_cuda|result)\.hp?p?$"
     r"|c/(arguments|callbacks|guard)\.hpp$|[a-z_]+\.hpp$"),
    (r"mpi/", r"flatbed/(collective|error|export|mpi|result)\.hpp$|[a-z_]+\.hpp$"),
    (r"remote/", r"flatbed/(byte_sink|byte_source|c_handles|checkpoint|error|export|hub_listing|remote|result)\.hpp$"
     r"|flatbed/(source_folder|version)\.hpp$|flatbed/flatbed_remote\.h$"
     r"|c/(arguments|callbacks|guard|view_options)\.hpp$|[a-z0-9_]+\.hpp$"),
    (r"tools/", r"flatbed/|[a-z_]+\.hpp$"),
    (r"python/src/", r"flatbed/|[a-z_]+\.hpp$"),  # over what everybody has
    (r"(tests|bench)/", r""),
]

# (header, who may include it)
GUARDED_HEADERS = [
    (r"simdjson\.h", r"src/base/json\.cpp|tools/job_text\.cpp|tests/|bench/"),
    (r"xxhash\.h", r"src/io/digest\.cpp|remote/block_cache\.cpp|tools/(load_digest|text_hash)\.cpp|tests/|"
     r"bench/"),
    (r"zlib\.h", r"src/archive/(inflate|crc32|unpack)\.cpp|tests/"),
    (r"lzma\.h", r"src/archive/unpack\.cpp|tests/"),
    (r"libdeflate\.h", r"src/archive/crc32\.cpp|tests/"),
    (r"liburing\.h", r"src/io/read_queue\.cpp|tests/"),
    (r"(CLI|fmt)/", r"tools/"),
    (r"curl/", r"remote/|tests/remote/|bench/"),
    (r"expat\.h", r"remote/xml\.cpp"),
    (r"openssl/", r"remote/digest\.cpp"),
    (r"cuda", r"cuda/|tests/cuda/|tests/support/(fake_cuda|load_)"),
    (r"mpi\.h$", r"include/flatbed/mpi\.hpp|mpi/|tests/ranks/|bench/|tools/"),
    (r"pthread\.h", r"src/io/|cuda/(own|device)_thread\.cpp|remote/(engine|workers)\.hpp|tools/|tests/|bench/"),
    (r"(unistd|fcntl|poll|dirent)\.h|sys/|linux/",
     r"src/io/|cuda/(device_thread|pinned_memory)\.cpp|remote/(block_cache|engine)\.cpp|mpi/mpi_collective\.cpp|"
     r"tools/|tests/|bench/|python/src/(pieces|verified_chunks)\.cpp"),
    (r"csignal", r"src/io/leased_file\.cpp|tools/|tests/|bench/"),  # for the name of a signal
    (r"(iostream|cstdio|clocale|typeinfo)", r"tools/|tests/|bench/"),
]

# (word, why it is not in the library, the files that may)
WORDS = [
    (r"throw|try|catch", "errors are values",
     r"src/base/error\.cpp|src/c/guard\.hpp|remote/exchange\.cpp"),  # the last two: called by C
    (r"abort|exit|terminate", "a library does not end the process", r"src/base/error\.cpp"),
    (r"new(?! \(std::nothrow\))|delete|malloc|free", "owners are containers and smart pointers",
     r"src/io/large_allocator\.|src/archive/inflate\.cpp"),  # an allocator; a stream with its deleter
    (r"printf|fprintf|puts|cout|cerr", "a library does not print", None),
    (r"getenv|system|dlopen", "a library takes what it needs as arguments",
     r"cuda/driver_functions\.cpp"),
    (r"dynamic_cast|typeid", "builds without RTTI", None),
    (r"using namespace(?! std::(?:string_view_)?literals)", "names say where they come from", None),
]


class File:
    """One text file: its path from the root, its lines, and for C++ its code with comments and
    the contents of literals blanked out, line by line the same."""

    def __init__(self, path):
        self.path = path
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            self.text = file.read()
        self.lines = self.text.splitlines()
        self.is_cpp = path.endswith(CPP)
        self.code = blank(self.text) if self.is_cpp else ""


TOKENS = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<raw>[^(\s]*)\(.*?\)(?P=raw)"'
    r"|\"(?:\\.|[^\"\\\n])*\"|(?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])*'", re.DOTALL)


def blank(text):
    """`text` without comments and literals, its line breaks kept."""
    def replace(match):
        token = match.group()
        if token.startswith("/"):
            return re.sub(r"[^\n]", " ", token)
        if text[text.rfind("\n", 0, match.start()) + 1:match.start()].startswith("#include"):
            return token
        return '"' + re.sub(r"[^\n]", " ", token[1:-1]) + '"'
    return TOKENS.sub(replace, text)


def find_files():
    """Every text file of the project; build trees and binary data are not."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(name for name in folders if not (
            name in (".git", ".cache", "__pycache__", "vectors", "torch1", "torch2", "kept")
            or folder == ROOT and name.startswith("build")))
        for name in sorted(names):
            path = os.path.relpath(os.path.join(folder, name), ROOT)
            if not name.endswith((".pth", ".pt", ".bin", ".safetensors", ".pyc", ".txt", ".out", "py.typed",
                                  "compile_commands.json")) or name == "CMakeLists.txt":
                yield File(path)


# ---- one function per rule: yields (line, what is wrong) ----------------------------------------

def check_includes(file):
    allowed = next((layer for where, layer in LAYERS if re.match(where, file.path)), None)
    for number, line in enumerate(file.code.splitlines(), 1):
        match = re.match(r'#include ([<"])([^>"]+)', line)
        if not match:
            continue
        quote, header = match.groups()
        if quote == '"' and not re.match(allowed, header) and header not in VOCABULARY:
            yield number, f"{header} is not in a layer that {os.path.dirname(file.path)} may use"
        for guarded, users in GUARDED_HEADERS:
            if re.match(guarded, header) and not re.match(users, file.path):
                yield number, f"<{header}> belongs to {users.replace(chr(92), '')}"


def check_words(file):
    if not file.path.startswith(("include/", "src/", "cuda/", "mpi/", "remote/")):
        return
    code = re.sub(r"(?:=\s*delete\b|\bstd::exception\b)", "", file.code)
    for number, line in enumerate(code.splitlines(), 1):
        for words, reason, exempt in WORDS:
            match = re.search(rf"(?<![\w.])(?:{words})\b(?!\.h)", line)
            if match and not line.startswith("#") and not (exempt and re.match(exempt, file.path)):
                yield number, f"'{match.group()}': {reason}"


def find_functions(code):
    """Yields (first line, last line) of each function body that is in no other one."""
    depth = 0          # of braces
    inside = None      # (depth, first line) of the function being read
    start = 0          # where the text since the last ; { } begins
    for match in re.finditer(r"[;{}]", code):
        if match.group() == "{":
            head = blank_directives(code[start:match.start()])
            if inside is None and is_function_head(head):
                first = code.count("\n", 0, start + len(head) - len(head.lstrip())) + 1
                inside = (depth, first)
            depth += 1
        elif match.group() == "}":
            depth -= 1
            if inside is not None and depth == inside[0]:
                yield inside[1], code.count("\n", 0, match.start()) + 1
                inside = None
        start = match.end()


def blank_directives(code):
    """`code` without preprocessor lines and their continuations, its line breaks kept."""
    return re.sub(r"^[^\S\n]*#(?:.*\\\n)*.*$", lambda match: "\n" * match.group().count("\n"),
                  code, flags=re.MULTILINE)


def is_function_head(head):
    return "(" in head and not re.match(
        r"\s*(?:namespace|class|struct|enum|union|extern|inline constexpr|constexpr std::array)\b", head)


def check_function_sizes(file):
    limit = MAX_LINES_IN_TESTS if file.path.startswith(("tests/", "bench/", "python/tests/")) else MAX_LINES
    spans = []
    if file.is_cpp:
        spans = list(find_functions(file.code))
    elif file.path.endswith(".py"):
        spans = [(node.lineno, node.end_lineno - docstring_lines(node)) for node in ast.walk(ast.parse(file.text))
                 if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    check_function_sizes.count += len(spans)
    for first, last in spans:
        if last - first + 1 > limit:
            yield first, f"a function of {last - first + 1} lines, the limit is {limit}"


check_function_sizes.count = 0


def docstring_lines(node):
    first = node.body[0]
    return first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0


def check_head(file):
    """A file says first what it is; a source may leave that to its own header."""
    first = file.lines[0] if file.lines else ""
    own_header = re.sub(r"\.cpp$", ".hpp", file.path.split("/", 1)[-1])
    own_headers = (f'#include "{own_header}"', f'#include "flatbed/{os.path.basename(own_header)}"',
                   f'#include "{own_header.removeprefix("src/")}"')
    if file.is_cpp:
        if not first.startswith("// ") and first not in own_headers:
            yield 1, "the file does not begin with what it is"
        if file.path.endswith(".hpp") and "#pragma once" not in file.lines:
            yield 1, "a header without #pragma once"
    elif file.path.endswith(".py"):
        if ast.get_docstring(ast.parse(file.text)) is None:
            yield 1, "the file does not begin with what it is"
    elif file.path.endswith("CMakeLists.txt") and not first.startswith("# "):
        yield 1, "the file does not begin with what it is"


def check_lines(file):
    table = False
    is_python = file.path.endswith(".py") and not file.path.startswith("python/") or file.path == "tools/gpu_check"
    limit = MAX_COLUMNS_PYTHON if is_python else MAX_COLUMNS
    if file.path.endswith((".md", ".json", ".tsv", "LICENSE")):
        limit = math.inf
    for number, line in enumerate(file.lines, 1):
        if file.path == TABLE_OF_CODES and "clang-format o" in line:
            table = "clang-format off" in line
        if len(line) > limit and not table:
            yield number, f"{len(line)} columns, the limit is {limit}"
        if line != line.rstrip() or "\t" in line:
            yield number, "a tab, or blanks at the end of the line"
    if not file.text.endswith("\n") or file.text.endswith("\n\n"):
        yield len(file.lines), "the file does not end with one line break"


def check_comments_of_declarations(file):
    """clang-format splits a line that is too long with its comment: the comment then belongs above it."""
    if not file.path.startswith(("include/", "src/", "cuda/", "mpi/", "remote/", "tools/")):
        return
    for number, (line, after) in enumerate(zip(file.lines, file.lines[1:]), 2):
        begins = line.strip() and not re.search(r"[;{}:,]\s*(//.*)?$|^\s*(//|#)|\\$|>$", line)
        if begins and re.search(r"[;)}]  // (?!NOLINT)", after):
            yield number, "a line was split to keep the comment at its end: put the comment above"


# Written in two parts, so that this file does not find itself.
MARKS = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|HA" + r"CK)\b")
MACHINE_PATHS = re.compile(r"(?<![\w.}])/(?:wo" + r"rk|ro" + r"ot|ho" + r"me|Us" + r"ers)/\w")


def check_text(file):
    for number, line in enumerate(file.lines, 1):
        if MARKS.search(line):
            yield number, "work left for later: do it, or write it down as an issue"
        if MACHINE_PATHS.search(line):
            yield number, "a path of one machine"


# ---- rules over the whole project ---------------------------------------------------------------

def check_folders():
    rooms = {room for row in ROOMS for room in row}
    for folder in ("src", "tests"):
        for name in sorted(os.listdir(os.path.join(ROOT, folder))):
            path = f"{folder}/{name}"
            if name.endswith(CPP):
                yield path, 1, "a source outside the rooms"
            elif folder == "src" and os.path.isdir(os.path.join(ROOT, path)) and name not in rooms | {"cmake"}:
                yield path, 1, "a room that ROOMS in tests/tidy.py does not list"
    for name in sorted(os.listdir(ROOT)):
        if (os.path.isdir(os.path.join(ROOT, name)) and not name.startswith((".", "build"))
                and name not in TOP_FOLDERS):
            yield name, 1, f"the folders at the top are exactly {', '.join(sorted(TOP_FOLDERS))}"


SCOPES = re.compile(
    r"namespace\s*(?P<space>[\w:]*)\s*\{|(?:^|\n)\s*(?:struct|class|enum class|union)\s+"
    r"(?:FLATBED_\w+\s+|\[\[\w+\]\]\s+|alignas\([^)]*\)\s+)*(?P<type>[\w:]+)(?:\s+final)?\s*(?::[^;{]*)?\{|[{}]")


def types_of(file):
    """(name with namespaces, line) of the types that the file defines outside of unnamed namespaces."""
    scopes = []  # names of namespaces; "" without a name, None for what is none
    for match in SCOPES.finditer(file.code):
        if match.group() == "}":
            scopes[-1:] = []
        elif match["space"] is not None:
            scopes.append(match["space"])
        else:
            if match["type"] and all(scopes):
                yield "::".join([*scopes, match["type"]]), file.code.count("\n", 0, match.start("type")) + 1
            scopes.append(None)


def check_types(files):
    """Linkers take two types of one name for one, and then call either's functions for both."""
    first = {}
    for file in files:
        if not file.is_cpp or file.path.startswith(("tests/install/", "bench/", "examples/")):
            continue
        for name, line in types_of(file):
            if first.setdefault(name, file.path) != file.path and name.startswith("flatbed::"):
                yield file.path, line, f"{name} is also a type of {first[name]}"


def check_codes(files):
    """Each code of the container, the seal, the tree and the sets is in the specification, and
    each code at all is in a test."""
    by_path = {file.path: file for file in files}
    table = re.findall(r"^ +X\((\d+), (\w+), ", by_path[TABLE_OF_CODES].text, re.MULTILINE)
    spec = by_path["spec/FORMAT.md"].text if "spec/FORMAT.md" in by_path else ""
    tests = "\n".join(file.text for file in files if file.path.startswith("tests/"))
    for _, _, names in os.walk(os.path.join(ROOT, "spec", "vectors")):
        tests += "\n".join(names)
    vectors = os.path.join("spec", "vectors", "manifest.json")
    if os.path.exists(os.path.join(ROOT, vectors)):
        tests += File(vectors).text
    for number, name in table:
        if 30 <= int(number) <= 99 and not re.search(rf"\b{name}\b", spec):
            yield TABLE_OF_CODES, 1, f"{name} ({number}) is not in spec/FORMAT.md"
        if name not in UNTESTABLE and not re.search(rf"\b{name}\b", tests):
            yield TABLE_OF_CODES, 1, f"{name} ({number}) is in no test"


def check_documents(files):
    """Links of the documents lead somewhere, and the files that they name are there."""
    for file in files:
        if not file.path.endswith(".md"):
            continue
        folder = os.path.dirname(os.path.join(ROOT, file.path))
        for number, line in enumerate(file.lines, 1):
            for link, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", line):
                if link.startswith(("http://", "https://")):
                    continue
                target = os.path.normpath(os.path.join(folder, link)) if link else os.path.join(ROOT, file.path)
                if not os.path.exists(target):
                    yield file.path, number, f"a link to {link}, which is not there"
                elif anchor and anchor[1:] not in find_anchors(target):
                    yield file.path, number, f"a link to {link}{anchor}: there is no such heading"
            for path in re.findall(
                    r"`((?:include|src|cuda|mpi|tools|python|tests|bench|spec|doc|\.ci)/[\w./*-]+)`", line):
                if not glob.glob(os.path.join(ROOT, path)):
                    yield file.path, number, f"{path} is not there"


def find_anchors(path):
    """The anchors of a document: those that GitHub gives to its headings, and its own."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    headings = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    of_headings = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return of_headings | set(re.findall(r'<a id="([^"]+)">', text))


def check_commits():
    """Subjects of commits since the rule exists. Silent where git or that part of the history is missing."""
    git = ["git", "-C", ROOT]
    try:
        known = subprocess.run([*git, "merge-base", "--is-ancestor", LAST_WITHOUT_SUBJECT_LIMIT, "HEAD"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        if known.returncode != 0:
            return
        log = subprocess.run([*git, "log", "--no-merges", "--format=%h %s", f"{LAST_WITHOUT_SUBJECT_LIMIT}..HEAD"],
                             stdout=subprocess.PIPE, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return
    for commit, subject in (line.split(" ", 1) for line in log.splitlines()):
        if len(subject) > MAX_SUBJECT:
            yield f"commit {commit}", 1, f"a subject of {len(subject)} characters, the limit is {MAX_SUBJECT}"


def main():
    files = list(find_files())
    findings = list(check_folders()) + list(check_types(files)) +\
        list(check_codes(files)) + list(check_documents(files)) + list(check_commits())
    for file in files:
        rules = [check_head, check_lines, check_text, check_function_sizes]
        if file.is_cpp:
            rules += [check_includes, check_words, check_comments_of_declarations]
        for rule in rules:
            findings += [(file.path, number, message) for number, message in rule(file)]
    for path, number, message in findings:
        print(f"{path}:{number}: {message}")
    print(f"{len(files)} files, {check_function_sizes.count} functions, {len(findings)} findings")
    if check_function_sizes.count < 300:
        sys.exit("too few functions found: this script no longer understands the code")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
