"""The section of compare.py that sets load() beside other loaders, on one file, warm and cold. None
of them is part of this project: they are used where the Python of --python has them.

Each contender is a process that keeps its memory, touched, from one round to the next. Before the
rounds every peer tries its settings, and keeps those of its fastest load.
"""

import collections
import contextlib
import os
import sys

import compare_load
import measure

HERE = os.path.dirname(os.path.abspath(__file__))

# malloc keeps what is freed and gives it again, already touched, in large pages where there are any.
KEEP_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "MALLOC_MMAP_MAX_": "0", "MALLOC_ARENA_MAX": "1",
               "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}

# owned: the bytes arrive in memory of the process; else they stay in the mapped page cache, and one
# byte of every page is read. settings: which are tried, for warm and for cold files.
Peer = collections.namedtuple("Peer", "title owned packages warm cold")
THREADS = [["threads=1"], ["threads=2"]]
READERS = [["readers=1"], ["readers=2"], ["readers=4"]]
RUNAI_WARM = [["sync_buffered", "1"], ["sync_buffered", "2"], ["sync_buffered", "4"], ["sync_buffered", "16"],
              ["io_uring_buffered", "4"]]
RUNAI_COLD = [["io_uring_direct", "2"], ["io_uring_direct", "16"], ["libaio_direct", "4"], ["sync_buffered", "16"]]
READER_WARM = [[f"threads={threads}", "direct=0", f"buffer={kib}"]
               for threads, kib in ((1, 1024), (1, 16384), (2, 1024), (2, 16384), (4, 16384), (16, 16384))]
READER_COLD = [["threads=2", "direct=1", "buffer=16384"], ["threads=4", "direct=1", "buffer=16384"],
               ["threads=16", "direct=1", "buffer=16384"], ["threads=16", "direct=0", "buffer=16384"]]
PEERS = {
    "runai": Peer("Run:ai streamer", True, ["runai"], RUNAI_WARM, RUNAI_COLD),
    "fastsafetensors": Peer("fastsafetensors reader", True, ["torch", "fastsafetensors"], READER_WARM, READER_COLD),
    "safetensors-pread": Peer("safetensors, pread", True, ["torch", "safetensors"], READERS, READERS),
    "safetensors-copy": Peer("safetensors, mmap, copied", True, ["torch", "safetensors"], THREADS, THREADS),
    "torch-copy": Peer("torch.load, mmap, copied", True, ["torch", "mmap"], THREADS, THREADS),
    "safetensors-touch": Peer("safetensors, mmap, touched", False, ["torch", "safetensors"], THREADS, THREADS),
    "torch-touch": Peer("torch.load, mmap, touched", False, ["torch", "mmap"], THREADS, THREADS),
}


class Files:
    """The two files of the same tensors, and the way to put them out of the page cache."""

    def __init__(self, bench, sealed):
        self.bench = bench
        self.sealed = sealed
        self.pth = bench.path("model.pth")

    def of(self, name):
        return self.pth if name.startswith("torch") else self.sealed

    def start(self, name, settings=()):
        """A contender as a process; in a `with`."""
        program = self.bench.program("bench_load_serve")
        if name in ("flatbed", "view", "evict"):
            return measure.Server([program, name, *settings], {})
        if name == "runai":
            strategy, concurrency = settings
            return measure.Server([program, name, self.sealed, self.bench.versions["runai_library"]],
                                  {"RUNAI_STREAMER_FS_STRATEGY": strategy, "RUNAI_STREAMER_CONCURRENCY": concurrency})
        script = os.path.join(HERE, "load_peers.py")
        return measure.Server([*self.bench.python[:-1], script, name, self.of(name), *settings], KEEP_MEMORY)


def time_load(server, evict):
    """Seconds of one load; of a cold file if there is something that evicts it."""
    if evict:
        evict.load()
    return server.load()


def read_anew(evict, path):
    """Both files come into the page cache in one way: the size of its pages, which mapped files feel,
    depends on it."""
    evict.load()
    with open(path, "rb", buffering=0) as file:
        while file.read(16 << 20):
            pass


def find_settings(files, name, tried, evict):
    """Of the settings those with the fastest of three loads after one that touches the memory."""
    best = (float("inf"), None)
    for settings in tried:
        with files.start(name, settings) as server:
            time_load(server, evict)
            seconds = min(time_load(server, evict) for _ in range(3))
        best = min(best, (seconds, settings))
    return best[1]


def choose_settings(bench, files, evictors, cold):
    views = [[files.sealed, threads] for threads in ("1", "2")]
    chosen = {"flatbed": [files.sealed], "view": find_settings(files, "view", views, evictors["view"])}
    for name, peer in PEERS.items():
        if bench.has(*peer.packages):
            chosen[name] = find_settings(files, name, peer.cold if cold else peer.warm, evictors[name])
    return chosen


def measure_peers(bench, files, cold):
    """Prints the pairs, returns {name: [seconds]}."""
    with contextlib.ExitStack() as stack:
        sealed = stack.enter_context(files.start("evict", [files.sealed]))
        pth = stack.enter_context(files.start("evict", [files.pth]))
        evictors = {name: (pth if files.of(name) == files.pth else sealed) if cold else None
                    for name in ("flatbed", "view", *PEERS)}
        if not cold:
            read_anew(sealed, files.sealed)
            read_anew(pth, files.pth)
        chosen = choose_settings(bench, files, evictors, cold)
        servers = {name: stack.enter_context(files.start(name, settings)) for name, settings in chosen.items()}
        results = measure.interleave(bench.rounds, {
            name: lambda name=name: time_load(servers[name], evictors[name]) for name in servers})
        sums = {name: server.ask("sum") for name, server in servers.items()}
    if len(set(sums.values())) != 1:
        sys.exit(f"compare_peers.py: the contenders did not load the same: {sums}")
    bench.report.pairs(f"load, {'cold' if cold else 'warm'}, side by side: milliseconds",
                       {name: [1e3 * x for x in seconds] for name, seconds in results.items()})
    for name in chosen:
        if name in PEERS:
            bench.report.say(f"{name:18}{' '.join(chosen[name])}")
    bench.report.say(f"{'view':18}threads={chosen['view'][1]}")
    return results


def compare_peers(bench):
    """Loading 1.1 GiB, warm and cold: Run:ai's streamer, fastsafetensors, safetensors, torch.load."""
    report = bench.report
    with compare_load.sealed(bench, "model.pth") as sealed:
        files = Files(bench, sealed)
        for cold in (False, True):
            results = measure_peers(bench, files, cold)
            state = "cold" if cold else "warm"
            for name, peer in PEERS.items():
                if name not in results:
                    continue
                own, what = ("flatbed", "load") if peer.owned else ("view", "view and touch")
                report.ratio(f"{state}: {peer.title} / {what}, time",
                             measure.ratio_of_medians(results[name], results[own]), 1, at_least=True)
                if not peer.owned:
                    report.say(f"{state}: {peer.title} / load, time: "
                               f"{measure.ratio_of_medians(results[name], results['flatbed']):.2f} x "
                               "(nothing is copied or verified; no target)")


SECTIONS = {"load_peers": compare_peers}
