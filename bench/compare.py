#!/usr/bin/env python3
"""Measures flatbed against public tools and bare loops, on this machine, in one run, and says
whether the project's targets are met. bench/README.md has the method.

Usage: compare.py [--build DIR] [--dir DIR] [--python COMMAND] [--rounds N] [--output FILE]
                  [SECTION...]

Needs a build with FLATBED_BENCH=ON and FLATBED_TOOLS=ON, 8 GB of disk and an idle machine.
Standard library only; torch and safetensors are compared with where COMMAND has them.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import sys
import tempfile

import compare_dicts
import compare_load
import compare_peers
import compare_torch
import inputs
import measure

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1024


class Bench:
    """The paths of programs and files, the packages on the torch side, and the report."""

    def __init__(self, options, folder):
        self.build = options.build
        self.folder = folder
        self.rounds = options.rounds
        self.report = measure.Report()
        self.python = [*shlex.split(options.python), "-B", os.path.join(HERE, "torch_side.py")]
        self.versions = self.ask_torch("versions")

    def program(self, name):
        return os.path.join(self.build, "bench", name)

    def path(self, name):
        return os.path.join(self.folder, name)

    def run_flatbed(self, *arguments):
        return measure.run(os.path.join(self.build, "tools", "flatbed"), *arguments)

    def ask_torch(self, *arguments):
        """The output of torch_side.py (its imports may print first), and the peak memory in MiB."""
        sample = measure.run(*self.python, *arguments)
        return {**json.loads(sample.output.splitlines()[-1]), "peak": sample.peak_kib / MIB}

    def has(self, *packages):
        return all(self.versions[package] for package in packages)

    def make_inputs(self, *names):
        """Makes them in separate processes (see measure.run), and the .pth files with torch if it is installed."""
        by_torch = [name for name in names if name in inputs.PTH_INPUTS and self.has("torch")]
        by_script = [name for name in names if name not in by_torch]
        if by_torch:
            self.ask_torch("make", self.folder, *by_torch)
        if by_script:
            measure.run(sys.executable, "-B", os.path.join(HERE, "inputs.py"), self.folder, *by_script)
        os.sync()


def read_pairs(output):
    """Parses the output of bench_open --pairs and bench_verify: a line about themselves, then pairs."""
    head, *lines = output.splitlines()
    pairs = [tuple(map(float, line.split())) for line in lines]
    return head, [pair[0] for pair in pairs], [pair[1] for pair in pairs]


# ---- the sections ------------------------------------------------------------------------------

def compare_header(bench):
    """Opening 100,000 tensors: bare simdjson, safetensors."""
    report = bench.report
    bench.make_inputs("large_header.safetensors")
    path = bench.path("large_header.safetensors")
    head, opened, bare = read_pairs(
        measure.run(bench.program("bench_open"), "--pairs", str(bench.rounds), path).output)
    report.pairs(f"open 100,000 tensors, one process ({head})", {
        "open ms": [1e3 * x for x in opened], "bare parse ms": [1e3 * x for x in bare],
        "ratio": [a / b for a, b in zip(opened, bare)]})
    report.ratio("open 100,000 tensors / bare DOM parse", measure.ratio_of_medians(opened, bare), 1.2)

    contenders = {"flatbed": lambda: measure.open_once(bench, path)}
    if bench.has("safetensors"):
        contenders["safetensors"] = lambda: bench.ask_torch("open", path)
    results = measure.interleave(bench.rounds, contenders, measure.touch_again)
    columns = {"flatbed process ms": measure.column(results["flatbed"], "process", 1e3),
               "flatbed open ms": measure.column(results["flatbed"], "first", 1e3)}
    if bench.has("safetensors"):
        columns["safe_open+keys ms"] = measure.column(results["safetensors"], "first", 1e3)
        columns["again in it ms"] = measure.column(results["safetensors"], "next", 1e3)
    report.pairs("open 100,000 tensors, fresh processes", columns)
    report.row("open 100,000 tensors, whole fresh process",
               statistics.median(columns["flatbed process ms"]), "ms", 60)
    if bench.has("safetensors"):
        report.ratio("safe_open+keys, fresh / flatbed open, fresh", measure.ratio_of_medians(
            columns["safe_open+keys ms"], columns["flatbed open ms"]), 4, at_least=True)


def compare_pth(bench):
    """Opening a .pth of 20,000 tensors: torch.load."""
    report = bench.report
    bench.make_inputs("many.pth")
    path = bench.path("many.pth")
    contenders = {"flatbed": lambda: measure.open_once(bench, path),
                  "warm": lambda: measure.open_once(bench, path, 12)}
    if bench.has("torch"):
        contenders["torch"] = lambda: bench.ask_torch("load", path)
    results = measure.interleave(bench.rounds, contenders, measure.touch_again)
    columns = {"flatbed process ms": measure.column(results["flatbed"], "process", 1e3),
               "flatbed open ms": measure.column(results["flatbed"], "first", 1e3),
               "warm open ms": measure.column(results["warm"], "later", 1e3)}
    if bench.has("torch"):
        columns["torch.load ms"] = measure.column(results["torch"], "first", 1e3)
        columns["again in it ms"] = measure.column(results["torch"], "next", 1e3)
    title = "open a .pth of 20,000 tensors"
    if bench.has("torch"):
        title += f" (torch.load with weights_only{', mmap' if bench.has('mmap') else '; this torch has no mmap'})"
    report.pairs(title, columns)
    report.row("open 20,000-tensor .pth, whole fresh process",
               statistics.median(columns["flatbed process ms"]), "ms", 40)
    report.row("open 20,000-tensor .pth, warm", statistics.median(columns["warm open ms"]), "ms", 30)
    if bench.has("torch"):
        report.ratio("torch.load / flatbed open, both fresh", measure.ratio_of_medians(
            columns["torch.load ms"], columns["flatbed open ms"]), 20, at_least=True)


def copy_contenders(bench, name, out_name):
    """Compares cp and sync with flatbed convert. Each writes a new file on an idle disk."""
    source, out = bench.path(name), bench.path(out_name)

    def prepare():
        if os.path.exists(out):
            os.remove(out)
        os.sync()

    def copy():
        prepare()
        return {"seconds": measure.run("sh", "-c", 'cp "$0" "$1" && sync "$1"', source, out).seconds}

    def convert():
        prepare()
        sample = bench.run_flatbed("convert", "--quiet", source, "-o", out)
        return {"seconds": sample.seconds, "peak": sample.peak_kib / MIB}

    def convert_by_torch():
        prepare()
        return bench.ask_torch("convert", source, out)

    contenders = {"cp": copy, "flatbed": convert}
    if name == "model.pth" and bench.has("torch", "safetensors"):
        contenders["torch"] = convert_by_torch
    return contenders


def compare_convert(bench, name, what, limit, peak_mib, out_name="out.safetensors"):
    report = bench.report
    bench.make_inputs(name)
    results = measure.interleave(bench.rounds, copy_contenders(bench, name, out_name))
    convert, copy = measure.column(results["flatbed"], "seconds"), measure.column(results["cp"], "seconds")
    columns = {"convert s": convert, "cp+sync s": copy, "ratio": [a / b for a, b in zip(convert, copy)],
               "convert peak MiB": measure.column(results["flatbed"], "peak")}
    sealed = "sealed, " if out_name.endswith(".safetensors") else ""
    title = f"{what}, {sealed}durable ({os.path.getsize(bench.path(name)):,} bytes)"
    if "torch" in results:
        title += "; torch.load and save_file, not synced"
        columns["torch s"] = measure.column(results["torch"], "seconds")
        columns["torch peak MiB"] = measure.column(results["torch"], "peak")
    report.pairs(title, columns)
    report.ratio(f"{what} / cp+sync", measure.ratio_of_medians(convert, copy), limit)
    report.row(f"{what}, peak memory", max(columns["convert peak MiB"]), "MiB", peak_mib)


def model_peak_mib():
    """64 MiB, and 1 KiB for each tensor."""
    return 64 + sum(1 for _ in inputs.model_tensors()) / 1024


def compare_model(bench):
    """Converting a 1.1 GiB model: cp and sync, torch.load and save_file."""
    compare_convert(bench, "model.pth", "convert 1.1 GiB", 1.0, model_peak_mib())


def compare_legacy(bench):
    """The same from the layout before torch 1.6: cp and sync."""
    compare_convert(bench, "legacy.pth", "convert a legacy 1.1 GiB", 1.0, model_peak_mib())


def compare_back(bench):
    """The same model from .safetensors to .pth: cp and sync."""
    compare_convert(bench, "model.safetensors", "convert 1.1 GiB to .pth", 1.0, model_peak_mib(), "out.pth")


def compare_sets(bench):
    """Splitting a 1.1 GiB model into shards and merging them: cp and sync."""
    report = bench.report
    bench.make_inputs("model.safetensors")
    source, folder, out = (bench.path(name) for name in ("model.safetensors", "set", "out.safetensors"))

    def prepare(path):
        if path == folder:
            shutil.rmtree(folder, ignore_errors=True)
        elif os.path.exists(out):
            os.remove(out)
        os.sync()

    def copy():
        prepare(out)
        return {"seconds": measure.run("sh", "-c", 'cp "$0" "$1" && sync "$1"', source, out).seconds}

    def split():
        prepare(folder)
        sample = bench.run_flatbed("convert", "-q", source, "-o", folder, "--max-shard-size", "250MB")
        return {"seconds": sample.seconds}

    def merge():
        prepare(out)
        return {"seconds": bench.run_flatbed("convert", "-q", folder, "-o", out).seconds}

    contenders = {"cp": copy, "split": split, "merge": merge, "cp again": copy}
    results = measure.interleave(bench.rounds, contenders)
    seconds = {name: measure.column(results[name], "seconds") for name in contenders}
    report.pairs("split and merge 1.1 GiB, durable", {f"{name} s": column for name, column in seconds.items()})
    for name in ("split", "merge"):
        report.ratio(f"{name} 1.1 GiB / cp+sync", measure.ratio_of_medians(seconds[name], seconds["cp"]), 1.0)
    shutil.rmtree(folder)
    os.remove(out)


def compare_transposed(bench):
    """Converting one transposed tensor of 1 GiB: cp and sync."""
    compare_convert(bench, "transposed.pth", "convert a transposed 1 GiB tensor", 4.0, 96)


def compare_verify(bench):
    """Verifying 1.1 GiB in the page cache with two threads: a bare loop of pread and XXH3."""
    report = bench.report
    bench.make_inputs("model.pth")
    sealed = bench.path("sealed.safetensors")
    bench.run_flatbed("convert", "--quiet", "--force", bench.path("model.pth"), "-o", sealed)
    output = measure.run(bench.program("bench_verify"), sealed, str(bench.rounds), "2").output
    os.remove(sealed)
    head, verified, bare = read_pairs(output)
    report.pairs(f"verify, warm ({head})", {
        "verify ms": [1e3 * x for x in verified], "bare loop ms": [1e3 * x for x in bare],
        "rate ratio": [b / a for a, b in zip(verified, bare)]})
    report.ratio("rate of verify / rate of a bare loop", measure.ratio_of_medians(bare, verified), 0.97, at_least=True)


def compare_save(bench):
    """Saving 1.1 GiB from memory, sealed and synced: cp and sync of the file."""
    report = bench.report
    bench.make_inputs("model.safetensors")
    output = measure.run(bench.program("bench_save"), "durable", bench.path("model.safetensors"),
                         bench.path("out.safetensors"), str(bench.rounds)).output
    saved, copied = zip(*(map(float, line.split()) for line in output.splitlines()))
    report.pairs("save() from memory, sealed, durable", {
        "save s": saved, "cp+sync s": copied, "ratio": [a / b for a, b in zip(saved, copied)]})
    report.ratio("save 1.1 GiB from memory / cp+sync", measure.ratio_of_medians(saved, copied), 1.0)


def compare_sparse(bench):
    """One tensor of a 100 GiB file: the same of a 100 MiB file."""
    report = bench.report
    names = {"100 GiB": "sparse_100_gib.safetensors", "100 MiB": "sparse_100_mib.safetensors"}
    bench.make_inputs(*names.values())

    def contender(name):
        def read_one():
            output = measure.run(bench.program("bench_read_one"), bench.path(name), inputs.WANTED).output
            seconds, peak_kib, nbytes = output.split()
            return {"ms": 1e3 * float(seconds), "peak MiB": int(peak_kib) / MIB, "read KiB": int(nbytes) / 1024}
        return read_one

    results = measure.interleave(bench.rounds, {size: contender(name) for size, name in names.items()})
    columns = {f"{size} {key}": measure.column(samples, key)
               for size, samples in results.items() for key in ("ms", "peak MiB", "read KiB")}
    report.pairs("one tensor of 1 MiB", columns)
    large, small = ({key: columns[f"{size} {key}"] for key in ("ms", "peak MiB", "read KiB")} for size in names)
    with open(bench.path(names["100 GiB"]), "rb") as file:
        header = 8 + int.from_bytes(file.read(8), "little")
    report.ratio("one tensor of 100 GiB / of 100 MiB, time", measure.ratio_of_medians(large["ms"], small["ms"]), 1.3)
    report.row("the same, memory", statistics.median(large["peak MiB"]) - statistics.median(small["peak MiB"]),
               "MiB more", 1)
    report.row("the same, bytes read", max(large["read KiB"]), "KiB", (header + (1 << 20) + (1 << 18)) / 1024)


SECTIONS = {"header": compare_header, "pth": compare_pth, "convert": compare_model,
            "convert_legacy": compare_legacy, "convert_back": compare_back, "sets": compare_sets,
            "transposed": compare_transposed, "verify": compare_verify, "save": compare_save,
            "sparse": compare_sparse,
            **compare_dicts.SECTIONS, **compare_torch.SECTIONS, **compare_load.SECTIONS,
            **compare_peers.SECTIONS}


def parse_options():
    listing = "\n".join(f"  {name:12}{section.__doc__}" for name, section in SECTIONS.items())
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"sections, all when none is named:\n{listing}",
                                     formatter_class=argparse.RawDescriptionHelpFormatter, usage=argparse.SUPPRESS)
    parser.add_argument("--build", default=os.path.join(os.path.dirname(HERE), "build", "bench"),
                        help="the build tree; default: build/bench of the checkout")
    parser.add_argument("--dir", help="work folder, whose inputs are kept for the next run; "
                                      "default: a new one in the build tree, removed at the end")
    parser.add_argument("--python", default=sys.executable, metavar="COMMAND",
                        help="runs a Python with torch and safetensors, as in 'chroot /srv/sid python3'; it must "
                             "see the checkout and the work folder at the same paths")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--output", metavar="FILE", help="what is printed, also into a file")
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: the sections are {', '.join(SECTIONS)}")
    options.build = os.path.abspath(options.build)
    if measure.cached_value(options.build, "CMAKE_BUILD_TYPE") != "Release":
        parser.error(f"{options.build} is no Release build; bench/README.md says how to make one")
    if not os.path.exists(os.path.join(options.build, "bench", "bench_open")):
        parser.error(f"{options.build} has no benchmarks; bench/README.md says how to build them")
    return options


def main():
    options = parse_options()
    folder = os.path.abspath(options.dir or tempfile.mkdtemp(prefix="compare-", dir=options.build))
    os.makedirs(folder, exist_ok=True)
    try:
        bench = Bench(options, folder)
        report = bench.report
        for name, value in measure.machine_facts(options.build, folder):
            report.say(f"{name:12}{value}")
        peers = ("python", "torch", "safetensors", "fastsafetensors", "runai")
        report.say(f"{'compared':12}" + ", ".join(f"{name} {bench.versions[name]}" for name in peers))
        report.say(f"{'rounds':12}{options.rounds}, interleaved, after one not counted; files in the page cache, "
                   "unless cold")
        report.say(f"{'peak floor':12}{measure.run('true').peak_kib / MIB:.1f} MiB: below it no peak can be seen")
        measure.run(sys.executable, measure.__file__)
        for name in options.sections or SECTIONS:
            SECTIONS[name](bench)
        met = report.table()
    finally:
        if not options.dir:
            shutil.rmtree(folder)
        for name in ("out.safetensors", "out.pth"):
            if os.path.exists(os.path.join(folder, name)):
                os.remove(os.path.join(folder, name))
    if options.output:
        os.makedirs(os.path.dirname(os.path.abspath(options.output)), exist_ok=True)
        with open(options.output, "w", encoding="utf-8") as file:
            file.write("\n".join(report.lines) + "\n")
    sys.exit(0 if met else 1)


if __name__ == "__main__":
    main()
