"""The library's undefined symbols against a list of what a library must not call.

Usage: symbols.py NM LIBRARY. flatbed neither prints, nor ends the process, nor reads the
environment, nor loads or starts other programs. Nor does it need a newer libstdc++ than wheels may
(GLIBCXX_3.4.29 in manylinux_2_34): conditions are waited for with a limit.
"""

import re
import subprocess
import sys

FORBIDDEN = re.compile(
    r"""^(?:
    abort|exit|_exit|_Exit|quick_exit|terminate|std::terminate\(\)
    |(?:v|f|d|vf|vd)?printf|__(?:v|f|d|vf|vd)?printf_chk|puts|putchar|fputs|fputc|putc|perror
    |syslog|__syslog_chk|err|errx|warn|warnx
    |std::c(?:out|err|log|in)|std::ios_base::Init::.*
    |getenv|secure_getenv|setenv|putenv
    |dlopen|dlsym|system|popen|exec[lv]p?e?|fork|vfork|posix_spawnp?
    |signal|sigaction|setlocale|srand|rand
    |std::condition_variable::wait\(.*
    )$""",
    re.VERBOSE,
)

# Who may call what, with the reason.
ALLOWED = {
    # raise() is the one place where a failed Result::value() may end: documented in error.hpp.
    ("error.cpp.o", "abort"),
    # std::list::splice compares allocators, where the compiler does not see that they are equal.
    ("torch_reader.cpp.o", "abort"),
    # The NVIDIA driver, which not every machine has.
    ("driver_functions.cpp.o", "dlopen"),
    ("driver_functions.cpp.o", "dlsym"),
}


def undefined_symbols(nm, library):
    """Yields (object file, symbol) for each undefined symbol."""
    listing = subprocess.run(
        [nm, "--undefined-only", "--demangle"] + (["-D"] if ".so" in library else []) + [library],
        check=True, capture_output=True, text=True).stdout
    member = ""
    for line in listing.splitlines():
        if line.endswith(":"):
            member = line[:-1]
        elif match := re.match(r"\s+[Uw] (.*?)(?:@.*)?$", line):
            yield member, match.group(1)


def main():
    nm, library = sys.argv[1:3]
    symbols = list(undefined_symbols(nm, library))
    if not symbols:
        sys.exit(f"{library}: nm lists no undefined symbols, so nothing was checked")
    wrong = [(member, symbol) for member, symbol in symbols
             if FORBIDDEN.match(symbol) and (member, symbol) not in ALLOWED]
    for member, symbol in wrong:
        print(f"{library}({member}): calls {symbol}")
    print(f"{len(symbols)} undefined symbols, {len(wrong)} forbidden")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
