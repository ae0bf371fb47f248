"""Joined tensors, whole and for each rank, as flatbed gives them and as torch does.

Usage: fused_oracle.py FLATBED WORK_DIR PYTHON...     PYTHON: the command of a Python with torch
       fused_oracle.py --make WORK_DIR                in that Python: writes a model, and what torch makes of it
FLATBED_FUSED_SEED chooses other models. Exit status 77: that Python has no torch.

Of each model there are layers with grouped-query attention (q has more heads than k and v), and a gate and an up
projection that are joined along dimension 1. Torch cuts q, k and v by rank and then joins them; flatbed joins them by
rules and loads the part of a rank. The digests of what arrives are compared.
"""

import json
import os
import random
import shutil
import subprocess
import sys

SKIPPED = 77
MODELS = 8
# (heads of q, heads of k and v, ranks)
ATTENTION = [(8, 2, 2), (8, 2, 4), (8, 8, 4), (4, 1, 2), (16, 4, 4), (6, 2, 2)]
RULES = """\
layers.{1}.qkv.weight = cat(layers.*.q.weight, layers.*.k.weight, layers.*.v.weight, dim=0)
layers.{1}.qkv.bias = cat(layers.*.q.bias, layers.*.k.bias, layers.*.v.bias)
layers.{1}.gate_up.weight = cat(layers.*.gate.weight, layers.*.up.weight, dim=-1)
"""


def make(work):
    """In the Python that has torch."""
    try:
        import torch  # noqa: PLC0415
    except ImportError:
        sys.exit(SKIPPED)
    seed = int(os.environ.get("FLATBED_FUSED_SEED", "1"))
    rng = random.Random(seed)
    torch.manual_seed(seed)
    facts = []
    for number in range(MODELS):
        heads, shared, ranks = rng.choice(ATTENTION)
        rows, hidden = rng.choice([4, 16, 64]), rng.choice([24, 96, 512])
        dtype = rng.choice([torch.float32, torch.bfloat16, torch.float16])
        sizes = {"q": heads * rows, "k": shared * rows, "v": shared * rows}
        state, whole, by_rank = {}, {}, [{} for _ in range(ranks)]
        for layer in range(2):
            prefix = f"layers.{layer}."
            for part, size in sizes.items():
                state[f"{prefix}{part}.weight"] = torch.randn(size, hidden).to(dtype)
                state[f"{prefix}{part}.bias"] = torch.randn(size).to(dtype)
            for part in ("gate", "up"):
                state[f"{prefix}{part}.weight"] = torch.randn(hidden, 8 * rows).to(dtype)
            for kind in ("weight", "bias"):
                parts = [state[f"{prefix}{part}.{kind}"] for part in "qkv"]
                whole[f"{prefix}qkv.{kind}"] = torch.cat(parts, dim=0)
                for rank in range(ranks):
                    cut = [part.chunk(ranks, dim=0)[rank] for part in parts]
                    by_rank[rank][f"{prefix}qkv.{kind}"] = torch.cat(cut, dim=0)
            parts = [state[f"{prefix}{part}.weight"] for part in ("gate", "up")]
            whole[f"{prefix}gate_up.weight"] = torch.cat(parts, dim=-1)
        stem = os.path.join(work, str(number))
        torch.save(state, stem + ".pth")
        torch.save(whole, stem + ".whole.pth")
        for rank, tensors in enumerate(by_rank):
            torch.save(tensors, f"{stem}.{rank}.pth")
        facts.append(ranks)
    with open(os.path.join(work, "ranks.json"), "w", encoding="utf-8") as file:
        json.dump(facts, file)


def digests(flatbed, *arguments):
    done = subprocess.run([flatbed, "load", "--json", "--digests", *arguments], stdout=subprocess.PIPE, text=True,
                          check=True)
    return {row["name"]: (row["nbytes"], row["xxh3"]) for row in json.loads(done.stdout)["digests"]}


def main(flatbed, work, *python):
    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    made = subprocess.run([*python, "-B", os.path.abspath(__file__), "--make", work], check=False)
    if made.returncode == SKIPPED:
        print("skipped: no torch in", " ".join(python))
    if made.returncode:
        sys.exit(made.returncode)
    rules = os.path.join(work, "rules.txt")
    with open(rules, "w", encoding="utf-8") as file:
        file.write(RULES)
    with open(os.path.join(work, "ranks.json"), encoding="utf-8") as file:
        facts = json.load(file)
    compared = 0
    for number, ranks in enumerate(facts):
        stem = os.path.join(work, str(number))
        subprocess.run([flatbed, "convert", "-q", "--no-sync", stem + ".pth"], check=True)
        for source in (stem + ".pth", stem + ".safetensors"):
            expected = digests(flatbed, stem + ".whole.pth")
            found = digests(flatbed, source, "--rename-file", rules)
            assert found == expected, (source, found, expected)
            for rank in range(ranks):
                expected = digests(flatbed, f"{stem}.{rank}.pth")
                found = digests(flatbed, source, "--rename-file", rules, "--slice", f"0:{rank}/{ranks}")
                assert expected.items() <= found.items(), (source, rank, ranks)
                compared += len(expected)
    print(f"{MODELS} models joined as torch joins them, {compared} tensors of single ranks too")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(sys.argv[2])
    else:
        main(*sys.argv[1:])
