"""flatbed.torch against torch itself: what it loads is what torch.load(weights_only=True) gives.

Usage: torch_door.py PACKAGE WORK [--graphs N] [--seed N] [--fixtures DIR...]
PACKAGE: the folder with the package flatbed. Exit status 77: no torch, one before 2.6, or the
package was built for another Python.
"""

import argparse
import collections
import copy
import inspect
import os
import pickle
import random
import shutil
import sys
import traceback
import warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import judge  # noqa: E402 -- exits with 77 without torch
import torch  # noqa: E402

warnings.simplefilter("ignore")
FIXTURES = os.path.join(os.path.dirname(HERE), "fixtures")


class Same(judge.Same):
    """The judge's comparison, and strides too; of PyTorch files also which tensors are views of one
    storage, which other files do not tell."""

    def __init__(self, exact=True, views=False):
        super().__init__()
        self.exact, self.views = exact, views
        self.storages = {}   # address in one graph -> in the other

    def check_tensor(self, a, b, path):
        if a.layout in (torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc):
            self.check(a.to_dense(), b.to_dense(), path + ".to_dense()")
            return
        if a.is_nested or a.device.type == "meta":
            self.demand(repr(a) == repr(b), path, f"{a} became {b}")
            return
        super().check_tensor(a, b, path)
        if self.exact and a.layout == torch.strided and not a.is_conj() and not a.is_quantized:
            self.demand(used_strides(a) == used_strides(b), path,
                        f"strides {a.stride()} became {b.stride()}")
        if self.views and a.layout == torch.strided and not a.is_conj() and not a.is_neg() and a.numel():
            own, other = a.untyped_storage().data_ptr(), b.untyped_storage().data_ptr()
            self.demand(self.storages.setdefault(own, other) == other, path, "has another storage")


def used_strides(tensor):
    """Without those that lead nowhere, which flatbed does not keep."""
    if tensor.numel() == 0:
        return []
    return [step for step, size in zip(tensor.stride(), tensor.shape) if size != 1]


# ---- fixtures -----------------------------------------------------------------------------------

def load_by_torch(path):
    """What torch.load(weights_only=True) gives, and otherwise why it refuses."""
    try:
        return torch.load(path, weights_only=True, map_location="cpu"), None
    except Exception as error:  # noqa: BLE001 -- whatever it is, it is a refusal
        return None, error


def names_a_class(error):
    """Whether torch refuses a class, and not an opcode or a kind of file. It takes the empty bytes
    object for a class, because protocol 2 calls bytes() for it."""
    text = str(error).replace("Unsupported global: GLOBAL bytes was", "")
    return isinstance(error, pickle.UnpicklingError) and (
        "Unsupported global: GLOBAL" in text or "unrecognized function" in text
        or "Can only create new object" in text or "is blocked" in text)


def compare_fixtures(ft, flatbed, work, folders):
    counts = collections.Counter()
    for path in sorted(os.path.join(at, name) for folder in folders for at, _, names in os.walk(folder)
                       for name in names if name.endswith(".pth")):
        name = os.path.relpath(path, os.path.dirname(folders[0]))
        expected, refused = load_by_torch(path)
        converted = os.path.join(work, f"{sum(counts.values())}.safetensors")
        sources = [path]
        try:
            flatbed.convert(path, converted, state_dict=False)
            sources.append(converted)
        except flatbed.Error as error:
            print(f"{name}: not converted: {error}")
        for source in sources:
            counts[judge_one(ft, flatbed, source, (name, expected, refused))] += 1
    print("fixtures, each as it is and converted:", dict(sorted(counts.items())), flush=True)
    return counts["WRONG"]


def judge_one(ft, flatbed, source, truth):
    name, expected, refused = truth
    kind = "converted" if source.endswith(".safetensors") else "itself"
    try:
        loaded = ft.load(source, map_location="cpu")
    except flatbed.Error as error:
        if refused is not None:
            named = error.name == "weights_only_refused"
            if named:
                ft.load(source, map_location="cpu", unknown="inert")
            print(f"{name} ({kind}): refused by both: {error}" if named else
                  f"{name} ({kind}): {error}; torch: {str(refused)[:100]}")
            return "refused by both"
        print(f"WRONG {name} ({kind}): {error}")
        return "WRONG"
    except Exception:  # noqa: BLE001
        traceback.print_exc()
        print(f"WRONG {name} ({kind})")
        return "WRONG"
    outcome = "the same"
    if refused is not None:
        if names_a_class(refused):
            print(f"WRONG {name} ({kind}): loaded, and torch refuses it: {str(refused)[:200]}")
            return "WRONG"
        print(f"{name} ({kind}): loaded; torch: {str(refused)[:100]}")
        expected = judge.load_pth(os.path.join(os.path.dirname(FIXTURES), name))
        outcome = "the same as with weights_only=False, which torch needs for another reason"
    try:
        Same(views=kind == "itself").check(expected, loaded, name)
    except AssertionError as error:
        print(f"WRONG {name} ({kind}): {error}")
        return "WRONG"
    return outcome


# ---- random graphs ------------------------------------------------------------------------------

class Graph:
    """A random object of what weights_only loads; parts are shared, and some contain themselves."""

    DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32,
              torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64, torch.complex128]

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.shared = []
        self.bases = []
        newer = ("uint16", "uint32", "float8_e4m3fn", "float8_e5m2")
        self.dtypes = self.DTYPES + [getattr(torch, name) for name in newer if hasattr(torch, name)]

    def make(self, depth=0):
        choice = self.random.random()
        if self.shared and choice < 0.12:
            return self.random.choice(self.shared)
        if depth < 5 and choice < 0.55 + (depth == 0) * 0.4:
            return self.container(depth)
        return self.tensor() if choice < 0.8 else self.leaf()

    def container(self, depth):
        kind = self.random.choice(["dict", "dict", "list", "tuple", "ordered", "counter"])
        count = self.random.randrange(5)
        if kind == "tuple":
            return tuple(self.make(depth + 1) for _ in range(count))
        if kind == "list":
            made = []
            self.shared.append(made)
            made.extend(self.make(depth + 1) for _ in range(count))
            return made
        if kind == "counter":
            return collections.Counter({f"k{i}": i for i in range(count)})
        made = {} if kind == "dict" else collections.OrderedDict()
        self.shared.append(made)
        for index in range(count):
            made[self.key(index)] = self.make(depth + 1)
        if kind == "ordered" and self.random.random() < 0.3:
            made._metadata = collections.OrderedDict([("", {"version": 1})])
        return made

    def key(self, index):
        return self.random.choice([f"name{index}", f"a.{index}", index, f"{index}", (index, "x"), "",
                                   None, 2.5, f"\u2603{index}"])

    def leaf(self):
        r = self.random
        return r.choice([
            None, True, False, 0, -1, r.getrandbits(40), -r.getrandbits(63), r.getrandbits(200),
            r.random(), -0.0, float("inf"), float("nan"), 5e-324, "", "text", "a\ud800", "\x00",
            b"\x00\xff", bytes(r.randrange(256) for _ in range(1500)), bytearray(b"abc"), 1 - 2j,
            {1, 2}, set(), torch.Size([2, 3]), torch.Size([]), torch.device("cpu"),
            torch.device("cuda", 1), torch.float32, torch.int8, torch.strided,
        ])

    def tensor(self):
        r = self.random
        if self.bases and r.random() < 0.5:
            tensor = self.view(r.choice(self.bases))
        else:
            shape = [r.randrange(4) for _ in range(r.randrange(4))]
            dtype = r.choice(self.dtypes)
            raw = torch.randint(0, 2 if dtype == torch.bool else 256, (1024,), dtype=torch.uint8)
            size = torch.empty(0, dtype=dtype).element_size()
            count = int(torch.tensor(shape).prod()) if shape else 1
            tensor = raw[:count * size].clone().view(dtype).view(shape)
            self.bases.append(tensor)
        if tensor.is_floating_point() and r.random() < 0.2 and tensor.element_size() > 1:
            tensor = torch.nn.Parameter(tensor.detach(), r.random() < 0.7)
        if tensor.dtype == torch.float32 and r.random() < 0.05:
            tensor = tensor.detach().to_sparse()
        if r.random() < 0.3:
            self.shared.append(tensor)
        return tensor

    def view(self, base):
        r = self.random
        if base.layout != torch.strided or base.dim() == 0:
            return base
        base = base.detach()
        return r.choice([
            lambda: base, lambda: base.view(-1), lambda: base.transpose(0, -1), lambda: base[:1],
            lambda: base[..., ::2], lambda: base.unsqueeze(0).expand(3, *base.shape),
        ])()


def compare_graphs(ft, flatbed, work, count, seed):
    wrong = saved = other_bytes = 0
    pth, out, converted = (os.path.join(work, name) for name in ("g.pth", "g.safetensors", "c.safetensors"))
    for number in range(seed, seed + count):
        graph = {"root": Graph(number).make()}
        torch.manual_seed(number)
        try:
            torch.save(graph, pth)
        except Exception as error:  # noqa: BLE001
            print(f"graph {number}: torch does not save it: {error}")
            continue
        saved += 1
        try:
            expected = torch.load(pth, weights_only=True)
            ft.save(graph, out)
            flatbed.convert(pth, converted, replace=True)
            for mmap in (False, True):
                found = ft.load(pth, map_location="cpu", mmap=mmap)
                Same(views=True).check(expected, found, f"graph {number}, the .pth, mmap={mmap}")
            Same().check(expected, ft.load(out), f"graph {number}, saved")
            Same().check(expected, ft.load(out, mmap=True), f"graph {number}, mapped")
            with open(out, "rb") as ours, open(converted, "rb") as tools:
                other_bytes += ours.read() != tools.read()
        except Exception:  # noqa: BLE001
            traceback.print_exc()
            print(f"WRONG graph {number}", flush=True)
            wrong += 1
    print(f"{saved} random graphs of {count} that torch saves: {wrong} wrong; {other_bytes} files "
          "differ from what the tool converts", flush=True)
    return wrong + (saved < count * 0.9)


# ---- optimizers ---------------------------------------------------------------------------------

def optimizers():
    for name, kind in sorted(vars(torch.optim).items()):
        if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer:
            yield name, kind


class Run:
    """A model with one optimizer; what it computes depends on nothing else."""

    def __init__(self, kind):
        torch.manual_seed(3)
        sparse = kind.__name__ == "SparseAdam"
        self.net = (torch.nn.Embedding(5, 3, sparse=True) if sparse else
                    torch.nn.Sequential(torch.nn.Linear(4, 6, bias=False), torch.nn.Tanh(),
                                        torch.nn.Linear(6, 2, bias=False)))
        parameters = self.net.parameters()
        self.sparse = sparse
        self.optimizer = kind(parameters) if kind.__name__ == "SparseAdam" else kind(parameters, lr=1e-2)

    def steps(self, count, first):
        for step in range(first, first + count):
            generator = torch.Generator().manual_seed(step)

            def closure(generator=generator, step=step):
                self.optimizer.zero_grad()
                given = (torch.tensor([step % 5, 1]) if self.sparse else
                         torch.randn(8, 4, generator=generator.manual_seed(step)))
                loss = self.net(given).square().sum()
                loss.backward()
                return loss

            self.optimizer.step(closure)
        return self

    def state(self):
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": 3}

    def resume(self, state):
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])
        return self


def compare_optimizers(ft, work):
    wrong, names = 0, []
    for name, kind in optimizers():
        path = os.path.join(work, f"{name}.safetensors")
        try:
            straight = Run(kind).steps(6, 0).state()
            state = Run(kind).steps(3, 0).state()
            ft.save(state, path)
            Same().check(copy.deepcopy(state), ft.load(path), name)
            resumed = Run(kind).resume(ft.load(path)).steps(3, 3).state()
            Same(exact=False).check(straight, resumed, f"resumed {name}")
            names.append(name)
        except Exception:  # noqa: BLE001
            traceback.print_exc()
            print(f"WRONG optimizer {name}")
            wrong += 1
    print(f"{len(names)} optimizers resumed bit for bit: {', '.join(names)}; {wrong} wrong", flush=True)
    return wrong


# ---- map_location -------------------------------------------------------------------------------

def compare_locations(ft, work):
    """All forms of map_location, for tensors that were saved from the CPU and from a GPU."""
    wrong = count = 0
    forms = {
        "None": None, "'cpu'": "cpu", "device": torch.device("cpu"), "dict": {"cuda:0": "cpu"},
        "other dict": {"cuda:1": "cpu"}, "callable": lambda storage, location: storage,
        "callable of None": lambda storage, location: None, "'meta'": "meta",
        "meta": torch.device("meta"), "'cuda:0'": "cuda:0",
        "callable to meta": lambda storage, location: torch.UntypedStorage(storage.nbytes(), device="meta"),
        "nonsense": "nowhere:3",
    }
    state = {"w": torch.arange(6.0).reshape(2, 3), "p": torch.nn.Parameter(torch.ones(2))}
    tag = torch.serialization.location_tag
    for device in ("cpu", "cuda:0"):
        paths = [os.path.join(work, "l.pth"), os.path.join(work, "l.safetensors")]
        torch.serialization.location_tag = lambda storage, device=device: device
        torch.save(state, paths[0])
        ft.save(state, paths[1])
        torch.serialization.location_tag = tag
        for name, form in forms.items():
            expected, error = outcome(lambda form=form: torch.load(paths[0], form, weights_only=True))
            for path in paths:
                found, ours = outcome(lambda form=form, path=path: ft.load(path, form))
                count += 1
                if error is None and ours is None:
                    same = all(found[key].device == expected[key].device and
                               repr(found[key]) == repr(expected[key]) for key in state)
                else:
                    same = type(error) is type(ours)
                if not same:
                    print(f"WRONG map_location {name} of {device}: {ours or found}, torch {error or expected}")
                    wrong += 1
    print(f"{count} loads with map_location: {wrong} wrong", flush=True)
    return wrong


def outcome(call):
    try:
        return call(), None
    except Exception as error:  # noqa: BLE001
        return None, error


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("package")
    parser.add_argument("work")
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fixtures", nargs="*", default=[])
    arguments = parser.parse_args()
    if judge.TORCH_VERSION < (2, 6):
        print(f"skipped: weights_only of torch {torch.__version__} lacks half of it")
        sys.exit(77)
    sys.path.insert(0, arguments.package)
    try:
        import flatbed
        import flatbed.torch as ft
    except ImportError as error:
        print(f"skipped: {sys.executable} cannot import flatbed: {error}")
        sys.exit(77)
    print(f"torch {torch.__version__}, Python {sys.version.split()[0]}", flush=True)
    judge.know_jagged()
    shutil.rmtree(arguments.work, ignore_errors=True)
    os.makedirs(arguments.work)
    folders = [FIXTURES, *arguments.fixtures]
    wrong = compare_fixtures(ft, flatbed, arguments.work, folders)
    wrong += compare_graphs(ft, flatbed, arguments.work, arguments.graphs, arguments.seed)
    wrong += compare_optimizers(ft, arguments.work)
    wrong += compare_locations(ft, arguments.work)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
