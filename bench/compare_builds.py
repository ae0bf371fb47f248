#!/usr/bin/env python3
"""Measures two builds of flatbed against each other, and the first against itself: whether a change made anything
slower. A difference counts only beyond the spread of the first build against itself (A/A), which is printed beside it.

Usage: compare_builds.py OLD_BUILD NEW_BUILD [--dir DIR] [--rounds N] [--output FILE] [SECTION...]

Both are Release builds with FLATBED_BENCH=ON and FLATBED_TOOLS=ON. Needs 4 GB of disk and an idle machine.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile

import inputs
import measure



class Build:
    """The programs of one build tree."""

    def __init__(self, folder):
        self.folder = os.path.abspath(folder)

    def program(self, name):
        return os.path.join(self.folder, "bench", name)

    def tool(self, *arguments):
        return measure.run(os.path.join(self.folder, "tools", "flatbed"), *arguments)


class Work:
    """The folder of inputs and outputs."""

    def __init__(self, folder, first):
        self.folder = folder
        self.first = first  # a build that makes inputs

    def path(self, name):
        return os.path.join(self.folder, name)

    def make(self, name):
        """An input of inputs.py, by a process of its own: see measure.run."""
        measure.run(sys.executable, "-B", inputs.__file__, self.folder, name)
        os.sync()
        return self.path(name)

    def sealed(self, name):
        path = self.path(os.path.join("sealed", os.path.splitext(name)[0] + ".safetensors"))
        if not os.path.exists(path):
            self.first.tool("convert", "--quiet", self.make(name), "--out-dir", os.path.dirname(path))
            os.sync()
        return path


def middle(output, column):
    """The median of a column of the rounds that a benchmark prints after a line about itself."""
    return statistics.median(float(line.split()[column]) for line in output.splitlines()[1:])


def open_fresh(build, path):
    return measure.open_once(build, path)["first"]


def time_header(work):
    path = work.make("large_header.safetensors")
    return lambda build: open_fresh(build, path)


def time_pth(work):
    path = work.make("many.pth")
    return lambda build: open_fresh(build, path)


def time_convert(work):
    source, out = work.make("model.pth"), work.path("out.safetensors")

    def convert(build):
        if os.path.exists(out):
            os.remove(out)
        os.sync()
        return build.tool("convert", "--quiet", source, out).seconds
    return convert


def time_verify(work):
    path = work.sealed("model.pth")
    return lambda build: middle(measure.run(build.program("bench_verify"), path, "3", "2").output, 0)


def time_load_warm(work):
    path = work.sealed("model.pth")
    return lambda build: middle(measure.run(build.program("bench_load"), "warm", path, "3", "2").output, 0)


def time_load_small(work):
    path = work.sealed("large_header.safetensors")

    def load(build):
        output = measure.run(build.program("bench_load_small"), path, "3").output
        return middle(output, 0) + middle(output, 2)  # planning, and the load
    return load


SECTIONS = {"header": time_header, "pth": time_pth, "convert": time_convert, "verify": time_verify,
            "load_warm": time_load_warm, "load_small": time_load_small}


def spread(ratios):
    """The quartiles of ratios of pairs, as percentages beside 1."""
    low, _, high = statistics.quantiles(ratios, n=4)
    return f"{100 * (low - 1):+.1f} to {100 * (high - 1):+.1f} %"


def compare(report, name, time_of, builds, rounds):
    """`builds`: old, new. Returns nothing; adds the section and a row to the report."""
    contenders = {"old": builds[0], "old again": builds[0], "new": builds[1]}
    timed = {side: lambda build=build: time_of(build) for side, build in contenders.items()}
    results = measure.interleave(rounds, timed, measure.touch_again)
    columns = {f"{side} ms": [1e3 * seconds for seconds in results[side]] for side in contenders}
    columns["again / old"] = [b / a for a, b in zip(results["old"], results["old again"])]
    columns["new / old"] = [b / a for a, b in zip(results["old"], results["new"])]
    report.pairs(name, columns)
    report.say(f"A/A {spread(columns['again / old'])}; new / old {spread(columns['new / old'])}")
    _, _, high = statistics.quantiles(columns["again / old"], n=4)
    report.row(name, statistics.median(columns["new / old"]), "x old", round(max(high, 1.0), 3))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--dir", help="work folder, whose inputs are kept for the next run")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--output", metavar="FILE", help="what is printed, also into a file")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    options = parser.parse_args()
    unknown = [name for name in options.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: the sections are {', '.join(SECTIONS)}")
    return options


def main():
    options = parse_options()
    builds = [Build(options.old), Build(options.new)]
    folder = os.path.abspath(options.dir or tempfile.mkdtemp(prefix="compare-", dir=builds[1].folder))
    os.makedirs(folder, exist_ok=True)
    report = measure.Report()
    try:
        for name, value in measure.machine_facts(builds[1].folder, folder):
            report.say(f"{name:12}{value}")
        report.say(f"{'rounds':12}{options.rounds}, interleaved, after one not counted; files in the page cache")
        measure.run(sys.executable, measure.__file__)
        work = Work(folder, builds[0])
        for name in options.sections or SECTIONS:
            compare(report, name, SECTIONS[name](work), builds, options.rounds)
        report.table()
    finally:
        if not options.dir:
            shutil.rmtree(folder)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            file.write("\n".join(report.lines) + "\n")


if __name__ == "__main__":
    main()
