"""--dtype and --keep: what convert and load cast, what they say of values that do not fit, and that a second run
finds the output up to date."""

import struct

import inputs
import writer
from tool import FAILURE, USAGE, ToolTest

VALUES = (1.0, -2.5, 0.1, 3.0e38)
BF16 = bytes.fromhex("803f20c0cd3d627f")  # 0.1 is 0x3dcccccd, 3e38 is 0x7f61b1e6
F16 = bytes.fromhex("003c00c1662e007c")   # 3e38 is infinite


class CastTest(ToolTest):
    def setUp(self):
        super().setUp()
        inputs.write_safetensors(self.path("a.safetensors"), {
            "w": ("F32", [4], struct.pack("<4f", *VALUES)),
            "head.w": ("F32", [1], struct.pack("<f", 0.5)),
            "n": ("I64", [1], bytes(8))})

    def dtypes(self, path):
        return {tensor["name"]: tensor["dtype"] for tensor in self.run_json("ls", path)["tensors"]}

    def bytes_of(self, path, name):
        return self.run_raw("cat", path, name).stdout

    def test_convert_casts_tensors_of_floats(self):
        text = self.run_tool("convert", "a.safetensors", "-o", "b.safetensors", "--dtype", "bf16").stdout
        self.assertIn("written: 3 tensors, 2 of them cast to BF16, ", text)
        self.assertEqual(self.dtypes("b.safetensors"), {"w": "BF16", "head.w": "BF16", "n": "I64"})
        self.assertEqual(self.bytes_of("b.safetensors", "w"), BF16)
        self.assert_sealed("b.safetensors")

    def test_convert_is_up_to_date_the_second_time(self):
        command = ["convert", "a.safetensors", "-o", "b.safetensors", "--dtype", "BF16"]
        self.run_tool(*command)
        for more in ([], ["--checksum"], ["--dry-run"]):
            self.assertIn("up to date", self.run_tool(*command, *more).stdout)
        result = self.run_tool("convert", "a.safetensors", "-o", "b.safetensors", "--dtype", "f16", expect=USAGE)
        self.assert_error(result, "file_exists")

    def test_convert_keeps_what_a_glob_matches(self):
        self.run_tool("convert", "a.safetensors", "-o", "b.safetensors", "--dtype", "bf16", "--keep", "head.*")
        self.assertEqual(self.dtypes("b.safetensors"), {"w": "BF16", "head.w": "F32", "n": "I64"})
        result = self.run_tool("convert", "a.safetensors", "-o", "c.safetensors", "--dtype", "bf16",
                               "--keep", "haed.*", expect=FAILURE)
        self.assert_error(result, "tensor_not_found", "no tensor matches keep 'haed.*'")
        self.assertFalse(self.path("c.safetensors").exists())

    def test_convert_warns_of_values_that_do_not_fit(self):
        result = self.run_tool("convert", "a.safetensors", "-o", "b.safetensors", "--dtype", "f16", "--quiet")
        self.assertIn("1 value of 1 tensor does not fit F16 (1 became infinite): 'w'", result.stderr)
        self.assertEqual(self.bytes_of("b.safetensors", "w"), F16)
        report = self.run_json("convert", "a.safetensors", "-o", "c.safetensors", "--dtype", "f16")["files"][0]
        self.assertEqual(report["casts"], {
            "dtype": "F16", "tensors": 2, "saturated": 0, "infinite": 1, "nan": 0, "overflowed": 1,
            "overflows": [{"name": "w", "saturated": 0, "infinite": 1, "nan": 0}]})
        self.assertEqual(len(report["warnings"]), 1)

    def test_convert_says_nothing_of_casts_without_dtype(self):
        report = self.run_json("convert", "a.safetensors", "-o", "b.safetensors")["files"][0]
        self.assertIsNone(report["casts"])

    def test_convert_casts_the_way_to_and_from_pytorch(self):
        inputs_text = self.run_tool("convert", "a.safetensors", "-o", "b.pth", "--dtype", "bf16").stdout
        self.assertIn("2 of them cast to BF16", inputs_text)
        self.assertEqual(self.bytes_of("b.pth", "w"), BF16)
        self.run_tool("convert", "b.pth", "-o", "c.safetensors", "--dtype", "f32")
        self.assertEqual(self.bytes_of("c.safetensors", "w")[:4], struct.pack("<f", 1.0))

    def test_a_sealed_source_is_checked(self):
        writer.write(self.path("s.safetensors"), [("w", "F32", [4], struct.pack("<4f", *VALUES))])
        raw = bytearray(self.path("s.safetensors").read_bytes())
        raw[-1] ^= 1
        self.path("s.safetensors").write_bytes(raw)
        result = self.run_tool("convert", "s.safetensors", "-o", "b.safetensors", "--dtype", "bf16", expect=FAILURE)
        self.assert_error(result, "chunk_corrupt", "tensor 'w': chunk 0")
        self.assert_error(self.run_tool("load", "s.safetensors", "--dtype", "bf16", "-q", expect=FAILURE),
                          "chunk_corrupt")

    def test_only_dtypes_that_can_be_cast_to_are_taken(self):
        for word in ("i8", "f8_e8m0", "bfloat17", ""):
            result = self.run_tool("convert", "a.safetensors", "--dtype", word, "-o", "x.safetensors", expect=USAGE)
            self.assertIn("expected one of f64, f32, f16, bf16, f8_e4m3", result.stderr)
        result = self.run_tool("convert", "a.safetensors", "--keep", "w", "-o", "x.safetensors", expect=USAGE)
        self.assertIn("--dtype", result.stderr)
        result = self.run_tool("convert", "--sidecar", "a.safetensors", "--dtype", "bf16", expect=USAGE)
        self.assert_error(result, "invalid_argument", "--sidecar seals files as they are")

    def test_load_casts_and_verifies(self):
        self.run_tool("convert", "a.safetensors", "-o", "b.safetensors")
        self.run_tool("convert", "a.safetensors", "-o", "c.safetensors", "--dtype", "f16")
        result = self.run_tool("load", "b.safetensors", "--dtype", "f16")
        self.assertIn("cast: 2 tensors to F16\n", result.stdout)
        self.assertIn("\nverified: 3 chunks", result.stdout)
        self.assertIn("1 value of 1 tensor does not fit F16", result.stderr)
        cast = self.run_json("load", "b.safetensors", "--dtype", "f16", "--digests")
        stored = self.run_json("load", "c.safetensors", "--digests")
        self.assertEqual([tensor["xxh3"] for tensor in cast["digests"]],
                         [tensor["xxh3"] for tensor in stored["digests"]])
        self.assertEqual(cast["verified"], "all")
        self.assertEqual(cast["report"]["casts"]["tensors"], 2)
        self.assertIsNone(stored["report"]["casts"])
