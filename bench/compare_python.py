"""flatbed.safetensors against safetensors, in one process and interleaved.

Usage: compare_python.py [--dir DIR] [--rounds N] [--nbytes N] [--output FILE] [SECTION...]

Run it in a Python that has torch, safetensors 0.8.0 and flatbed. Sections: load copy cold slices
save open import; default: all. DIR holds the inputs, which are removed afterwards, and must be on a
disk for `cold`. `save` writes to /dev/shm. Both libraries read the same files, warm but in `cold`,
and touch or copy every byte.
"""

import argparse
import functools
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import torch

import flatbed
import flatbed.safetensors as ours
import flatbed.safetensors.torch as ours_torch
import safetensors as theirs
import safetensors.torch as theirs_torch
from flatbed.safetensors import _open

MIB = 1 << 20


def clock(work, prepare=None):
    if prepare:
        prepare()
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


class Bench:
    """The inputs, the rounds, and what is reported."""

    def __init__(self, options):
        self.dir = options.dir
        self.rounds = options.rounds
        self.nbytes = options.nbytes
        self.lines = []
        self.failed = False

    def say(self, line):
        print(line, flush=True)
        self.lines.append(line)

    def path(self, name):
        return os.path.join(self.dir, name)

    def measure(self, works, rounds=None):
        """Seconds of each work by name, interleaved: {name: (work, prepare)}."""
        times = {name: [] for name in works}
        for number in range((rounds or self.rounds) + 1):
            for name, (work, prepare) in works.items():
                seconds = clock(work, prepare)
                if number:  # the first round warms up
                    times[name].append(seconds)
        for name, values in times.items():
            texts = " ".join(f"{value * 1e3:.2f}" for value in values)
            self.say(f"  {name:<36} median {statistics.median(values) * 1e3:9.2f} ms   [{texts}]")
        return {name: statistics.median(values) for name, values in times.items()}

    def judge(self, what, value, limit, at_least=False):
        good = value >= limit if at_least else value <= limit
        self.failed |= not good
        self.say(f"{'pass' if good else 'FAIL'}  {what}: {value:.2f}, to reach {'>=' if at_least else '<='} {limit:g}")

    @functools.cached_property
    def model(self):
        """A model of layers: large matrices, and vectors beside them."""
        torch.manual_seed(1)
        layers = max(self.nbytes // (33 * MIB), 1)
        tensors = {}
        for layer in range(layers):
            for name, shape in (("q", (2048, 2048)), ("up", (4096, 2048)), ("norm", (2048,)), ("bias", (4096,))):
                tensors[f"model.layers.{layer}.{name}.weight"] = torch.randint(
                    -9, 9, shape, dtype=torch.int32).to(torch.bfloat16).contiguous()
        return tensors

    @functools.cached_property
    def sealed(self):
        path = self.path("sealed.safetensors")
        ours_torch.save_file(self.model, path, {"format": "pt"}, seal=True)
        time.sleep(2.2)  # a file that has just changed is verified at every open
        return path

    @functools.cached_property
    def unsealed(self):
        path = self.path("unsealed.safetensors")
        theirs_torch.save_file(self.model, path, {"format": "pt"})
        return path

    @functools.cached_property
    def parameters(self):
        return {name: torch.zeros_like(tensor) for name, tensor in self.model.items()}


def forget():
    """What has been verified is hashed again."""
    _open._known.clear()


def copy_into(parameters, tensors):
    for name, tensor in tensors.items():
        parameters[name].copy_(tensor)


def verify_all(bench, path):
    ckpt = flatbed.open(path)
    return lambda: flatbed.verify(ckpt)


def bench_load(bench):
    """load_file, then copied into parameters."""
    parameters = bench.parameters
    for path, kind in ((bench.sealed, "sealed"), (bench.unsealed, "unsealed")):
        def load(module, path=path, **options):
            return lambda: copy_into(parameters, module.load_file(path, **options))
        works = {
            "verify": (verify_all(bench, path), None),
            "safetensors": (load(theirs_torch), None),
            "flatbed": (load(ours_torch), forget),
            "flatbed, verified before": (load(ours_torch), None),
            'flatbed, verify="off"': (load(ours_torch, verify="off"), None),
        }
        if kind == "unsealed":
            works = {name: works[name] for name in ("safetensors", "flatbed")}
        bench.say(f"\n== load_file and copy, {kind}")
        found = bench.measure(works)
        if kind == "sealed":
            bench.judge("load_file and copy / (safetensors + 1.1 verify)",
                        found["flatbed"] / (found["safetensors"] + 1.1 * found["verify"]), 1)
            bench.judge('load_file and copy, verify="off" / safetensors',
                        found['flatbed, verify="off"'] / found["safetensors"], 1.1)
        else:
            bench.judge("load_file and copy, unsealed / safetensors", found["flatbed"] / found["safetensors"], 1.1)


def bench_copy(bench):
    """verify="copy" against backend="pread"."""
    path = bench.sealed
    bench.say('\n== load_file into memory of its own')
    found = bench.measure({
        'safetensors, backend="pread"': (lambda: theirs_torch.load_file(path, backend="pread"), None),
        'flatbed, verify="copy"': (lambda: ours_torch.load_file(path, verify="copy"), forget),
        'flatbed, "pread", verify="off"': (lambda: ours_torch.load_file(path, backend="pread", verify="off"), None),
    })
    bench.judge('verify="copy" / backend="pread"',
                found['flatbed, verify="copy"'] / found['safetensors, backend="pread"'], 0.6)


def evict(path):
    """Drops the file from the page cache."""
    forget()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def touch_all(tensors):
    """Reads a byte of every page."""
    return sum(int(tensor.view(-1).view(torch.int16)[::2048].sum()) for tensor in tensors.values())


def bench_cold(bench):
    """From the disk: load_file, and every page touched."""
    path = bench.sealed
    drop = functools.partial(evict, path)
    bench.say("\n== load_file and touch every page, cold")
    found = bench.measure({
        "safetensors": (lambda: touch_all(theirs_torch.load_file(path)), drop),
        "flatbed": (lambda: touch_all(ours_torch.load_file(path)), drop),
    }, rounds=min(bench.rounds, 5))
    bench.judge("cold / safetensors", found["flatbed"] / found["safetensors"], 1.05)


def take_columns(opener, path, names, copied=True):
    """The left half of every matrix."""
    with opener(path, framework="pt") as file:
        for name in names:
            part = file.get_slice(name)
            taken = part[:, : part.get_shape()[1] // 2]
            if copied:
                taken.clone()


def bench_slices(bench):
    """Column slices of every matrix."""
    path = bench.sealed
    names = [name for name, tensor in bench.model.items() if tensor.dim() == 2]
    chosen = flatbed.open(path).select(include=names)
    bench.say("\n== column slices of every matrix, copied")
    found = bench.measure({
        "verify of those": (lambda: flatbed.verify(chosen), None),
        "safetensors": (lambda: take_columns(theirs.safe_open, path, names), None),
        "flatbed, first, not copied": (lambda: take_columns(ours.safe_open, path, names, copied=False), forget),
        "flatbed, first": (lambda: take_columns(ours.safe_open, path, names), forget),
        "flatbed, then": (lambda: take_columns(ours.safe_open, path, names), None),
    })
    bench.judge("first column slices, not copied / verify",
                found["flatbed, first, not copied"] / found["verify of those"], 1.1)
    bench.judge("column slices then / safetensors", found["flatbed, then"] / found["safetensors"], 1.0)


def bench_save(bench):
    """save_file into tmpfs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = os.path.join(folder, "out.safetensors")

        def save(module, **options):
            return lambda: module.save_file(bench.model, path, {"format": "pt"}, **options)

        def remove():
            if os.path.exists(path):
                os.remove(path)
        bench.say("\n== save_file into tmpfs")
        found = bench.measure({
            "safetensors": (save(theirs_torch), remove),
            "flatbed, sealed": (save(ours_torch, seal=True), remove),
            "flatbed, unsealed": (save(ours_torch), remove),
        })
    bench.judge("save_file, sealed / safetensors", found["flatbed, sealed"] / found["safetensors"], 1.15)


def bench_open(bench):
    """open and keys()."""
    def list_keys(opener, path):
        with opener(path, framework="pt") as file:
            return file.keys()
    for count in (100_000, 100):
        path = bench.path(f"many_{count}.safetensors")
        many = {f"model.layers.{i // 10}.block.{i % 10}.weight": torch.zeros(4) for i in range(count)}
        ours_torch.save_file(many, path, seal=True)
        repeats = 1 if count > 1000 else 200

        def repeat(opener, path=path, repeats=repeats):
            for _ in range(repeats):
                list_keys(opener, path)
        time.sleep(2.2)
        bench.say(f"\n== open and keys(), {count:,} tensors" + (f", {repeats} times" if repeats > 1 else ""))
        found = bench.measure({
            "safetensors": (functools.partial(repeat, theirs.safe_open), None),
            "flatbed": (functools.partial(repeat, ours.safe_open), None),
        })
        if count > 1000:
            bench.judge(f"safetensors / open and keys of {count:,}", found["safetensors"] / found["flatbed"], 4,
                        at_least=True)
        else:
            bench.judge(f"open and keys of {count} / safetensors", found["flatbed"] / found["safetensors"], 1.0)


def bench_import(bench):
    """import flatbed in a fresh process."""
    code = "import time; a = time.perf_counter(); import flatbed; print(time.perf_counter() - a)"
    times = [float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)
             for _ in range(bench.rounds + 1)]
    bench.say("\n== import flatbed: " + " ".join(f"{seconds * 1e3:.1f}" for seconds in times) + " ms")
    bench.judge("import flatbed, ms", statistics.median(times) * 1e3, 60)


SECTIONS = {name: globals()[f"bench_{name}"] for name in ("load", "copy", "cold", "slices", "save", "open", "import")}


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dir")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--nbytes", type=int, default=1 << 30)
    parser.add_argument("--output")
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        options.dir = folder
        bench = Bench(options)
        bench.say(f"flatbed {flatbed.__version__}, safetensors {theirs.__version__}, torch {torch.__version__}, "
                  f"Python {platform.python_version()}; {processor()}, {os.cpu_count()} processors; "
                  f"{options.rounds} rounds, {options.nbytes / MIB:.0f} MiB; {' '.join(sys.argv[1:])}")
        for name in options.sections or SECTIONS:
            SECTIONS[name](bench)
    if options.output:
        with open(options.output, "a", encoding="utf-8") as file:
            file.write("\n".join(bench.lines) + "\n")
    sys.exit(bench.failed)


if __name__ == "__main__":
    main()
