"""Tests of spec/reader.py against spec/vectors, the documented examples, and itself. Standard library only.

    python3 tests/spec/test_reader.py

torch, numpy, libxxhash and the reference reader of safetensors are used where they can be imported.
"""

import collections
import contextlib
import ctypes
import io
import json
import math
import os
import re
import shutil
import struct
import sys
import tempfile
import unittest
from unittest import mock

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "spec")
VECTORS = os.path.join(SPEC, "vectors")
sys.path.insert(0, SPEC)

import make_vectors  # noqa: E402
import reader  # noqa: E402
import vector_containers  # noqa: E402
import vector_trees  # noqa: E402
import writer  # noqa: E402
from reader import Global, Object, Tensor  # noqa: E402


def manifest():
    return make_vectors.read_table(VECTORS, "manifest.tsv")


def vector(path):
    with open(os.path.join(VECTORS, path), "rb") as stream:
        return stream.read()


def code_of(action):
    """The code of the FormatError that an action raises, or "ok"."""
    try:
        action()
    except reader.FormatError as error:
        return error.code
    return "ok"


def opened(raw, verify="if_sealed"):
    return reader.File(io.BytesIO(raw), verify)


def importable(name):
    with contextlib.suppress(ImportError):
        return __import__(name)
    return None


def libxxhash():
    try:
        function = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    except (OSError, AttributeError):
        return None
    function.restype, function.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    return function


def specification():
    with open(os.path.join(SPEC, "FORMAT.md"), encoding="utf-8") as stream:
        return stream.read()


def code_block_after(text, words):
    """The first indented or fenced block of code after these words."""
    return re.search(r"```\n(.*?)```", text[text.index(words) :], re.DOTALL)[1]


def examples_of(text):
    """The JSON texts of the tree examples, each on one line."""
    joined = re.sub(r"\n {4}", "", code_block_after(text, "Examples, from Python values"))
    lines = [line.strip() for line in joined.splitlines() if line.startswith("   [")]
    return [writer.compact(json.JSONDecoder().raw_decode(line)[0]) for line in lines]


class Specification(unittest.TestCase):
    def test_the_rules_name_the_pinned_codes_in_order(self):
        row = r'^\| <a id="R\d+"></a>R(\d+) \|.*\| `(\w+)` \| `R(\d+)-\*` \|$'
        rules = re.findall(row, specification(), re.MULTILINE)
        wanted = [(str(i), code, f"{i:02}") for i, code in enumerate(vector_containers.CODES, 1)]
        self.assertEqual(rules, wanted)
        with open(os.path.join(SPEC, "..", "include", "flatbed", "error.hpp"), encoding="utf-8") as stream:
            pinned = dict(re.findall(r"X\((\d+), (\w+),", stream.read()))
        self.assertEqual(tuple(pinned[str(29 + i)] for i in range(1, 23)), vector_containers.CODES)

    def test_the_hex_dump_of_the_worked_example(self):
        raw = vector("valid/worked-example.safetensors")
        block = code_block_after(specification(), "## 17. Worked example")
        rows = re.findall(r"^\+0x([0-9a-f]{4}) \| ((?:[0-9a-f]{2} )+)\|", block, re.MULTILINE)
        self.assertGreaterEqual(len(rows), 8)
        for offset, text in rows:
            wanted = bytes.fromhex(text.replace(" ", ""))
            self.assertEqual(raw[int(offset, 16) :][: len(wanted)], wanted, offset)

    def test_the_header_and_the_content_of_the_worked_example(self):
        raw, section = vector("valid/worked-example.safetensors"), specification()
        block = code_block_after(section, "## 17. Worked example")
        text = "".join(re.findall(r"\| JSON +\| (.*)", block))
        self.assertEqual(raw[8:4096], text.encode() + b" " * 3720)
        lines = code_block_after(section, "`flatbed.digests` holds nothing for").splitlines()
        hashed = bytes.fromhex("".join(line.split("    ")[0] for line in lines))
        self.assertEqual((len(hashed), reader.digest(hashed)), (267, "a51077c2dc79f33f"))


class Vectors(unittest.TestCase):
    def test_each_gives_its_expectation(self):
        with tempfile.TemporaryDirectory() as scratch:
            folder = os.path.join(scratch, "vectors")
            shutil.copytree(VECTORS, folder)
            make_vectors.make_made(VECTORS, folder)
            for row in manifest():
                with self.subTest(row["path"]):
                    found = make_vectors.outcome(folder, row)
                    self.assertTrue(make_vectors.is_expected(row, found), (row, found))

    def test_they_are_made_again_byte_for_byte(self):
        wanted, found = make_vectors.all_files(), {}
        for folder, _, names in os.walk(VECTORS):
            for name in names:
                path = os.path.relpath(os.path.join(folder, name), VECTORS)
                found[path.replace(os.sep, "/")] = vector(path)
        del found["README.md"]
        self.assertEqual(sorted(found), sorted(wanted))
        for path, raw in wanted.items():
            self.assertEqual(found[path] == raw, True, path)

    def test_each_twin_is_valid(self):
        rows = {row["path"]: row for row in manifest()}
        for row in rows.values():
            if row["twin"] != "-":
                twin = rows[row["twin"]]
                self.assertIn(twin["expect"], ("ok", "sealed"), row["path"])
                self.assertEqual(twin["cause"], "-", row["path"])

    def test_each_rule_and_each_code_has_one(self):
        rows = manifest()
        print("\n".join(make_vectors.coverage_lines(rows)))
        counts = make_vectors.coverage(rows)
        self.assertEqual([rule for rule, (good, bad) in counts.items() if good + bad == 0], [])
        rules = {row["rule"] for row in rows if row["expect"] not in ("ok", "sealed")}
        self.assertLessEqual({f"R{n}" for n in range(1, 23)} | {f"S6.{n}" for n in range(1, 9)} - {"S6.8"}, rules)
        codes = {row["expect"] for row in rows} | {row["cause"] for row in rows}
        self.assertLessEqual(set(vector_containers.CODES) | set(vector_trees.RULES), codes)
        seal = {"malformed", "header_mismatch", "content_mismatch", "digests_malformed"}
        self.assertLessEqual({"seal_" + name for name in seal}, codes)
        self.assertLessEqual({"chunk_corrupt", "chunk_rewritten", "sidecar_malformed", "aliases_malformed"}, codes)

    def test_valid_files_hold_what_is_written_beside_them(self):
        for row in manifest():
            if row["path"].startswith("valid/"):
                wanted = json.loads(vector(row["path"].replace(".safetensors", ".json")))
                found = json.loads(json.dumps(make_vectors.describe(vector(row["path"]))))
                self.assertEqual(found, wanted, row["path"])

    def test_tensors_stay_readable_beside_a_malformed_tree(self):
        for row in manifest():
            if row["kind"] in ("tree", "aliases"):
                with opened(vector(row["path"])) as file:
                    self.assertEqual(file.state, "newer" if row["expect"] == "absent" else "sealed", row["path"])
                    for name in file.tensors:
                        self.assertEqual(len(file.read(name)), file.tensors[name].nbytes)

    def test_every_prefix_of_a_valid_file_is_refused_for_its_length(self):
        for row in manifest():
            raw = vector(row["path"]) if row["path"].startswith("valid/") else b""
            if not raw or len(raw) > 16_384:
                continue
            header_end = 8 + struct.unpack_from("<Q", raw)[0]
            for size in range(len(raw)):
                wanted = (
                    "file_too_short" if size < 8 else "header_truncated" if size < header_end else "data_truncated"
                )
                self.assertEqual(code_of(lambda: opened(raw[:size])), wanted, (row["path"], size))

    @unittest.skipUnless(importable("safetensors"), "needs the reference reader")
    def test_the_reference_differs_in_the_closed_list_alone(self):
        import safetensors

        stricter = set()
        for row in manifest():
            if row["kind"] == "shards" or row["path"].startswith("made/"):
                continue
            refused = row["expect"] == "invalid" or row["kind"] == "container" and row["expect"] != "ok"
            try:
                safetensors.deserialize(vector(row["path"]))
                reference_refuses = False
            except safetensors.SafetensorError:
                reference_refuses = True
            if refused != reference_refuses:
                self.assertTrue(refused, row["path"])
                stricter.add(row["path"].split("/")[1].rsplit(".", 1)[0])
        self.assertEqual(stricter, {
            "R05-field-above-64-bits", "R05-field-below-64-bits", "R09-key-twice", "R09-key-twice-escaped", "R10-same",
            "R10-first-unusable", "R11-array", "R14-two-to-63", "R14-all-ones",
        })  # fmt: skip


class Xxh3(unittest.TestCase):
    # Length -> XXH3-64 of the bytes 0, 7, 14, ... modulo 256, from xxHash 0.8.1.
    KNOWN = {
        1: 0xC44BDFF4074EECDB, 2: 0x9093381C8763D62E, 3: 0xC3489259E968AD9E, 4: 0xD3D60C1519014E89,
        7: 0x0FFC4827844C63A6, 8: 0xB88DEE77F6BF6980, 9: 0x03688DCAD730D826, 12: 0x305C5BAE3681D0E0,
        16: 0x9DA23836ADF2BE1E, 17: 0xF34C3C9CF5A112D1, 32: 0x99CB9AD0F1A11FBE, 33: 0xC077B45492D29CDE,
        64: 0x6EFB76FF16F37561, 65: 0x2640848E9137156B, 96: 0x764D2D5DB92942DF, 97: 0x077ACB7E5F4FD940,
        127: 0x92113FC28F4B970C, 128: 0x65F3C2C00FA93185, 129: 0x28065C6EC25F5B25, 144: 0x600E8D345FF9620D,
        192: 0x8CA5D09520A0AAB0, 239: 0x6CE0B13191E635EA, 240: 0x4917A75C0EF8EED7, 241: 0x541B19226F0052E8,
        255: 0x99B37C2C806E33D3, 256: 0xFF5A1CEFADE75BB9, 257: 0x5C4BED20B0D2243A, 319: 0x173F6F447680D640,
        320: 0x35E81FC050847C13, 511: 0xC47866E1499504B9, 512: 0xF6FE51471F2FA1EC, 513: 0x419CE41FF1A9FF32,
        1023: 0x2CC3EB48D98F537F, 1024: 0xDC5ACF0B043C445B, 1025: 0xE1D9CD946277AE26,
    }  # fmt: skip

    @staticmethod
    def sample(length):
        return bytes(7 * i & 0xFF for i in range(length))

    def test_known_values(self):
        self.assertEqual(reader.xxh3_pure(b""), 0x2D06800538D394C2)
        self.assertEqual(reader.xxh3_pure(b"abc"), 0x78AF5F94892F3950)
        self.assertEqual(reader.xxh3_pure(bytes(4096)), 0x93D76FE148C689BA)
        for length, wanted in self.KNOWN.items():
            self.assertEqual(reader.xxh3_pure(self.sample(length)), wanted, length)

    def test_the_fast_implementation_agrees(self):
        for length in (0, 1, 3, 4, 8, 9, 16, 17, 128, 129, 240, 241, 1024, 1025, 5000):
            data = bytearray(self.sample(length))
            self.assertEqual(reader.xxh3(memoryview(data)), reader.xxh3_pure(data), length)

    @unittest.skipUnless(libxxhash(), "needs libxxhash")
    def test_all_lengths_to_1025_against_libxxhash(self):
        function = libxxhash()
        for length in [*range(1026), 2047, 2048, 2049, 262_144, 300_001]:
            data = self.sample(length)
            self.assertEqual(reader.xxh3_pure(data), function(data, length), length)


class Seal(unittest.TestCase):
    def test_the_worked_example(self):
        raw = vector("valid/worked-example.safetensors")
        self.assertEqual(len(raw), 8195)
        self.assertEqual(raw[36:71], b"feecf195512f7515/1/a51077c2dc79f33f")
        with opened(raw) as file:
            pairs = {key: text for key, text in file.metadata.items() if key != "flatbed"}
            shapes = {name: (info.dtype, info.shape) for name, info in file.tensors.items()}
            self.assertEqual(len(reader.content_input(shapes, pairs)), 267)

    def test_no_flipped_bit_stays_unreported(self):
        raw = vector("valid/small.safetensors")
        states = collections.Counter()
        for bit in range(8 * len(raw)):
            changed = bytearray(raw)
            changed[bit // 8] ^= 1 << bit % 8
            states[self.report(bytes(changed))] += 1
        self.assertEqual(sum(states.values()), 8 * len(raw))
        self.assertLessEqual(set(states), {"invalid", "broken", "annotated", "chunk"})
        self.assertEqual(states["chunk"], 8 * 19)

    def report(self, raw):
        try:
            file = opened(raw, "off")
        except reader.FormatError:
            return "invalid"
        cause, _ = make_vectors.first_bad_chunk(file)
        return file.state if cause == "-" else "chunk"

    def test_what_a_demanded_seal_adds(self):
        added = {"unsealed": "not_sealed", "newer": "seal_newer"}
        for row in manifest():
            if row["kind"] in ("seal", "sidecar") and not row["path"].startswith("made/"):
                found = code_of(lambda: reader.File(os.path.join(VECTORS, row["path"]), "required").close())
                refused = row["cause"] if row["expect"] in ("broken", "invalid") else "ok"
                self.assertEqual(found, added.get(row["expect"], refused), row["path"])

    def test_modes(self):
        cases = (
            # vector, if_sealed, required, off
            ("seal/row2-layout-without-seal", "ok", "not_sealed", "ok"),
            ("seal/row3-no-seal-tree", "seal_malformed", "seal_malformed", "ok"),
            ("seal/row4-version-2", "ok", "seal_newer", "ok"),
            ("seal/row5-rewritten", "seal_header_mismatch", "seal_header_mismatch", "ok"),
            ("seal/row6-tensor-renamed", "seal_content_mismatch", "seal_content_mismatch", "ok"),
            ("seal/row7-rewritten", "ok", "ok", "ok"),
            ("valid/small", "ok", "ok", "ok"),
            ("seal/row1-data-cut", "data_truncated", "data_truncated", "data_truncated"),
        )
        for name, *wanted in cases:
            raw = vector(name + ".safetensors")
            found = [code_of(lambda: opened(raw, mode)) for mode in ("if_sealed", "required", "off")]
            self.assertEqual(found, wanted, name)

    def test_off_reads_damaged_data(self):
        with opened(vector("seal/row8-chunk-changed.safetensors"), "off") as file:
            self.assertEqual(file.read("w"), b"abb")

    def test_a_newer_version_gives_tensors_only(self):
        with opened(vector("seal/row4-other-strings.safetensors")) as file:
            self.assertIsNone(file.tree())
            self.assertEqual(file.aliases(), {})
            self.assertEqual(file.read("w"), b"abc")


class LoadCase(unittest.TestCase):
    def load(self, raw, **options):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "x.safetensors")
            with open(path, "wb") as stream:
                stream.write(raw)
            return reader.load(path, **options)

    def load_tree(self, text, **options):
        return self.load(vector_trees.tree_file(text), **options)


class Tree(LoadCase):
    def test_the_examples_of_the_specification_are_what_is_written(self):
        documented, found = examples_of(specification()), list(vector_trees.examples())
        self.assertEqual(len(documented), len(found))
        for text, (name, value) in zip(documented, found):
            self.assertEqual(writer.encode(value)[0], text, name)
            self.assertEqual(writer.encode(value)[2], {"head": "embed"} if "example-07" in name else {}, name)

    def test_what_is_loaded_is_written_again_the_same(self):
        for name, value in (*vector_trees.examples(), *vector_trees.more_values()):
            written = writer.encode(value)
            tree, tensors, aliases = written
            again = writer.encode(self.load(writer.build(tensors, tree=tree, aliases=aliases), backend="plain"))
            self.assertEqual(again, written, name)

    def test_a_root_of_any_kind(self):
        for text, value in (
            ("null", None),
            ("false", False),
            ("7", 7),
            ("-0.0", 0.0),
            ('"text"', "text"),
            ('["bytes","00ff"]', b"\0\xff"),
            ('["int","20000000000000"]', 2**53),
            ('["list"]', []),
            ('["tuple",null]', (None,)),
            ('["dict"]', {}),
            ('["object",["global","builtins","set"],["tuple",["list",1]]]', {1}),
        ):
            self.assertEqual(self.load_tree(text, backend="plain"), value, text)

    def test_values(self):
        found = self.load_tree(vector_trees.VALID_TEXTS["float"])
        self.assertEqual(found[:2] + found[3:], [1.0, 1000.0, 5e-324, -math.inf, 1.0])
        self.assertEqual(math.copysign(1, found[2]), -1)
        self.assertTrue(math.isnan(self.load(vector("valid/tree-example-02-other-values.safetensors"))[2]))
        self.assertEqual(
            self.load_tree(vector_trees.VALID_TEXTS["str"]), ["\0\U0001f600", "a\ud800", "\ud83d\ude00", "a"]
        )
        self.assertEqual(self.load_tree(vector_trees.VALID_TEXTS["bytes"]), [b"", b"\0\xff", b"abcd"])
        self.assertEqual(self.load_tree(vector_trees.VALID_TEXTS["int"])[2:], [2**53, -(2**53)])

    def test_sharing_and_cycles(self):
        outer = self.load_tree(vector_trees.VALID_TEXTS["cycle"], backend="plain")
        self.assertIs(outer[0][0], outer)
        self.assertIs(outer[1]["up"], outer)
        self.assertIs(outer[1]["me"], outer[1])
        one, same, tensor, same_tensor = self.load_tree(vector_trees.VALID_TEXTS["shared"], backend="plain")
        self.assertIs(one, same)
        self.assertIs(tensor, same_tensor)

    def test_the_deepest_tree(self):
        value = self.load_tree(vector_trees.VALID_TEXTS["depth-512"])
        for _ in range(511):
            (value,) = value
        self.assertEqual(value, [])

    def test_known_objects(self):
        text = (
            '["list",["object",["global","collections","OrderedDict"],["tuple"],[],["b",1,"a",2],["dict","note","x"]],'
            '["object",["global","builtins","frozenset"],["tuple",["list",1,2]]],'
            '["object",["global","builtins","bytearray"],["tuple","\u00ff","latin-1"]],'
            '["object",["global","builtins","complex"],["tuple",1.0,-2.0]],["global","builtins","set"]]'
        )
        ordered, *others = self.load_tree(text, backend="plain")
        self.assertEqual(ordered, collections.OrderedDict(b=1, a=2))
        self.assertEqual(ordered.note, "x")
        self.assertEqual(others, [frozenset((1, 2)), bytearray(b"\xff"), 1 - 2j, set])

    def test_unknown_objects_stay_inert(self):
        found = self.load_tree(
            '["object",["global","os","system"],["tuple","true"],[1],["k",2],null]', backend="plain"
        )
        self.assertIsInstance(found, Object)
        self.assertEqual((found.function, found.args), (Global("os", "system"), ("true",)))
        self.assertEqual((found.items, found.pairs, found.state), ([1], [("k", 2)], None))

    def test_known_objects_with_hostile_arguments_are_refused(self):
        for call in (
            '["global","builtins","bytearray"],["tuple",1000000000000]',
            '["global","builtins","bytearray"],["tuple","x","rot13"]',
            '["global","builtins","set"],["tuple",["list",["list"]]]',
            '["global","builtins","complex"],["tuple","1"]',
            '["global","collections","OrderedDict"],["tuple",7]',
            '["global","collections","OrderedDict"],["tuple"],[1],[]',
            '["global","collections","OrderedDict"],["tuple"],[],[],["dict",1,2]',
        ):
            self.assertEqual(
                code_of(lambda: self.load_tree(f'["object",{call}]', backend="plain")), "tree_malformed_node", call
            )
        text = '["dict",["tuple",["list"]],1]'
        self.assertEqual(code_of(lambda: self.load_tree(text, backend="plain")), "tree_malformed_key")

    def test_classes_that_the_caller_names(self):
        class Namespace:
            pass

        raw = vector("valid/tree-example-13-inert.safetensors")
        found = self.load(raw, classes={("argparse", "Namespace"): Namespace}, backend="plain")
        self.assertIsInstance(found["args"], Namespace)
        self.assertEqual(found["args"].lr, 1e-3)

    def test_a_tuple_that_contains_itself_cannot_be_written(self):
        inner = []
        inner.append((inner, 1))
        self.assertEqual(writer.encode(inner)[0], '["id",0,["list",["tuple",["ref",0],1]]]')
        cycle = ([],)
        cycle[0].append(cycle)
        self.assertEqual(code_of(lambda: writer.encode(cycle)), "tree_malformed_ref")

    def test_files_without_a_tree_give_a_dict_of_names(self):
        found = self.load(vector("valid/aliases-two.safetensors"), backend="plain")
        self.assertEqual(sorted(found), ["h", "w", "x", "y"])
        self.assertIs(found["x"], found["h"])
        self.assertEqual(bytes(found["w"].data), b"abc")

    def test_a_set_loads_across_its_shards(self):
        found = reader.load(os.path.join(VECTORS, "shards", "directory"), backend="plain")
        self.assertEqual(bytes(found["w"].data), b"abc")
        self.assertEqual(found["h"].shape, (4,))


class Backends(LoadCase):
    """What load() gives with numpy and torch."""

    @unittest.skipUnless(importable("numpy"), "needs numpy")
    def test_numpy(self):
        numpy = importable("numpy")
        found = self.load(vector("valid/tree-example-12-numpy.safetensors"), backend="numpy")
        self.assertEqual(found["m"], numpy.float64(0.5))
        self.assertIs(type(found["m"]), numpy.float64)
        self.assertEqual(found["r"].dtype.str, ">i4")
        self.assertEqual(found["r"].tolist(), [0, 1, 2])
        arrays = self.load(vector("valid/tree-arrays.safetensors"), backend="numpy")
        self.assertEqual(
            [x.dtype.str for x in arrays], ["|b1", "<f8", "<c16", "|S2", "<U1", "<M8[ns]", "|b1", "<M8[D]"]
        )
        self.assertEqual([arrays[1].item(), arrays[2].tolist(), arrays[3].tolist()], [2.5, [1 - 1j], [b"ab", b"c"]])
        self.assertEqual(writer.encode(arrays)[0], writer.encode(dict(vector_trees.more_values())["arrays"])[0])

    @unittest.skipUnless(importable("torch"), "needs torch")
    def test_torch_tensors_come_back_as_they_were(self):
        torch = importable("torch")
        weight = torch.arange(6.0).reshape(2, 3)
        value = {
            "parameter": torch.nn.Parameter(torch.ones(2, 2)),
            "frozen": torch.nn.Parameter(torch.ones(2), requires_grad=False),
            "transposed": weight.t(),
            "complex": torch.full((2,), 1 - 2j, dtype=torch.complex128),
            "half": torch.tensor([1.5], dtype=torch.bfloat16),
            "empty": torch.empty(0, 3),
            "scalar": torch.tensor(True),
            "tied": [weight, weight],
            "views": [weight[0], weight[0]],
            "size": torch.Size([2, 3]),
            "dtype": torch.float16,
            "device": torch.device("cuda", 1),
        }
        tree, tensors, aliases = writer.encode(value)
        found = self.load(writer.build(tensors, tree=tree, aliases=aliases), backend="torch")
        self.assertEqual(writer.encode(found), (tree, tensors, aliases))
        self.assertIsInstance(found["parameter"], torch.nn.Parameter)
        self.assertEqual((found["parameter"].requires_grad, found["frozen"].requires_grad), (True, False))
        self.assertEqual(found["transposed"].stride(), (1, 3))
        self.assertTrue(torch.equal(found["transposed"], weight.t()))
        self.assertTrue(torch.equal(found["complex"], value["complex"]))
        self.assertIs(found["tied"][0], found["tied"][1])
        first, second = found["views"]
        self.assertIsNot(first, second)
        self.assertEqual(first.data_ptr(), second.data_ptr())
        self.assertEqual(
            (found["size"], found["dtype"], found["device"]), (value["size"], value["dtype"], value["device"])
        )

    @unittest.skipUnless(importable("torch"), "needs torch")
    def test_torch_attributes(self):
        torch = importable("torch")
        found = self.load(vector("valid/tree-attributes.safetensors"), backend="torch")
        self.assertEqual(found["device"].device.type, "cpu")
        self.assertEqual(found["quantized"].dtype, torch.qint8)
        self.assertEqual(found["quantized"].dequantize().tolist(), [0.5, 1.0])
        self.assertIsInstance(found["packed"], Tensor)
        self.assertEqual(found["state"].note, "kept")
        self.assertEqual(found["half"].dtype, torch.complex32)

    @unittest.skipUnless(importable("torch"), "needs torch")
    def test_training_resumes(self):
        torch = importable("torch")

        def training():
            torch.manual_seed(1)
            model = torch.nn.Linear(3, 2)
            return model, torch.optim.Adam(model.parameters(), lr=0.1)

        def step(model, optimizer):
            optimizer.zero_grad()
            model(torch.ones(1, 3)).sum().backward()
            optimizer.step()

        model, optimizer = training()
        step(model, optimizer)
        tree, tensors, aliases = writer.encode(
            {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}
        )
        step(model, optimizer)
        saved = self.load(writer.build(tensors, tree=tree, aliases=aliases), backend="torch")
        resumed, resumed_optimizer = training()
        resumed.load_state_dict(saved["model"])
        resumed_optimizer.load_state_dict(saved["optimizer"])
        step(resumed, resumed_optimizer)
        self.assertEqual(saved["epoch"], 1)
        self.assertEqual(saved["model"]._metadata, model.state_dict()._metadata)
        self.assertTrue(torch.equal(resumed.weight, model.weight))


class Sets(unittest.TestCase):
    def test_links_are_followed_unless_forbidden(self):
        with tempfile.TemporaryDirectory() as folder:
            names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
            for i, name in enumerate(names):
                with open(os.path.join(folder, f"blob{i}"), "wb") as stream:
                    stream.write(vector("shards/sealed/" + name))
                os.symlink(f"blob{i}", os.path.join(folder, name))
            index = os.path.join(folder, "model.safetensors.index.json")
            with open(index, "wb") as stream:
                stream.write(vector("shards/sealed/model.safetensors.index.json"))
            self.assertEqual(code_of(lambda: reader.ShardedSet(index).__exit__()), "ok")
            self.assertEqual(code_of(lambda: reader.ShardedSet(index, follow_links=False)), "shard_link_refused")
            os.remove(os.path.join(folder, "blob1"))
            self.assertEqual(code_of(lambda: reader.ShardedSet(index)), "shard_missing")
            os.mkdir(os.path.join(folder, "blob1"))
            self.assertEqual(code_of(lambda: reader.ShardedSet(index)), "not_a_regular_file")

    def test_unlisted_tensors_are_not_taken(self):
        with reader.open_path(os.path.join(VECTORS, "shards", "plain", "model.safetensors.index.json")) as source:
            self.assertEqual(sorted(source.tensors), ["h", "w"])
            self.assertEqual(code_of(lambda: source.read("stale")), "tensor_not_found")
            self.assertEqual(source.read("tied"), b"abc")

    def test_off_reads_a_mixed_set(self):
        index = os.path.join(VECTORS, "shards", "mixed-content", "model.safetensors.index.json")
        with reader.open_path(index, "off") as source:
            self.assertEqual(source.read("w"), b"xyz")


    def test_only_letters_and_digits_of_ascii_count_in_names(self):
        for names, expected in (
            (("\u212a-1-of-2.safetensors", "k-2-of-2.safetensors"), "index_ambiguous"),
            (("K-1-of-2.safetensors", "k-2-of-2.safetensors"), ["K-1-of-2.safetensors", "k-2-of-2.safetensors"]),
            (("m-\uff11-of-1.safetensors",), "m-\uff11-of-1.safetensors"),
            (("m.\u017fafetensors",), "index_ambiguous"),
            (("m.safetensors\n",), "index_ambiguous"),
            (("m.safetensors", "m.\n.safetensors"), "m.safetensors"),
            (("a\nb-1-of-1.safetensors",), ["a\nb-1-of-1.safetensors"]),
            (("m-1-of-2.x-of-3.safetensors",), "shard_missing"),
            (("m.safetensors.index.a.b.json", "m-1-of-2.safetensors"), "m.safetensors.index.a.b.json"),
            (("m.safetensors.index.ajson",), "index_ambiguous"),
        ):
            with tempfile.TemporaryDirectory() as folder:
                for name in names:
                    with open(os.path.join(folder, name), "wb"):
                        pass
                try:
                    found = reader.find_in_directory(folder)
                except reader.FormatError as error:
                    found = error.code
            self.assertEqual(sorted(found) if isinstance(found, list) else found, expected, names)

    def test_shards_may_have_names_that_are_not_utf8(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in (b"\xff-1-of-2.safetensors", b"\xff-2-of-2.safetensors"):
                with open(os.path.join(os.fsencode(folder), name), "wb") as stream:
                    stream.write(writer.build([(name[2:3].decode(), "U8", [1], b"x")], seal=False))
            with reader.open_path(folder) as source:
                self.assertEqual(list(source.tensors), ["1", "2"])

    def test_a_name_to_which_nothing_can_be_added_has_no_sidecar(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "n" * 243 + ".safetensors")
            with open(path, "wb") as stream:
                stream.write(vector("valid/plain.safetensors"))
            self.assertEqual(code_of(lambda: reader.File(path).close()), "ok")


class Series(unittest.TestCase):
    def folder_of(self, *names):
        """A folder with copies of files of the series `three`."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        for name in names:
            shutil.copy(os.path.join(VECTORS, "series", "three", name), folder)
        return folder

    def test_no_damaged_bit_of_a_header_loses_a_checkpoint_unnoticed(self):
        name = "step-000000002000.safetensors"
        raw, folder = vector("series/three/" + name), self.folder_of()
        path, known = os.path.join(folder, name), reader.parse_statement(reader.read_statement(
            os.path.join(VECTORS, "series", "three", name))[1])
        for bit in range(8 * (8 + struct.unpack_from("<Q", raw)[0])):
            changed = bytearray(raw)
            changed[bit // 8] ^= 1 << bit % 8
            with open(path, "wb") as stream:
                stream.write(changed)
            series = reader.Series(folder)
            self.assertEqual(len(series.entries) + len(series.skipped), 1, bit)
            for entry in series.entries:
                self.assertEqual(entry.statement, known, bit)
                self.assertIsNotNone(series.error_of(entry), bit)

    def test_at_is_the_last_of_a_step(self):
        first, *_, last = (f"step-00000000{step}000.safetensors" for step in (1, 2, 3))
        series = reader.Series(self.folder_of(first, last))
        self.assertEqual([series.at(step).name for step in (1000, 3000)], [first, last])
        self.assertEqual(code_of(lambda: series.at(2000)), "step_not_found")

    def test_a_list_reads_only_the_first_bytes_of_files(self):
        folder = self.folder_of("step-000000001000.safetensors")
        with mock.patch.object(reader, "read_container", side_effect=AssertionError):
            self.assertEqual(len(reader.Series(folder).entries), 1)

    def test_a_metric_of_bytes_that_are_no_text_is_escaped_in_notes(self):
        folder = self.folder_of("step-000000001000.safetensors")
        value = writer.statement(sequence=2, step=2000, metric="a\0\n", mode="min")
        with open(os.path.join(folder, "b.safetensors"), "wb") as stream:
            stream.write(writer.build([], metadata={"flatbed.series": value}))
        self.assertIn(r"'a\x00\n'", reader.Series(folder).notes[0])


class Writer(unittest.TestCase):
    def test_tensors_are_aligned_without_holes(self):
        sizes = [3, 4096, 0, 8192, 24, 1, 4100, 64]
        tensors = [(f"t{i}", "U8", [size], bytes(size)) for i, size in enumerate(sizes)]
        with opened(writer.build(tensors)) as file:
            self.assertEqual(file.header.data_start % 4096, 0)
            for info in file.tensors.values():
                self.assertEqual(info.begin % writer.alignment(info.nbytes), 0, info)

    def test_a_tree_is_only_kept_in_a_sealed_file(self):
        with self.assertRaises(ValueError):
            writer.build([], tree='["dict"]', seal=False)

    def test_an_index_has_the_digests_of_at_most_6000_shards(self):
        for count, expected in ((6000, 2 + 6000 * 16), (6001, None)):
            shards = {f"{i:05}": [] for i in range(count)}
            index = json.loads(writer.index_of(shards, {name: b"0" * 71 for name in shards}))
            digests = index["metadata"].get("flatbed.shards")
            self.assertEqual(digests and len(digests), expected)

    def test_digests_of_more_than_6000_shards_are_refused(self):
        with opened(writer.build([])) as file:
            for count, expected in ((6000, "ok"), (6001, "shard_mixed_set")):
                files = dict.fromkeys(range(count), file)
                stated = "1/" + file.seal.content * count
                self.assertEqual(code_of(lambda: reader.check_same_set(stated, files)), expected)  # noqa: B023


class Command(unittest.TestCase):
    def run_command(self, *arguments):
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = reader.main(list(arguments))
        return status, out.getvalue()

    def test_check(self):
        good = os.path.join(VECTORS, "valid", "small.safetensors")
        bad = os.path.join(VECTORS, "seal", "row8-chunk-changed.safetensors")
        self.assertEqual(self.run_command("check", good), (0, f"{good}: sealed\n"))
        status, text = self.run_command("check", good, bad)
        self.assertEqual((status, text.splitlines()[1]), (1, f"{bad}: chunk_corrupt: 'w': bytes [0,3)"))

    def test_check_says_what_was_ignored(self):
        index = os.path.join(VECTORS, "shards", "sealed", "model.safetensors.index.json")
        wanted = f"{index}: sealed; tensors that the index does not list are ignored: 1\n"
        self.assertEqual(self.run_command("check", index), (0, wanted))
        beside = os.path.join(VECTORS, "sidecar", "row8-ignored-beside-a-seal.safetensors")
        wanted = f"{beside}: sealed; the sidecar is ignored: the file has a seal of its own\n"
        self.assertEqual(self.run_command("check", beside), (0, wanted))

    def test_series(self):
        folder = os.path.join(VECTORS, "series", "copies-first-cut")
        status, text = self.run_command("series", folder)
        wanted = [
            f"{folder}/step-000000001000.safetensors: step 1000, score 0.5, sealed",
            f"{folder}/b.safetensors: step 2000, score 0.25, sealed",
            f"{folder}: latest: b.safetensors",
            f"{folder}: best: b.safetensors",
        ]
        self.assertEqual((status, text.splitlines()), (0, wanted))

    def test_check_names_a_file_that_is_not_there(self):
        self.assertEqual(self.run_command("check", "/nowhere/x")[0], 1)

    def test_usage(self):
        self.assertEqual(self.run_command()[0], 2)


if __name__ == "__main__":
    unittest.main()
