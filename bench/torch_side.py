"""The measurements of torch and safetensors for compare.py, each in its own process. Imports are not
timed. Prints one JSON object.

Usage: torch_side.py versions            what is installed
       torch_side.py make DIR NAME...    the .pth files of inputs.py, by torch.save
       torch_side.py open FILE           safe_open and keys: seconds of the first call and the next
       torch_side.py load FILE           torch.load, mapped where torch can: the same
       torch_side.py load_objects FILE   the same with weights_only=False, which whole models need
       torch_side.py convert FILE OUT    torch.load and save_file: seconds of both
"""

import importlib.metadata
import inspect
import json
import os
import sys
import time

import inputs

try:
    import torch
except ImportError:
    torch = None
try:
    import safetensors
except ImportError:
    safetensors = None
if torch and safetensors:
    from safetensors.torch import save_file


def time_twice(work):
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        kept = work()
        seconds.append(time.perf_counter() - start)
        del kept
    return {"first": seconds[0], "next": seconds[1]}


def versions():
    python = ".".join(map(str, sys.version_info[:3]))
    runai = distribution("runai-model-streamer")
    fastsafetensors = distribution("fastsafetensors")
    return {"python": python, "torch": torch and torch.__version__,
            "safetensors": safetensors and safetensors.__version__, "mmap": bool(torch) and can_map(),
            "fastsafetensors": fastsafetensors and fastsafetensors.version,
            "runai": runai and runai.version,
            "runai_library": runai and str(runai.locate_file("runai_model_streamer/libstreamer/lib/libstreamer.so"))}


def distribution(name):
    """The metadata of an installed package, or None; it is not imported."""
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def can_map():
    return "mmap" in inspect.signature(torch.load).parameters


def make(folder, *names):
    def write(name, path):
        tensors = {}
        for tensor in inputs.PTH_INPUTS[name]():
            made = torch.rand(*(reversed(tensor.shape) if tensor.transposed else tensor.shape))
            tensors[tensor.name] = made.t() if tensor.transposed else made
        torch.save(tensors, path)

    torch.manual_seed(0)
    inputs.make(folder, names, write)
    return {"made": names}


def whole_model():
    """20,000 parameters in 10,000 layers of a module that is pickled as it is."""
    return torch.nn.Sequential(*(torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(100)))
                                 for _ in range(100)))


def lightning_checkpoint():
    """20,000 tensors: weights, and what Adam has on each of them."""
    weights = torch.nn.ModuleList(torch.nn.Linear(4, 4) for _ in range(2500))
    optimizer = torch.optim.AdamW(weights.parameters(), lr=1e-3)
    for parameter in weights.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {"epoch": 3, "global_step": 1200, "pytorch-lightning_version": "2.4.0",
            "state_dict": weights.state_dict(), "loops": {"fit_loop": {"state_dict": {}}}, "callbacks": {},
            "optimizer_states": [optimizer.state_dict()], "lr_schedulers": []}


OBJECTS = {"whole.pt": whole_model, "lightning.ckpt": lightning_checkpoint}


def make_objects(folder, *names):
    inputs.make(folder, names, lambda name, path: torch.save(OBJECTS[name](), path))
    return {"made": names}


def open_safetensors(path):
    framework = "pt" if torch else "np"

    def work():
        with safetensors.safe_open(path, framework=framework) as file:
            return list(file.keys())

    return time_twice(work)


def load(path):
    options = {"mmap": True} if can_map() else {}
    return time_twice(lambda: torch.load(path, map_location="cpu", weights_only=True, **options))


def load_objects(path):
    options = {"mmap": True} if can_map() else {}
    if "weights_only" in inspect.signature(torch.load).parameters:
        options["weights_only"] = False
    return time_twice(lambda: torch.load(path, map_location="cpu", **options))


def convert(path, out):
    start = time.perf_counter()
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    save_file(tensors, out)
    return {"seconds": time.perf_counter() - start, "nbytes": os.path.getsize(out)}


COMMANDS = {"versions": versions, "make": make, "make_objects": make_objects, "open": open_safetensors,
            "load": load, "load_objects": load_objects, "convert": convert}


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))


if __name__ == "__main__":
    main()
