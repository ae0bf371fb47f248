"""--rename, --rename-file, --strip-prefix and --add-prefix of ls, convert and load, also where they join and split
tensors."""

import json
import random
import struct

import inputs
from tool import FAILURE, USAGE, ToolTest

import reader  # of spec/, where tool.py makes Python look


class RenameTest(ToolTest):
    def model(self, *names):
        inputs.write_safetensors(self.path("m.safetensors"),
                                 {name: ("U8", [len(name)], name.encode()) for name in names})
        return "m.safetensors"

    def listed(self, *arguments):
        return [tensor["name"] for tensor in self.run_json("ls", *arguments)["tensors"]]

    def test_ls_shows_the_new_names(self):
        path = self.model("h.0.attn.q", "h.1.attn.k")
        self.assertEqual(self.listed(path, "--rename", "h.*.attn.*=layers.{1}.attention.{2}"),
                         ["layers.0.attention.q", "layers.1.attention.k"])

    def test_options_run_in_the_order_of_the_command_line(self):
        path = self.model("module.a", "module.b")
        self.assertEqual(self.listed(path, "--strip-prefix", "module.", "--add-prefix", "x."), ["x.a", "x.b"])
        self.assertEqual(self.listed(path, "--add-prefix", "x.", "--strip-prefix", "x.m"), ["odule.a", "odule.b"])
        self.assertEqual(self.listed(path, "--rename", "*.a={1}.c", "--add-prefix", "y.", "--rename=*.c={1}.d"),
                         ["y.module.d", "y.module.b"])

    def test_names_in_brackets_are_no_list(self):
        self.assertEqual(self.listed(self.model("a"), "--rename", "[ab]=[x,y]"), ["[x,y]"])

    def test_rules_come_from_files(self):
        path = self.model("module.a", "module.b")
        self.path("rules.txt").write_text("# of the trainer\nstrip-prefix module.\n\na=first  # the first\n")
        self.assertEqual(self.listed(path, "--rename-file", "rules.txt", "--rename", "b=second"),
                         ["first", "second"])

    def test_globs_choose_by_the_old_names(self):
        path = self.model("module.a", "module.b")
        self.assertEqual(self.listed(path, "--include", "module.a", "--strip-prefix", "module."), ["a"])

    def test_convert_writes_the_new_names_once(self):
        path = self.model("module.a", "module.b")
        arguments = ("convert", path, "-o", "out.safetensors", "--strip-prefix", "module.")
        result = self.run_tool(*arguments)
        self.assertIn("m.safetensors: keeping all tensors: 2 tensors, 16 B; renamed\n", result.stdout)
        self.assertEqual(reader.load(self.path("out.safetensors")).keys(), {"a", "b"})
        self.assertIn("up to date", self.run_tool(*arguments).stdout)
        self.run_tool("convert", path, "-o", "out.safetensors", "--add-prefix", "x.", expect=USAGE)

    def test_convert_makes_a_flat_state_dict_of_a_checkpoint(self):
        inputs.write_torch(self.path("l.ckpt"), inputs.lightning())
        result = self.run_tool("convert", "l.ckpt", "-o", "o.safetensors", "--select", "state_dict",
                               "--rename", "*=net.{1}")
        self.assertIn("; renamed, as a flat state dict\n", result.stdout)
        self.assertTrue(all(name.startswith("net.") for name in reader.load(self.path("o.safetensors"))))
        self.run_tool("verify", "o.safetensors")

    def test_convert_to_torch_has_the_new_names(self):
        path = self.model("a", "b")
        self.run_tool("convert", path, "-o", "out.pth", "--add-prefix", "x.")
        self.assertEqual(self.listed("out.pth"), ["x.a", "x.b"])

    def test_load_has_the_new_names(self):
        text = self.run_tool("load", self.model("a", "b"), "--add-prefix", "x.", "--digests", "--quiet").stdout
        self.assertEqual([line.split("  ")[1] for line in text.splitlines()], ["x.a", "x.b"])

    def test_load_maps_devices_of_renamed_tensors(self):
        inputs.write_torch(self.path("t.pth"), {"a": inputs.Tensor([2], [1.0, 2.0])})
        report = self.run_json("load", "t.pth", "--add-prefix", "x.", "--map", "cpu=host")
        self.assertEqual(report["mapped"], 1)

    def test_what_cannot_be_renamed_is_an_error(self):
        path = self.model("a.x", "b.x")
        for arguments, text in (
            (("--rename", "none=b"), "rename rule 'none=b' matches no name [tensor_not_found]"),
            (("--rename", "*.x=x"), "'a.x' and 'b.x' both become 'x' [name_collision]"),
            (("--strip-prefix", "a.x"), "makes the name 'a.x' empty [invalid_argument]"),
            (("--rename-file", "none.txt"), "none.txt"),
        ):
            for command in (("ls", path), ("convert", path, "-o", "o.safetensors"), ("load", path)):
                result = self.run_tool(*command, *arguments, expect=FAILURE)
                self.assertIn(text, result.stderr)
        self.assertEqual(self.names(), ["m.safetensors"])

    def test_malformed_rules_are_wrong_command_lines(self):
        path = self.model("a")
        for option, value, text in (("--rename", "ab", "expected OLD=NEW"), ("--rename", "*={2}", "found '{2}'"),
                                    ("--strip-prefix", "", "the prefix is empty")):
            result = self.run_tool("ls", path, option, value, expect=USAGE)
            self.assert_error(result, "invalid_argument", option, text)

    def test_a_malformed_file_of_rules_is_named_with_its_line(self):
        self.path("r.txt").write_bytes(b"a=b\n\n*={7}\n")
        result = self.run_tool("ls", self.model("a"), "--rename-file", "r.txt", expect=FAILURE)
        self.assertIn("r.txt:3: rename rule '*={7}'", result.stderr)
        for hostile in (b"\xff\xfe", b"a\0b\n", b"=" * 100_000, b"{" * 100_000 + b"=a", b"*" * 50_000 + b"=a{1",
                        b"*={" + b"A\x1b" * 50_000 + b"}",
                        b"\n" * (16 << 20) + b"\n"):
            self.path("r.txt").write_bytes(hostile)
            result = self.run_tool("ls", "m.safetensors", "--rename-file", "r.txt", expect=FAILURE)
            self.assertIn("r.txt", result.stderr)
            self.assertLess(len(result.stderr), 2000)

    def test_a_sidecar_cannot_rename(self):
        self.run_tool("convert", "--sidecar", self.model("a"), "--add-prefix", "x.", expect=USAGE)

    def test_many_rules_and_long_names(self):
        long = "n" * 10_000
        path = self.model(long, "a\x1b[31m\n", "b")
        self.path("r.txt").write_text("".join(f"b=c{i}\nc{i}=b\n" for i in range(500)) + "*={1}.w\n")
        self.assertEqual(self.listed(path, "--rename-file", "r.txt"), [long + ".w", "a\x1b[31m\n.w", "b.w"])
        text = self.run_tool("ls", path, "--rename-file", "r.txt").stdout
        self.assertNotIn("\x1b", text)


JOIN = "l.{1}.qkv = cat(l.*.q, l.*.k, l.*.v, dim=0)"
SPLIT = "l.{1}.q, l.{1}.k, l.{1}.v = split(l.*.qkv, 8, 2, 2)"


class FusedTest(ToolTest):
    """Grouped-query attention of two layers: 8 rows of q, 2 of k and of v, of 3 elements of 4 bytes."""

    def setUp(self):
        super().setUp()
        random.seed(4)
        self.raw = {f"l.{layer}.{part}": random.randbytes(rows * 12)
                    for layer in range(2) for part, rows in (("q", 8), ("k", 2), ("v", 2))}
        self.raw["norm"] = random.randbytes(12)
        self.write("m.safetensors", self.raw)

    def write(self, name, raw, dtype="F32"):
        inputs.write_safetensors(self.path(name), {
            key: (dtype, [len(data) // 12, 3] if key != "norm" else [3], data) for key, data in raw.items()})

    def read(self, name):
        """name -> bytes, of a .safetensors file."""
        data = self.path(name).read_bytes()
        (nbytes,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8:8 + nbytes])
        header.pop("__metadata__", None)
        return {key: data[8 + nbytes + entry["data_offsets"][0]:8 + nbytes + entry["data_offsets"][1]]
                for key, entry in header.items()}

    def joined(self, rank=0, count=1):
        """What a rank has of each layer: its part of q, of k and of v."""
        parts = {}
        for layer in range(2):
            cut = [self.raw[f"l.{layer}.{part}"] for part in "qkv"]
            parts[f"l.{layer}.qkv"] = b"".join(
                data[rank * len(data) // count:(rank + 1) * len(data) // count] for data in cut)
        return {**parts, "norm": self.raw["norm"]}

    def test_ls_shows_joined_tensors(self):
        tensors = self.run_json("ls", "m.safetensors", "--rename", JOIN)["tensors"]
        self.assertEqual([(tensor["name"], tensor["shape"], tensor["stored"]) for tensor in tensors],
                         [("l.0.qkv", [12, 3], "computed"), ("l.1.qkv", [12, 3], "computed"), ("norm", [3], "plain")])

    def test_convert_joins_and_splits_again(self):
        arguments = ("convert", "m.safetensors", "-o", "j.safetensors", "--rename", JOIN)
        result = self.run_tool(*arguments)
        self.assertNotIn("cast", result.stdout)
        self.assertEqual(self.read("j.safetensors"), self.joined())
        self.run_tool("verify", "j.safetensors")
        self.assertIn("up to date", self.run_tool(*arguments).stdout)
        self.run_tool("convert", "j.safetensors", "-o", "s.safetensors", "--rename", SPLIT)
        self.assertEqual(self.read("s.safetensors"), self.raw)
        self.run_tool("diff", "m.safetensors", "s.safetensors")

    def test_rules_of_a_file_join_after_renaming(self):
        self.path("r.txt").write_text(f"l.*=layers.{{1}}\n{JOIN.replace('l.', 'layers.')}  # as the engine has it\n")
        self.run_tool("convert", "m.safetensors", "-o", "j.safetensors", "--rename-file", "r.txt")
        self.assertEqual(self.read("j.safetensors")["layers.1.qkv"], self.joined()["l.1.qkv"])

    def test_load_gives_a_rank_its_part_of_each_joined_tensor(self):
        for count in (1, 2):
            for rank in range(count):
                expected = {**self.joined(rank, count)}
                self.write("e.safetensors", expected)
                wanted = {row["name"]: row["xxh3"] for row in
                          self.run_json("load", "e.safetensors", "--digests")["digests"]}
                report = self.run_json("load", "m.safetensors", "--rename", JOIN, "--slice", f"0:{rank}/{count}",
                                       "--digests")
                found = {row["name"]: row["xxh3"] for row in report["digests"]}
                for layer in range(2):
                    self.assertEqual(found[f"l.{layer}.qkv"], wanted[f"l.{layer}.qkv"], (rank, count, layer))

    def test_load_refuses_a_slice_of_joined_tensors_that_do_not_divide(self):
        result = self.run_tool("load", "m.safetensors", "--rename", JOIN, "--slice", "0:0/4", expect=FAILURE)
        self.assert_error(result, "slice_invalid", "'l.0.qkv'", "do not divide into 4 equal parts")

    def test_load_casts_what_it_joins(self):
        report = self.run_json("load", "m.safetensors", "--rename", JOIN, "--dtype", "bf16")
        self.assertEqual(report["report"]["casts"]["tensors"], 3)
        self.assertEqual(report["report"]["bytes_wanted"], (24 * 3 + 3) * 2)

    def test_load_maps_devices_of_joined_tensors(self):
        inputs.write_torch(self.path("t.pth"), {name: inputs.Tensor([2], [1.0, 2.0]) for name in ("a", "b", "c")})
        report = self.run_json("load", "t.pth", "--rename", "x=cat(b, c)", "--map", "cpu=host")
        self.assertEqual((report["tensors"], report["mapped"]), (2, 2))

    def test_load_says_what_of_a_joined_tensor_was_verified(self):
        self.run_tool("convert", "m.safetensors", "-o", "s.safetensors", "--quiet")
        self.assertEqual(self.run_json("load", "s.safetensors", "--rename", JOIN)["verified"], "all")
        self.assertEqual(self.run_json("load", "m.safetensors", "--rename", JOIN)["verified"], "none")

    def test_match_and_diff_take_joined_tensors(self):
        self.write("j.safetensors", self.joined())
        self.run_tool("match", "m.safetensors", "--expect", "j.safetensors", "--rename", JOIN)
        self.run_tool("match", "m.safetensors", "--expect", "j.safetensors", expect=FAILURE)
        self.run_tool("diff", "m.safetensors", "j.safetensors", "--rename", JOIN)

    def test_what_cannot_be_joined_is_an_error(self):
        self.write("b.safetensors", {**self.raw, "h": bytes(24)})
        for rule, code, *texts in (
            ("l.{1}.x = cat(l.*.q, l.*.w)", "tensor_not_found", "found 'l.0.q'; missing 'l.0.w'"),
            ("x = cat(norm, l.0.q)", "invalid_argument", "'norm' F32 [3] and 'l.0.q' F32 [8,3] cannot be joined"),
            ("x = cat(l.0.q, l.0.k, dim=1)", "invalid_argument", "they differ in dimension 0"),
            ("x, y = split(l.0.q, 8, 2)", "invalid_argument", "the sizes add up to 10, expected 8"),
            ("x = cat(l.?.q, l.?.k)", "name_collision", "'l.0.q' and 'l.1.q' both become 'x'"),
        ):
            for command in (("ls", "m.safetensors"), ("convert", "m.safetensors", "-o", "o.safetensors"),
                            ("load", "m.safetensors")):
                self.assert_error(self.run_tool(*command, "--rename", rule, expect=FAILURE), code, *texts)
        self.assertNotIn("o.safetensors", self.names())

    def test_malformed_joins_are_wrong_command_lines(self):
        for rule, text in (("x = cat(a)", "found 1 part, expected 2 to 64"),
                           ("x = cat(a, b, dim=q)", "the dimension is not a number"),
                           ("x, y = split(a, 1)", "found 2 names and 1 size")):
            self.assert_error(self.run_tool("ls", "m.safetensors", "--rename", rule, expect=USAGE),
                              "invalid_argument", "--rename", text)

    def test_hostile_files_of_rules_are_refused_in_time(self):
        for hostile, code in (
            ("x = cat(" + ",".join(f"a{i}" for i in range(100_000)) + ")", "invalid_argument"),
            ("x = cat(" + "[" * 1_000_000 + ",b)", "tensor_not_found"),
            (",".join("x" * 100_000) + " = split(norm, 1, 2)", "invalid_argument"),
            ("x, y = split(norm, 18446744073709551615, 18446744073709551615)", "invalid_argument"),
            ("a = cat(a, norm)\nb = cat(b, a)", "tensor_not_found"),
            ("norm, x = split(norm, 1, 2)\nnorm = cat(norm, x)\n" * 4_999 + "none=x", "tensor_not_found"),
        ):
            self.path("r.txt").write_text(hostile)
            result = self.run_tool("ls", "m.safetensors", "--rename-file", "r.txt", expect=FAILURE)
            self.assert_error(result, code, "r.txt")
            self.assertLess(len(result.stderr), 4000)
