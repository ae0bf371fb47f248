"""Whether two builds of the tool write the same bytes: run by hand when code moves.

For each input file or folder found below the given paths, both tools convert to .safetensors, to .pth, and write a
sidecar (each in a folder of its own, with the same names). Exit codes and written files must be equal, byte for byte.

Usage: compare_outputs.py OLD_TOOL NEW_TOOL PATH...
"""

import filecmp
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".ptl", ".tar", ".jit", ".index.json")


def find_inputs(paths):
    """Files that may be checkpoints, and folders that hold an index, each once."""
    for path in paths:
        if os.path.isfile(path):
            yield path
        for folder, folders, names in os.walk(path):
            folders.sort()
            if any(name.endswith(".index.json") for name in names):
                yield folder
            for name in sorted(names):
                if name.endswith(SUFFIXES):
                    yield os.path.join(folder, name)


def run(tool, arguments, folder):
    return subprocess.run([tool, *arguments, "--quiet"], cwd=folder, capture_output=True, check=False).returncode


@functools.cache
def output_option(tool):
    """What stands before the name of an output. Old builds have only its position."""
    text = subprocess.run([tool, "convert", "--help"], capture_output=True, text=True, check=True).stdout
    return ["-o"] if "--output" in text else []


def outputs_of(tool, source, folder):
    """Writes everything that `tool` makes of `source` into `folder`; returns the exit codes."""
    codes = {}
    named = ["convert", source, *output_option(tool)]
    for suffix in ("safetensors", "pth"):
        codes[suffix] = run(tool, [*named, "out." + suffix], folder)
    codes["converted"] = run(tool, [*named, "loose.pth", "--allow-conversion"], folder)
    if source.endswith(".safetensors"):
        shutil.copyfile(source, os.path.join(folder, "beside.safetensors"))
        codes["sidecar"] = run(tool, ["convert", "--sidecar", "beside.safetensors"], folder)
    return codes


def compare(old, new, source):
    """What differs, as words; and how many files were written."""
    with tempfile.TemporaryDirectory() as folder:
        sides = [os.path.join(folder, side) for side in ("old", "new")]
        codes = []
        for tool, side in zip((old, new), sides):
            os.mkdir(side)
            codes.append(outputs_of(tool, source, side))
        names = [set(os.listdir(side)) for side in sides]
        differing = [f"exit codes {json.dumps(codes[0])}, {json.dumps(codes[1])}"] if codes[0] != codes[1] else []
        differing += [f"{name}: written by one only" for name in names[0] ^ names[1]]
        differing += [f"{name}: other bytes" for name in names[0] & names[1]
                      if not filecmp.cmp(*(os.path.join(side, name) for side in sides), shallow=False)]
        return differing, len(names[0] & names[1])


def main():
    old, new, *paths = (os.path.abspath(argument) for argument in sys.argv[1:])
    inputs = written = wrong = 0
    for source in find_inputs(paths):
        differing, count = compare(old, new, source)
        inputs += 1
        written += count
        for words in differing:
            wrong += 1
            print(f"{source}: {words}")
    print(f"{inputs} inputs, {written} files written by both, {wrong} differences")
    sys.exit(1 if wrong or not written else 0)


if __name__ == "__main__":
    main()
