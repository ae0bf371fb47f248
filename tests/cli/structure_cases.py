"""Structures around tensors, through the tool: roots of any kind, keys, folders, and what large ones take of memory."""

import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

import inputs
from fault_cases import is_instrumented
from tool import FAILURE, OK, ToolTest, binary

ROOTS = {
    "none": None,
    "true": True,
    "int": 7,
    "large": 2**70,
    "float": 0.5,
    "text": "text",
    "bytes": b"\0\xff",
    "list": [],
    "tuple": (None, (1,)),
    "dict": {},
    "set": {1, 2},
    "ordered": collections.OrderedDict(a=1),
}


class StructureTest(ToolTest):
    def test_a_root_of_any_kind_arrives(self):
        for name, root in ROOTS.items():
            inputs.write_torch(self.path(f"{name}.pth"), root)
            self.run_tool("convert", f"{name}.pth", f"{name}.safetensors")
            loaded = self.load(f"{name}.safetensors")
            self.assertEqual((type(loaded), loaded), (type(root), root), name)
            for command in (("ls",), ("ls", "--tree"), ("verify",)):
                self.run_tool(*command, f"{name}.safetensors")

    def test_a_converted_file_converts_to_the_same_bytes(self):
        for name, root in {**ROOTS, "checkpoint": inputs.lightning()}.items():
            inputs.write_torch(self.path("a.pth"), root)
            self.run_tool("convert", "a.pth", f"{name}.safetensors")
            self.run_tool("convert", f"{name}.safetensors", "-o", f"{name}2.safetensors")
            first, second = (self.path(f"{name}{x}.safetensors").read_bytes() for x in ("", "2"))
            self.assertEqual(first, second, name)

    def test_an_entry_that_is_both_item_and_attribute_is_offered_once(self):
        config = inputs.other("lightning_fabric.utilities.data", "AttributeDict")
        weights = {"fc.weight": inputs.Tensor([1], [1])}
        config["net"] = weights
        config.__dict__["net"] = weights
        inputs.write_torch(self.path("a.pth"), {"cfg": config})
        self.assertEqual(self.run_tool("ls", "--tree", "a.pth").stdout.count("cfg.net"), 1)

    def test_keys_that_would_become_equal_are_refused_before_anything_is_written(self):
        weights = {pathlib.PurePosixPath("a"): inputs.Tensor([1], [1]), "a": inputs.Tensor([1], [2])}
        inputs.write_torch(self.path("a.pth"), {"w": weights})
        result = self.run_tool("convert", "--allow-conversion", "a.pth", "-o", "b.pth", expect=FAILURE)
        self.assertIn("would become equal", result.stderr)
        inputs.write_torch(self.path("a.pth"), {frozenset([1]): inputs.Tensor([1], [1])})
        result = self.run_tool("convert", "--allow-conversion", "a.pth", "-o", "b.pth", expect=FAILURE)
        self.assertIn("builtins.frozenset as a key", result.stderr)
        self.assertEqual(self.names(), ["a.pth"])


class FolderTest(ToolTest):
    def shard(self, name, *tensors):
        self.path(name).parent.mkdir(exist_ok=True)
        inputs.write_safetensors(self.path(name), {tensor: ("U8", [1], b"x") for tensor in tensors})

    def index(self, name, **weight_map):
        self.path(name).write_text(json.dumps({"metadata": None, "weight_map": weight_map}))

    def test_a_variant_is_named_as_the_hubs_do(self):
        self.shard("model.fp16-00001-of-00001.safetensors", "w")
        self.index("model.safetensors.index.fp16.json", w="model.fp16-00001-of-00001.safetensors")
        self.run_tool("convert", "model.safetensors.index.fp16.json")
        self.assert_sealed("model.fp16.safetensors")

    def test_a_folder_becomes_a_folder_that_transformers_reads(self):
        cases = (
            (["pytorch_model.bin"], "model.safetensors"),
            (["diffusion_pytorch_model.bin"], "diffusion_pytorch_model.safetensors"),
            (["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"], "model.safetensors"),
            (["model.fp16-00001-of-00001.safetensors"], "model.fp16.safetensors"),
        )
        for files, expected in cases:
            with self.subTest(files):
                self.path("hf").mkdir()
                for i, name in enumerate(files):
                    if name.endswith(".bin"):
                        inputs.write_torch(self.path("hf") / name, {"w": inputs.Tensor([1], [1])})
                    else:
                        self.shard(f"hf/{name}", f"w{i}")
                dry = self.run_tool("convert", "hf", "-o", "new/hf", "--dry-run").stdout
                self.assertIn(f"new/hf/{expected}", dry)
                self.assertFalse(self.path("new").exists())
                self.run_tool("convert", "hf", "-o", "new/hf")
                self.assertEqual(os.listdir(self.path("new/hf")), [expected])
                self.assert_sealed(f"new/hf/{expected}")
                self.assertIn("up to date", self.run_tool("convert", "hf", "-o", "new/hf/").stdout)
                shutil.rmtree(self.path("hf"))
                shutil.rmtree(self.path("new"))

    def test_a_folder_of_two_models_does_not_become_a_folder(self):
        for name in ("a.safetensors", "b.safetensors"):
            self.shard(f"hf/{name}", "w")
        result = self.run_tool("convert", "hf", "-o", "new", expect=FAILURE)
        self.assert_error(result, "index_ambiguous", "a.safetensors", "b.safetensors")
        self.assertEqual(self.names(), ["hf"])

    def test_a_folder_with_only_a_bin_opens(self):
        inputs.write_torch(self.path("pytorch_model.bin"), {"w": inputs.Tensor([1], [1])})
        self.path("training_args.bin").write_bytes(b"\x80\x02N.")
        self.path("config.json").write_text("{}")
        self.assertIn("1 tensor", self.run_tool("ls", ".").stdout)

    def test_shards_without_an_index_are_a_set(self):
        self.shard("m-00001-of-00002.safetensors", "a")
        self.shard("m-00002-of-00002.safetensors", "b")
        self.assertIn("sharded set of 2 safetensors files", self.run_tool("ls", ".").stdout)
        self.path("m-00001-of-00002.safetensors").unlink()
        self.assert_error(self.run_tool("ls", ".", expect=FAILURE), "shard_missing", "number 1 of 2 is missing")

    def test_a_shard_that_is_none_of_the_set_is_named(self):
        self.shard("m-1-of-2.safetensors", "a")
        self.shard("m-2-of-2.safetensors", "b")
        self.assertIn("sharded set of 2 safetensors files", self.run_tool("ls", ".").stdout)
        for extra, says in (("m-01-of-2.safetensors", "'m-01-of-2.safetensors' and 'm-1-of-2.safetensors'"),
                            ("m-3-of-2.safetensors", "'m-3-of-2.safetensors' has a number outside 1 to 2"),
                            ("m-1-of-20000.safetensors", "'m-*-of-20000.safetensors'")):
            self.shard(extra, "lost")
            for command in (("ls", "."), ("verify", "."), ("convert", ".", "-o", "out.safetensors")):
                self.assert_error(self.run_tool(*command, expect=FAILURE), "index_ambiguous", says)
            self.path(extra).unlink()
        self.assertEqual(self.names(), ["m-1-of-2.safetensors", "m-2-of-2.safetensors"])

    def test_pickles_named_as_safetensors_are_no_shards(self):
        inputs.write_torch(self.path("m-1-of-2.safetensors"), {"w": inputs.Tensor([1], [1])})
        self.shard("m-2-of-2.safetensors", "b")
        self.assert_error(self.run_tool("ls", ".", expect=FAILURE), "unsupported_format", "m-1-of-2.safetensors")

    def test_candidates_are_named(self):
        for name in ("a.safetensors", "b.safetensors"):
            self.shard(name, "w")
        self.assert_error(self.run_tool("ls", ".", expect=FAILURE), "index_ambiguous", "a.safetensors", "b.safetensors")

    def test_a_missing_tensor_is_that_tensors_error(self):
        self.shard("part/a.safetensors", "w")
        self.index("model.safetensors.index.json", w="./part/a.safetensors", x="part/a.safetensors")
        self.assertIn("that the file does not have: 'x'", self.run_tool("ls", ".").stdout)
        self.assertEqual(self.run_raw("cat", ".", "w").stdout, b"x")
        self.assert_error(self.run_tool("verify", ".", expect=FAILURE), "shard_tensor_missing", "'x'")
        self.assert_error(self.run_tool("cat", ".", "x", expect=FAILURE), "shard_tensor_missing", "part/a.safetensors")

    def test_names_of_255_bytes(self):
        for name in ("n" * 243 + ".safetensors", "é" * 121 + "n.safetensors"):
            self.shard(name, "w")
            self.assertEqual(len(os.fsencode(name)), 255)
            for command in ("ls", "verify"):
                self.run_tool(command, name, expect=OK if command == "ls" else 4)
            self.run_tool("convert", name, "-o", "out.safetensors")
            self.path("out.safetensors").unlink()


@unittest.skipIf(is_instrumented(), "the sanitizer takes memory of its own")
class MemoryTest(ToolTest):
    """README.md states these bounds."""

    BASE = 24  # MiB, of the program and of a small file

    # A process that is started counts the memory of the one that starts it, so a small one does.
    MEASURE = """import os, sys
child = os.fork()
if child == 0:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    os.execv(sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(child, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)"""

    def peak(self, *arguments, expect=OK):
        """The most memory in MiB that the tool took."""
        command = [sys.executable, "-Sc", self.MEASURE, binary(), *arguments]
        measured = subprocess.run(command, cwd=self.folder, stdout=subprocess.PIPE, text=True, check=True).stdout
        code, peak = map(int, measured.split())
        self.assertEqual(code, expect, arguments)
        return peak / 1024

    def write(self, values):
        """a.pth of {"values": values}, a Python expression; its MiB."""
        code = f"import inputs, pathlib, random; inputs.write_torch(pathlib.Path('a.pth'), {{'values': {values}}})"
        environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(inputs.__file__).parent)}
        subprocess.run([sys.executable, "-Bc", code], cwd=self.folder, env=environment, check=True)
        return self.path("a.pth").stat().st_size / 2**20

    def test_a_list_of_many_floats(self):
        pickle = self.write("[round(random.random(), 4) for _ in range(1_500_000)]")
        nodes = 1_500_000 * 20 / 2**20
        self.assertLess(self.peak("ls", "a.pth"), self.BASE + pickle + nodes)
        self.assertLess(self.peak("convert", "a.pth", "a.safetensors"), self.BASE + pickle + nodes + 25)
        text = self.path("a.safetensors").stat().st_size / 2**20
        self.assertLess(self.peak("ls", "a.safetensors"), self.BASE + 14 * text)

    def test_a_structure_that_is_too_large_is_refused_without_its_text(self):
        self.write("list(range(4_000_000))")
        opened = self.peak("ls", "a.pth")
        self.assertLess(self.peak("convert", "a.pth", "a.safetensors", expect=FAILURE), opened + 16)
