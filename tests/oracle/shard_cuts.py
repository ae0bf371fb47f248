"""Shards of random state dicts, as flatbed cuts them and as huggingface_hub does.

Usage: shard_cuts.py FLATBED WORK_DIR PYTHON...      PYTHON: the command of a Python with huggingface_hub
       shard_cuts.py --cut                           in that Python: cuts the dicts on standard input
Needs neither torch nor the network. FLATBED_SHARD_SEED and FLATBED_SHARD_DICTS choose other dicts. Exit status 77: that
Python has no huggingface_hub.
"""

import json
import os
import random
import shutil
import struct
import subprocess
import sys

SKIPPED = 77
PATTERN = "model{suffix}.safetensors"


def random_dict(rng):
    """name -> size in bytes, in the order of the state dict: that of the bytes in a file, and of names where these
    are none."""
    largest = rng.choice((1, 10, 100, 400))
    sizes = [rng.choice((0, 1, largest, rng.randint(0, largest))) for _ in range(rng.randint(1, 60))]
    names = rng.sample([f"layers.{i}.{part}" for i in range(40) for part in ("weight", "bias")], len(sizes))
    order, at = [], 0
    for name, size in zip(names, sizes, strict=True):
        order.append((at, at + size, name, size))
        at += size
    return {name: size for _, _, name, size in sorted(order)}


def write(path, sizes):
    header, at = {}, 0
    for name, size in sizes.items():
        header[name] = {"dtype": "U8", "shape": [size], "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with open(path, "wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text + bytes(at))


def cut_by_flatbed(flatbed, source, folder, limit):
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([flatbed, "convert", "-q", "--no-sync", source, "-o", folder, "--max-shard-size", limit], check=True)
    files, index = {}, {"metadata": {}}
    path = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(path):
        with open(path, encoding="utf-8") as stream:
            index = json.load(stream)
        for name, file in index["weight_map"].items():
            files.setdefault(file, []).append(name)
    return files, index["metadata"], sorted(os.listdir(folder))


def cut_by_hub(dicts):
    """In the Python that has it."""
    try:
        from huggingface_hub.serialization._base import split_state_dict_into_shards_factory  # noqa: PLC0415
    except ImportError:
        sys.exit(SKIPPED)
    for sizes, limit in dicts:
        split = split_state_dict_into_shards_factory(
            sizes, get_storage_size=lambda size: size, filename_pattern=PATTERN, max_shard_size=limit)
        yield split.filename_to_tensors, split.metadata


def main(flatbed, work, *python):
    seed = int(os.environ.get("FLATBED_SHARD_SEED", "1"))
    count = int(os.environ.get("FLATBED_SHARD_DICTS", "200"))
    rng = random.Random(seed)
    dicts = [(random_dict(rng), rng.randint(1, 500)) for _ in range(count)]
    hub = subprocess.run([*python, os.path.abspath(__file__), "--cut"], input=json.dumps(dicts), text=True,
                         stdout=subprocess.PIPE, check=False)
    if hub.returncode == SKIPPED:
        print("skipped: no huggingface_hub in", " ".join(python))
        sys.exit(SKIPPED)
    os.makedirs(work, exist_ok=True)
    source, folder = os.path.join(work, "a.safetensors"), os.path.join(work, "set")
    sharded = 0
    for number, ((sizes, limit), (expected, described)) in enumerate(zip(dicts, json.loads(hub.stdout), strict=True)):
        write(source, sizes)
        files, metadata, names = cut_by_flatbed(flatbed, source, folder, str(limit))
        place = f"dict {number} of seed {seed}, limit {limit}"
        if len(expected) == 1:
            assert names == ["model.safetensors"], (place, names)
            continue
        sharded += 1
        assert files == expected, (place, files, expected)
        assert names == sorted([*expected, "model.safetensors.index.json"]), (place, names)
        assert metadata["total_size"] == described["total_size"], place
    print(f"{count} state dicts cut as huggingface_hub cuts them, {sharded} of them into several shards")


if __name__ == "__main__":
    if sys.argv[1:] == ["--cut"]:
        json.dump(list(cut_by_hub(json.load(sys.stdin))), sys.stdout)
    else:
        main(*sys.argv[1:])
