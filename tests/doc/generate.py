"""Writes the C++ and C examples of README.md, doc/*.md and the public headers as sources for the tests.

Usage: generate.py DOCUMENTS.cpp HEADERS.cpp DOCUMENTS.c
DOCUMENTS.cpp becomes a program: `--list` prints the examples that can be run, a name and arguments runs one.
HEADERS.cpp is compiled and never run: its names are declared and not defined. DOCUMENTS.c is compiled, too.
"""

import os
import re
import sys

import examples

# What an example of a document may be given, by name. The files are those that run_examples.py makes.
GIVEN = {
    "model": 'FLATBED_ASSIGN(const flatbed::Checkpoint model, flatbed::Checkpoint::open("model.safetensors"));',
    "checkpoint": 'FLATBED_ASSIGN(const flatbed::Checkpoint checkpoint, flatbed::Checkpoint::open("checkpoint.pth"));',
    "device": "const std::unique_ptr<flatbed::Device> device = flatbed::host_device();",
    "weight": 'FLATBED_ASSIGN(const flatbed::TensorInfo weight, model.tensor("0.weight"));',
    "values": "const std::vector<float> values{1, 2, 3, 4};",
    "bytes": 'std::ifstream file("model.safetensors", std::ios::binary);  '
             "std::vector<char> text(std::istreambuf_iterator<char>(file), {});  "
             "const std::span<const std::byte> bytes = std::as_bytes(std::span(text));",
}

# What the examples in headers may use, in the namespace that they are compiled in.
HEADER_PROLOGUE = """
using namespace flatbed;
extern const std::filesystem::path path;
extern const Checkpoint checkpoint, model, before, after;
extern Device& device;
extern LoadPlan plan;
extern Collective& collective;
extern Collective& ranks;
extern const std::vector<std::byte> bytes;
extern const Value root;
extern std::byte* memory;
extern void* pointer;
extern std::uint64_t nbytes;
extern const std::vector<float> values;
extern const std::vector<Expected> expected;
extern const std::vector<Destination> destinations;
extern SaveOptions options;
struct Bar {
  void set(std::uint64_t done, std::uint64_t total);
};
extern Bar bar;
Error fail(const Error& error);
void show(std::string_view name);
template <typename... T>
void use(const T&... values);
"""

HEAD = """// Written by tests/doc/generate.py: the examples of {what}.
#include <flatbed/cuda.hpp>
#include <flatbed/flatbed.hpp>
#include <flatbed/remote.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>
"""

MAIN = """
int main(int argc, char** argv) {
  const std::string_view wanted = argc > 1 ? argv[1] : "--list";
  for (const Row& row : kRows) {
    if (wanted == "--list") std::cout << row.name << '\\n';
    if (wanted != row.name) continue;
    if (row.program != nullptr) return row.program(argc - 1, argv + 1);
    const flatbed::Result<void> result = row.function();
    if (!result) std::cerr << result.error().message << '\\n';
    return result ? 0 : 1;
  }
  return wanted == "--list" ? 0 : 2;
}
"""


def indent(text):
    return "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())


def body(example):
    """The example in a namespace of its own, with its line numbers in its document."""
    text = re.sub(r"^#include.*\n", "", example.text, flags=re.MULTILINE)
    skipped = example.text.count("\n") - text.count("\n")
    place = f'#line {example.line + skipped} "{example.path}"\n'
    if example.is_program:
        # A main() may end without a return, a function of another name may not.
        begin, end = text.rsplit("}", 1)
        return place + begin.replace("int main(", f"int {example.name}_main(") + "return 0; }" + end
    if example.is_definition:
        return place + text
    # Lines of their own: FLATBED_ASSIGN makes a name of the line's number.
    given = "".join(f'#line {100000 + number} "{example.path}"\n  {GIVEN[name]}\n'
                    for number, name in enumerate(example.given))
    return f"flatbed::Result<void> run() {{\n{given}{place}{indent(text)}  return {{}};\n}}\n"


def write_documents(found):
    """Definitions can be used by what follows them in their document; runs and programs stand alone."""
    out, rows = [HEAD.format(what="the documents")], []
    for example in found:
        out += [line + "\n" for line in re.findall(r"^#include.*", example.text, flags=re.MULTILINE)]
        space = os.path.basename(example.path)[:-3].lower()
        if example.is_definition:
            out.append(f"\nnamespace {space} {{\n{body(example)}}}  // namespace {space}\n")
            continue
        out.append(f"\nnamespace {space}::{example.name} {{\n{body(example)}}}  // namespace {space}::{example.name}\n")
        program = f"{space}::{example.name}::{example.name}_main" if example.is_program else "nullptr"
        function = "nullptr" if example.is_program else f"{space}::{example.name}::run"
        rows.append(f'    {{"{example.name}", {function}, {program}}},\n')
    out.append('\nnamespace {\nstruct Row {\n  std::string_view name;\n  flatbed::Result<void> (*function)();\n'
               f'  int (*program)(int, char**);\n}};\nconst Row kRows[] = {{\n{"".join(rows)}}};\n}}  // namespace\n')
    return "".join(out) + MAIN


def write_headers(found, compiled_only):
    out = [HEAD.format(what="the public headers, and those of the documents that are not run")]
    for example in compiled_only:
        out.append(f"\nnamespace {example.name} {{\n{body(example)}}}  // namespace {example.name}\n")
    out.append(f"\nnamespace header_examples {{\n{HEADER_PROLOGUE}")
    for example in found:
        place = f'#line {example.line} "{example.path}"\n'
        if example.is_definition:
            out.append(f"\nnamespace {example.name} {{\n{place}{example.text}}}  // namespace {example.name}\n")
            continue
        out.append(f"\nResult<void> {example.name}() {{\n{place}{indent(example.text)}  return {{}};\n}}\n")
    return "".join(out) + "\n}  // namespace header_examples\n"


def write_c(found):
    """The blocks one after the other, with the main() of each under a name of its own."""
    out = ["// Written by tests/doc/generate.py: the examples in C of the documents.\n"]
    for example in found:
        place = f'#line {example.line} "{example.path}"\n'
        out.append(f"\n#define main {example.name}_main\nint {example.name}_main(int argc, char** argv);\n"
                   f"{place}{example.text}#undef main\n")
    return "".join(out)


def write_if_changed(path, text):
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                os.utime(path)
                return
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main():
    cpp = [example for example in examples.all_document_examples() if example.language == "cpp" and example.compiled]
    c = [example for example in examples.all_document_examples() if example.language == "c" and example.compiled]
    only = [example for example in cpp if not example.run]
    headers = examples.all_header_examples()
    if len(cpp) < 2 or len(headers) < 8 or not c:
        sys.exit(f"{len(cpp)} examples in documents, {len(headers)} in headers, {len(c)} in C: too few are found")
    write_if_changed(sys.argv[1], write_documents([example for example in cpp if example.run]))
    write_if_changed(sys.argv[2], write_headers(headers, only))
    write_if_changed(sys.argv[3], write_c(c))
    print(f"{len(cpp)} examples in documents, {len(only)} of them not run; {len(headers)} in headers; {len(c)} in C")


if __name__ == "__main__":
    main()
