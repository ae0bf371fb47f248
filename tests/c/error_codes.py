"""The error codes of the C interface against the table in error.hpp, which is the only place that says
what a code means: include/flatbed/error_codes.h must have the same names and numbers.

Usage: error_codes.py [--write]
--write replaces the header by what the table says, after a new code.
"""

import os
import re
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TABLE = os.path.join(ROOT, "include", "flatbed", "error.hpp")
HEADER = os.path.join(ROOT, "include", "flatbed", "error_codes.h")

HEAD = """// The numbers of flatbed's errors, for C. Written by tests/c/error_codes.py from the table in
// error.hpp, which says what each means, as flatbed_error_meaning() does. Numbers never change.
#ifndef FLATBED_ERROR_CODES_H
#define FLATBED_ERROR_CODES_H

enum {
  FLATBED_OK = 0,
"""

TAIL = """};

#endif  // FLATBED_ERROR_CODES_H
"""


def header_text():
    with open(TABLE, encoding="utf-8") as file:
        lines = file.read().splitlines()
    rows = []
    for line in lines:
        if comment := re.match(r"  /\* (\d+.*?) \*/ +\\$", line):
            rows.append(f"  // {comment.group(1)}\n")
        elif code := re.match(r"  X\((\d+), (\w+), ", line):
            rows.append(f"  FLATBED_ERROR_{code.group(2).upper()} = {code.group(1)},\n")
    last = rows.pop()
    return HEAD + "".join(rows) + last.replace(",", "") + TAIL


def main():
    expected = header_text()
    if "--write" in sys.argv:
        with open(HEADER, "w", encoding="utf-8") as file:
            file.write(expected)
    with open(HEADER, encoding="utf-8") as file:
        found = file.read()
    if found != expected:
        missing = sorted(set(expected.splitlines()) ^ set(found.splitlines()))
        print("error_codes.h is not what error.hpp says; run tests/c/error_codes.py --write:", *missing, sep="\n")
    print(f"{expected.count(' = ') - 1} codes")
    sys.exit(found != expected)


if __name__ == "__main__":
    main()
