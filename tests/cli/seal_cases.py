"""Stale seals: another program changed the file after it was sealed and kept the metadata. One way out in every
command, and every message names it."""

import json
import struct

import inputs
import writer
from tool import FAILURE, OK, ToolTest

WIDE = struct.pack("<2f", 1, 2)
TENSORS = [("a", "F32", [2], WIDE), ("b", "U8", [3], b"abc")]


def metadata_of(path):
    raw = path.read_bytes()
    return json.loads(raw[8:8 + struct.unpack_from("<Q", raw)[0]])["__metadata__"]


class StaleSealTest(ToolTest):
    def stale(self, name="stale.safetensors", drop=(), **tensors):
        """What save_file() writes from changed tensors and the metadata of a sealed file."""
        writer.write(self.path("sealed.safetensors"), TENSORS)
        metadata = metadata_of(self.path("sealed.safetensors"))
        self.path("sealed.safetensors").unlink()
        kept = {key: value for key, value in metadata.items() if key not in drop}
        inputs.write_safetensors(self.path(name), tensors, kept)
        return name

    def kinds(self):
        a, b = ("F32", [2], WIDE), ("U8", [3], b"abc")
        yield "added", self.stale(a=a, b=b, c=b), ["a", "b", "c"]
        yield "dropped", self.stale(a=a), ["a"]
        yield "cast", self.stale(a=("F16", [2], bytes(4)), b=b), ["a", "b"]
        yield "renamed", self.stale(a=a, c=b), ["a", "c"]
        yield "reshaped", self.stale(a=("F32", [2, 1], WIDE), b=b), ["a", "b"]
        yield "trained", self.stale(a=("F32", [2], bytes(8)), b=("U8", [3], b"xyz")), ["a", "b"]
        yield "digests dropped", self.stale(a=a, b=b, drop=["flatbed.digests"]), ["a", "b"]
        yield "seal dropped", self.stale(a=a, b=b, drop=["flatbed"]), ["a", "b"]

    def test_convert_names_the_way_out_and_seals_anew(self):
        for kind, path, names in self.kinds():
            with self.subTest(kind):
                result = self.run_tool("convert", path, "-o", "new.safetensors", expect=FAILURE)
                self.assertIn("; use --ignore-seal to read it as if it were not sealed [", result.stderr)
                self.assertEqual(self.names(), [path])
                for out in ("new.safetensors", "new.pth"):
                    text = self.run_tool("convert", "--ignore-seal", path, "-o", out).stdout
                    self.assertIn("note: --ignore-seal: no byte was compared with the seal of the input", text)
                self.assert_sealed("new.safetensors")
                self.assertEqual([t["name"] for t in self.run_json("ls", "new.safetensors")["tensors"]], names)
                for out in ("new.safetensors", "new.pth"):
                    self.path(out).unlink()

    def test_load_and_cat_name_it_and_take_it(self):
        for kind, path, _ in self.kinds():
            with self.subTest(kind):
                for command in (["load", path], ["cat", path, "a"]):
                    result = self.run_tool(*command, expect=FAILURE)
                    self.assertIn("; use --ignore-seal to read it as if it were not sealed [", result.stderr)
                    self.run_raw(*command, "--ignore-seal", expect=OK)
                    self.run_raw(*command, "--no-verify", expect=OK)
        text = self.run_tool("load", path, "--ignore-seal").stdout
        self.assertIn("\nnot verified: --ignore-seal\n", text)
        self.run_tool("bench", path, "--ignore-seal", "--runs", "1", "--threads", "1")

    def test_verify_names_the_likelier_cause(self):
        for kind, path, _ in self.kinds():
            with self.subTest(kind):
                result = self.run_tool("verify", path, expect=FAILURE)
                self.assertIn("another program", result.stdout + result.stderr)

    def test_verify_does_not_blame_a_program_for_a_flipped_bit(self):
        writer.write(self.path("s.safetensors"), TENSORS)
        raw = self.path("s.safetensors").read_bytes()
        self.path("s.safetensors").write_bytes(raw[:-1] + b"!")
        result = self.run_tool("verify", "s.safetensors", expect=FAILURE)
        self.assertNotIn("another program", result.stdout + result.stderr)

    def test_a_set_that_was_split_is_read_and_sealed_anew(self):
        shards = {"1.safetensors": {"a": ("F32", [2], WIDE)}, "2.safetensors": {"b": ("U8", [3], b"abc")}}
        for shard, tensors in shards.items():
            self.stale(shard, **tensors)
        index = {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
        self.path("model.safetensors.index.json").write_text(json.dumps(index))
        result = self.run_tool("convert", "model.safetensors.index.json", "-o", "new.safetensors", expect=FAILURE)
        self.assertIn("use --ignore-seal", result.stderr)
        text = self.run_tool("convert", "--ignore-seal", "model.safetensors.index.json", "-o", "new.safetensors").stdout
        self.assertIn("--ignore-seal: no byte was compared with the seal of 2 files", text)
        self.assert_sealed("new.safetensors")

    def test_a_sidecar_of_an_older_file_is_no_obstacle(self):
        inputs.write_safetensors(self.path("a.safetensors"), {"w": ("U8", [3], b"abc")})
        self.run_tool("convert", "--sidecar", "a.safetensors")
        inputs.write_safetensors(self.path("a.safetensors"), {"w": ("U8", [4], b"abcd")})
        result = self.run_tool("convert", "a.safetensors", "-o", "new.safetensors", expect=FAILURE)
        self.assertIn("use --ignore-seal", result.stderr)
        self.run_tool("convert", "--ignore-seal", "a.safetensors", "-o", "new.safetensors")
        self.assert_sealed("new.safetensors")

    def test_the_structure_that_only_the_seal_vouches_for_is_left_out(self):
        inputs.write_torch(self.path("t.pth"), {"model": {"w": inputs.Tensor([2], [1, 2])}, "epoch": 3})
        self.run_tool("convert", "t.pth", "s.safetensors")
        inputs.write_safetensors(self.path("stale.safetensors"), {"w": ("F32", [2], WIDE)},
                                 metadata_of(self.path("s.safetensors")))
        text = self.run_tool("convert", "--ignore-seal", "stale.safetensors", "-o", "new.safetensors").stdout
        self.assertIn("the nested structure is left out, because only an intact seal vouches for it", text)
        self.assert_sealed("new.safetensors")
