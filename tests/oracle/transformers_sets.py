"""Sharded folders between flatbed and transformers: each reads what the other wrote.

Usage: transformers_sets.py FLATBED WORK_DIR PYTHON...   PYTHON: the command of a Python with torch and transformers
       transformers_sets.py --save FOLDER                in that Python: a small Llama as a sharded folder
       transformers_sets.py --same A B                   in that Python: whether both load as the same model
Needs no network. Exit status 77: that Python has no transformers.
"""

import json
import os
import shutil
import subprocess
import sys

SKIPPED = 77
SHARD = "60KB"
INDEX = "model.safetensors.index.json"


def load(folder):
    """The state dict of the model, and what from_pretrained reports of its keys."""
    from transformers import LlamaForCausalLM  # noqa: PLC0415
    model, report = LlamaForCausalLM.from_pretrained(folder, output_loading_info=True)
    return model.state_dict(), {kind: sorted(keys) for kind, keys in report.items() if keys}


def save(folder):
    import torch  # noqa: PLC0415
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=199, hidden_size=48, intermediate_size=96, num_hidden_layers=3,
                         num_attention_heads=4, num_key_value_heads=2)
    model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.save_pretrained(folder, max_shard_size=SHARD)


def same(a, b):
    import torch  # noqa: PLC0415
    (state_a, report_a), (state_b, report_b) = load(a), load(b)
    assert not report_a and not report_b, (report_a, report_b)
    assert list(state_a) == list(state_b)
    for name, tensor in state_a.items():
        assert tensor.dtype == state_b[name].dtype and torch.equal(tensor, state_b[name]), name
    print(f"{len(state_a)} tensors are the same in {b}")


def in_that_python(arguments):
    try:
        import transformers  # noqa: PLC0415
    except ImportError as missing:
        print(f"skipped: {sys.executable} has no {missing.name}")
        sys.exit(SKIPPED)
    print("transformers", transformers.__version__)
    if arguments[0] == "--save":
        save(*arguments[1:])
    else:
        same(*arguments[1:])


def main(flatbed, work, *python):
    def ask(*arguments):
        done = subprocess.run([*python, "-B", os.path.abspath(__file__), *arguments], check=False)
        if done.returncode:
            sys.exit(done.returncode)

    def run(*arguments):
        subprocess.run([flatbed, *arguments], check=True)

    shutil.rmtree(work, ignore_errors=True)
    os.makedirs(work)
    theirs, one, ours = (os.path.join(work, name) for name in ("theirs", "one", "ours"))
    ask("--save", theirs)
    shards = [name for name in os.listdir(theirs) if name.startswith("model-")]
    assert len(shards) > 1, "the model is too small to be cut"

    os.mkdir(one)  # merged
    run("convert", "-q", theirs, "-o", os.path.join(one, "model.safetensors"))
    run("verify", os.path.join(one, "model.safetensors"))
    run("convert", "-q", os.path.join(one, "model.safetensors"), "-o", ours, "--max-shard-size", SHARD)
    run("verify", ours)
    run("diff", theirs, ours)

    with open(os.path.join(ours, INDEX), encoding="utf-8") as stream:
        index = json.load(stream)
    with open(os.path.join(theirs, INDEX), encoding="utf-8") as stream:
        expected = json.load(stream)
    assert sorted(index["weight_map"]) == sorted(expected["weight_map"])
    assert index["metadata"]["total_size"] == expected["metadata"]["total_size"]
    for folder in (one, ours):
        shutil.copy(os.path.join(theirs, "config.json"), folder)
        ask("--same", theirs, folder)


if __name__ == "__main__":
    if sys.argv[1].startswith("--"):
        in_that_python(sys.argv[1:])
    else:
        main(*sys.argv[1:])
