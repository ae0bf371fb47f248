"""Runs the oracle: torch makes checkpoints, flatbed converts them, torch and safetensors judge.

Usage: run_oracle.py FLATBED WORK_DIR PYTHON...      PYTHON: the command of a Python with torch
Needs the standard library only. Exit status 77: that Python has no torch.
"""

import json
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FIXTURES = os.path.join(os.path.dirname(HERE), "fixtures")

PAIRS = 1000  # of a model and a state dict, for `flatbed match --torch`

# What `flatbed verify` says of files that the safetensors library saved again, by exit status.
STATES = {
    "metadata_kept": 3,     # annotated: the data moved, and every digest still holds
    "value_changed": 1,     # a chunk that does not match
    "dtype_changed": 1,     # the content digest does not match
    "tensor_dropped": 1,
    "no_metadata": 4,       # unsealed
}


def convert_all(flatbed, work):
    """Converts every fixture and what torch just made; returns how many."""
    sources = {"made": os.path.join(work, "made")}
    for name in ("torch1", "torch2"):
        sources[name] = os.path.join(FIXTURES, name)
    count = 0
    for name, folder in sources.items():
        out = os.path.join(work, "converted", name)
        os.makedirs(out)
        for file in sorted(os.listdir(folder)):
            stem, extension = os.path.splitext(file)
            if extension != ".pth":
                continue
            subprocess.run([flatbed, "convert", "--quiet", os.path.join(folder, file),
                            os.path.join(out, stem + ".safetensors")], check=True)
            count += 1
    return count


def convert_back(flatbed, work):
    """Every converted file as a .pth again; returns how many of them hold objects that
    weights_only refuses."""
    unsafe = 0
    for name in ("made", "torch1", "torch2"):
        folder, out = (os.path.join(work, part, name) for part in ("converted", "back"))
        os.makedirs(out)
        for file in sorted(os.listdir(folder)):
            convert = [flatbed, "convert", "--quiet", os.path.join(folder, file)]
            back = os.path.splitext(file)[0] + ".pth"
            done = subprocess.run(convert + [os.path.join(out, back)], stderr=subprocess.PIPE,
                                  text=True, check=False)
            if done.returncode == 0:
                continue
            assert "[weights_only_refused]" in done.stderr, done.stderr
            subprocess.run(convert + ["--unsafe-objects", os.path.join(out, "unsafe-" + back)],
                           check=True)
            unsafe += 1
    return unsafe


def check_states(flatbed, folder):
    wrong = 0
    for name, expected in STATES.items():
        path = os.path.join(folder, name + ".safetensors")
        status = subprocess.run([flatbed, "verify", path], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL, check=False).returncode
        print(f"saved again, {name}: verify says {status}, wanted {expected}")
        wrong += status != expected
    return wrong


def check_matches(flatbed, folder):
    """Whether `flatbed match --torch` finds what load_state_dict says. Of unexpected keys torch has
    another order: module by module."""
    with open(os.path.join(folder, "answers.json"), encoding="utf-8") as file:
        answers = json.load(file)
    wrong = 0
    for number, answer in enumerate(answers):
        stem = os.path.join(folder, str(number))
        done = subprocess.run([flatbed, "match", "--torch", "--json", stem + ".pth", "--expect", stem + ".json"],
                              stdout=subprocess.PIPE, text=True, check=False)
        report = json.loads(done.stdout)
        found = {"missing_keys": report.get("missing_keys"),
                 "unexpected_keys": sorted(report.get("unexpected_keys", [])),
                 "mismatched": [row["name"] for row in report.get("mismatched", [])]}
        answer["unexpected_keys"].sort()
        if found != answer or done.returncode != any(answer.values()):
            print(f"{stem}: match says {found}, torch {answer}")
            wrong += 1
    print(f"matched {len(answers)} pairs, {wrong} not as torch does", flush=True)
    return wrong


def main():
    flatbed, work, python = sys.argv[1], sys.argv[2], sys.argv[3:]
    judge = python + ["-B", os.path.join(HERE, "judge.py")]
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    made = subprocess.run(judge + ["make", os.path.join(work, "made")], check=False)
    if made.returncode:
        sys.exit(made.returncode)
    print(f"converted {convert_all(flatbed, work)} files", flush=True)
    print(f"converted back, {convert_back(flatbed, work)} with objects that weights_only refuses",
          flush=True)
    subprocess.run(judge + ["compare", work], check=True)
    pairs = os.path.join(work, "pairs")
    subprocess.run(python + ["-B", os.path.join(HERE, "judge_match.py"), pairs, str(PAIRS)], check=True)
    wrong = check_matches(flatbed, pairs) + check_states(flatbed, os.path.join(work, "saved_again"))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
