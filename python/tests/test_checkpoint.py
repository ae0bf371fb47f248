"""flatbed.Checkpoint: the mapping, what is known about the files, views, and its lifetime."""

from __future__ import annotations

import collections.abc
import copy
import gc
import os
import pickle
import threading
import unittest
from typing import Any

import flatbed
from support import FIXTURES, FolderTest, safetensors_bytes, two_tensors


class MappingTest(unittest.TestCase):
    def setUp(self) -> None:
        self.checkpoint = flatbed.open(two_tensors())

    def test_is_a_mapping(self) -> None:
        self.assertIsInstance(self.checkpoint, collections.abc.Mapping)
        self.assertEqual(len(self.checkpoint), 2)
        self.assertEqual(list(self.checkpoint), ["a", "b"])
        self.assertEqual(list(self.checkpoint.keys()), ["a", "b"])
        self.assertEqual([t.name for t in self.checkpoint.values()], ["a", "b"])
        self.assertEqual([(k, t.name) for k, t in self.checkpoint.items()],
                         [("a", "a"), ("b", "b")])
        self.assertEqual(self.checkpoint.keys() & {"a", "c"}, {"a"})
        self.assertEqual(list(dict(self.checkpoint)), ["a", "b"])

    def test_finds_names(self) -> None:
        self.assertIn("a", self.checkpoint)
        self.assertNotIn("c", self.checkpoint)
        self.assertNotIn(3, self.checkpoint)
        self.assertNotIn("\udcff", self.checkpoint)
        self.assertIsNone(self.checkpoint.get("c"))
        self.assertEqual(self.checkpoint.get("c", 7), 7)
        self.assertEqual(self.checkpoint.get("a").name, "a")

    def test_a_missing_name_is_a_key_error_that_names_a_close_one(self) -> None:
        checkpoint = flatbed.open(FIXTURES / "state_dict.pth")
        with self.assertRaisesRegex(KeyError, "the closest is '0.weight'") as caught:
            checkpoint["0.weigth"]
        self.assertIsInstance(caught.exception, flatbed.Error)

    def test_other_keys_are_a_type_error(self) -> None:
        for key in (3, None, b"a", ("a",)):
            with self.assertRaises(TypeError):
                self.checkpoint[key]  # type: ignore[index]

    def test_aliases_lead_to_the_tensor_and_are_not_listed(self) -> None:
        checkpoint = flatbed.open(FIXTURES / "tied.pth")
        alias, target = next(iter(checkpoint.aliases.items()))
        self.assertEqual(checkpoint[alias].name, target)
        self.assertIn(alias, checkpoint)
        self.assertNotIn(alias, list(checkpoint))

    def test_says_what_it_is(self) -> None:
        self.assertEqual(repr(self.checkpoint),
                         "<flatbed.Checkpoint 'memory': 2 tensors, unsealed>")
        self.assertEqual(repr(self.checkpoint["a"]), "flatbed.Tensor('a', F32, shape=(2, 3))")


class FactsTest(FolderTest):
    def test_knows_its_files(self) -> None:
        path = self.folder / "sealed.safetensors"
        flatbed.convert(two_tensors(), path)
        checkpoint = flatbed.open(path)
        (file,) = checkpoint.files
        self.assertEqual((file.path, file.nbytes), (str(path), path.stat().st_size))
        self.assertEqual((file.seal, checkpoint.seal, checkpoint.layout),
                         ("sealed", "sealed", "safetensors"))
        self.assertEqual(len(file.content), 16)
        self.assertIn("flatbed", checkpoint.metadata)

    def test_knows_metadata_notes_and_structure(self) -> None:
        checkpoint = flatbed.open(safetensors_bytes({}, {"format": "pt", "é": "ü"}))
        self.assertEqual(checkpoint.metadata, {"format": "pt", "é": "ü"})
        self.assertFalse(checkpoint.has_tree)
        checkpoint = flatbed.open(FIXTURES / "legacy_whole_model.pth")
        self.assertTrue(checkpoint.has_tree)
        self.assertEqual(checkpoint.notes, ["dropped the Python source of 2 module classes"])


class ViewTest(unittest.TestCase):
    def setUp(self) -> None:
        self.checkpoint = flatbed.open(FIXTURES / "checkpoint.pth")

    def test_selects_a_subtree(self) -> None:
        self.assertEqual(list(self.checkpoint.select("model"))[:2], ["0.weight", "0.bias"])
        chosen = self.checkpoint.select(include=["model.*"], exclude=["*.bias"])
        self.assertIn("model.0.weight", chosen)
        self.assertNotIn("model.0.bias", chosen)
        with self.assertRaises(flatbed.Error) as caught:
            self.checkpoint.select("nothing.here")
        self.assertEqual(caught.exception.name, "path_not_found")

    def test_selects_a_state_dict_of_a_whole_model(self) -> None:
        whole = flatbed.open(FIXTURES / "whole_checkpoint.pth")
        self.assertIn("cache.0", whole.select("model"))
        self.assertNotIn("cache.0", whole.select("model", state_dict=True))

    def test_renames_by_a_dict_a_text_a_callable_and_a_list(self) -> None:
        model = self.checkpoint.select("model")
        expected = ["net." + name for name in model]
        rules: Any
        for rules in ({"*": "net.{1}"}, "*=net.{1}", lambda name: "net." + name,
                      [{"*": "n.{1}"}, lambda name: "net." + name[2:]]):
            self.assertEqual(list(model.rename(rules)), expected)
        self.assertEqual(list(model.rename(add_prefix="net.")), expected)
        self.assertEqual(list(model.rename(add_prefix="net.").rename(strip_prefix="net.")),
                         list(model))

    def test_joins_tensors(self) -> None:
        two = {name: ("I8", [2], b"12") for name in ("a", "b")}
        joined = flatbed.open(safetensors_bytes(two)).rename("c = cat(a, b, dim=0)")
        self.assertEqual((list(joined), joined["c"].shape, joined["c"].read()),
                         (["c"], (4,), b"1212"))
        self.assertEqual(joined["c"].stored, "computed")

    def test_renames_refuse_what_is_no_rule(self) -> None:
        rules: Any
        for rules in (3, [3], [[]], {"a": 1}, {1: "a"}, b"*=x", lambda name: 3, lambda: "x"):
            with self.assertRaises(TypeError):
                self.checkpoint.rename(rules)
        for rules in ("\udcff=a", {"a": "\udcff"}, lambda name: "\udcff"):
            with self.assertRaises(UnicodeEncodeError):
                self.checkpoint.rename(rules)
        for rules in ("no rule", {"nothing.like.this": "x"}, {"*": "one name"}):
            with self.assertRaises(flatbed.Error):
                self.checkpoint.rename(rules)

    def test_what_a_callable_raises_is_raised(self) -> None:
        def fail(name: str) -> str:
            raise LookupError(name)

        with self.assertRaisesRegex(LookupError, "model.0.weight|rng.torch"):
            self.checkpoint.rename(fail)

    def test_casts(self) -> None:
        for dtype in ("BF16", "bf16", "bfloat16"):
            self.assertEqual(self.checkpoint.cast(dtype)["model.0.weight"].dtype, "BF16")
        kept = self.checkpoint.cast("F16", keep=["*.bias"])
        self.assertEqual((kept["model.0.bias"].dtype, kept["model.0.weight"].dtype), ("F32", "F16"))

    def test_casts_refuse_other_dtypes(self) -> None:
        for dtype in (3, None, int):
            with self.assertRaises(TypeError):
                self.checkpoint.cast(dtype)
        with self.assertRaisesRegex(ValueError, "float19"):
            self.checkpoint.cast("float19")
        with self.assertRaises(flatbed.Error):
            self.checkpoint.cast("I64")

    def test_globs_are_lists_of_str(self) -> None:
        for globs in ("model.*", [1], 3, ["\udcff"]):
            with self.assertRaises(TypeError):
                self.checkpoint.select(include=globs)  # type: ignore[arg-type]


class LifetimeTest(unittest.TestCase):
    def test_a_closed_checkpoint_is_refused_and_its_tensors_live_on(self) -> None:
        with flatbed.open(FIXTURES / "state_dict.pth") as checkpoint:
            tensor = checkpoint["0.weight"]
            view = checkpoint.rename(add_prefix="net.")
            expected = tensor.read()
        self.assertTrue(checkpoint.closed)
        checkpoint.close()
        for use in (len, list, repr, lambda c: c["0.weight"], lambda c: "x" in c,
                    lambda c: c.get("x"), lambda c: c.keys(), lambda c: c.metadata,
                    lambda c: c.select("x"), lambda c: c.verify(), lambda c: c.seal):
            if use is repr:
                self.assertEqual(repr(checkpoint), "<flatbed.Checkpoint, closed>")
                continue
            with self.assertRaisesRegex(ValueError, "closed"):
                use(checkpoint)  # type: ignore[operator]
        self.assertEqual(tensor.read(), expected)
        self.assertEqual(view["net.0.weight"].read(), expected)

    def test_memory_outlives_everything(self) -> None:
        memory = memoryview(flatbed.open(FIXTURES / "state_dict.pth")["0.weight"])
        gc.collect()
        self.assertEqual(len(bytes(memory)), memory.nbytes)

    def test_pickling_and_copying_are_refused_by_name(self) -> None:
        checkpoint = flatbed.open(two_tensors())
        for whole, name in ((checkpoint, "Checkpoint"), (checkpoint["a"], "Tensor")):
            for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
                with self.assertRaisesRegex(TypeError, f"cannot pickle a flatbed.{name}"):
                    attempt(whole)

    def test_cannot_be_made_without_open(self) -> None:
        for kind in (flatbed.Checkpoint, flatbed.Tensor):
            with self.assertRaises(TypeError):
                kind()

    def test_serves_a_child_after_fork(self) -> None:
        checkpoint = flatbed.open(FIXTURES / "state_dict.pth")
        expected = checkpoint["0.weight"].read()
        child = os.fork()
        if child == 0:
            same = checkpoint["0.weight"].read() == expected
            same = same and bytes(checkpoint["0.weight"]) == expected
            os._exit(0 if same and checkpoint.verify().ok else 1)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)
        self.assertEqual(checkpoint["0.weight"].read(), expected)

    def test_serves_eight_threads(self) -> None:
        checkpoint = flatbed.open(FIXTURES / "checkpoint.pth")
        expected = {name: tensor.read() for name, tensor in checkpoint.items()}
        shared = checkpoint["model.0.weight"]
        wrong: list[object] = []

        def use(number: int) -> None:
            try:
                for _ in range(30):
                    for name, tensor in checkpoint.items():
                        if tensor.read() != expected[name] or bytes(tensor) != expected[name]:
                            wrong.append(name)
                    if bytes(shared) != expected["model.0.weight"]:
                        wrong.append("shared")
                    checkpoint.select("model").cast("bf16").rename(lambda n: f"{number}{n}")
            except Exception as error:
                wrong.append(error)

        threads = [threading.Thread(target=use, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_eight_threads_may_close_what_others_use(self) -> None:
        wrong: list[object] = []
        for _ in range(20):
            checkpoint = flatbed.open(two_tensors())

            def use() -> None:
                try:
                    len(checkpoint["a"].read())
                    checkpoint.close()
                except ValueError as error:
                    if "closed" not in str(error):
                        wrong.append(error)

            threads = [threading.Thread(target=use) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
