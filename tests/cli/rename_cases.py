"""--rename, --rename-file, --strip-prefix and --add-prefix of ls, convert and load."""

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
