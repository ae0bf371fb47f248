"""How compare.py measures: one fresh process at a time, contenders in turn, medians of pairs; and
what is known about the machine. Python's standard library only.
"""

import collections
import glob
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time

Sample = collections.namedtuple("Sample", "seconds peak_kib output")


def run(*command):
    """Runs a command to its end: wall-clock seconds from before it starts, peak memory, output.

    Linux counts into the peak of a new process what its parent had when it started it: nothing
    below this script's own size, about 20 MiB, can be seen. So this process stays small; the files
    are made by others."""
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = os.posix_spawnp(command[0], command, os.environ,
                                  file_actions=[(os.POSIX_SPAWN_DUP2, output.fileno(), 1)])
        _, status, usage = os.wait4(process, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        text = output.read().decode()
    if status != 0:
        sys.exit(f"{text}compare.py: failed with status {os.waitstatus_to_exitcode(status)}: {' '.join(command)}")
    return Sample(seconds, usage.ru_maxrss, text)


class Server:
    """A process that prints "ready" and then answers each line it reads with a number: it keeps its
    memory from one measurement to the next. Use in a `with`; leaving it ends the process."""

    def __init__(self, command, environment):
        self.command = command
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, **environment})
        while self.read_line() != "ready":
            pass  # what imports print

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()

    def read_line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"compare.py: ended with status {self.process.wait()}: {' '.join(self.command)}")
        return line.strip()

    def ask(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.read_line()

    def load(self):
        return float(self.ask("load"))


def ask(*command):
    """The first line that a command prints, or None if it cannot be run."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip().partition("\n")[0]


def interleave(rounds, contenders, before=None):
    """Calls every contender once per round, in an order that turns round each time, after a round
    that warms up and does not count; `before` ahead of each. Returns {name: [what it returned...]}."""
    results = {name: [] for name in contenders}
    for number in range(-1, rounds):
        names = list(contenders) if number % 2 else list(reversed(contenders))
        for name in names:
            if before is not None:
                before()
            result = contenders[name]()
            if number >= 0:
                results[name].append(result)
    return results


def column(samples, key, scale=1):
    return [sample[key] * scale for sample in samples]


def open_once(bench, path, times=1):
    """A fresh process: of its whole life, of its first opening, and of the median later one."""
    sample = run(bench.program("bench_open_once"), path, str(times))
    first, *later = map(float, sample.output.split())
    return {"process": sample.seconds, "first": first, "later": statistics.median(later or [first])}


def ratio_of_medians(above, below):
    """Of interleaved pairs. Where the order within a round matters, the median of the rounds' ratios would be that
    of the order which has one round more."""
    return statistics.median(above) / statistics.median(below)


class Report:
    """Prints, and keeps what was printed; collects the rows of the table at the end."""

    def __init__(self):
        self.lines = []
        self.rows = []

    def say(self, text=""):
        print(text, flush=True)
        self.lines.append(text)

    def pairs(self, title, columns):
        """A table of {heading: [numbers]}, a line for each round, then the medians."""
        self.say(f"\n== {title}")
        widths = [max(len(heading), 10) for heading in columns]
        self.say("round   " + "  ".join(f"{heading:>{width}}" for heading, width in zip(columns, widths)))
        lines = [(str(number + 1), values) for number, values in enumerate(zip(*columns.values()))]
        lines.append(("median", [statistics.median(values) for values in columns.values()]))
        for label, values in lines:
            self.say(f"{label:6}  " + "  ".join(f"{value:{width}.3f}" for value, width in zip(values, widths)))

    def row(self, what, reached, unit, limit, at_least=False, slack=0.0):
        """A line of the table of targets; `slack` is what a ratio may miss its limit by."""
        met = reached >= limit - slack if at_least else reached <= limit + slack
        sign = ">=" if at_least else "<="
        self.rows.append((what, f"{sign} {limit:g} {unit}", f"{reached:.2f} {unit}", "pass" if met else "FAIL"))

    def ratio(self, what, reached, limit, at_least=False):
        self.row(what, reached, "x", limit, at_least, slack=0.05)

    def table(self):
        self.say("\n== Targets (ratios are met within 0.05)")
        widths = [max(len(row[column]) for row in self.rows) for column in range(4)]
        for row in self.rows:
            self.say("  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip())
        return all(row[3] == "pass" for row in self.rows)


# ---- the machine -------------------------------------------------------------------------------

def find_line(path, key):
    """The text after the colon in the first line that begins with `key`."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith(key):
                return line.partition(":")[2].strip()
    return "unknown"


def filesystem(folder):
    """Type and options of the mount that holds the folder."""
    folder = os.path.realpath(folder)
    best = ("", "unknown")
    with open("/proc/self/mounts", encoding="utf-8") as file:
        for line in file:
            _, point, kind, options = line.split()[:4]
            inside = folder == point or folder.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best[0]):
                best = (point, f"{kind} ({options})")
    return best[1]


def cached_value(build, name):
    """Of a variable in CMake's cache, whose lines are NAME:TYPE=VALUE."""
    cache = os.path.join(build, "CMakeCache.txt")
    return find_line(cache, name + ":").partition("=")[2] if os.path.exists(cache) else ""


def caches():
    """Those of the first core, as the kernel lists them, with the cores that share each."""
    found = []
    for folder in sorted(glob.glob("/sys/devices/system/cpu/cpu0/cache/index*")):
        level, kind, size, cores = (find_text(os.path.join(folder, name))
                                    for name in ("level", "type", "size", "shared_cpu_list"))
        if kind != "Instruction":
            found.append(f"L{level} {size} (cores {cores})")
    return ", ".join(found) or "unknown"


def find_text(path):
    """What the file holds, if it is there."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "unknown"


def machine_facts(build, folder):
    """Lines about processor, memory, disk, kernel and what built the programs."""
    system = os.uname()
    compiler = cached_value(build, "CMAKE_CXX_COMPILER")
    yield "date", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
    yield "processor", f"{find_line('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores, {system.machine}"
    yield "caches", caches()
    yield "memory", find_line("/proc/meminfo", "MemTotal")
    yield "kernel", f"{system.sysname} {system.release}"
    yield "file system", filesystem(folder)
    yield "load", "%.2f %.2f %.2f before the start" % os.getloadavg()
    yield "compiler", f"{ask(compiler, '--version')}, {cached_value(build, 'CMAKE_BUILD_TYPE')}"
    yield "cp", ask("cp", "--version")
    yield "flatbed", flatbed_version(build)


def flatbed_version(build):
    source = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    version = ask(os.path.join(build, "tools", "flatbed"), "--version")
    commit = ask("git", "-C", source, "rev-parse", "--short", "HEAD")
    changed = ask("git", "-C", source, "status", "--porcelain", "--", "include", "src", "tools")
    return f"{version}, commit {commit or 'unknown'}" + (", with changes" if changed else "")


def touch_again():
    """Touches what a fresh process will get: some virtual machines give free memory back to the host after a while."""
    subprocess.run([sys.executable, __file__, str(512 << 20)], check=True)


def touch_memory(nbytes=None):
    """Touches so many bytes of free memory, or most of it, once. In a virtual machine the host provides a page when it
    is first touched, which costs more than anything measured here."""
    if nbytes is None:
        with open("/proc/meminfo", encoding="ascii") as file:
            free_kib = next(int(line.split()[1]) for line in file if line.startswith("MemFree:"))
        nbytes = free_kib * 1024 * 8 // 10
    with mmap.mmap(-1, nbytes) as memory:
        for offset in range(0, nbytes, 4096):
            memory[offset] = 1


if __name__ == "__main__":
    # In a process of its own: its peak would count into those of its children.
    touch_memory(*map(int, sys.argv[1:]))
