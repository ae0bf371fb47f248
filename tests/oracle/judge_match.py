"""The part of the oracle that asks load_state_dict of torch; started by run_oracle.py.

Usage: judge_match.py DIR COUNT     writes pairs N.pth, a state dict, and N.json, what a model expects,
                                    and to answers.json what torch says of each
"""

import json
import os
import random
import re
import sys

try:
    import torch
except ImportError as missing:
    print(f"skipped: {sys.executable} has no {missing.name}")
    sys.exit(77)

SHAPES = [(), (1,), (2,), (3,), (2, 3), (1, 1)]
PARAMETERS = ["weight", "bias", "scale", "a_b"]
CHILDREN = ["layer", "head", "0", "1"]


class Block(torch.nn.Module):
    """A module with parameters, buffers and children as `random` gives them; some children are tied."""

    def __init__(self, random, depth):
        super().__init__()
        for name in random.sample(PARAMETERS, random.randint(0, 3)):
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(random.choice(SHAPES))))
        if random.random() < 0.3:
            self.register_buffer("count", torch.tensor(0))
        children = random.sample(CHILDREN, random.randint(0, 3) if depth else 0)
        for name in children:
            batch = random.random() < 0.4
            self.add_module(name, torch.nn.BatchNorm1d(2) if batch else Block(random, depth - 1))
        if len(children) > 1 and random.random() < 0.3:
            self.add_module("tied", getattr(self, children[0]))


def changed(state, random):
    """The state dict of another version of the model: keys dropped, added and of other shapes."""
    for key in list(state):
        chance = random.random()
        if chance < 0.15:
            del state[key]
        elif chance < 0.25:
            state[key] = torch.zeros(random.choice(SHAPES))
        elif chance < 0.3:
            state[key + random.choice(["2", ".more", "_extra"])] = torch.zeros(2)
    if random.random() < 0.3:
        state["epoch"] = 3
    if random.random() < 0.1:
        state["settings"] = {"lr": [1, 2]}
    if random.random() < 0.2:
        return dict(state)  # without _metadata, as after a rename in Python
    for of_module in state._metadata.values():
        if random.random() < 0.3:
            of_module["version"] = 1
        elif random.random() < 0.1:
            of_module.pop("version", None)
    return state


def ask(model, state):
    """The keys that torch names, by kind."""
    found = {"missing_keys": [], "unexpected_keys": [], "mismatched": []}
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        for line in str(error).splitlines():
            line = line.strip()
            if line.startswith("Missing key(s)"):
                found["missing_keys"] = re.findall('"([^"]*)"', line)
            elif line.startswith("Unexpected key(s)"):
                found["unexpected_keys"] = re.findall('"([^"]*)"', line)
            elif line.startswith("size mismatch for "):
                found["mismatched"].append(line.split(": ", 1)[0][len("size mismatch for "):])
            elif line and not line.startswith("Error(s) in loading"):
                raise AssertionError(f"torch says something else: {line}") from error
    return found


def main():
    folder, count = sys.argv[1], int(sys.argv[2])
    os.makedirs(folder)
    answers = []
    for number in range(count):
        model = Block(random.Random(number), 2)
        expected = {key: {"shape": list(value.shape)} for key, value in model.state_dict().items()}
        state = changed(Block(random.Random(number), 2).state_dict(), random.Random(-number - 1))
        torch.save(state, os.path.join(folder, f"{number}.pth"))
        with open(os.path.join(folder, f"{number}.json"), "w", encoding="utf-8") as file:
            json.dump(expected, file)
        answers.append(ask(model, state))
    with open(os.path.join(folder, "answers.json"), "w", encoding="utf-8") as file:
        json.dump(answers, file)


if __name__ == "__main__":
    main()
