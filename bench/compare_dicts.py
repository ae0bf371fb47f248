"""The sections of compare.py about state dicts: names, sharded sets of many tensors, differences."""

import json
import os
import statistics

import measure

DIFF_MS = 300
NAMES_MS = {  # of bench_names: what it is called here, and its limit
    "match_names/all/100000": ("match 100,000 against 100,000 names", 20),
    "match_names/prefixed/100000": ("the same, all missing by a prefix, with the reason", 100),
    "rename_all/1000000/100": ("rename 1,000,000 names by 100 rules", 1000),
    "write_index/500000/1000": ("write the index of 500,000 tensors in 1,000 shards, synced", 500),
}


def compare_names(bench):
    """Matching and renaming many names, writing a large index: milliseconds."""
    output = measure.run(bench.program("bench_names"), "--benchmark_format=json",
                         f"--benchmark_repetitions={bench.rounds}", "--benchmark_min_time=0.01",
                         "--benchmark_enable_random_interleaving=true").output
    times = {}
    for run in json.loads(output[output.index("{"):])["benchmarks"]:
        if run["run_type"] == "iteration":
            times.setdefault(run["run_name"], []).append(run["real_time"])
    bench.report.pairs("names, ms", times)
    for name, (what, limit) in NAMES_MS.items():
        bench.report.row(what, statistics.median(times[name]), "ms", limit)


def compare_many_shards(bench):
    """Opening 100 shards of 1,000 tensors, 1,000 of 500: bare simdjson over index and headers."""
    for name, what in (("shards_100_1000", "100,000 tensors in 100 shards"),
                       ("shards_1000_500", "500,000 tensors in 1,000 shards")):
        bench.make_inputs(name)
        index = os.path.join(bench.path(name), "model.safetensors.index.json")
        head, *lines = measure.run(bench.program("bench_open"), "--pairs", str(bench.rounds), index).output.splitlines()
        opened, bare = zip(*(map(float, line.split()) for line in lines))
        bench.report.pairs(f"open {what} ({head})", {
            "open ms": [1e3 * x for x in opened], "bare parse ms": [1e3 * x for x in bare],
            "ratio": [a / b for a, b in zip(opened, bare)]})
        bench.report.ratio(f"open {what} / bare DOM parse", measure.ratio_of_medians(opened, bare), 3)


def bytes_read(*command):
    """By the read calls of a command, with what its shell reads: at most a few KiB."""
    output = measure.run("sh", "-c", '"$@" >/dev/null; grep rchar /proc/$$/io', "sh", *command).output
    return int(output.split()[1])


def compare_diff_sealed(bench):
    """Comparing two sealed files of 100 GiB, by their headers."""
    names = ("sealed_100_gib_a.safetensors", "sealed_100_gib_b.safetensors")
    bench.make_inputs(*names)
    paths = [bench.path(name) for name in names]
    seconds = [bench.run_flatbed("diff", *paths).seconds for _ in range(bench.rounds + 1)][1:]
    bench.report.pairs("diff of two sealed files of 100 GiB, fresh processes", {"ms": [1e3 * x for x in seconds]})
    bench.report.row("diff of two sealed files of 100 GiB", 1e3 * statistics.median(seconds), "ms", DIFF_MS)
    tool = os.path.join(bench.build, "tools", "flatbed")
    read = bytes_read(tool, "diff", *paths) - bytes_read(tool, "--version")
    heads = 0
    for path in paths:
        with open(path, "rb") as file:
            heads += 8 + int.from_bytes(file.read(8), "little")
    bench.report.row("the same, bytes read", read / heads, "x their heads", 2)


def compare_diff_values(bench):
    """Comparing the values of two models of 1.1 GiB: verifying both."""
    sources = ("weights_a.safetensors", "weights_b.safetensors")
    bench.make_inputs(*sources)
    paths = []
    for source in sources:
        paths.append(bench.path(f"sealed-{source}"))
        bench.run_flatbed("convert", "-q", "--force", bench.path(source), "-o", paths[-1])

    def differ():
        done = measure.run("sh", "-c", '"$@" >/dev/null; [ $? -le 1 ]', "sh",
                           os.path.join(bench.build, "tools", "flatbed"), "diff", "--values", *paths)
        return {"seconds": done.seconds}

    def verify():
        return {"seconds": sum(bench.run_flatbed("verify", "-q", path).seconds for path in paths)}

    results = measure.interleave(bench.rounds, {"diff": differ, "verify": verify, "verify again": verify})
    seconds = {name: measure.column(samples, "seconds") for name, samples in results.items()}
    bench.report.pairs("diff --values of two models of 1.1 GiB; verify of both, twice",
                       {f"{name} s": column for name, column in seconds.items()})
    bench.report.ratio("rate of diff --values / of verifying both", measure.ratio_of_medians(
        seconds["verify"], seconds["diff"]), 0.7, at_least=True)
    for path in paths:
        os.remove(path)


SECTIONS = {"names": compare_names, "many_shards": compare_many_shards, "diff_sealed": compare_diff_sealed,
            "diff_values": compare_diff_values}
