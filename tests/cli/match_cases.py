"""flatbed match: tables, JSON and exit codes of what matches and what does not."""

import json

import inputs
from tool import FAILURE, ROOT, USAGE, ToolTest


class MatchTest(ToolTest):
    def model(self, name, **shapes):
        """A file of U8 tensors; two underscores in a keyword stand for a dot."""
        tensors = {key.replace("__", "."): shape for key, shape in shapes.items()}
        inputs.write_safetensors(self.path(name), {
            key: ("U8", shape, b"x" * (shape[0] if shape else 1)) for key, shape in tensors.items()})
        return name

    def expectations(self, **entries):
        self.path("e.json").write_text(json.dumps({key.replace("__", "."): entry for key, entry in entries.items()}))
        return "e.json"

    def test_all_match(self):
        result = self.run_tool("match", self.model("a.safetensors", x=[1], y=[2]), "--expect",
                               self.model("b.safetensors", y=[2], x=[1]))
        self.assertEqual(result.stdout, "a.safetensors: 2 of 2 expected tensors match\n")

    def test_shows_what_does_not_match_as_a_table(self):
        expect = self.expectations(fc__weight={"shape": [8, 5], "dtype": "F32"}, bias={"shape": [3]}, ok=None)
        result = self.run_tool("match", self.model("a.safetensors", bias=[2], ok=[1], extra=[4]), "--expect", expect,
                               expect=FAILURE)
        self.assertEqual(result.stderr, "")
        self.assertEqual(result.stdout, """\
  STATE       NAME       EXPECTED   FOUND
  missing     fc.weight  F32[8, 5]  -
  mismatched  bias       any[3]     U8[2]
  unexpected  extra      -          U8[4]

a.safetensors: 1 of 3 expected tensors matches, 1 missing, 1 mismatched, 1 unexpected
""")

    def test_partial_counts_only_what_is_mismatched(self):
        expect = self.expectations(x={"shape": [1]}, y={"shape": [1]})
        self.run_tool("match", self.model("a.safetensors", x=[1], z=[1]), "--expect", expect, expect=FAILURE)
        self.run_tool("match", "a.safetensors", "--expect", expect, "--strict", expect=FAILURE)
        self.run_tool("match", "a.safetensors", "--expect", expect, "--partial")
        self.run_tool("match", self.model("b.safetensors", z=[1]), "--expect", expect, "--partial", expect=FAILURE)
        self.run_tool("match", self.model("c.safetensors", x=[1], y=[2]), "--expect", expect, "--partial",
                      expect=FAILURE)
        self.run_tool("match", "c.safetensors", "--expect", expect, "--partial", "--ignore-mismatched-sizes")
        self.run_tool("match", "c.safetensors", "--expect", expect, "--partial", "--strict", expect=USAGE)

    def test_says_with_which_prefix_more_would_match(self):
        result = self.run_tool("match", self.model("a.safetensors", module__x=[1], module__y=[1]), "--expect",
                               self.model("b.safetensors", x=[1], y=[1]), expect=FAILURE)
        self.assertTrue(result.stdout.endswith(
            "every name begins with 'module.': 2 of 2 match without it; use --strip-prefix module.\n"))
        self.run_tool("match", "a.safetensors", "--expect", "b.safetensors", "--strip-prefix", "module.")
        result = self.run_tool("match", "a.safetensors", "--expect", "b.safetensors", "--ready-sets")
        self.assertIn("applied --strip-prefix module.: every name begins", result.stdout)

    def test_asks_whether_a_similar_name_was_meant(self):
        result = self.run_tool("match", self.model("a.safetensors", a__weight=[1], b=[1], c=[1]), "--expect",
                               self.expectations(a__weigth=None, b=None, c=None), expect=FAILURE)
        self.assertIn("'a.weigth' is missing; did you mean 'a.weight'?\n", result.stdout)

    def test_chooses_and_renames_first(self):
        path = self.model("a.safetensors", net__x=[1], head__y=[1])
        expect = self.expectations(x={"shape": [1]})
        self.run_tool("match", path, "--expect", expect, "--include", "net.*", "--strip-prefix", "net.")
        self.run_tool("match", path, "--expect", expect, "--exclude", "head.*", "--rename", "net.*={1}")
        self.run_tool("match", path, "--expect", expect, "--select", "net")

    def test_json_has_complete_lists(self):
        names = {f"n{i}": None for i in range(50)}
        report = self.run_json("match", self.model("a.safetensors", x=[2]), "--expect",
                               self.expectations(x={"shape": [1], "dtype": "F32"}, **names), expect=FAILURE)
        self.assertEqual(len(report["missing_keys"]), 50)
        self.assertEqual(report["mismatched"], [{"name": "x", "expected": {"shape": [1], "dtype": "F32"},
                                                 "found": {"shape": [2], "dtype": "U8"}, "ignored": False}])
        self.assertEqual((report["expected"], report["matched"], report["complete"]), (51, 0, False))
        self.assertIsNone(report["error"])

    def test_long_lists_are_cut_unless_all_are_wanted(self):
        names = {f"n{i:02}": None for i in range(25)}
        path, expect = self.model("a.safetensors", x=[2]), self.expectations(x=None, **names)
        text = self.run_tool("match", path, "--expect", expect, expect=FAILURE).stdout
        self.assertIn("\n  ... 5 more missing; --all shows them\n", text)
        self.assertNotIn("n24", text)
        self.assertIn("n24", self.run_tool("match", path, "--expect", expect, "--all", expect=FAILURE).stdout)

    def test_another_dtype_counts_only_if_it_must_be_exact(self):
        path, expect = self.model("a.safetensors", x=[4]), self.expectations(x={"dtype": "BF16"})
        self.run_tool("match", path, "--expect", expect)
        result = self.run_tool("match", path, "--expect", expect, "--exact-dtype", expect=FAILURE)
        self.assertIn("  mismatched  x     BF16      U8[4]\n", result.stdout)

    def test_torchs_meaning(self):
        path = self.model("a.safetensors", bn__running_mean=[1], bn__running_var=[1])
        expect = self.expectations(bn__running_mean={"shape": []}, bn__running_var=None, bn__num_batches_tracked=None)
        self.run_tool("match", path, "--expect", expect, expect=FAILURE)
        result = self.run_tool("match", path, "--expect", expect, "--torch")
        self.assertIn("2 of 3 expected tensors match, 1 forgiven\n", result.stdout)

    def test_sets_and_pytorch_files_on_either_side(self):
        sharded = ROOT / "tests/fixtures/torch2/sharded"
        self.run_tool("match", sharded, "--expect", sharded / "pytorch_model.bin.index.json")
        inputs.write_torch(self.path("t.pth"), {"x": inputs.Tensor([2], [1.0, 2.0])})
        self.run_tool("match", "t.pth", "--expect", self.expectations(x={"shape": [2], "dtype": "F32"}))

    def test_files_that_cannot_be_read_are_named(self):
        path = self.model("a.safetensors", x=[1])
        for arguments, text in (((path, "--expect", "none.json"), "none.json"), ((path, "--expect", "none"), "none"),
                                (("none", "--expect", path), "none")):
            result = self.run_tool("match", *arguments, expect=FAILURE)
            self.assert_error(result, "file_not_found", text)
        self.run_tool("match", path, expect=USAGE)
        self.run_tool("match", "--expect", path, expect=USAGE)

    def test_hostile_expectations_are_refused(self):
        path = self.model("a.safetensors", x=[1])
        for hostile in (b"", b"{", b"[]", b"[" * 100_000, b'{"a":' * 100_000, b'{"a": {"shape": [1e3]}}',
                        b'{"a": {"shape": [-1]}}', b'{"\xff": null}', b'{"a": null, "a": null}',
                        b'{"a": {"dtype": "' + b"F" * 100_000 + b'"}}'):
            self.path("e.json").write_bytes(hostile)
            result = self.run_tool("match", path, "--expect", "e.json", expect=FAILURE)
            self.assert_error(result, "invalid_argument", "e.json")
            self.assertLess(len(result.stderr), 2000)
        with open(self.path("e.json"), "wb") as file:
            file.truncate(100_000_001)
        self.assert_error(self.run_tool("match", path, "--expect", "e.json", expect=FAILURE), "limit_exceeded")

    def test_a_terminal_cuts_long_names(self):
        expect = self.expectations(**{"layer" * 30: {"shape": [2], "dtype": "F32"}})
        path = self.model("a.safetensors", x=[1])
        result = self.run_on_terminal("match", path, "--expect", expect, stream="stdout", expect=FAILURE)
        row = result.stdout.splitlines()[1]
        self.assertRegex(row, r"^  missing +layer.*….*layer  F32\[2\]")
        self.assertLessEqual(len(row), 80)
        self.assertIn("layer" * 30, self.run_tool("match", path, "--expect", expect, expect=FAILURE).stdout)

    def test_odd_names_are_shown_safely(self):
        odd = "a\x1b[31m\0\n" + "n" * 10_000
        self.path("e.json").write_text(json.dumps({odd: None}))
        text = self.run_tool("match", self.model("a.safetensors", x=[1]), "--expect", "e.json", expect=FAILURE).stdout
        self.assertNotIn("\x1b", text)
        self.assertNotIn("\0", text)
        report = self.run_json("match", "a.safetensors", "--expect", "e.json", expect=FAILURE)
        self.assertEqual(report["missing_keys"], [odd])
