"""The examples of the documents: finds every code block of README.md and doc/*.md, and every indented
block in the comments of the public headers.

A line directly above a block of a document says what is special about it; readers do not see it:
    <!-- example: given model, device -->      declares these names first (GIVEN in generate.py)
    <!-- example: compiled only: REASON -->    is not run
    <!-- example: not compiled: REASON -->     is neither compiled nor run
Without one, a block `cpp` is compiled and run, a block `c`, which holds definitions, is compiled, a block `python` is
run, and in a block `console` each line that begins with `$ ` is run and what follows is compared with what it prints.
"""

import dataclasses
import glob
import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

LANGUAGES = ["cpp", "c", "console", "python", "cmake", ""]  # none: drawings and texts

# (header, first line of an indented block that is not code, what it is instead)
NOT_CODE = [
    ("error.hpp", "a.safetensors: tensor 'w'", "a message"),
    ("key_map.hpp", "OLD=NEW", "a table"),
    ("key_map.hpp", "layers.{1}.qkv.weight", "a rule"),
    ("match.hpp", "- Of a PyTorch file", "a list"),
    ("save_set.hpp", "folder/model-00001-of-00002", "a table"),
    ("cast.hpp", "F32, F16, BF16, F8_E5M2", "a table"),
    ("load_together.hpp", "file     |--- 0", "a drawing"),
    ("mpi.hpp", "MPI_Init_thread", "code for programs that have MPI"),
    ("cuda.hpp", "order_after   ...kernels", "a drawing"),
]


@dataclasses.dataclass
class Example:
    """One block. `name` is unique: guide_3 is the third block of doc/guide.md."""
    name: str
    path: str          # from the root
    line: int          # of the block's first line, from 1 on
    language: str      # of the fence: "cpp", "console", "cmake", "" for none
    text: str
    given: list = dataclasses.field(default_factory=list)
    compiled: bool = True
    run: bool = True

    @property
    def is_program(self):
        return "int main(" in self.text

    @property
    def is_definition(self):
        """Classes and functions stand at namespace scope; everything else is the body of a function."""
        lines = [line for line in self.text.splitlines() if line and not line.startswith(("//", "#include"))]
        return bool(lines) and re.match(r"(class|struct|template|flatbed::Result<|std::)[^;]*\{$", lines[0]) is not None


def documents():
    return ["README.md"] + sorted(os.path.relpath(path, ROOT) for path in glob.glob(os.path.join(ROOT, "doc", "*.md")))


def read_lines(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read().splitlines()


def check_language(example):
    """So that no example escapes by its language: C++ is called cpp."""
    if example.language not in LANGUAGES:
        raise ValueError(f"{example.path}:{example.line}: a block in the language '{example.language}', "
                         f"expected one of {', '.join(LANGUAGES)}")
    if example.language == "" and re.search(r"[;{]$", example.text, re.MULTILINE):
        raise ValueError(f"{example.path}:{example.line}: a block without a language that looks like code")


def apply_marker(example, line):
    match = re.fullmatch(r"<!-- example: (given ([\w, ]+)|compiled only: \S.*|not compiled: \S.*) -->", line)
    if match is None:
        if "<!-- example" in line:
            raise ValueError(f"{example.path}:{example.line}: a marker that is not understood: {line}")
        return
    if match.group(2):
        example.given = [name.strip() for name in match.group(2).split(",")]
    example.compiled = not match.group(1).startswith("not compiled")
    example.run = example.compiled and not match.group(1).startswith("compiled only")


def document_examples(path):
    """The fenced blocks of one document, in order."""
    lines = read_lines(path)
    stem = re.sub(r"\W", "_", os.path.basename(path)[:-3].lower())
    examples, begin, marked = [], None, ""
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if begin is None:
            begin, marked = number, lines[number - 1] if number else ""
            continue
        example = Example(f"{stem}_{len(examples) + 1}", path, begin + 2, lines[begin][3:].strip(),
                          "\n".join(lines[begin + 1:number]) + "\n")
        check_language(example)
        apply_marker(example, marked)
        examples.append(example)
        begin = None
    return examples


def header_examples(path):
    """The blocks of comment lines that are indented by three spaces or more. What is not code is a block of its own."""
    examples, block = [], []
    header = os.path.basename(path)

    def begins_other(text):
        return any(header == name and text.startswith(begin) for name, begin, _ in NOT_CODE)

    def end_block():
        if block and not begins_other(block[0][1]):
            examples.append(Example(f"{header[:-4]}_{len(examples) + 1}", path, block[0][0], "cpp",
                                    "\n".join(text for _, text in block) + "\n", run=False))
        block.clear()

    for number, line in enumerate(read_lines(path) + [""], 1):
        match = re.match(r" *// {3}( *\S.*)", line)
        if match:
            if begins_other(match.group(1)):
                end_block()
            block.append((number, match.group(1)))
        elif not re.match(r" *//$", line):  # an empty comment line may stand inside of a block
            end_block()
    return examples


def all_header_examples():
    paths = sorted(glob.glob(os.path.join(ROOT, "include", "flatbed", "*.hpp")))
    return [example for path in paths for example in header_examples(os.path.relpath(path, ROOT))]


def all_document_examples():
    return [example for path in documents() for example in document_examples(path)]
