"""flatbed ls: several files, which tensors in which order, totals and values."""

import json
import struct

import inputs
from tool import FAILURE, USAGE, ToolTest


class LsChoicesTest(ToolTest):
    def write(self, name, **tensors):
        inputs.write_safetensors(self.path(name), tensors)
        return name

    def three(self):
        return self.write("t.safetensors", b=("U8", [2], b"xy"), c=("F32", [1], b"\0" * 4), a=("U8", [1], b"z"))

    def listed(self, *arguments):
        return [tensor["name"] for tensor in self.run_json("ls", *arguments)["tensors"]]

    def test_sorts_by_name_size_or_offset(self):
        path = self.three()
        self.assertEqual(self.listed(path, "--sort", "name"), ["a", "b", "c"])
        self.assertEqual(self.listed(path, "--sort", "size"), ["c", "b", "a"])
        self.assertEqual(self.listed(path, "--sort", "offset"), ["b", "c", "a"])
        rows = self.run_tool("ls", path, "--sort", "size").stdout.splitlines()[4:7]
        self.assertEqual([row.split()[0] for row in rows], ["c", "b", "a"])

    def test_stats_of_a_tensor_that_a_few_bytes_expand_to_are_refused(self):
        endless = inputs.Tensor([1 << 40], [1.0], stride=(0,))
        inputs.write_torch(self.path("e.pth"), {"w": endless})
        result = self.run_tool("ls", "--stats", "e.pth", expect=FAILURE)
        self.assertIn("[expansion_refused]", result.stderr)

    def test_an_unknown_order_is_refused(self):
        result = self.run_tool("ls", self.three(), "--sort", "date", expect=USAGE)
        self.assert_error(result, "invalid_argument", "date", "name, size or offset")

    def test_includes_and_excludes_by_globs(self):
        path = self.write("m.safetensors", **{name: ("U8", [1], b"x") for name in ("a.w", "a.b", "c")})
        self.assertEqual(self.listed(path, "--include", "a.*"), ["a.w", "a.b"])
        self.assertEqual(self.listed(path, "--include", "a.*", "--exclude", "*.b"), ["a.w"])
        self.assertIn("\n1 tensor, 1 B of data", self.run_tool("ls", path, "--include", "c").stdout)
        result = self.run_tool("ls", path, "--include", "zz*", expect=FAILURE)
        self.assertIn("no tensor matches include and exclude [", result.stderr)

    def test_the_last_line_counts_parameters_of_each_dtype(self):
        path = self.write("m.safetensors", w=("F32", [2, 3], b"\0" * 24), b=("BF16", [12, 1000], b"\0" * 24000))
        lines = self.run_tool("ls", path).stdout.splitlines()
        self.assertEqual(lines[-1], "12.0 K parameters: 12.0 K BF16, 6 F32")
        listed = self.run_json("ls", path)
        self.assertEqual(listed["parameters"], 12006)
        self.assertEqual(listed["dtypes"][1], {"dtype": "F32", "tensors": 1, "parameters": 6, "nbytes": 24})

    def test_parameters_are_counted_as_people_read_them(self):
        for count, text in ((1, "1"), (9999, "9,999"), (10000, "10.0 K"), (123456, "123 K"), (999499, "999 K"),
                            (999500, "1.00 M"), (6738415616, "6.74 B")):
            inputs.write_sparse_safetensors(self.path("n.safetensors"), count)
            last = self.run_tool("ls", "n.safetensors").stdout.splitlines()[-1]
            noun = "parameter" if count == 1 else "parameters"
            self.assertEqual(last, f"{text} {noun}: {text} U8")

    def test_a_summary_has_totals_without_tensors(self):
        lines = self.run_tool("ls", "--summary", self.three()).stdout.splitlines()
        self.assertEqual((len(lines), lines[0], lines[1]), (4, "t.safetensors: safetensors file", "seal: unsealed"))
        self.assertRegex(lines[2], r"\A3 tensors, 7 B of data in \d+ B on disk\Z")
        self.assertEqual(lines[3], "4 parameters: 3 U8, 1 F32")
        self.assertNotIn("tensors", self.run_json("ls", "--summary", "t.safetensors"))

    def test_lists_several_files_and_their_sum(self):
        one = self.write("one.safetensors", w=("U8", [1], b"x"))
        text = self.run_tool("ls", self.three(), one).stdout
        self.assertIn("t.safetensors: safetensors file\n", text)
        self.assertIn("\n\none.safetensors: safetensors file\n", text)
        self.assertRegex(text, r"\n2 checkpoints together: 4 tensors, 8 B of data in \d+ B on disk\n")
        self.assertTrue(text.endswith("\n5 parameters: 4 U8, 1 F32\n"))

    def test_one_of_several_files_that_fails_does_not_stop_the_rest(self):
        one = self.write("one.safetensors", w=("U8", [1], b"x"))
        result = self.run_tool("ls", "missing", one, expect=FAILURE)
        self.assert_error(result, "file_not_found", "missing")
        self.assertIn("one.safetensors: safetensors file", result.stdout)
        report = json.loads(self.run_tool("ls", "--json", "missing", one, expect=FAILURE).stdout)
        first, second = report["checkpoints"]
        self.assertEqual((first["path"], first["error"]["name"]), ("missing", "file_not_found"))
        self.assertEqual((second["tensor_count"], second["error"]), (1, None))
        self.assertEqual((report["exit_code"], report["error"]["name"]), (1, "file_not_found"))

    def test_a_long_listing_ends_with_how_to_see_less(self):
        for count, hinted in ((1000, False), (1001, True)):
            tensors = {f"w{i}": ("U8", [0], b"") for i in range(count)}
            text = self.run_tool("ls", self.write("m.safetensors", **tensors)).stdout
            self.assertEqual(text.endswith("\n1,001 entries; --tree and --include show less\n"), hinted)


class LsStatsTest(ToolTest):
    def stats(self, dtype, shape, raw):
        inputs.write_safetensors(self.path("s.safetensors"), {"w": (dtype, shape, raw)})
        return self.run_json("ls", "--stats", "s.safetensors")["tensors"][0]["stats"]

    def test_floats(self):
        inf, nan = float("inf"), float("nan")
        self.assertEqual(self.stats("F32", [3], inputs.floats(1, -2, 4)),
                         {"min": -2, "max": 4, "mean": 1, "nan": 0, "inf": 0})
        self.assertEqual(self.stats("F32", [6], inputs.floats(nan, 1, inf, -inf, 3, nan)),
                         {"min": 1, "max": 3, "mean": 2, "nan": 2, "inf": 2})
        self.assertEqual(self.stats("F64", [2], struct.pack("<2d", 1.5, 1e300)),
                         {"min": 1.5, "max": 1e300, "mean": 5e299, "nan": 0, "inf": 0})
        self.assertEqual(self.stats("F64", [2], struct.pack("<2d", 1e308, 1.5e308))["mean"], 1.25e308)
        self.assertEqual(self.stats("F32", [0], b""), {"min": None, "max": None, "mean": None, "nan": 0, "inf": 0})

    def test_halves(self):
        raw = struct.pack("<5H", 0x3C00, 0xC000, 0x0001, 0x7C00, 0x7E00)  # 1, -2, 2^-24, inf, NaN
        self.assertEqual(self.stats("F16", [5], raw),
                         {"min": -2, "max": 1, "mean": (2**-24 - 1) / 3, "nan": 1, "inf": 1})
        raw = struct.pack("<4H", 0x3F80, 0xC000, 0x7F80, 0x7FC0)  # 1, -2, inf, NaN
        self.assertEqual(self.stats("BF16", [4], raw), {"min": -2, "max": 1, "mean": -0.5, "nan": 1, "inf": 1})

    def test_floats_of_8_and_4_bits(self):
        for dtype, raw, least, most, nans, infinities in (
            ("F8_E4M3", b"\x38\xfe\x7f", -448, 1, 1, 0),
            ("F8_E5M2", b"\x3c\xfb\x7c\x7f", -57344, 1, 1, 1),
            ("F8_E4M3FNUZ", b"\x40\xff\x80", -240, 1, 1, 0),
            ("F8_E5M2FNUZ", b"\x40\xff\x80", -57344, 1, 1, 0),
            ("F8_E8M0", b"\x7f\x80\xff", 1, 2, 1, 0),
        ):
            found = self.stats(dtype, [len(raw)], raw)
            values = tuple(found[key] for key in ("min", "max", "nan", "inf"))
            self.assertEqual(values, (least, most, nans, infinities), dtype)
        self.assertEqual(self.stats("F4", [4], b"\x2f\x07"), {"min": -6, "max": 6, "mean": 0.25, "nan": 0, "inf": 0})

    def test_integers_are_exact(self):
        for dtype, form, values in (
            ("BOOL", "?", (True, False, True)), ("U8", "B", (255, 0, 3)), ("I8", "b", (-128, 127, 1)),
            ("I16", "h", (-32768, 5, 1)), ("U16", "H", (65535, 5, 1)), ("I32", "i", (-2**31, 5, 1)),
            ("U32", "I", (2**32 - 1, 5, 1)), ("I64", "q", (-2**63, 2**63 - 1, 1)), ("U64", "Q", (2**64 - 1, 2**53 + 1)),
        ):
            found = self.stats(dtype, [len(values)], struct.pack(f"<{len(values)}{form}", *values))
            self.assertEqual((found["min"], found["max"]), (min(values), max(values)), dtype)

    def test_complex_numbers_have_none(self):
        self.assertIsNone(self.stats("C64", [1], bytes(8)))

    def test_tensors_longer_than_a_piece_are_read_to_the_end(self):
        values = [0.0] * 400_001
        values[0], values[-1] = 7.0, -9.0
        found = self.stats("F32", [400_001], struct.pack("<400001f", *values))
        self.assertEqual((found["min"], found["max"], found["mean"]), (-9, 7, -2 / 400_001))

    def test_every_layout_is_read(self):
        inputs.write_torch(self.path("t.pth"), {"t": inputs.Tensor([3, 2], [1, 2, 3, 4, 5, 6], stride=(1, 3))})
        (tensor,) = self.run_json("ls", "--stats", "t.pth")["tensors"]
        self.assertEqual((tensor["stored"], tensor["stats"]["mean"]), ("strided", 3.5))

    def test_are_columns_of_the_table(self):
        inputs.write_safetensors(self.path("s.safetensors"), {"w": ("F32", [2], inputs.floats(0.1, 0.3))})
        text = self.run_tool("ls", "--stats", "s.safetensors").stdout
        self.assertRegex(text, r"(?m)^  NAME +DTYPE +SHAPE +SIZE +MIN +MAX +MEAN +NAN +INF$")
        self.assertRegex(text, r"(?m)^  w +F32 +\[2\] +8 B +0\.1 +0\.3 +0\.2 +0 +0$")
