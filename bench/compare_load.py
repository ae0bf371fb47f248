"""The sections of compare.py about load() into memory of the host. The comparison with other
programs is compare_peers.py.
"""

import contextlib
import itertools
import json
import os
import shutil
import statistics

import measure

MIB = 1 << 20


@contextlib.contextmanager
def sealed(bench, name):
    """An input as flatbed seals it, written back to the disk, removed afterwards."""
    bench.make_inputs(name)
    path = bench.path("sealed-" + os.path.splitext(name)[0] + ".safetensors")
    bench.run_flatbed("convert", "--quiet", "--force", bench.path(name), "-o", path)
    try:
        yield path
    finally:
        os.remove(path)


def read_rounds(output):
    """A line about the program itself, then a line of numbers for each round: as columns."""
    head, *lines = output.splitlines()
    return head, list(zip(*(map(float, line.split()) for line in lines)))


def compare_load_warm(bench):
    """Loading 1.1 GiB from the page cache with two threads: bare loops of pread, unverified and verified."""
    report = bench.report
    with sealed(bench, "model.pth") as path:
        head, (verified, unverified, bare, bounce) = read_rounds(
            measure.run(bench.program("bench_load"), "warm", path, str(bench.rounds), "2").output)
    report.pairs(f"load, warm, into memory touched before ({head})", {
        "verified ms": [1e3 * x for x in verified], "unverified ms": [1e3 * x for x in unverified],
        "bare loop ms": [1e3 * x for x in bare], "verifying loop ms": [1e3 * x for x in bounce],
        "rate / bare": [b / a for a, b in zip(verified, bare)],
        "rate / verifying": [b / a for a, b in zip(verified, bounce)],
        "rate / unverified": [b / a for a, b in zip(verified, unverified)]})
    report.ratio("load, warm, verified: rate / of a bare pread loop", measure.ratio_of_medians(bare, verified),
                 0.93, at_least=True)
    report.ratio("load, warm, verified: rate / of a bare loop that verifies",
                 measure.ratio_of_medians(bounce, verified), 0.97, at_least=True)
    report.ratio("load, warm: rate verified / unverified", measure.ratio_of_medians(unverified, verified),
                 0.95, at_least=True)


def compare_load_cast(bench):
    """Loading 1.1 GiB of F32 as BF16 from the page cache, verified: the same load without casts."""
    report = bench.report
    with sealed(bench, "weights_a.safetensors") as path:
        head, (plain, cast, again) = read_rounds(
            measure.run(bench.program("bench_load"), "cast", path, str(bench.rounds), "2").output)
    report.pairs(f"load, warm, F32 cast to BF16 ({head})", {
        "plain ms": [1e3 * x for x in plain], "cast ms": [1e3 * x for x in cast],
        "plain again ms": [1e3 * x for x in again],
        "input rate cast / plain": [a / b for a, b in zip(plain, cast)],
        "plain again / plain": [a / b for a, b in zip(plain, again)]})
    report.ratio("load, warm, cast to BF16: input rate / without casts", measure.ratio_of_medians(plain, cast),
                 0.85, at_least=True)


def compare_load_cold(bench):
    """Loading 1.1 GiB that is not in the page cache, verified: a bare loop past the page cache."""
    report = bench.report
    with sealed(bench, "model.pth") as path:
        head, columns = read_rounds(
            measure.run(bench.program("bench_load"), "cold", path, str(bench.rounds)).output)
    verified, verified_cpu, apart, apart_cpu, bare, bare_cpu = columns
    gigabytes = int(head.split()[0]) / 1e9
    report.pairs(f"load, cold, verified ({head})", {
        "load ms": [1e3 * x for x in verified], "bare loop ms": [1e3 * x for x in bare],
        "rate / bare": [b / a for a, b in zip(verified, bare)],
        "apart ms": [1e3 * x for x in apart],
        "load CPU s/GB": [x / gigabytes for x in verified_cpu],
        "bare CPU s/GB": [x / gigabytes for x in bare_cpu],
        "apart CPU s/GB": [x / gigabytes for x in apart_cpu]})
    report.say("apart: each tensor 64 bytes after a multiple of 128, where no block of the file fits")
    report.ratio("load, cold, verified: rate / of a bare O_DIRECT loop", measure.ratio_of_medians(bare, verified),
                 0.85, at_least=True)


def evict(path):
    """Writes the file back and puts it out of the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def fio_rate(path, depth, jobs):
    """GB a second that fio reads of the file past the page cache."""
    share = os.path.getsize(path) // jobs // MIB * MIB
    output = measure.run("fio", "--name=read", f"--filename={path}", "--readonly", "--rw=read", "--direct=1",
                         "--ioengine=io_uring", "--bs=1M", f"--iodepth={depth}", f"--numjobs={jobs}",
                         f"--size={share}", f"--offset_increment={share}", "--group_reporting",
                         "--output-format=json").output
    return json.loads(output)["jobs"][0]["read"]["bw_bytes"] / 1e9


def compare_load_fio(bench):
    """Loading 1.1 GiB that is not in the page cache, verified: the best that fio reads with io_uring."""
    report = bench.report
    if shutil.which("fio") is None:
        report.say("\nload_fio: skipped, there is no fio")
        return

    def load_rate(path):
        evict(path)
        sample = bench.run_flatbed("load", "--io", "direct", "--json", path)
        return json.loads(sample.output)["report"]["gb_per_second"]

    with sealed(bench, "model.pth") as path:
        shapes = itertools.product((1, 4, 16, 64), (1, 2, 4, 8))
        depth, jobs = max(shapes, key=lambda shape: max(fio_rate(path, *shape) for _ in range(2)))
        rates = [(load_rate(path), fio_rate(path, depth, jobs), load_rate(path)) for _ in range(bench.rounds)]
    load, fio, again = zip(*rates)
    report.pairs(f"load, cold, verified, fresh processes (fio: depth {depth}, {jobs} jobs, reads of 1 MiB)", {
        "load GB/s": load, "fio GB/s": fio, "load again GB/s": again,
        "load / fio": [a / b for a, b in zip(load, fio)], "again / load": [a / b for a, b in zip(again, load)]})
    report.ratio("load, cold, verified: rate / of the best fio", measure.ratio_of_medians(load, fio), 0.95,
                 at_least=True)


def load_once(bench, path, *arguments):
    output = measure.run(bench.program("bench_load_once"), path, *map(str, arguments)).output
    names = ("wanted", "planned", "read", "counted", "peak_kib", "staging")
    return dict(zip(names, map(int, output.split())))


def compare_load_memory(bench):
    """Memory held by a fresh process that loads 0.1 and 1.1 GiB with budgets of 16, 64, 256 MiB of staging."""
    report = bench.report
    budgets = (16, 64, 256)
    beside = {budget: [] for budget in budgets}
    report.say("\n== memory of a fresh process that loads, verified, every tensor apart from the others; MiB")
    report.say(f"{'io':10}{'budget':>8}{'wanted':>10}{'staging':>10}{'peak':>10}{'peak - wanted - budget':>24}")
    for name in ("sparse_100_mib.safetensors", "model.pth"):
        with sealed(bench, name) as path:
            for io, budget in itertools.product(("buffered", "direct"), budgets):
                sample = load_once(bench, path, io, budget * MIB, "verified")
                peak, wanted = sample["peak_kib"] / 1024, sample["wanted"] / MIB
                beside[budget].append(peak - wanted - budget)
                report.say(f"{io:10}{budget:8}{wanted:10.1f}{sample['staging'] / MIB:10.1f}{peak:10.1f}"
                           f"{beside[budget][-1]:24.1f}")
    for budget in budgets:
        report.row(f"load, {budget} MiB of staging: memory beside wanted bytes and it", max(beside[budget]), "MiB", 48)


def compare_load_slices(bench):
    """Eighths of every tensor, of rows and of columns, of llama's and of experts' shapes: bytes read.

    The columns of `wide` are of 4 KiB and more in a row, and so those that count.
    """
    report = bench.report
    limits = {"llama": {"unverified": 1.05, "verified": 1.05}, "experts": {"unverified": 1.05, "verified": 1.4},
              "wide": {"unverified": 1.05, "verified": 1.05}}
    report.say("\n== one eighth of every tensor: bytes read / wanted, of all eight ranks the worst")
    report.say(f"{'shapes':10}{'dimension':>10}  {'':12}{'planned':>10}{'reported':>10}{'by the kernel':>15}")
    for shapes in limits:
        with sealed(bench, f"{shapes}.safetensors") as path:
            for dim, checks in itertools.product((0, 1), ("unverified", "verified")):
                ratios = []
                for rank in range(8):
                    sample = load_once(bench, path, "buffered", 64 * MIB, checks, dim, rank, 8)
                    ratios.append([sample[key] / sample["wanted"] for key in ("planned", "read", "counted")])
                worst = list(map(max, zip(*ratios)))
                report.say(f"{shapes:10}{dim:10}  {checks:12}{worst[0]:10.3f}{worst[1]:10.3f}{worst[2]:15.3f}")
                if dim == 0:
                    report.row(f"row slices of {shapes}, {checks}: read / wanted", max(worst), "x",
                               limits[shapes][checks])
                elif shapes == "wide":
                    report.row(f"column slices of {shapes}, {checks}: read / wanted", max(worst), "x",
                               {"unverified": 1.2, "verified": 8.1}[checks])


def compare_load_small(bench):
    """Loading 100,000 tensors of 64 bytes: a bare read of the same bytes."""
    report = bench.report
    with sealed(bench, "large_header.safetensors") as path:
        head, columns = read_rounds(
            measure.run(bench.program("bench_load_small"), path, str(bench.rounds)).output)
    scale = 1e6 / int(head.split()[0])
    add, check, load, bare = ([x * scale for x in column] for column in columns)
    columns = {"add us": add, "check us": check, "load us": load, "bare read us": bare,
               "load - bare us": [a - b for a, b in zip(load, bare)],
               "add + load - bare us": [a + b - c for a, b, c in zip(add, load, bare)]}
    report.pairs(f"small tensors, microseconds for each ({head})", columns)
    report.say("load() checks the plan itself; check() alone is what a caller pays who asks first")
    report.row("100,000 small tensors: add + load - bare read, for each",
               statistics.median(columns["add + load - bare us"]), "us", 2)


SECTIONS = {"load_warm": compare_load_warm, "load_cast": compare_load_cast, "load_cold": compare_load_cold,
            "load_fio": compare_load_fio, "load_memory": compare_load_memory, "load_slices": compare_load_slices,
            "load_small": compare_load_small}
