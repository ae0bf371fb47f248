"""flatbed convert and files that exist: what is up to date stays, what differs is refused, --force replaces."""

import os
import re
import resource
import shlex
import shutil
import subprocess
import unittest

import inputs
from tool import FAILURE, OK, ROOT, SOME_FAILED, USAGE, ToolTest, binary


class OutputTest(ToolTest):
    def torch(self, name="model.pth", *values):
        inputs.write_torch(self.path(name), {"w": inputs.Tensor([2], list(values or (1, 2)))})
        return name

    def flip(self, name, offset):
        raw = bytearray(self.path(name).read_bytes())
        raw[offset] ^= 1
        self.path(name).write_bytes(raw)

    def state(self, name):
        """What a run that touches nothing leaves as it is."""
        status = os.lstat(self.path(name))
        return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_mode

    def refused(self, *arguments, output="model.safetensors", expect=USAGE):
        """The error of a run that leaves the output as it is. A dry run ends alike."""
        before = self.state(output), self.names()
        result = self.run_tool("convert", *arguments, expect=expect)
        dry = self.run_tool("convert", "--dry-run", *arguments, expect=expect)
        self.assertEqual((self.state(output), self.names()), before)
        self.assertEqual(dry.stderr, result.stderr)
        return result

    def up_to_date(self, *arguments, output="model.safetensors"):
        before = self.state(output), self.names()
        text = self.run_tool("convert", *arguments).stdout
        self.assertIn(f"{output}: up to date\n", text)
        (file,) = self.run_json("convert", *arguments)["files"]
        self.assertEqual(file["status"], "up_to_date")
        self.assertEqual((self.state(output), self.names()), before)


class RuleTest(OutputTest):
    """What is up to date, refused or replaced."""

    def test_an_unrelated_file_of_the_default_name_is_refused(self):
        self.path("model.safetensors").write_bytes(b"precious")
        result = self.refused(self.torch())
        self.assert_error(result, "file_exists", "model.pth: model.safetensors exists and is not what would be written",
                          "found 8 bytes, expected 4104", "use --force to replace it")
        report = self.run_json("convert", "model.pth", expect=USAGE)
        self.assertEqual((report["files"][0]["status"], report["failed"], report["exit_code"]), ("failed", 1, USAGE))

    def test_a_second_run_finds_the_output_up_to_date(self):
        self.run_tool("convert", self.torch())
        self.up_to_date("model.pth")
        self.up_to_date("model.pth", "--checksum")
        self.up_to_date("model.pth", "--force")
        self.up_to_date("model.pth", "--dry-run")
        self.up_to_date("model.pth", "-o", "model.safetensors")
        self.up_to_date("model.pth", "model.safetensors")
        content = self.run_json("ls", "model.safetensors")["files"][0]["content"]
        self.assertEqual(self.run_json("convert", "model.pth")["files"][0]["content"], content)

    def test_times_decide_nothing(self):
        self.run_tool("convert", self.torch())
        os.utime(self.path("model.safetensors"), (1, 1))
        self.up_to_date("model.pth")
        # An older file takes the input's place.
        self.torch("model.pth", 3, 4)
        os.utime(self.path("model.pth"), (0, 0))
        self.assert_error(self.refused("model.pth"), "file_exists", "tensor 'w': bytes [0,8) differ")

    def test_another_structure_or_choice_of_options_is_refused(self):
        inputs.write_torch(self.path("model.pth"), inputs.lightning())
        self.run_tool("convert", "model.pth")
        for options in (["--select", "state_dict"], ["--exclude", "*.bias"], ["--no-seal"]):
            self.assert_error(self.refused("model.pth", *options), "file_exists", "model.safetensors exists")

    def test_a_damaged_output_is_refused(self):
        self.run_tool("convert", self.torch())
        whole = self.path("model.safetensors").read_bytes()
        for offset, what in ((-1, "tensor 'w': bytes [0,8) differ"), (40, "the seal does not match the header"),
                             (60, "the seal does not match the header"), (4000, "the header differs"),
                             (whole.index(b"flatbed.digests") + 18, "the seal does not match the header")):
            self.path("model.safetensors").write_bytes(whole)
            self.flip("model.safetensors", offset)
            self.assert_error(self.refused("model.pth"), "file_exists", what)
        self.path("model.safetensors").write_bytes(whole[:-1])
        self.assert_error(self.refused("model.pth"), "file_exists", "found 4103 bytes, expected 4104")

    def test_force_replaces_what_differs(self):
        self.path("model.safetensors").write_bytes(b"old")
        self.run_tool("convert", "--force", self.torch())
        self.assert_sealed("model.safetensors")

    def test_of_a_batch_the_refused_file_fails_alone(self):
        self.torch("a.pth")
        self.torch("b.pth")
        self.path("a.safetensors").write_bytes(b"precious")
        result = self.run_tool("convert", "a.pth", "b.pth", expect=SOME_FAILED)
        self.assert_error(result, "file_exists", "a.safetensors exists")
        self.assertIn("1 converted, 1 failed\n", result.stdout)
        self.assertEqual(self.path("a.safetensors").read_bytes(), b"precious")
        self.assert_sealed("b.safetensors")
        for options in (["a.pth"], ["a.pth", "--out-dir", "."]):
            self.refused(*options, output="a.safetensors")

    def test_two_models_of_one_shape_are_told_apart(self):
        self.path("x").mkdir()
        self.torch("model.pth")
        self.run_tool("convert", "model.pth", "--out-dir", "out")
        self.torch("x/model.pth", 1, 3)
        result = self.refused("x/model.pth", "--out-dir", "out", output="out/model.safetensors")
        self.assert_error(result, "file_exists", "tensor 'w': bytes [0,8) differ")

    def test_a_sealed_source_tells_all_its_chunks_apart(self):
        # More chunks than are read; only one that is not among them differs.
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 300 * inputs.CHUNK)
        self.run_tool("convert", "big.safetensors", "-o", "a.safetensors")
        self.run_tool("convert", "a.safetensors", "-o", "b.safetensors")
        self.flip("b.safetensors", 4096 * 3 + inputs.CHUNK + 5)
        self.assertIn("up to date", self.run_tool("convert", "a.safetensors", "-o", "b.safetensors").stdout)
        result = self.refused("--checksum", "a.safetensors", "-o", "b.safetensors", output="b.safetensors")
        self.assert_error(result, "file_exists", "bytes [262144,524288) differ")
        with open(self.path("big.safetensors"), "r+b") as file:
            file.seek(-300 * inputs.CHUNK + inputs.CHUNK, os.SEEK_END)
            file.write(b"x")
        self.run_tool("convert", "big.safetensors", "-o", "c.safetensors")
        result = self.refused("c.safetensors", "-o", "a.safetensors", output="a.safetensors")
        self.assert_error(result, "file_exists", "bytes [262144,524288) differ")

    def test_links_count_as_what_they_lead_to_and_exist_without_it(self):
        self.torch()
        self.run_tool("convert", "model.pth", "-o", "blob.safetensors")
        os.symlink("blob.safetensors", self.path("model.safetensors"))
        self.up_to_date("model.pth")
        os.unlink(self.path("blob.safetensors"))
        result = self.refused("model.pth")
        self.assert_error(result, "file_exists", "found a symbolic link that leads nowhere")

    def test_what_is_no_regular_file_is_never_replaced(self):
        self.torch()
        self.path("model.safetensors").mkdir()
        for force in ([], ["--force"]):
            self.assert_error(self.refused(*force, "model.pth"), "not_a_regular_file", "is a directory")
        self.path("model.safetensors").rmdir()
        os.mkfifo(self.path("model.safetensors"))
        for force in ([], ["--force"]):
            self.assert_error(self.refused(*force, "model.pth"), "not_a_regular_file", "not a regular file")

    def test_torch_outputs_follow_the_same_rule(self):
        self.torch("in.pth")
        arguments = ("in.pth", "-o", "out.pth")
        self.run_tool("convert", *arguments)
        self.up_to_date(*arguments, output="out.pth")
        self.up_to_date(*arguments, "--force", "--checksum", output="out.pth")
        whole = self.path("out.pth").read_bytes()
        data = whole.index(inputs.floats(1, 2))
        for offset, what in ((data, "tensor 'w': bytes [0,8) differ"), (whole.index(b"ctorch"), "data.pkl"),
                             (14, "the structure (data.pkl) differs"), (len(whole) - 1, "the zip's directory differs"),
                             (whole.index(b"little"), "zip entry 1 differs")):
            self.path("out.pth").write_bytes(whole)
            self.flip("out.pth", offset)
            self.assert_error(self.refused(*arguments, output="out.pth"), "file_exists", what)
        self.path("out.pth").write_bytes(whole)
        inputs.write_torch(self.path("in.pth"), {"w": inputs.Tensor([1], [1])})
        self.assert_error(self.refused(*arguments, output="out.pth"), "file_exists", "out.pth exists")
        self.run_tool("convert", "--force", *arguments)
        self.up_to_date(*arguments, output="out.pth")

    def test_a_set_and_a_folder_follow_the_same_rule(self):
        inputs.write_safetensors(self.path("m-1.safetensors"), {"w": ("U8", [1], b"x")})
        self.path("model.safetensors.index.json").write_text('{"weight_map": {"w": "m-1.safetensors"}}')
        self.path("model.safetensors").write_bytes(b"precious")
        self.assert_error(self.refused("model.safetensors.index.json"), "file_exists", "model.safetensors")
        self.path("model.safetensors").unlink()
        self.path("out.safetensors").write_bytes(b"precious")
        self.refused(".", "-o", "out.safetensors", output="out.safetensors")
        self.run_tool("convert", "--force", ".", "-o", "out.safetensors")
        self.up_to_date(".", "-o", "out.safetensors", output="out.safetensors")


    def test_a_shard_that_another_input_of_the_batch_consists_of_is_never_replaced(self):
        self.path("set").mkdir()
        inputs.write_safetensors(self.path("set/m-1.safetensors"), {"w": ("U8", [1], b"x")})
        index = "set/model.safetensors.index.json"
        self.path(index).write_text('{"weight_map": {"w": "m-1.safetensors"}}')
        inputs.write_torch(self.path("m-1.pth"), {"v": inputs.Tensor([1], [1])})
        for first in (index, "set"):
            result = self.refused(first, "m-1.pth", "--out-dir", "set", "--force", output="set/m-1.safetensors")
            self.assert_error(result, "invalid_argument", "refusing to overwrite set/m-1.safetensors")

    def test_the_folder_of_the_input_is_no_new_folder(self):
        inputs.write_safetensors(self.path("model.safetensors"), {"w": ("U8", [1], b"x")})
        result = self.refused(".", "-o", "../" + self.folder.name)
        self.assert_error(result, "invalid_argument", "is the folder of the input")

    def test_a_sidecar_of_another_file_is_no_seal_of_an_unsealed_output(self):
        inputs.write_safetensors(self.path("model.safetensors"), {"w": ("U8", [1], b"x")})
        self.run_tool("convert", "--sidecar", "model.safetensors")
        arguments = (self.torch(), "-o", "model.safetensors", "--no-seal", "--force")
        result = self.refused(*arguments)
        self.assert_error(result, "file_exists", "model.safetensors.flatbed.json exists and seals another file")
        self.path("model.safetensors.flatbed.json").unlink()
        self.run_tool("convert", *arguments)
        self.run_tool("convert", "--sidecar", "model.safetensors")
        self.up_to_date(*arguments)

    def test_a_folder_that_was_made_for_nothing_is_removed(self):
        self.path("bad.pth").write_bytes(b"<html>")
        self.run_tool("convert", "bad.pth", "--out-dir", "x/y", expect=FAILURE)
        self.assertEqual(self.names(), ["bad.pth"])
        self.path("x").mkdir()
        self.run_tool("convert", "bad.pth", "--out-dir", "x/y", expect=FAILURE)
        self.assertEqual((self.names(), os.listdir(self.path("x"))), (["bad.pth", "x"], []))

    def test_a_missing_input_of_a_new_folder_is_named(self):
        result = self.run_tool("convert", "nofolder", "-o", "new", expect=FAILURE)
        self.assert_error(result, "file_not_found", "nofolder does not exist")


class SidecarTest(OutputTest):
    def test_it_takes_no_option_that_would_do_nothing(self):
        inputs.write_safetensors(self.path("a.safetensors"), {"w": ("U8", [1], b"x")})
        for option in ("--whole", "--strict-crc", "--ignore-crc", "--ignore-seal"):
            result = self.run_tool("convert", "--sidecar", option, "a.safetensors", expect=USAGE)
            self.assert_error(result, "invalid_argument", "--sidecar seals files as they are")

    SIDECAR = "a.safetensors.flatbed.json"

    def sealed(self):
        inputs.write_safetensors(self.path("a.safetensors"), {"w": ("U8", [3], b"abc"), "x": ("U8", [1], b"d")})
        self.run_tool("convert", "--sidecar", "a.safetensors")
        return "--sidecar", "a.safetensors"

    def test_a_second_run_leaves_the_sidecar(self):
        arguments = self.sealed()
        self.up_to_date(*arguments, output=self.SIDECAR)
        self.up_to_date(*arguments, "--force", "--checksum", output=self.SIDECAR)

    def test_a_sidecar_that_calls_the_file_damaged_is_not_replaced_silently(self):
        arguments = self.sealed()
        self.flip("a.safetensors", -2)
        result = self.refused(*arguments, output=self.SIDECAR)
        self.assert_error(result, "file_exists", f"{self.SIDECAR} exists and does not match its file",
                          "may be damaged", "tensor 'w': bytes [0,3) differ", "--force to seal the file as it is")
        text = self.run_tool("convert", "--force", *arguments).stdout
        self.assertIn("a.safetensors: note: its sidecar did not match (tensor 'w': bytes [0,3) differ); "
                      "the new one seals the file as it is\n", text)
        self.assert_sealed("a.safetensors")
        self.up_to_date(*arguments, output=self.SIDECAR)

    def test_a_sidecar_of_another_file_or_none_at_all_is_refused(self):
        arguments = self.sealed()
        raw = self.path(self.SIDECAR).read_bytes()
        for content in (b"{}", raw[:-1], raw.replace(b"1/", b"2/", 1)):
            self.path(self.SIDECAR).write_bytes(content)
            self.assert_error(self.refused(*arguments, output=self.SIDECAR), "file_exists", self.SIDECAR)
        self.path(self.SIDECAR).write_bytes(raw)
        self.flip("a.safetensors", self.path("a.safetensors").read_bytes().index(b'"x"') + 1)
        self.assert_error(self.refused(*arguments, output=self.SIDECAR), "file_exists", "made for another header")


class PlacesTest(OutputTest):
    """Which path is the output."""

    def test_a_mistyped_second_input_is_no_output(self):
        result = self.run_tool("convert", self.torch("a.pth"), "bb.pth", expect=USAGE)
        self.assert_error(result, "invalid_argument", "bb.pth does not exist", "-o bb.pth")
        self.assertEqual(self.names(), ["a.pth"])

    def test_a_second_path_of_another_kind_is_the_output_if_it_does_not_exist(self):
        self.run_tool("convert", self.torch("x.PTH"), "y.safetensors")
        self.run_tool("convert", "y.safetensors", "z.pth")
        self.assertEqual(self.names(), ["x.PTH", "y.safetensors", "z.pth"])

    def test_a_second_path_that_exists_is_never_replaced(self):
        self.torch()
        self.path("y.safetensors").write_bytes(b"precious")
        for force in ([], ["--force"]):
            result = self.refused(*force, "model.pth", "y.safetensors", output="y.safetensors")
            self.assert_error(result, "file_exists", "to replace it use --force -o y.safetensors")
        self.run_tool("convert", "model.pth", "--force", "-o", "y.safetensors")
        self.assert_sealed("y.safetensors")

    def test_output_names_the_one_output(self):
        self.torch("a.pth")
        for option in ("-o", "--output"):
            self.run_tool("convert", "a.pth", option, "b.pth")
        self.run_tool("convert", "-o", "c.safetensors", "a.pth")
        self.run_tool("convert", "-o", "-d.safetensors", "--", "a.pth")
        self.run_tool("convert", "a.pth", "--", "-e.safetensors")
        self.assertEqual(self.names(), ["-d.safetensors", "-e.safetensors", "a.pth", "b.pth", "c.safetensors"])

    def test_output_and_what_contradicts_it(self):
        self.torch("a.pth")
        self.torch("b.pth")
        for arguments, words in (
            (["a.pth", "b.pth", "-o", "c.safetensors"], "--output needs a single input: found 2"),
            (["a.pth", "-o", "c.safetensors", "--out-dir", "d"], "--output and --out-dir cannot be combined"),
            (["--sidecar", "a.safetensors", "-o", "x"], "--output"),
            (["a.pth", "-o", "c.onnx"], "must end in .safetensors"),
            (["a.pth", "-o", ""], "the path is empty"),
            (["a.pth", "--out-dir", ""], "the path is empty"),
            (["a.pth", "-o", "a.pth"], "refusing to overwrite"),
            (["a.pth", "-o", "."], "is a directory: use --out-dir"),
        ):
            self.assert_error(self.run_tool("convert", *arguments, expect=USAGE), "invalid_argument", words)
        self.assertEqual(self.names(), ["a.pth", "b.pth"])


class DryRunTest(OutputTest):
    """A dry run ends as the run does, with the same words, and changes nothing."""

    def alike(self, *arguments, code, **options):
        times = os.stat(self.folder).st_mtime_ns
        dry = self.run_tool("convert", "--dry-run", *arguments, expect=FAILURE, **options)
        result = self.run_tool("convert", *arguments, expect=FAILURE, **options)
        self.assertEqual(dry.stderr, result.stderr)
        self.assert_error(dry, code)
        return times

    def test_a_missing_directory(self):
        self.alike(self.torch(), "-o", "missing/x.safetensors", code="file_not_found")
        self.alike("model.pth", "-o", "missing/x.pth", code="file_not_found")

    def test_a_directory_that_cannot_be_made(self):
        self.alike(self.torch(), "--out-dir", "model.pth/x/y", code="io_error")
        self.alike("model.pth", "--out-dir", "model.pth", code="io_error")

    def test_a_full_disk(self):
        def small_disk():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, 1 << 10))

        for out in (["-o", "x.safetensors"], ["--out-dir", "."]):
            self.alike(self.torch(), *out, code="no_space", preexec_fn=small_disk)
        self.assertEqual(self.names(), ["model.pth"])

    @unittest.skipUnless(os.geteuid() == 0, "only root can become somebody who may not write")
    def test_a_directory_that_may_not_be_written_to(self):
        self.torch()
        self.path("model.pth").chmod(0o644)
        self.folder.chmod(0o755)
        somebody = {"user": 65534, "group": 65534, "extra_groups": []}
        for out in (["-o", "x.safetensors"], ["-o", "x.pth"], []):
            self.alike("model.pth", *out, code="permission_denied", **somebody)
        self.alike("model.pth", "--out-dir", "new/dir", code="io_error", **somebody)

    def test_an_out_dir_that_is_still_to_be_made(self):
        text = self.run_tool("convert", "--dry-run", self.torch(), "--out-dir", "new/dir").stdout
        self.assertIn("new/dir/model.safetensors: would be written", text)
        self.assertEqual(self.names(), ["model.pth"])


class TwiceTest(OutputTest):
    """What people run again ends with 0 again."""

    def twice(self, command, folder):
        for _ in range(2):
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
            self.assertEqual(done.returncode, OK, (command, done.stdout, done.stderr))
        self.assertIn("up to date", done.stdout)

    def test_the_lines_of_quickstart(self):
        text = (ROOT / "tools/quickstart").read_text().replace("\\\n", " ")
        lines = [shlex.split(line) for line in text.splitlines() if line.startswith("say_and_run ")]
        self.assertEqual([line[2] for line in lines], ["convert", "verify", "ls"])
        self.path("tests").symlink_to(ROOT / "tests")
        self.path("build/quickstart").mkdir(parents=True)
        self.twice([binary(), *lines[0][2:]], self.folder)
        self.assert_sealed("build/quickstart/checkpoint.safetensors")

    def test_the_lines_of_the_readme(self):
        lines = re.findall(r"(?m)^\$ flatbed (convert [^|\n]*)$", (ROOT / "README.md").read_text())
        self.assertGreaterEqual(len(lines), 2)
        shutil.copy(ROOT / "tests/fixtures/torch2/checkpoint.pth", self.path("checkpoint.pth"))
        for line in lines:
            self.twice([binary(), *(word for word in shlex.split(line) if word != "--quiet")], self.folder)

    @unittest.skipIf(shutil.which("make") is None, "make is not here")
    def test_a_rule_of_a_makefile(self):
        self.torch()
        self.path("Makefile").write_text(f"%.safetensors: %.pth\n\t{shlex.quote(binary())} convert $< -o $@\n")
        self.twice(["make", "-B", "model.safetensors"], self.folder)

    def test_a_batch_that_was_interrupted(self):
        names = [self.torch(name) for name in ("a.pth", "b.pth", "c.pth")]
        self.run_tool("convert", "a.pth")  # as far as it came
        for expected in (["up_to_date", "converted", "converted"], ["up_to_date"] * 3):
            report = self.run_json("convert", *names)
            self.assertEqual([file["status"] for file in report["files"]], expected)
        self.assertEqual((report["up_to_date"], report["converted"]), (3, 0))
