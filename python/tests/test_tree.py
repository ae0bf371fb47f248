"""Checkpoint.tree: the structure around the tensors, without torch."""

import collections
import io
import math
import pickle
import struct
import unittest

import flatbed
from flatbed.inert import Global, Object
from states import FIXTURES


def tree_of(value, protocol=4):
    """The tree of a pickle of `value`."""
    file = io.BytesIO()
    pickle.dump(value, file, protocol=protocol)
    return flatbed.open(file.getvalue()).tree


class TreeTest(unittest.TestCase):
    def test_plain_values_are_what_they_were(self):
        value = {
            "none": None, "true": True, "int": -(2**63), "big": 2**200, "negative": -(2**64),
            "float": 1e-3, "zero": -0.0, "infinity": math.inf, "text": "snow\u2603\x00",
            "surrogate": "a\ud800", "bytes": b"\x00\xff", "empty": (), "list": [1, [2, ()]],
            "complex": 1 - 2j, "bytearray": bytearray(b"xy"), "set": {3},
            "frozenset": frozenset([4]),
            "ordered": collections.OrderedDict([("z", 1), ("a", 2)]), "long": bytes(5000),
            (1, "x"): "a tuple as a key", None: "and None", 2.5: "and a float",
        }  # fmt: skip
        for protocol in range(2, 6):
            with self.subTest(protocol=protocol):
                found = tree_of(value, protocol)
                self.assertEqual(repr(found), repr(value))
                self.assertEqual(list(map(type, found.values())), list(map(type, value.values())))

    def test_nan_keeps_its_bits(self):
        for bits in (0x7FF8000000000000, 0xFFF8000000000001, 0x7FFDEADBEEF00000):
            (value,) = struct.unpack("<d", struct.pack("<Q", bits))
            self.assertEqual(struct.pack("<d", tree_of([value])[0]), struct.pack("<Q", bits))

    def test_shared_objects_stay_shared(self):
        shared = {"a": 1}
        items = [shared]
        found = tree_of({"x": shared, "y": shared, "l": items, "m": items})
        self.assertIs(found["x"], found["y"])
        self.assertIs(found["l"], found["m"])
        self.assertIs(found["l"][0], found["x"])

    def test_equal_objects_that_are_not_shared_stay_apart(self):
        found = tree_of([[1], [1]])
        self.assertIsNot(found[0], found[1])

    def test_cycles_are_kept(self):
        loop = [1]
        loop.append(loop)
        owner = {"children": []}
        owner["children"].append({"parent": owner})
        pair = ([],)
        pair[0].append(pair)
        found_loop, found_owner, found_pair = tree_of([loop, owner, pair])
        self.assertIs(found_loop[1], found_loop)
        self.assertIs(found_owner["children"][0]["parent"], found_owner)
        self.assertIs(type(found_pair), tuple)
        self.assertIs(found_pair[0][0][0], found_pair[0])

    def test_attributes_of_an_ordered_dict_are_kept(self):
        ordered = collections.OrderedDict(w=1)
        ordered._metadata = collections.OrderedDict([("", {"version": 1})])
        self.assertEqual(tree_of(ordered)._metadata, ordered._metadata)

    def test_unknown_classes_are_inert(self):
        path = FIXTURES / "torch2" / "odd_values.pth"
        tree = flatbed.open(path).tree
        namespace = tree["namespace"]
        self.assertIsInstance(namespace, Object)
        self.assertEqual(namespace.class_name, "argparse.Namespace")
        self.assertEqual(namespace.state, {"lr": 1e-3})
        self.assertEqual(tree["dtype"], Global("torch", "bfloat16"))
        self.assertEqual(tree["default"].pairs, [("k", [1])])

    def test_tensors_are_those_of_the_checkpoint(self):
        tree = flatbed.open(FIXTURES / "torch2" / "checkpoint.pth").tree
        weight = tree["model"]["0.weight"]
        self.assertIsInstance(weight, flatbed.Tensor)
        self.assertEqual(weight.name, "model.0.weight")
        self.assertEqual(tree["epoch"], 3)

    def test_numpy_scalars_have_a_value(self):
        tree = flatbed.open(FIXTURES / "torch2" / "numpy_values.pth").tree
        self.assertEqual(tree["scalar"].value, 0.5)
        self.assertEqual(tree["scalar_int"].value, -2)

    def test_deep_nesting_neither_recurses_nor_crashes(self):
        depth = 200_000
        data = b"\x80\x02" + b"]" * depth + b"a" * (depth - 1) + b"."
        tree = flatbed.open(data).tree
        for _ in range(depth - 1):
            (tree,) = tree
        self.assertEqual(tree, [])

    def test_tuples_that_python_could_not_hash_are_refused(self):
        data = b"\x80\x02)" + b"\x85" * 100_000 + b"."
        with self.assertRaisesRegex(flatbed.FormatError, "nested") as raised:
            flatbed.open(data).tree
        self.assertEqual(raised.exception.name, "tree_too_deep")

    def test_shared_tuples_that_python_could_not_hash_are_refused(self):
        # Each tuple is made of the one before it, which a list holds, so that none of them is
        # nested where it stands.
        deep = b"\x80\x02]q\x01(K\x01\x85q\x00" + b"h\x00\x85q\x00" * 400_000 + b"}h\x00Nse."
        with self.assertRaisesRegex(flatbed.FormatError, "tuples are nested"):
            flatbed.open(deep).tree
        # Each holds the one before it twice: 2^60 parts.
        wide = b"\x80\x02}K\x01K\x02\x86" + b"q\x00h\x00\x86" * 60 + b"Ns."
        with self.assertRaisesRegex(flatbed.Error, "parts"):
            flatbed.open(wide).tree

    def test_a_key_that_cannot_be_hashed_raises(self):
        data = b"\x80\x02}((]\x85I1\ns"[:0] + b"\x80\x02}]\x85K\x01s."
        with self.assertRaises((TypeError, flatbed.FormatError)):
            flatbed.open(data).tree

    def test_arguments_that_ask_for_memory_are_refused(self):
        data = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."
        with self.assertRaisesRegex(flatbed.FormatError, "bytearray"):
            flatbed.open(data).tree

    def test_every_fixture_has_a_tree(self):
        count = 0
        for path in sorted(FIXTURES.glob("torch*/*.p*th")):
            with self.subTest(path=path.name):
                flatbed.open(path).tree
                count += 1
        self.assertGreater(count, 40)


if __name__ == "__main__":
    unittest.main()
