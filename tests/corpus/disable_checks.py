"""Shows that each check of the readers has a file of the corpus that needs it: disables one at a time.

A check is an `if` of the sources below that returns an error, or nothing for what is none (std::nullopt). Of a
condition that is several joined by || each is a check of its own: disabled, it is false. Where an error stands behind
the `if` that lets the right ones go, that is forced the other way. They are found by the parser of tests/mutation/,
and the same machinery puts a switch into each, in a copy of the project that is built once.

Exit status 1 when a check survives that survivors.json does not list with a reason: no file needs it, or what no file
can bring about (errors of the system, limits of gigabytes). A listed one that is caught, or is gone, is named.

Usage: disable_checks.py --build-dir DIR [--jobs N] [--list] [-- CMAKE ARGUMENTS]
  --list  prints the checks, builds and runs nothing; exit status 1 when survivors.json lists one that is not there
"""

import argparse
import collections
import glob
import json
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(ROOT, "tests", "mutation"), os.path.join(ROOT, "tests"), HERE]
sys.dont_write_bytecode = True

import mutate  # noqa: E402
import rules  # noqa: E402
import statements  # noqa: E402
import tidy  # noqa: E402

# The readers. What writes (zip_writer, tree_pickler*, pickle_output, torch_form, weights_only) meets no file.
SOURCES = [*(f"src/archive/{unit}.cpp" for unit in (
               "zip_archive", "zip_end", "zip_entry", "zip_local", "inflate", "tar_archive")),
           *(f"src/pickle/{unit}" for unit in ("pickle_literal.cpp", "pickle_reader.[ch]pp", "pickle_stream.cpp")),
           *(f"src/torch/{unit}.cpp" for unit in (
               "legacy_stream", "unpickler", "torch_file", "torch_objects", "torch_pickle", "torch_reader", "torch_tar",
               "torch_tensors", "numpy_*", "tree_check"))]
NOT_READ = re.compile(r"numpy_scalar\.cpp")  # of a scalar's value for who asks, and of writing

# What makes an Error in one call, beside the functions and lambdas that are found to do so.
MAKERS = {"make_error", "Error"}
PASSES_ON = re.compile(r"return\s+(?:with_context\(|std::move\(\w+\)\.error\(\))")


def error_makers(code):
    """Names of functions, methods and lambdas that do nothing but make an Error."""
    names = set(re.findall(r"^\s*(?:\[\[.*?\]\]\s*)?Error\s+(?:\w+::)?(\w+)\(", code, re.MULTILINE))
    names |= set(re.findall(r"auto (\w+) = \[[^\]]*\](?:\([^{}]*\))? \{\s*return (?:make_error|entry_error|Error)\b",
                            code))
    names |= set(re.findall(r"::(\w+)\([^{};]*\)(?: const)? \{\s*return make_error\(", code))
    return names | MAKERS


class Finder:
    def __init__(self, path, text, makers):
        self.path, self.text = path, text
        self.code = tidy.blank(text)
        self.error = re.compile(rf"return\s+(?:{'|'.join(sorted(makers))})\s*[({{]")
        self.checks = []

    def find(self):
        self.visit_all(statements.functions(self.code))
        return self.checks

    def visit_all(self, siblings):
        for before, s in zip([None, *siblings], siblings):
            if s.kind == "if" and self.refuses(s):
                self.disable(s, "false")
            elif s.kind == "return" and self.is_error(s) and before is not None and before.kind == "if" \
                    and len(before.body) == 1 and not self.refuses(before) and self.returns(before):
                self.disable(before, "true")
            self.visit_all(s.body)
            self.visit_all(s.lambdas)

    def returns(self, s):
        only = self.only(s)
        return only is not None and only.kind == "return"

    def only(self, s):
        """The one statement that an if controls; None when there are more."""
        if len(s.body) != 1:
            return None
        body = s.body[0]
        if body.kind == "block":
            return body.body[0] if len(body.body) == 1 else None
        return body

    def refuses(self, s):
        only = self.only(s)
        return only is not None and only.kind == "return" and self.is_error(only)

    def is_error(self, s):
        text = self.code[s.begin:s.end]
        if PASSES_ON.match(text):
            return False
        return bool(self.error.match(text)) or text == "return std::nullopt;"

    def disable(self, s, answer):
        code = self.code
        begin, end = s.head
        split = statements.find_top(code, begin, end, (";",))
        if split >= 0:
            begin = split + 1
        while code[begin].isspace():
            begin += 1
        if split < 0 and (match := rules.CONDITION_DECLARES.match(code[begin:end])):
            edit = [(end, False, "; !" + rules.IS + " && static_cast<bool>(" + match.group(1) + ")")]
            return self.add(s, begin, end, "never", edit)
        parts = [(begin, end)] if answer == "true" else self.split(begin, end)
        for first, last in parts:
            edits = [(first, True, "::flatbed_mutation::forced({0}, " + answer + ", "), (last, False, ")")]
            self.add(s, first, last, "always" if answer == "true" else "never", edits)
        return None

    def split(self, begin, end):
        """The operands of a condition that is a || b || c."""
        parts = []
        while True:
            at = statements.find_top(self.code, begin, end, ("||", "&&", " ? "))
            if at < 0 or self.code[at:at + 2] != "||":
                # With another operator at the top all of it, or what is left, is one check.
                parts.append((begin, end))
                break
            parts.append((begin, len(self.code[:at].rstrip())))
            begin = at + 2
            while self.code[begin].isspace():
                begin += 1
        if any(self.code[first:last].find("&&") >= 0 and statements.find_top(self.code, first, last, ("&&",)) >= 0
               and statements.find_top(self.code, first, last, ("||",)) >= 0 for first, last in parts):
            return [(parts[0][0], parts[-1][1])]
        return parts

    def add(self, s, begin, end, mutation, edits):
        line = self.text.count("\n", 0, begin) + 1
        self.checks.append(rules.Mutant(self.path, line, s.function, rules.one_line(self.text[begin:end]), mutation,
                                        "check", edits))


def find_checks():
    """All checks, numbered from 1, and the texts of their files."""
    texts, makers, checks = {}, set(), []
    for pattern in SOURCES:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
            if not NOT_READ.search(path):
                with open(path, encoding="utf-8") as file:
                    texts[os.path.relpath(path, ROOT)] = file.read()
    for text in texts.values():
        makers |= error_makers(tidy.blank(text))
    for name, text in texts.items():
        checks += Finder(name, text, makers).find()
    for number, check in enumerate(checks, 1):
        check.number = number
    return checks, texts


def is_copied(name):
    if name.startswith(("tests/fixtures/", "tests/corpus/cases")) or "__pycache__" in name:
        return False
    return not name.endswith("_test.cpp")


def build(tree, folder, jobs, arguments):
    subprocess.run(["cmake", "-S", tree, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
                    "-DCMAKE_CXX_FLAGS=-w",
                    "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -D_GLIBCXX_ASSERTIONS", "-DFLATBED_TOOLS=OFF", "-DFLATBED_INSTALL=OFF",
                    "-DFLATBED_CUDA=OFF", *arguments], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "-j", str(jobs), "--target", "flatbed_corpus_disabled"], check=True)
    return os.path.join(folder, "tests", "flatbed_corpus_disabled")


def read_survivors():
    with open(os.path.join(HERE, "survivors.json"), encoding="utf-8") as file:
        entries = json.load(file)
    return {(entry["file"], entry["function"], entry["check"]): entry["reason"] for entry in entries}


def key(check):
    return (check.file, check.function, check.statement)


def gone(checks):
    """Lines of survivors.json for which there is no check."""
    return sorted(set(read_survivors()) - {key(check) for check in checks})


def report(checks, output):
    """Prints what survives and why; returns the exit status."""
    found = {int(number): (verdict, rest) for number, verdict, rest
             in re.findall(r"^(\d+) (caught|survives) (.*)$", output, re.MULTILINE)}
    survivors = [check for check in checks if found[check.number][0] == "survives"]
    reasons = read_survivors()
    unlisted = [check for check in survivors if key(check) not in reasons]
    for check in survivors:
        print(f"{check.file}:{check.line}: {check.function}: {check.statement}: "
              f"{reasons.get(key(check)) or 'UNLISTED, ' + found[check.number][1] + ' files come here'}")
    for each in sorted(set(reasons) - {key(check) for check in survivors}):
        print(f"survivors.json: {' | '.join(each)}: is caught, or is not there")
    how = collections.Counter(rest.split(" ")[0] for verdict, rest in found.values() if verdict == "caught")
    print(f"{len(checks)} checks, {sum(how.values())} caught ({how['verdict']} by another verdict, {how['crash']} by a "
          f"crash, {how['hang']} by a hang); {len(survivors)} survive, {len(unlisted)} of them unlisted")
    return 1 if unlisted else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-dir")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("cmake", nargs="*")
    arguments = parser.parse_args()
    checks, texts = find_checks()
    if arguments.list:
        for check in checks:
            print(f"{check.file}:{check.line}: {check.function}: {check.statement}: {check.mutation}")
        print(f"{len(checks)} checks")
        for each in gone(checks):
            print(f"survivors.json: {' | '.join(each)}: is not there")
        sys.exit(1 if gone(checks) or len(checks) < 300 else 0)
    if not arguments.build_dir:
        sys.exit("--build-dir is required")
    folder = os.path.abspath(arguments.build_dir)
    mutate.write_tree(os.path.join(folder, "tree"), checks, texts, is_copied)
    program = build(os.path.join(folder, "tree"), os.path.join(folder, "build"), arguments.jobs, arguments.cmake)
    corpus = os.path.join(folder, "corpus")
    subprocess.run([sys.executable, os.path.join(HERE, "make.py"), corpus], check=True)
    run = subprocess.run([program, corpus, str(len(checks))], capture_output=True, text=True)
    with open(os.path.join(folder, "run.txt"), "w", encoding="utf-8") as file:
        file.write(run.stdout)
    if run.returncode != 0:
        sys.exit(run.stdout[-4000:] + run.stderr)
    sys.exit(report(checks, run.stdout))


if __name__ == "__main__":
    main()
