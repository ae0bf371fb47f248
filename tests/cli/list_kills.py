"""Workers that share a list of conversions while some of them are killed again and again.

Usage: list_kills.py FILES WORKERS KILLS    with FLATBED_BIN; prints what was counted

Afterwards every output is what a single worker writes, no output was reported as converted twice, and nothing
temporary is left. list_cases.py runs it over a few files.
"""

import collections
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

import inputs


def write_inputs(folder, count):
    """Files of a few KiB, and the list of their conversions."""
    (folder / "in").mkdir()
    (folder / "out").mkdir()
    with open(folder / "jobs.jsonl", "w") as jobs:
        for i in range(count):
            inputs.write_torch(folder / f"in/{i}.pth", {"w": inputs.Tensor([3], [i, 1, 2])})
            jobs.write(json.dumps({"in": f"in/{i}.pth", "out": f"out/{i}.safetensors"}) + "\n")


def start_worker(tool, folder):
    return subprocess.Popen([tool, "convert", "--list", "jobs.jsonl", "--no-sync", "--quiet", "--report",
                             "report.jsonl"], cwd=folder, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_workers(tool, folder, workers, kills):
    """Keeps `workers` at work and kills one of them `kills` times; then lets all of them finish."""
    seeded = random.Random(7)
    running = [start_worker(tool, folder) for _ in range(workers)]
    killed, errors = 0, []
    while killed < kills:
        time.sleep(seeded.uniform(0, 0.03))
        at = seeded.randrange(workers)
        if running[at].poll() is None:
            running[at].send_signal(signal.SIGKILL)
        running[at].wait()
        killed += running[at].returncode == -signal.SIGKILL
        errors.append(running[at].stderr.read())
        running[at].stderr.close()
        running[at] = start_worker(tool, folder)
    for worker in running:
        errors.append(worker.communicate(timeout=600)[1])
        if worker.returncode != 0:
            errors.append(f"exit code {worker.returncode}".encode())
    return killed, b"".join(errors).decode()


def read_report(path):
    """The lines of the report; the one that a worker was writing when it was killed is no JSON."""
    lines, cut = [], 0
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            cut += 1
    return lines, cut


def run(tool, folder, files, workers, kills):
    """What was counted, for the caller to judge."""
    write_inputs(folder, files)
    begin = time.monotonic()
    killed, errors = kill_workers(tool, folder, workers, kills)
    seconds = time.monotonic() - begin
    table = subprocess.run([tool, "convert", "--list", "jobs.jsonl"], cwd=folder, check=True, capture_output=True,
                           text=True).stdout.split("\n\n")[-1]
    os.rename(folder / "out", folder / "shared")
    (folder / "out").mkdir()
    subprocess.run([tool, "convert", "--list", "jobs.jsonl", "--no-sync", "--quiet"], cwd=folder, check=True)
    names = sorted(os.listdir(folder / "out"))
    lines, cut = read_report(folder / "report.jsonl")
    converted = collections.Counter(line["line"] for line in lines if line["status"] == "converted")
    return {
        "killed": killed, "seconds": seconds, "errors": errors, "table": table,
        "left_over": sorted(set(os.listdir(folder / "shared")) - set(names)),
        "missing": sorted(set(names) - set(os.listdir(folder / "shared"))),
        "different": [name for name in names if (folder / "shared" / name).exists()
                      and (folder / "shared" / name).read_bytes() != (folder / "out" / name).read_bytes()],
        "outputs": len(names), "converted_once": sum(count == 1 for count in converted.values()),
        "converted_twice": sorted(line for line, count in converted.items() if count > 1),
        "failed": [line for line in lines if line["status"] == "failed"], "cut_lines": cut,
    }


def main():
    files, workers, kills = map(int, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="flatbed-kills-") as folder:
        found = run(os.path.abspath(os.environ["FLATBED_BIN"]), pathlib.Path(folder), files, workers, kills)
    print(found.pop("table"))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
