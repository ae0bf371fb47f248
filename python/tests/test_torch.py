"""flatbed.torch: load, save and load_into."""

import argparse
import collections
import copyreg
import json
import importlib.util
import math
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import unittest
import unittest.mock

import flatbed
from states import FIXTURES, FolderTest, assert_same, tensor_bytes
from support import expanded_pth

try:
    import torch
except ImportError:
    torch = None
else:
    import flatbed.torch as ft


def optimizer_state():
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    return {
        "net": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "best": math.inf,
        "rng": torch.get_rng_state(),
    }


@unittest.skipIf(torch is None, "torch is not installed")
class StateTest(FolderTest):
    def again(self, state, **options):
        """What is loaded after it was saved."""
        ft.save(state, self.path())
        return ft.load(self.path(), **options)

    def write_tree(self, tree, tensors):
        """A sealed file with this tree: name -> (dtype, shape, bytes)."""
        spec = str(pathlib.Path(__file__).resolve().parents[2] / "spec")
        with unittest.mock.patch.object(sys, "path", [spec, *sys.path]):
            import writer
        rows = [(name, *tensor) for name, tensor in tensors.items()]
        writer.write(self.path(), rows, tree=json.dumps(tree, separators=(",", ":")))

    def resave(self, state):
        with self.assertRaises(flatbed.Error) as raised:
            ft.save(state, self.path())
        self.assertEqual(os.listdir(self.folder), [])
        return raised.exception


class SaveAndLoad(StateTest):
    def test_a_training_state_comes_back(self):
        state = optimizer_state()
        for mmap in (False, True):
            assert_same(self, state, self.again(state, mmap=mmap))

    def test_every_kind_of_value_comes_back(self):
        state = {
            "none": None, "bool": True, "int": 2**100, "float": 1e-3, "text": "a\ud800",
            "": "empty", "bytes": b"\x00\xff", "no_bytes": b"", "long": bytes(range(256)) * 9,
            "tuple": (1, (2, ())),
            "bytearray": bytearray(b"x"), "complex": 1 - 2j, "set": {1}, "size": torch.Size([2, 3]),
            "device": torch.device("cuda", 1), "dtype": torch.bfloat16, "layout": torch.strided,
            "counter": collections.Counter("aab"), "nested": [{"x": [torch.ones(2)]}], 7: "int key",
            (1, "x"): "tuple key", "nan": math.nan, "ordered": collections.OrderedDict(z=1, a=2),
        }  # fmt: skip
        assert_same(self, state, self.again(state))

    def test_every_dtype_comes_back(self):
        names = (
            "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 "
            "complex128 uint16 uint32 uint64 float8_e4m3fn float8_e5m2"
        ).split()
        dtypes = [getattr(torch, name) for name in names if hasattr(torch, name)]
        state = {}
        for dtype in dtypes:
            size = torch.empty(0, dtype=dtype).element_size()
            raw = torch.arange(6 * size, dtype=torch.uint8) * 37
            state[str(dtype)] = (raw % 2 if dtype == torch.bool else raw).view(dtype).view(2, 3)
        assert_same(self, state, self.again(state))

    def test_tied_tensors_stay_one_and_views_keep_their_strides(self):
        weight = torch.nn.Parameter(torch.randn(4, 3))
        plain = torch.arange(6.0)
        state = {
            "embed": weight,
            "head": weight,
            "a": plain,
            "b": plain.view(6),
            "t": torch.arange(6).view(2, 3).t(),
            "step": torch.arange(12)[::3],
            "wide": torch.ones(1).expand(3, 4),
            "overlap": torch.arange(10).as_strided((4, 4), (2, 1)),
            "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        }
        found = self.again(state)
        assert_same(self, state, found)
        self.assertIs(found["embed"], found["head"])
        self.assertIsNot(found["a"], found["b"])
        self.assertEqual(found["a"].data_ptr(), found["b"].data_ptr())
        for name in ("t", "step", "wide", "overlap", "last"):
            self.assertEqual(found[name].stride(), state[name].stride(), name)

    def test_views_of_one_storage_of_a_torch_file_are_views_again(self):
        base = torch.arange(12.0).view(3, 4)
        apart = torch.arange(8, dtype=torch.int16)
        state = {
            "base": base,
            "t": base.t(),
            "row": base[1],
            "column": base[:, 2],
            "low": apart[:3],
            "high": apart[5:],
            "plain": torch.ones(3),
        }
        torch.save(state, self.path("views.pth"))
        for mmap in (False, True):
            found = ft.load(self.path("views.pth"), mmap=mmap)
            assert_same(self, state, found)
            found["t"][2, 1] = -5
            for value in (found["base"][1, 2], found["row"][2], found["column"][1]):
                self.assertEqual(float(value), -5)
            step = found["high"].data_ptr() - found["low"].data_ptr()
            self.assertEqual(step, 5 * 2)
        meta = ft.load(self.path("views.pth"), "meta")
        self.assertEqual(meta["t"].stride(), (1, 4))

    def test_loaded_memory_is_its_own(self):
        state = {"w": torch.zeros(5000)}
        for mmap in (False, True):
            found = self.again(state, mmap=mmap)
            found["w"].fill_(1)
            assert_same(self, state, ft.load(self.path()))

    def test_parameters_and_attributes_come_back(self):
        parameter = torch.nn.Parameter(torch.ones(2), requires_grad=False)
        parameter.tensor_model_parallel = True
        leaf = torch.ones(3, requires_grad=True)
        found = self.again({"p": parameter, "leaf": leaf})
        assert_same(self, {"p": parameter, "leaf": leaf}, found)
        if hasattr(torch._utils, "_rebuild_parameter_with_state"):  # torch 2
            self.assertIs(found["p"].tensor_model_parallel, True)

    def test_sparse_and_quantized_tensors_come_back(self):
        dense = torch.tensor([[0.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
        scales, zeros = torch.tensor([0.1, 0.2]), torch.tensor([0, 1])
        state = {
            "coo": dense.to_sparse().coalesce(),
            "tensor": torch.quantize_per_tensor(dense, 0.25, 3, torch.qint8),
            "channel": torch.quantize_per_channel(dense, scales, zeros, 0, torch.quint8),
        }
        found = self.again(state)
        self.assertTrue(torch.equal(found["coo"].to_dense(), dense))
        if hasattr(torch.Tensor, "untyped_storage"):  # torch 2 keeps it
            self.assertTrue(found["coo"].is_coalesced())
        for name in ("tensor", "channel"):
            self.assertEqual(repr(found[name]), repr(state[name]))

    def test_conjugated_and_negated_tensors_have_their_values(self):
        base = torch.tensor([1 + 2j, -3 - 4j])
        state = {"conj": base.conj(), "neg": base.clone().conj().imag}
        found = self.again(state)
        assert_same(self, state, found)

    def test_a_state_that_contains_itself_comes_back(self):
        state = {"list": [1]}
        state["list"].append(state["list"])
        state["self"] = state
        found = self.again(state)
        self.assertIs(found["self"], found)
        self.assertIs(found["list"][1], found["list"])

    def test_storages_come_back(self):
        storage = torch.arange(3.0).storage()
        found = self.again({"s": storage})["s"]
        self.assertEqual(list(found), list(storage))

    def test_a_set_of_shards_comes_back(self):
        state = {f"w{i}": torch.full((1000,), float(i)) for i in range(5)}
        ft.save(state, self.path("set"), max_shard_size=8000)
        self.assertEqual(len(os.listdir(self.path("set"))), 4)
        assert_same(self, state, ft.load(self.path("set")))

    def test_a_future_saves_what_was_there_when_it_was_asked(self):
        state = {"w": torch.zeros(1_000_000), "t": torch.zeros(300, 200).t(), "n": 1}
        pending = ft.save(state, self.path(), wait=False)
        state["w"].fill_(1)
        state["t"].fill_(1)
        self.assertEqual(pending.result().path, self.path())
        found = ft.load(self.path())
        self.assertEqual((float(found["w"].sum()), float(found["t"].sum())), (0, 0))

    def test_a_future_of_a_save_that_is_over_at_once(self):
        pending = ft.save({"a": 1}, self.path(), wait=False, metadata={"note": 1})
        with self.assertRaises(TypeError):
            pending.result()

    def test_views_that_are_stored_apart_are_noted(self):
        base = torch.arange(6.0).view(2, 3)
        report = ft.save({"a": base, "b": base.t()}, self.path())
        self.assertIn("stored apart", report.notes[0])

    def test_metadata_and_seal(self):
        ft.save({"w": torch.ones(2)}, self.path(), metadata={"note": "x"}, seal=False)
        ckpt = flatbed.open(self.path())
        self.assertEqual((ckpt.metadata["note"], ckpt.seal), ("x", "unsealed"))
        ft.save({"w": torch.ones(2)}, self.path())
        self.assertEqual(flatbed.open(self.path()).seal, "sealed")

    def test_overwrite_false_keeps_what_is_there(self):
        ft.save({"w": torch.ones(2)}, self.path())
        with self.assertRaises(flatbed.FileError) as raised:
            ft.save({"w": torch.zeros(2)}, self.path(), overwrite=False)
        self.assertEqual(raised.exception.name, "file_exists")
        self.assertEqual(float(ft.load(self.path())["w"].sum()), 2)


class Refused(StateTest):
    def test_what_an_unsealed_file_would_lose_is_refused(self):
        w = torch.ones(2)
        for state in ({"w": w, "epoch": 3}, {"m": {"w": w}}, [w], {"b": b"x" * 5000}, {1: w},
                      {"c": torch.ones(2, dtype=torch.complex128)}):
            with self.subTest(state=state):
                with self.assertRaisesRegex(flatbed.FormatError, "seal=True"):
                    ft.save(state, self.path(), seal=False)
                self.assertEqual(os.listdir(self.folder), [])

    def test_what_cannot_be_saved_is_named_and_nothing_is_written(self):
        def local():
            pass

        cyclic = ([],)
        cyclic[0].append(cyclic)
        deep = []
        for _ in range(600):
            deep = [deep]
        for bad, says in (
            (torch.empty(2, device="meta"), "meta device"), (local, "local"),
            (threading.Lock(), "lock"), (sys.stdout, "TextIOWrapper"),
        ):  # fmt: skip
            with self.subTest(says=says):
                error = self.resave({"model": {"layers": [1, bad]}})
                self.assertEqual(error.name, "tree_not_representable")
                self.assertIn("model.layers.1", error.message)
                self.assertIn(says, error.message)
        # Python's own limit or the format's
        self.assertIn(self.resave({"deep": deep}).name, ("tree_too_deep", "tree_not_representable"))
        self.assertEqual(self.resave({"tuple": cyclic}).name, "tree_not_representable")

    def test_wrong_arguments(self):
        ft.save({"w": torch.ones(2)}, self.path())
        for call in (
            lambda: ft.load(self.path(), unknown="ignore"), lambda: ft.load(3.5),
            lambda: ft.load(self.path(), progress=3), lambda: ft.load(self.path(), allow=[3]),
            lambda: ft.save({}, 3.5), lambda: ft.load_into(3, self.path()),
            lambda: ft.load_into({"w": 3}, self.path()),
        ):  # fmt: skip
            with self.assertRaises((TypeError, ValueError, AttributeError)):
                call()
        with self.assertRaises(flatbed.FileError):
            ft.load(self.path("missing"))

    def test_classes_are_refused_by_name_and_place(self):
        state = {"args": {"run": argparse.Namespace(lr=1e-3)}, "epoch": 3}
        ft.save(state, self.path())
        with self.assertRaisesRegex(flatbed.FormatError, "args.run.*argparse.Namespace") as raised:
            ft.load(self.path())
        self.assertEqual(raised.exception.name, "weights_only_refused")

    def test_inert_objects_are_data(self):
        ft.save({"args": argparse.Namespace(lr=1e-3)}, self.path())
        inert = ft.load(self.path(), unknown="inert")["args"]
        self.assertEqual((inert.class_name, inert.state), ("argparse.Namespace", {"lr": 1e-3}))

    def test_allowed_classes_are_made(self):
        state = {
            "args": argparse.Namespace(lr=1e-3),
            "f": frozenset([1]),
            "d": collections.defaultdict(list, {"k": [1]}),
            "q": collections.deque([1, 2], 5),
        }
        ft.save(state, self.path())
        allow = [
            argparse.Namespace,
            frozenset,
            collections.deque,
            list,
            (collections.defaultdict, "collections.defaultdict"),
        ]
        found = ft.load(self.path(), allow=allow)
        self.assertEqual(found, state)
        self.assertIs(type(found["d"]), collections.defaultdict)
        self.assertEqual(found["q"].maxlen, 5)

    def test_numpy_is_allowed_by_its_classes(self):
        try:
            import numpy
        except ImportError:
            self.skipTest("numpy is not installed")
        state = {"a": numpy.arange(6, dtype=">i4").reshape(2, 3), "s": numpy.float64(0.5)}
        ft.save(state, self.path())
        with self.assertRaisesRegex(flatbed.FormatError, "i4"):
            ft.load(self.path())
        found = ft.load(self.path(), allow=[numpy.ndarray, numpy.float64])
        self.assertEqual((found["a"] == state["a"]).all(), True)
        self.assertEqual(type(found["s"]), numpy.float64)
        self.assertEqual(found["s"], 0.5)

    def test_modules_that_are_blocked_stay_blocked(self):
        data = b"\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R."
        with open(self.path("evil.pkl"), "wb") as file:
            file.write(data)
        with self.assertRaisesRegex(flatbed.FormatError, "posix.system"):
            ft.load(self.path("evil.pkl"))
        with self.assertRaisesRegex(flatbed.FormatError, "posix.system"):
            ft.load(self.path("evil.pkl"), allow=[os.system])
        inert = ft.load(self.path("evil.pkl"), unknown="inert")
        self.assertEqual(str(inert.function), "posix.system")

    def test_a_call_that_only_asks_for_memory_is_refused(self):
        with open(self.path("bomb.pkl"), "wb") as file:
            file.write(b"\x80\x02ctorch\nDoubleTensor\nJ\xff\xff\xff\x7f\x85R.")
        with self.assertRaises(flatbed.FormatError):
            ft.load(self.path("bomb.pkl"))

    def test_damage_is_found(self):
        ft.save({"w": torch.zeros(300_000)}, self.path())
        with open(self.path(), "r+b") as file:
            file.seek(-1000, os.SEEK_END)
            file.write(b"\x01")
        with self.assertRaises(flatbed.SealError) as raised:
            ft.load(self.path())
        self.assertEqual(raised.exception.name, "chunk_corrupt")
        self.assertIn("w", raised.exception.message)
        self.assertNotEqual(float(ft.load(self.path(), verify=False)["w"].abs().sum()), 0)

    def test_a_callback_that_raises_stops_the_work(self):
        def stop(done, total):
            raise ZeroDivisionError

        state = {"w": torch.zeros(20_000_000)}
        with self.assertRaises(ZeroDivisionError):
            ft.save(state, self.path(), progress=stop)
        self.assertEqual(os.listdir(self.folder), [])
        ft.save(state, self.path())
        with self.assertRaises(ZeroDivisionError):
            ft.load(self.path(), progress=stop)

    def test_an_interrupt_stops_the_work(self):
        state = {"w": torch.zeros(20_000_000)}
        ft.save(state, self.path())
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)

        def interrupt(done, total):
            signal.raise_signal(signal.SIGINT)

        for call in (
            lambda: ft.load(self.path(), progress=interrupt),
            lambda: ft.save(state, self.path("other"), progress=interrupt),
        ):
            with self.assertRaises(KeyboardInterrupt):
                call()
        self.assertEqual(os.listdir(self.folder), ["state.safetensors"])


    def test_tensors_larger_than_their_bytes_are_refused(self):
        for kind, size in (("double", [1000]), ("long", [1]), ("double", [2**40])):
            tree = ["tensor", "w", {"dtype": kind, "shape": size}]
            self.write_tree(tree, {"w": ("U8", [2], bytes(2))})
            for options in ({}, {"mmap": True}, {"map_location": "meta"}):
                with self.subTest(kind=kind, **options):
                    with self.assertRaisesRegex(flatbed.FormatError, "'w'.*2 bytes"):
                        ft.load(self.path(), **options)


    def test_strides_of_a_small_file_do_not_ask_for_much_memory(self):
        tree = ["list", *(["tensor", "w", {"stride": [60_000 + i]}] for i in range(1000))]
        self.write_tree(tree, {"w": ("F32", [2], bytes(8))})
        nbytes = sum(tensor.storage().nbytes() for tensor in ft.load(self.path()))
        self.assertLess(nbytes, 100 << 20)


    def test_far_more_than_the_file_has_is_loaded_where_it_is_allowed(self):
        for options in ({}, {"mmap": True}):
            with self.assertRaises(flatbed.Error) as raised:
                ft.load(expanded_pth(1 << 44), **options)
            self.assertEqual(raised.exception.name, "expansion_refused")
        self.assertEqual(ft.load(expanded_pth(1 << 44), map_location="meta")["w"].shape, (1 << 44,))
        found = ft.load(expanded_pth(3), allow_expansion=True)
        self.assertEqual(found["w"].tolist(), [1.5] * 3)

    def test_names_that_only_say_how_an_object_is_made_are_no_values(self):
        structure = (object, copyreg.__newobj__, copyreg._reconstructor)
        shared = (1, object)
        states = [{"x": [name]} for name in structure]
        states += [object, {object: 1}, [shared, shared], {"x": (1, [object])}]
        for state in states:
            with open(self.path("names.pkl"), "wb") as file:
                pickle.dump(state, file, 2)
            with self.subTest(state=state):
                with self.assertRaisesRegex(flatbed.FormatError, "object|copyreg"):
                    ft.load(self.path("names.pkl"))
                ft.load(self.path("names.pkl"), unknown="inert")
        # Protocol 0 makes objects by copyreg._reconstructor(class, object, None).
        with open(self.path("old.pkl"), "wb") as file:
            pickle.dump([argparse.Namespace(lr=1)], file, 0)
        self.assertEqual(ft.load(self.path("old.pkl"), allow=[argparse.Namespace])[0].lr, 1)
        # What such a call was given may stand beside it, too.
        with open(self.path("both.pkl"), "wb") as file:
            file.write(b"\x80\2(ccopyreg\n_reconstructor\n(cargparse\nNamespace\nc__builtin__\n"
                       b"object\nNtq\0Rh\0l.")
        with self.assertRaisesRegex(flatbed.FormatError, "builtins.object"):
            ft.load(self.path("both.pkl"), allow=[argparse.Namespace])

    def test_names_do_not_make_torch_import_modules(self):
        files = (
            ["global", "torch", "_inductor"],
            ["tensor", "w", {"dtype": "_inductor"}],
        )
        for tree in files:
            self.write_tree(tree, {"w": ("F32", [2], bytes(8))})
            with unittest.mock.patch.object(torch, "__getattr__", create=True) as asked:
                with self.assertRaises(flatbed.FormatError):
                    ft.load(self.path())
                self.assertNotIn(unittest.mock.call("_inductor"), asked.mock_calls)


    def test_a_sparse_tensor_that_points_outside_is_refused(self):
        size = ["object", ["global", "torch", "Size"], ["tuple", ["tuple", 4]]]
        data = ["tuple", ["tensor", "i"], ["tensor", "v"], size]
        rebuild = ["global", "torch._utils", "_rebuild_sparse_tensor"]
        layout = ["global", "torch", "sparse_coo"]
        sparse = ["object", rebuild, ["tuple", layout, data]]
        tensors = {
            "i": ("I64", [1, 1], (1 << 30).to_bytes(8, "little")),
            "v": ("F32", [1], bytes(4)),
        }
        self.write_tree(sparse, tensors)
        with self.assertRaisesRegex(flatbed.FormatError, "a sparse tensor"):
            ft.load(self.path())
        # One that is refused for something else leaves nothing for the next load.
        self.write_tree(["list", sparse, ["object", size[1], ["tuple", 5]]], tensors)
        with self.assertRaises(flatbed.FormatError):
            ft.load(self.path())
        self.assertEqual(self.again({"w": 1}), {"w": 1})


    def test_items_and_pairs_of_a_tensor_are_refused(self):
        hooks = ["object", ["global", "collections", "OrderedDict"], ["tuple"]]
        call = [
            "object", ["global", "torch._utils", "_rebuild_parameter"],
            ["tuple", ["tensor", "w"], False, hooks],
        ]  # fmt: skip
        for filled in ([[], [0, 7.0]], [[1.0], []]):
            self.write_tree([*call, *filled], {"w": ("F32", [2], bytes(8))})
            with self.assertRaisesRegex(flatbed.FormatError, "items of Parameter"):
                ft.load(self.path())


    def test_attributes_that_torch_refuses_are_malformed(self):
        for dtype, attributes in (
            ("I64", {"grad": True}),
            ("F32", {"state": ["tuple", None, ["dict", 1, 2]]}),
            ("F32", {"state": ["tuple", None, ["dict", "data", 5]]}),
        ):
            width = 8 if dtype == "I64" else 4
            self.write_tree(["tensor", "w", attributes], {"w": (dtype, [1], bytes(width))})
            with self.subTest(attributes=attributes):
                with self.assertRaises(flatbed.FormatError):
                    ft.load(self.path())


    def test_a_call_through_rebuild_from_type_is_refused_as_others_are(self):
        rebuild = ["global", "torch._tensor", "_rebuild_from_type_v2"]
        of = ["global", "torch", "FloatTensor"], ["global", "torch", "Tensor"]
        self.write_tree(["object", rebuild, ["tuple", *of, ["tuple", 110], ["dict"]]], {})
        with self.assertRaises(flatbed.FormatError):
            ft.load(self.path())


    def test_an_object_is_not_called_whatever_it_claims_to_be(self):
        called = []

        class Callable:
            def __call__(self, *args):
                called.append(args)

        names = ["dict", "__module__", "torch._utils", "__qualname__", "_rebuild_x"]
        new = ["global", "copyreg", "__newobj__"]
        made = ["object", new, ["tuple", ["global", "m", "C"]], [], [], names]
        tree = ["list", ["id", 0, made], ["object", ["ref", 0], ["tuple", 5]]]
        self.write_tree(tree, {})
        with self.assertRaisesRegex(flatbed.FormatError, "'1': a call of an object is not allowed"):
            ft.load(self.path(), allow=[(Callable, "m.C")])
        ft.load(self.path(), allow=[(Callable, "m.C")], unknown="inert")
        self.assertEqual(called, [])


class MapLocation(StateTest):
    def test_forms_for_tensors_of_a_gpu(self):
        tag = torch.serialization.location_tag
        torch.serialization.location_tag = lambda storage: "cuda:0"
        self.addCleanup(setattr, torch.serialization, "location_tag", tag)
        ft.save({"w": torch.arange(3.0)}, self.path())
        seen = []

        def note(storage, location):
            seen.append((storage.nbytes(), location))
            return storage

        for form in ("cpu", torch.device("cpu"), {"cuda:0": "cpu"}, note):
            found = ft.load(self.path(), form)["w"]
            self.assertEqual((found.device.type, found.tolist()), ("cpu", [0, 1, 2]))
        self.assertEqual(seen, [(12, "cuda:0")])
        if not torch.cuda.is_available():
            for form in (None, {"cuda:1": "cpu"}, "cuda:0", lambda storage, location: None):
                with self.assertRaises(RuntimeError):
                    ft.load(self.path(), form)
        for form in ("meta", torch.device("meta")):
            found = ft.load(self.path(), form)["w"]
            self.assertEqual((found.device.type, tuple(found.shape)), ("meta", (3,)))


    def test_meta_keeps_bytes_and_arrays(self):
        numpy = importlib.util.find_spec("numpy") and importlib.import_module("numpy")
        state = {"b": b"x" * 500_000}
        if numpy:
            state["a"] = numpy.arange(6)
        ft.save(state, self.path())
        allow = [numpy.ndarray] if numpy else []
        found = ft.load(self.path(), map_location="meta", allow=allow)
        self.assertEqual(found["b"], state["b"])
        if numpy:
            self.assertEqual(found["a"].tolist(), [0, 1, 2, 3, 4, 5])


class Fixtures(StateTest):
    def test_files_of_torch_give_what_torch_gives(self):
        """Without weights_only, whose first versions lack half of it; the oracle has the rest."""
        count = 0
        for path in sorted(FIXTURES.glob("torch1/*.pth")):
            with self.subTest(path=path.name):
                if path.stem == "protocol_5":
                    continue  # has objects of every kind; the oracle compares them
                expected = torch.load(path, map_location="cpu", weights_only=False)
                found = ft.load(path, "cpu", allow=[argparse.Namespace])
                assert_same(self, expected, found)
                count += 1
        self.assertEqual(count, 4)


class Model(torch.nn.Module if torch else object):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 4)
        self.norm = torch.nn.BatchNorm1d(4)
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("cache", torch.ones(2), persistent=False)


class LoadInto(StateTest):
    def setUp(self):
        super().setUp()
        torch.manual_seed(5)
        self.source = Model()
        ft.save({"model": self.source.state_dict(), "epoch": 1}, self.path())
        torch.manual_seed(6)
        self.model = Model()

    def check_loaded(self):
        for (name, a), (_, b) in zip(
            self.source.state_dict().items(), self.model.state_dict().items()
        ):
            self.assertEqual(tensor_bytes(a), tensor_bytes(b), name)

    def test_parameters_are_filled_in_place(self):
        pointer = self.model.embed.weight.data_ptr()
        report = ft.load_into(self.model, self.path(), select="model")
        self.assertTrue(report.complete)
        self.assertGreater(report.bytes_verified, 0)
        self.check_loaded()
        self.assertEqual(pointer, self.model.embed.weight.data_ptr())
        self.assertIs(self.model.head.weight, self.model.embed.weight)

    def test_names_are_changed_by_rules(self):
        state = {f"module.{name}": value for name, value in self.source.state_dict().items()}
        ft.save(state, self.path())
        with self.assertRaisesRegex(RuntimeError, "module"):
            ft.load_into(self.model, self.path())
        ft.load_into(self.model, self.path(), rename={"module.*": "{1}"})
        self.check_loaded()

    def test_keys_that_do_not_match_raise_and_change_nothing(self):
        state = self.source.state_dict()
        del state["norm.bias"]
        state["extra"] = torch.ones(1)
        ft.save(state, self.path())
        before = tensor_bytes(self.model.norm.weight)
        with self.assertRaisesRegex(RuntimeError, "missing keys: 'norm.bias'.*\n.*'extra'"):
            ft.load_into(self.model, self.path())
        self.assertEqual(before, tensor_bytes(self.model.norm.weight))
        report = ft.load_into(self.model, self.path(), strict=False)
        self.assertEqual((report.missing_keys, report.unexpected_keys), (["norm.bias"], ["extra"]))
        self.assertEqual(
            tensor_bytes(self.model.norm.weight), tensor_bytes(self.source.norm.weight)
        )

    def test_shapes_that_do_not_match_raise_unless_they_are_ignored(self):
        state = self.source.state_dict()
        state["norm.bias"] = torch.ones(3)
        ft.save(state, self.path())
        for strict in (True, False):
            with self.assertRaisesRegex(RuntimeError, r"norm.bias.*\[3\].*\[4\]"):
                ft.load_into(self.model, self.path(), strict)
        report = ft.load_into(self.model, self.path(), ignore_mismatched_sizes=True)
        self.assertEqual(report.mismatched, [("norm.bias", (3,), (4,))])

    def test_the_model_can_take_another_dtype(self):
        ft.load_into(self.model, self.path(), select="model", dtype=torch.bfloat16)
        self.assertEqual(self.model.embed.weight.dtype, torch.bfloat16)
        self.assertEqual(self.model.norm.num_batches_tracked.dtype, torch.int64)
        self.assertIs(self.model.head.weight, self.model.embed.weight)
        expected = self.source.embed.weight.detach().to(torch.bfloat16)
        self.assertEqual(tensor_bytes(expected), tensor_bytes(self.model.embed.weight))

    def test_floats_are_cast_to_what_the_model_has(self):
        ft.save(
            {"w": torch.randn(3, dtype=torch.float64), "n": torch.ones(3, dtype=torch.int16)},
            self.path(),
        )
        own = {"w": torch.zeros(3), "n": torch.zeros(3)}
        ft.load_into(own, self.path())
        saved = ft.load(self.path())
        self.assertTrue(torch.equal(own["w"], saved["w"].float()))
        self.assertTrue(torch.equal(own["n"], torch.ones(3)))

    def test_memory_that_is_not_one_block_is_copied_into(self):
        ft.save({"w": torch.arange(6.0).view(2, 3)}, self.path())
        own = {"w": torch.zeros(3, 2).t()}
        ft.load_into(own, self.path())
        self.assertEqual(own["w"].tolist(), [[0, 1, 2], [3, 4, 5]])

    def test_conjugated_tensors_get_the_values(self):
        ft.save({"w": torch.tensor([1 + 2j, 3 + 4j])}, self.path())
        w = torch.zeros(2, dtype=torch.complex64).conj()
        ft.load_into({"w": w}, self.path())
        self.assertEqual(w.tolist(), [1 + 2j, 3 + 4j])

    def test_meta_tensors_are_refused_by_name(self):
        with self.assertRaisesRegex(ValueError, "'w'.*to_empty"):
            ft.load_into({"w": torch.empty(2, device="meta")}, self.path())


class OnGpus(StateTest):
    """The way of loads into GPUs, with the host's memory in their place."""

    def setUp(self):
        super().setUp()
        self.places = []
        host = torch.device("cpu")
        load_tensors = ft._cuda.load_tensors

        def load(checkpoint, targets, options, places):
            self.places.append(places)
            return load_tensors(checkpoint, targets, options, places)

        for name, replacement in (
            ("gpu_of", lambda place: None if isinstance(place, dict) else host),
            ("_device", lambda gpu: None),
            ("load_tensors", load),
        ):
            patch = unittest.mock.patch.object(ft._cuda, name, replacement)
            patch.start()
            self.addCleanup(patch.stop)

    def test_a_state_arrives(self):
        state = {"a": torch.arange(6.0).view(2, 3), "b": [torch.ones(3), torch.empty(0)], "c": 3}
        assert_same(self, state, self.again(state, map_location="cpu"))
        self.assertEqual([len(places) for places in self.places], [2])
        self.assertNotIn(None, self.places[0])

    def test_what_is_made_on_the_host_takes_the_way_over_it(self):
        whole = torch.arange(6.0)
        for state in ({"a": whole.view(2, 3).t()}, {"a": whole, "b": whole}):
            assert_same(self, state, self.again(state, map_location="cpu"))
        assert_same(self, state, self.again(state, map_location={"cpu": "cpu"}))

    def test_a_gpu_that_cannot_be_used_is_no_error(self):
        refused = flatbed.DeviceError(180, "device_unavailable", "no NVIDIA driver found")
        model = torch.nn.Linear(3, 2)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with unittest.mock.patch.object(ft._cuda, "_device", side_effect=refused):
            assert_same(self, state, self.again(state, map_location="cpu"))
            torch.nn.init.zeros_(model.weight)
            report = ft.load_into(model, self.path())
        self.assertTrue(report.complete and report.bytes_read)
        assert_same(self, state, dict(model.state_dict()))

    def test_other_errors_are_raised(self):
        failed = flatbed.DeviceError(181, "device_error", "cuda:0: an illegal address")
        state = {"a": torch.ones(3)}
        with unittest.mock.patch.object(ft._cuda, "_device", side_effect=failed):
            with self.assertRaisesRegex(flatbed.DeviceError, "illegal address"):
                self.again(state, map_location="cpu")

    def test_a_model_is_filled_and_cast(self):
        model = torch.nn.Linear(3, 2)
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        ft.save(state, self.path())
        ft.load_into(model, self.path(), dtype=torch.float16)
        self.assertNotIn(None, self.places[0])
        assert_same(self, state["weight"].half(), model.weight.detach())

    def test_the_current_stream_is_named(self):
        for handle, named in ((0, 1), (4096, 4096)):
            current = unittest.mock.Mock(cuda_stream=handle)
            with unittest.mock.patch.object(
                torch.cuda, "current_stream", return_value=current
            ), unittest.mock.patch.object(flatbed._flatbed, "cuda_device") as made:
                type(self).device(torch.device("cuda", 1))
            made.assert_called_once_with(1, named)

    device = staticmethod(ft._cuda._device) if torch else None


class Processes(StateTest):
    def run_python(self, code):
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), self.path()],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_a_program_that_ends_finishes_its_save(self):
        done = self.run_python("""
            import sys, torch, flatbed.torch as ft
            ft.save({"w": torch.ones(5_000_000)}, sys.argv[1], wait=False)
        """)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(float(ft.load(self.path())["w"].sum()), 5_000_000)

    def test_a_failed_save_that_nobody_asked_for_is_reported(self):
        done = self.run_python("""
            import sys, torch, flatbed.torch as ft
            ft.save({"w": torch.ones(5)}, sys.argv[1] + "/no/such", wait=False)
        """)
        self.assertIn("a save failed", done.stderr)
        self.assertIn(str(self.folder), done.stderr)

    def test_a_child_of_fork_can_load(self):
        ft.save({"w": torch.ones(5)}, self.path())
        ckpt = flatbed.open(self.path())
        child = os.fork()
        if child == 0:
            os._exit(0 if float(ft.load(ckpt)["w"].sum()) == 5 else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_eight_threads_load_one_checkpoint(self):
        state = {f"w{i}": torch.full((1000,), float(i)) for i in range(50)}
        ft.save(state, self.path())
        ckpt = flatbed.open(self.path())
        wrong = []

        def work():
            try:
                assert_same(self, state, ft.load(ckpt, threads=2))
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
