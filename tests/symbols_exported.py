"""What a shared library of flatbed exports against a committed list: the public API, and no other
name but instantiations of the standard library, which vary with the compiler.

Usage: symbols_exported.py NM LIBRARY LIST [--write]
--write replaces the list by what the library exports: for a change of the public API, whose diff
then shows it.
"""

import re
import subprocess
import sys

# The inline namespaces and ABI tags of libstdc++ and libc++, which differ where the API does not.
SPELLINGS = [(r"std::__cxx11::", "std::"), (r"std::__1::", "std::"), (r"std::__fs::", "std::"),
             (r"filesystem::__cxx11::", "filesystem::"), (r"\[abi:\w+\]", "")]

# Instantiations of the standard library, with or without their return type; the types of functions, which the
# sanitizers of clang record; and the table of an interface all of whose functions are pure, which only code that is
# hardly optimized uses.
NOT_OURS = [r"((vtable|typeinfo|typeinfo name|guard variable) for )?std::", r"[\w:*&]+ std::",
            r"typeinfo (name )?for .*\)$", r"vtable for flatbed::DeviceMemory$"]


def exported_names(nm, library):
    """The demangled names, each once: constructors and destructors come in several symbols."""
    listing = subprocess.run([nm, "-D", "--defined-only", library], check=True, capture_output=True, text=True).stdout
    symbols = []
    for line in listing.splitlines():
        kind, symbol, version = re.match(r"[0-9a-f]* +(\w) ([^@ ]+)(@.*)?$", line).groups()
        if symbol.startswith("flatbed_"):  # of the C interface, whose version is part of its ABI
            yield f"{symbol}{version}"
        elif kind != "A":  # else the version itself
            symbols.append(symbol)
    # LLVM's nm leaves names with a version as they are.
    names = subprocess.run(["c++filt"], input="\n".join(symbols), check=True, capture_output=True, text=True).stdout
    for name in names.splitlines():
        for pattern, replacement in SPELLINGS:
            name = re.sub(pattern, replacement, name)
        if not any(re.match(pattern, name) for pattern in NOT_OURS):
            yield name


def main():
    nm, library, list_file = sys.argv[1:4]
    exported = set(exported_names(nm, library))
    if "--write" in sys.argv:
        with open(list_file, "w", encoding="utf-8") as file:
            file.writelines(f"{name}\n" for name in sorted(exported))
    with open(list_file, encoding="utf-8") as file:
        listed = set(file.read().splitlines())
    for name in sorted(exported - listed):
        print(f"{library} exports what is not listed: {name}")
    for name in sorted(listed - exported):
        print(f"{library} does not export what is listed: {name}")
    print(f"{len(exported)} names exported, {len(listed)} listed in {list_file}")
    sys.exit(0 if exported and exported == listed else 1)


if __name__ == "__main__":
    main()
