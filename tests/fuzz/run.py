#!/usr/bin/env python3
"""Runs the fuzz targets and counts what was executed.

    run.py --programs DIR [--seeds DIR] [--work DIR] [--seconds N] [--rounds N] [--target NAME]...

Each target runs N seconds from its seeds, for N rounds; with --work its corpus is kept and grows
from round to round, inputs that break something are put into WORK/crashes/<target>, and
WORK/executions.json adds up the executions of all runs. Without it everything is thrown away.
Exit code 1: an input broke something.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
# The longest input, where it is not 4 KiB; and the dictionary.
MAX_LEN = {"pickle": 1024, "repickle": 1024, "torch_zip": 1024, "tree": 1024, "inflate": 2048,
           "tar": 16384, "file": 8192, "scan": 8192}
DICTIONARY = {"pickle": "pickle", "repickle": "pickle", "torch_zip": "pickle", "legacy": "pickle",
              "header": "json", "tree": "json", "index": "json", "scan": "pickle",
              "script": "script"}
# Every other round picks inputs by rarity, which finds more and costs a third of the executions.
# Where memory was allocated is told by running an input again.
ENVIRONMENT = {**os.environ, "ASAN_OPTIONS": "malloc_context_size=1:quarantine_size_mb=8"}
# An input may take this much memory and time, under the sanitizers.
LIMITS = ["-rss_limit_mb=1024", "-malloc_limit_mb=256", "-timeout=10"]
# Of a run whose corpus is not kept, as one of the tests is: it tries the same inputs each time, and
# may be held up by what else the machine does. A search wants new ones.
REPEATABLE = ["-seed=1", "-timeout=120"]


def programs(folder):
    return {path.name.removeprefix("flatbed_fuzz_"): path
            for path in sorted(folder.glob("flatbed_fuzz_*")) if os.access(path, os.X_OK)}


def run_target(name, program, args, entropic):
    work = args.work
    corpus = work / "corpus" / name
    crashes = work / "crashes" / name
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    command = [program, f"-max_total_time={args.seconds}", f"-artifact_prefix={crashes}/",
               f"-max_len={MAX_LEN.get(name, 4096)}", "-print_final_stats=1", "-verbosity=0",
               "-reload=0",
               "-print_funcs=0", f"-entropic={entropic}", *LIMITS]
    if name in DICTIONARY:
        command.append(f"-dict={HERE / DICTIONARY[name]}.dict")
    if args.repeatable:
        command += REPEATABLE
    command.append(corpus)
    if args.seeds and (args.seeds / name).is_dir():
        command.append(args.seeds / name)
    done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env=ENVIRONMENT, check=False)
    text = done.stdout.decode(errors="replace")
    found = re.search(r"number_of_executed_units:\s*(\d+)", text)
    executed = int(found[1]) if found else 0
    if done.returncode != 0:
        print(text[-6000:])
    return executed, done.returncode


def count(work, name, executed):
    ledger = work / "executions.json"
    sums = json.loads(ledger.read_text()) if ledger.exists() else {}
    sums[name] = sums.get(name, 0) + executed
    ledger.write_text(json.dumps(sums, indent=1, sort_keys=True) + "\n")
    return sum(sums.values())


def run(args):
    targets = programs(args.programs)
    chosen = args.target or list(targets)
    broken = 0
    for i in range(args.rounds):
        for name in chosen:
            executed, code = run_target(name, targets[name], args, (i + 1) % 2)
            total = count(args.work, name, executed)
            print(f"{name}: {executed:,} executions in {args.seconds} s"
                  f"{'' if code == 0 else ', BROKEN'}; {total:,} so far", flush=True)
            broken += code != 0
    return 1 if broken else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    parser.add_argument("--seeds", type=pathlib.Path)
    parser.add_argument("--work", type=pathlib.Path)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--target", action="append")
    args = parser.parse_args()
    args.repeatable = args.work is None
    if args.work:
        return run(args)
    with tempfile.TemporaryDirectory() as work:
        args.work = pathlib.Path(work)
        return run(args)


if __name__ == "__main__":
    sys.exit(main())
