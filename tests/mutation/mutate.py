"""The mutation check: breaks the loader and cuda/ in one place at a time, and sees whether the tests notice.

A copy of the project is made in the build folder, in which every statement that waits, drains, records,
verifies, announces or stops (the table is in rules.py) stands in as many broken forms as rules.py knows,
each asleep. It is built once; FLATBED_MUTANT=k wakes mutant k. A first run of each test alone says which
mutants it comes to; then each mutant is run under the tests that come to it, those first that caught its
neighbours, until one fails. A crash is a catch, and so is silence for many times as long as any test takes.
Mutants that survivors.json lists are run under the quicker tests alone.

Exit status 1 when fewer than 95 % are caught, or when one survives that survivors.json does not list with
a reason. A listed one that is caught, or is gone, is named, so that the list stays true.

Usage: mutate.py --build-dir DIR [--jobs N] [--only REGEX] [--resume] [--list] [--unmatched] [-- CMAKE ARGUMENTS]
  --only       mutants whose "file:line: function: statement" the expression matches; the share is theirs
  --resume     what an earlier run caught is taken as caught: for who adds tests, and changes nothing else
  --list       prints the mutants, builds and runs nothing
  --unmatched  prints the statements that are not mutated, builds and runs nothing
"""

import argparse
import collections
import concurrent.futures
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.dirname(HERE)]
sys.dont_write_bytecode = True

import glob  # noqa: E402

import rules  # noqa: E402
import tidy  # noqa: E402

WANTED = 0.95
# The tests that are copied and run: of loading and of its parts. Others would be built for nothing.
TESTS = re.compile(r"^tests/(?:(?:load|ranks)/\w+_test"
                   r"|io/(?:direct|leased|pages|faster|past_cache|digest)\w*_test|cuda/\w+)\.[ch]pp$")
# Tests of the tests' own fakes, which none of the mutants is in.
NOT_RUN = re.compile(r"flatbed_fake_cuda_tests")
# A test that is a script, by its path in the project: the targets and files of the build that it is given. It is
# over the driver's functions, which no other test calls.
SCRIPT = "tests/support/fake_cuda_driver/test_fake_driver.py"
SCRIPT_TARGETS = ("flatbed_fake_driver", "flatbed_fake_driver_program")
SCRIPT_FILES = ("tests/support/fake_cuda_driver/lib/libcuda.so.1",
                "tests/support/fake_cuda_driver/flatbed_fake_driver_program")
FOLDERS = ("include", "src", "cuda", "tests")
LINKED = ("spec", "examples", "tests/fixtures")
KILLERS = 12  # tests that are tried first
MIN_SILENCE_S = 15  # of a test that hangs; on a busy machine
SLOW_S = 0.3  # tests that take longer are not run for mutants that are known to survive
FEW = {"FLATBED_STRESS_SEEDS": "80"}  # of the tests that a seed makes up


def find_mutants():
    """All mutants, numbered from 1, the texts of their files, and the lines of --unmatched."""
    mutants, texts, unmatched = [], {}, []
    for pattern in rules.SOURCES:
        for path in sorted(glob.glob(os.path.join(ROOT, pattern))):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            name = os.path.relpath(path, ROOT)
            if name in rules.NOT_SOURCES:
                continue
            found, rest = rules.find_mutants(name, text, tidy.blank(text))
            texts[name] = text
            mutants += found
            unmatched += rest
    for number, mutant in enumerate(mutants, 1):
        mutant.number = number
    return mutants, texts, unmatched


def title(mutant):
    return f"{mutant.file}:{mutant.line}: {mutant.function}: {mutant.statement}"


# ---- the copy, built once -------------------------------------------------------------------------------------

def is_copied(name):
    if name.startswith("tests/fixtures/") or "__pycache__" in name:
        return False
    return not name.endswith("_test.cpp") or bool(TESTS.match(name))


def write_tree(tree, mutants, texts, copied=is_copied):
    """The built part of the project with instrumented sources. Unchanged files are not touched."""
    of_file = collections.defaultdict(list)
    for mutant in mutants:
        of_file[mutant.file].append(mutant)
    names = ["CMakeLists.txt"]
    for folder in FOLDERS:
        for at, _, files in os.walk(os.path.join(ROOT, folder)):
            names += [os.path.relpath(os.path.join(at, file), ROOT) for file in files]
    wanted = set(filter(copied, names))
    head = f'#include "{HERE}/flatbed_mutation.hpp"\n#line 1\n'
    for name in sorted(wanted):
        if name in texts:
            data = (head + rules.instrument(texts[name], of_file[name])).encode()
        else:
            with open(os.path.join(ROOT, name), "rb") as file:
                data = file.read()
        write_if_changed(os.path.join(tree, name), data)
    for at, _, files in os.walk(tree):
        for file in files:
            if os.path.relpath(os.path.join(at, file), tree) not in wanted:
                os.remove(os.path.join(at, file))
    for name in LINKED:
        if not os.path.islink(os.path.join(tree, name)):
            os.symlink(os.path.join(ROOT, name), os.path.join(tree, name))


def write_if_changed(path, data):
    if os.path.exists(path):
        with open(path, "rb") as file:
            if file.read() == data:
                return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(data)


def build(tree, folder, jobs, arguments):
    """The test executables."""
    subprocess.run(["cmake", "-S", tree, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Debug",
                    "-DCMAKE_CXX_FLAGS=-w", "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -D_GLIBCXX_ASSERTIONS", "-DFLATBED_TOOLS=OFF",
                    "-DFLATBED_INSTALL=OFF", "-DFLATBED_MPI=OFF", "-DFLATBED_REMOTE=OFF", *arguments],
                   check=True, stdout=subprocess.DEVNULL)
    listing = subprocess.run(["ninja", "-C", folder, "-t", "targets", "all"], check=True, capture_output=True,
                             text=True).stdout
    programs = re.findall(r"^(tests/\w+_tests): CXX_EXECUTABLE", listing, re.MULTILINE)
    programs = [program for program in programs if not NOT_RUN.search(program)]
    subprocess.run(["ninja", "-C", folder, f"-j{jobs}", "-k0", *programs, *SCRIPT_TARGETS], check=True)
    script = [sys.executable, "-B", "-u", os.path.join(ROOT, SCRIPT), *(os.path.join(folder, each)
                                                                        for each in SCRIPT_FILES)]
    return [os.path.join(folder, program) for program in programs], tuple(script)


# ---- running tests ----------------------------------------------------------------------------------------------

class Run:
    """One test program with some of its tests, or a script (a tuple). `caught`: how the first failure shows, or ''."""

    def __init__(self, program, tests, environment, silence_s):
        self.caught = ""
        self.seconds = {}  # of each test that passed
        is_script = isinstance(program, tuple)
        self.test = tests[0] if is_script else ""
        self.program = program
        began = time.monotonic()
        command = program if is_script else (program, "--gtest_fail_fast", "--gtest_color=no")
        with tempfile.TemporaryDirectory(prefix="flatbed-mutant-") as folder:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True,
                env={**os.environ, **FEW, **environment, "TMPDIR": folder, "GTEST_FILTER": ":".join(tests)})
            try:
                self.follow(process, silence_s)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                process.stdout.close()
        if is_script:
            self.seconds = {self.test: time.monotonic() - began}

    def follow(self, process, silence_s):
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(silence_s):
                    self.caught = f"silence in {self.test}"
                    return
                data = os.read(process.stdout.fileno(), 1 << 16)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    self.read_line(line.decode(errors="replace"))
        status = process.wait()
        if status != 0 and not self.caught:
            self.caught = f"signal {-status} in {self.test}" if status < 0 else f"exit status {status} in {self.test}"

    def read_line(self, line):
        if match := re.match(r"\[ RUN      \] (\S+)", line):
            self.test = match.group(1)
        elif match := re.match(r"\[       OK \] (\S+) \((\d+) ms\)", line):
            self.seconds[match.group(1)] = int(match.group(2)) / 1000
        elif match := re.match(r"\[  FAILED  \] ([\w/]+\.[\w/]+)", line):
            self.test = match.group(1)
            self.caught = self.caught or f"failure of {self.test}"


def list_tests(program):
    listing = subprocess.run([program, "--gtest_list_tests"], check=True, capture_output=True, text=True).stdout
    tests, suite = [], ""
    for line in listing.splitlines():
        line = line.split("#")[0].rstrip()
        if line.endswith("."):
            suite = line.strip()
        elif line.startswith("  "):
            tests.append(suite + line.strip())
    return tests


class Suite:
    """The tests, the time of each, and the mutants that it reaches."""

    def __init__(self, programs, script, jobs):
        self.tests = [(program, test) for program in programs for test in list_tests(program)]
        self.tests.append((script, os.path.basename(SCRIPT)))
        self.reaches = {}
        self.seconds = {}
        with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
            for _ in pool.map(self.measure, self.tests):
                pass
        if not programs:
            sys.exit("no tests were built")
        self.silence_s = max(MIN_SILENCE_S, 8 * max(self.seconds.values()))
        self.lock = threading.Lock()
        self.known = read_accepted()
        self.kills = collections.defaultdict(collections.Counter)  # by file of the mutant

    def measure(self, program_and_test):
        program, test = program_and_test
        with tempfile.NamedTemporaryFile() as reached:
            run = Run(program, [test], {"FLATBED_MUTANTS_REACHED": reached.name}, 600)
            if run.caught:
                sys.exit(f"with no mutant alive: {run.caught}")
            numbers = {int(line) for line in reached.read().split()}
        self.reaches[program_and_test] = numbers
        self.seconds[program_and_test] = run.seconds.get(test, 0)

    def judge(self, mutant):
        """How the tests catch the mutant; '' when they do not."""
        reaching = [each for each in self.tests if mutant.number in self.reaches[each]]
        if mutant.key() in self.known:
            reaching = [each for each in reaching if self.seconds[each] < SLOW_S]
        if not reaching:
            return ""
        with self.lock:
            kills = collections.Counter(self.kills[mutant.file])
        first = sorted((each for each in reaching if kills[each]), key=lambda each: -kills[each])[:KILLERS]
        for tests in (first, [each for each in reaching if each not in first]):
            for program in sorted({program for program, _ in tests}, key=lambda program: self.time_of(tests, program)):
                run = Run(program, [test for each, test in tests if each == program],
                          {"FLATBED_MUTANT": str(mutant.number)}, self.silence_s)
                if run.caught:
                    with self.lock:
                        self.kills[mutant.file][(program, run.test)] += 1
                    return run.caught
        return ""

    def time_of(self, tests, program):
        return sum(self.seconds[each] for each in tests if each[0] == program)

    def is_reached(self, mutant):
        return any(mutant.number in numbers for numbers in self.reaches.values())


# ---- judging ----------------------------------------------------------------------------------------------------

def read_accepted():
    """{key: reason} of the survivors that are known."""
    with open(os.path.join(HERE, "survivors.json"), encoding="utf-8") as file:
        entries = json.load(file)
    return {(entry["file"], entry["function"], entry["statement"], mutation): entry["reason"]
            for entry in entries for mutation in entry["mutations"]}


def report(mutants, caught, suite, whole):
    """Prints survivors, the share and what is wrong with the list; returns the exit status."""
    accepted = read_accepted()
    survivors = [mutant for mutant in mutants if not caught[mutant.number]]
    unlisted = [mutant for mutant in survivors if mutant.key() not in accepted]
    print("\nSurvivors")
    for mutant in survivors:
        print(f"{title(mutant)}: {mutant.mutation}")
        print("    " + accepted.get(mutant.key(), "UNLISTED" if suite.is_reached(mutant) else
                                    "UNLISTED; no test comes here"))
    if whole:
        surviving = {mutant.key() for mutant in survivors}
        there = {mutant.key() for mutant in mutants}
        for key in sorted(set(accepted) - surviving):
            print(f"survivors.json: {' | '.join(key)}: {'is caught' if key in there else 'is not there'}")
    share = 1 - len(survivors) / len(mutants)
    print(f"{len(mutants)} mutants, {len(mutants) - len(survivors)} caught ({share:.1%}), "
          f"{sum('silence' in each for each in caught.values())} of them by silence; {len(survivors)} survive, "
          f"{len(unlisted)} of them unlisted; {len(suite.tests)} tests")
    return 1 if unlisted or share < WANTED else 0


def name_all(mutants):
    """{number: a name that outlives edits}: equal keys are counted."""
    seen = collections.Counter()
    names = {}
    for mutant in mutants:
        seen[mutant.key()] += 1
        names[mutant.number] = " | ".join((*mutant.key(), str(seen[mutant.key()])))
    return names


def run_all(mutants, names, suite, arguments):
    """{number: how it was caught, or ''}; a line for each while it goes."""
    path = os.path.join(arguments.build_dir, "caught.json")
    before = {}
    if arguments.resume and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            before = json.load(file)
    caught = {mutant.number: before.get(names[mutant.number], "") for mutant in mutants}
    left = [mutant for mutant in mutants if not caught[mutant.number]]
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for done, (mutant, how) in enumerate(zip(left, pool.map(suite.judge, left)), 1):
            caught[mutant.number] = how
            print(f"{done}/{len(left)} {time.monotonic() - began:.0f} s {mutant.word}: {title(mutant)}: "
                  f"{mutant.mutation}: {how or 'SURVIVES'}", flush=True)
            before |= {names[mutant.number]: how} if how else {}
            with open(path, "w", encoding="utf-8") as file:
                json.dump(before, file, indent=0)
    return caught


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build-dir")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default="")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--unmatched", action="store_true")
    parser.add_argument("cmake", nargs="*")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    mutants, texts, unmatched = find_mutants()
    chosen = [mutant for mutant in mutants if re.search(arguments.only, title(mutant))]
    if arguments.unmatched:
        print("\n".join(unmatched))
    if arguments.list:
        for mutant in chosen:
            print(f"{mutant.word}: {title(mutant)}: {mutant.mutation}")
        print(f"{len(chosen)} mutants")
    if arguments.list or arguments.unmatched:
        return
    if not arguments.build_dir or not chosen:
        sys.exit("nothing to do: no --build-dir, or no mutant that --only matches")
    folder = os.path.abspath(arguments.build_dir)
    tree = os.path.join(folder, "tree")
    write_tree(tree, mutants, texts)
    suite = Suite(*build(tree, os.path.join(folder, "build"), arguments.jobs, arguments.cmake), arguments.jobs)
    print(f"{len(suite.tests)} tests, {sum(suite.seconds.values()):.1f} s; silence after {suite.silence_s:.0f} s")
    caught = run_all(chosen, name_all(mutants), suite, arguments)
    sys.exit(report(chosen, caught, suite, whole=chosen == mutants))


if __name__ == "__main__":
    main()
