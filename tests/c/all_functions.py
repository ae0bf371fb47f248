"""Every function that the shared library exports for C: the header declares it, the tests call it, and
it has the version of the C interface. What the header declares is exported.

Usage: all_functions.py NM LIBRARY HEADER
"""

import glob
import os
import re
import subprocess
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
INCLUDE = os.path.join(FOLDER, "..", "..", "include", "flatbed")


def read(path):
    with open(path, encoding="utf-8") as file:
        return re.sub(r"//.*", "", file.read())


def main():
    nm, library, name_of_header = sys.argv[1:]
    listing = subprocess.run([nm, "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    exported = dict(re.findall(r" T (flatbed_\w+)@@?(\w+)", listing))
    header = read(os.path.join(INCLUDE, name_of_header))
    declared = set(re.findall(r"FLATBED_API [^;(]*?\b(flatbed_\w+)\(", header))
    tests = "".join(read(path) for path in glob.glob(os.path.join(FOLDER, "*.c")))
    called = set(re.findall(r"\b(flatbed_\w+)\(", tests))

    wrong = [f"{name} is exported and not in {name_of_header}" for name in sorted(exported.keys() - declared)]
    wrong += [f"{name} is in {name_of_header} and not exported" for name in sorted(declared - exported.keys())]
    wrong += [f"{name} is not called by tests/c/*.c" for name in sorted(exported.keys() - called)]
    wrong += [f"{name} has the version {version}" for name, version in sorted(exported.items())
              if version != "FLATBED_1"]
    print(*wrong, f"{len(exported)} functions", sep="\n")
    sys.exit(1 if wrong or not exported else 0)


if __name__ == "__main__":
    main()
