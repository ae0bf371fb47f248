"""flatbed-static needs no shared library but those of libc, and runs.

Usage: static_tool.py FLATBED_STATIC
"""

import os
import re
import subprocess
import sys

# What glibc itself consists of, with the loader and the kernel's vdso.
LIBC = re.compile(r"(?:libc|libm|libpthread|libdl|librt|ld-linux-[\w-]+|linux-vdso)\.so\.\d+$")
CHECKPOINT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
                          "fixtures", "torch2", "deflated.pth")


def main():
    tool = sys.argv[1]
    listing = subprocess.run(["ldd", tool], check=True, capture_output=True, text=True).stdout
    libraries = [os.path.basename(line.split()[0]) for line in listing.splitlines()]
    others = [library for library in libraries if not LIBC.match(library)]
    if others:
        sys.exit(f"{tool} needs {', '.join(others)}")
    subprocess.run([tool, "ls", CHECKPOINT], check=True)
    print(f"{tool}: {os.path.getsize(tool)} bytes, needs {', '.join(libraries)}")


if __name__ == "__main__":
    main()
