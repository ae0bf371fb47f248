"""flatbed diff: what it says, in which words, and its exit codes, which are those of diff(1)."""

import collections
import struct

import inputs
import writer
from tool import FAILURE, OK, USAGE, ToolTest

SAME, DIFFERENT, TROUBLE = OK, FAILURE, USAGE
CHUNK = inputs.CHUNK


class DiffTest(ToolTest):
    def sealed(self, name, *tensors):
        writer.write(self.path(name), tensors)
        return name

    def checkpoint(self, name, epoch, rate, weights):
        value = collections.OrderedDict(
            model=collections.OrderedDict(w=inputs.Tensor([2], weights)),
            epoch=epoch, optimizer={"param_groups": [{"lr": rate}]})
        inputs.write_torch(self.path(name), value)
        return name

    def test_a_file_and_its_conversion_are_the_same(self):
        self.checkpoint("a.pth", 3, 0.001, [1, 2])
        self.run_tool("convert", "a.pth")
        result = self.run_tool("diff", "a.pth", "a.safetensors", expect=SAME)
        self.assertEqual(result.stdout, "1 tensor equal; the structure is the same\n")

    def test_values_of_the_structure_are_shown_from_and_to(self):
        self.checkpoint("a.pth", 3, 0.001, [1, 2])
        self.checkpoint("b.pth", 7, 0.0001, [1, 3])
        self.run_tool("convert", "b.pth")
        result = self.run_tool("diff", "a.pth", "b.safetensors", expect=DIFFERENT)
        width = len("optimizer.param_groups.0.lr") + 2
        self.assertEqual(
            result.stdout,
            f"bytes    {'model.w':{width}}F32[2]\n"
            f"tree     {'epoch':{width}}3 -> 7\n"
            f"tree     {'optimizer.param_groups.0.lr':{width}}0.001 -> 0.0001\n"
            "0 tensors equal, 1 with other bytes; 2 differences in the structure\n")

    def test_tensors_that_are_gone_new_or_of_another_form(self):
        self.sealed("a.safetensors", ("gone", "U8", [1], b"x"), ("w", "U8", [2], b"xy"), ("s", "U8", [2], b"xy"))
        self.sealed("b.safetensors", ("w", "I8", [2], b"xy"), ("s", "U8", [2, 1], b"xy"), ("new", "U8", [1], b"x"))
        result = self.run_tool("diff", "a.safetensors", "b.safetensors", expect=DIFFERENT)
        lines = [line.split(None, 2) for line in result.stdout.splitlines()]
        self.assertCountEqual(lines[:4], [["removed", "gone", "U8[1]"], ["dtype", "w", "U8[2] -> I8[2]"],
                                          ["shape", "s", "U8[2] -> U8[2, 1]"], ["added", "new", "U8[1]"]])

    def test_sealed_files_are_compared_by_their_headers(self):
        big = bytes(3 * CHUNK)
        self.sealed("a.safetensors", ("w", "U8", [len(big)], big))
        self.sealed("b.safetensors", ("w", "U8", [len(big)], big[:-1] + b"!"))
        report = self.run_json("diff", "a.safetensors", "b.safetensors", expect=DIFFERENT)
        self.assertEqual((report["bytes_read"], report["same"], report["exit_code"]), (0, False, 1))
        [tensor] = report["tensors"]
        self.assertEqual((tensor["name"], tensor["change"], tensor["chunks"], tensor["first_chunk"]),
                         ("w", "bytes", 1, 2))
        text = self.run_tool("diff", "a.safetensors", "b.safetensors", expect=DIFFERENT).stdout
        self.assertIn("bytes    w  U8[786432], 1 of 3 chunks\n", text)

    def test_a_seal_that_no_longer_fits_is_no_difference_but_trouble(self):
        self.sealed("a.safetensors", ("w", "U8", [2], b"xy"))
        raw = self.path("a.safetensors").read_bytes()
        self.path("b.safetensors").write_bytes(raw.replace(b'"shape":[2]', b'"shape":[1]'))
        result = self.run_tool("diff", "a.safetensors", "b.safetensors", expect=TROUBLE)
        self.assertIn("flatbed: b.safetensors", result.stderr)

    def test_what_cannot_be_opened_is_trouble_in_json_too(self):
        self.sealed("a.safetensors", ("w", "U8", [1], b"x"))
        report = self.run_json("diff", "a.safetensors", "nothing", expect=TROUBLE)
        self.assertEqual((report["error"]["name"], report["path_b"], report["exit_code"]),
                         ("file_not_found", "nothing", 2))

    def test_only_what_is_chosen_is_compared(self):
        self.sealed("a.safetensors", ("v", "U8", [1], b"x"), ("w", "U8", [1], b"x"))
        self.sealed("b.safetensors", ("v", "U8", [1], b"y"), ("w", "U8", [1], b"x"))
        self.run_tool("diff", "a.safetensors", "b.safetensors", "--exclude", "v", expect=SAME)
        self.run_tool("diff", "a.safetensors", "b.safetensors", "--include", "v", expect=DIFFERENT)

    def test_values_say_how_far_they_differ_also_across_dtypes(self):
        nan = float("nan")
        self.sealed("a.safetensors", ("v", "F32", [2, 2], inputs.floats(1, 2, nan, 4)), ("w", "U8", [2], bytes([3, 9])))
        self.sealed("b.safetensors", ("v", "F32", [2, 2], inputs.floats(1, 2.5, nan, 5)),
                    ("w", "F32", [2], inputs.floats(3, 8)))
        text = self.run_tool("diff", "--values", "a.safetensors", "b.safetensors", expect=DIFFERENT).stdout
        self.assertIn("v  F32[2, 2]; 2 values differ: max abs 1 at [1, 1], max rel 0.2, mean abs 0.5; 1 NaN -> 1\n",
                      text)
        self.assertIn("w  U8[2] -> F32[2]; 1 value differs: max abs 1 at [1], max rel 0.1111, mean abs 0.5\n", text)
        report = self.run_json("diff", "--values", "a.safetensors", "b.safetensors", expect=DIFFERENT)
        values = {tensor["name"]: tensor["values"] for tensor in report["tensors"]}
        self.assertEqual((values["v"]["worst"], values["v"]["nans_a"], values["w"]["worst"]), (3, 1, 1))

    def test_tensors_of_the_first_can_be_renamed(self):
        self.sealed("a.safetensors", ("module.w", "U8", [1], b"x"))
        self.sealed("b.safetensors", ("w", "U8", [1], b"x"))
        self.run_tool("diff", "a.safetensors", "b.safetensors", expect=DIFFERENT)
        self.run_tool("diff", "a.safetensors", "b.safetensors", "--strip-prefix", "module.", expect=SAME)

    def test_a_rule_that_does_not_fit_is_said_with_the_file(self):
        self.sealed("a.safetensors", ("v", "U8", [1], b"x"))
        self.sealed("b.safetensors", ("v", "U8", [1], b"x"))
        result = self.run_tool("diff", "a.safetensors", "b.safetensors", "--rename", "w=z", expect=TROUBLE)
        self.assert_error(result, "tensor_not_found", "a.safetensors: ", "'w=z'")

    def test_distances_beyond_all_numbers_are_json(self):
        self.sealed("a.safetensors", ("v", "F64", [1], struct.pack("<d", 1.7e308)))
        self.sealed("b.safetensors", ("v", "F64", [1], struct.pack("<d", -1.7e308)))
        report = self.run_json("diff", "--values", "a.safetensors", "b.safetensors", expect=DIFFERENT)
        values = report["tensors"][0]["values"]
        self.assertEqual((values["max_abs"], values["max_rel"]), ("inf", 2.0))

    def test_quiet_says_it_by_the_exit_code(self):
        self.sealed("a.safetensors", ("v", "U8", [1], b"x"))
        self.sealed("b.safetensors", ("v", "U8", [1], b"y"))
        self.assertEqual(self.run_tool("diff", "-q", "a.safetensors", "b.safetensors", expect=DIFFERENT).stdout, "")
