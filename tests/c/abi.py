"""The ABI of flatbed.h, flatbed_cuda.h and flatbed_remote.h against the committed one, so that a program compiled
against any earlier header keeps running: abi.txt has every function and struct as libabigail's abidw describes them,
numbers.txt every constant. all_functions.py and the compiler make sure that the library has what the header declares.

Usage: abi.py CC [--write]
--write records what the header has now: for additions. What it removes or changes breaks programs: the
version FLATBED_1 would have to change, too.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile

FOLDER = os.path.dirname(os.path.abspath(__file__))
INCLUDE = os.path.join(FOLDER, "..", "..", "include")
ABI = os.path.join(FOLDER, "abi.txt")
HEADERS = ["error_codes.h", "flatbed.h", "flatbed_cuda.h", "flatbed_remote.h"]
NUMBERS = os.path.join(FOLDER, "numbers.txt")
SKIPPED = 77


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def header_text():
    """The headers of the C interface without comments."""
    texts = [read(os.path.join(INCLUDE, "flatbed", name)) for name in HEADERS]
    return re.sub(r"//.*", "", "\n".join(texts))


def numbers(text):
    found = [f"{name} = {value}\n" for name, value in re.findall(r"\b(FLATBED_[A-Z0-9_]+) = (-?\d+)", text)]
    found += [f"{name} = {value}\n" for name, value in re.findall(r"#define (FLATBED_ABI) (\d+)", text)]
    return found


def write_empty_library(folder, cc, text):
    """A library with every function of the header, which do nothing: its debug information has their types."""
    source = [f'#include "flatbed/{name}"\n' for name in HEADERS]
    for result, name, arguments in re.findall(r"FLATBED_API ([^;(]*?)\b(flatbed_\w+)\(([^;]*)\);", text):
        value = "" if result.strip() == "void" else f"return ({result}){{0}};"
        source.append(f"{result} {name}({arguments}) {{ {value} }}\n")
    path = os.path.join(folder, "empty.c")
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(source)
    library = os.path.join(folder, "libempty.so")
    subprocess.run([*cc, "-std=c11", "-g", "-shared", "-fPIC", "-I", INCLUDE, path, "-o", library], check=True)
    return library, len(source) - len(HEADERS)


def check_numbers(found):
    missing = sorted(set(read(NUMBERS).splitlines(True)) - set(found))
    news = sorted(set(found) - set(read(NUMBERS).splitlines(True)))
    print("".join(f"not in the headers any more: {line}" for line in missing), end="")
    print("".join(f"new, record it with --write: {line}" for line in news), end="")
    return not missing and not news


def main():
    cc = [argument for argument in sys.argv[1:] if argument != "--write"]
    if not shutil.which("abidw") or not shutil.which("abidiff"):
        print("skipped: abidw and abidiff (Debian: abigail-tools) are not installed")
        sys.exit(SKIPPED)
    text = header_text()
    found = numbers(text)
    with tempfile.TemporaryDirectory() as folder:
        library, functions = write_empty_library(folder, cc, text)
        if "--write" in sys.argv:
            subprocess.run(["abidw", "--no-comp-dir-path", "--no-corpus-path", "--no-show-locs", library,
                            "--out-file", ABI], check=True)
            with open(NUMBERS, "w", encoding="utf-8") as file:
                file.writelines(found)
        run = subprocess.run(["abidiff", ABI, library], check=False)
    if run.returncode != 0:
        print(f"the ABI is not that of tests/c/abi.txt (abidiff: {run.returncode}); if functions were only added, "
              "record them with --write")
    print(f"{functions} functions, {len(found)} numbers")
    sys.exit(0 if check_numbers(found) and run.returncode == 0 and functions > 0 else 1)


if __name__ == "__main__":
    main()
