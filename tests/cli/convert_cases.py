"""flatbed convert, one file at a time: its files, messages, refusals and leftovers."""

import collections
import json
import os
import pathlib
import resource
import shutil
import zipfile

import inputs
import writer
from tool import FAILURE, OK, ROOT, UNSEALED, USAGE, ToolTest


class ConvertTest(ToolTest):
    def lightning(self, name="model.ckpt"):
        inputs.write_torch(self.path(name), inputs.lightning())
        return name

    def plain(self, name="a.safetensors"):
        inputs.write_safetensors(self.path(name), {"a": ("U8", [3], b"abc"), "b": ("F32", [1], inputs.floats(2))})
        return name

    def test_writes_a_sealed_file_beside_the_input(self):
        self.run_tool("convert", self.lightning())
        self.assertEqual(self.names(), ["model.ckpt", "model.safetensors"])
        self.assert_sealed("model.safetensors")

    def test_everything_arrives(self):
        self.run_tool("convert", self.lightning(), "out.safetensors")
        loaded = self.load("out.safetensors")
        self.assertEqual(list(loaded), list(inputs.lightning()))
        self.assertEqual(loaded["epoch"], 12)
        self.assertIsInstance(loaded["state_dict"], collections.OrderedDict)
        self.assertEqual(loaded["hyper_parameters"], {"name": "tiny", "sizes": (2, 3)})
        self.assertEqual(loaded["optimizer_states"][0]["param_groups"], [{"lr": 0.001, "params": [0]}])
        for name, values in (("fc.weight", (1, 2, 3, 4, 5, 6)), ("fc.bias", (7, 8, 9))):
            stored = self.run_raw("cat", "out.safetensors", f"state_dict.{name}").stdout
            self.assertEqual(stored, inputs.floats(*values))

    def test_says_what_it_found_kept_and_wrote(self):
        lines = self.run_tool("convert", self.lightning()).stdout.splitlines()
        self.assertEqual(lines[0], "model.ckpt: Lightning checkpoint, epoch 12: 3 tensors, 60 B")
        self.assertIn("--select state_dict", lines[1])
        written = r"model\.safetensors: written: 3 tensors, .*, sealed, content [0-9a-f]{16}, \d+\.\d s"
        self.assertRegex(lines[2], rf"\A{written}\Z")
        self.assertEqual(len(lines), 3)

    def test_select_keeps_one_part_and_says_so(self):
        text = self.run_tool("convert", "--select", "state_dict", self.lightning()).stdout
        self.assertIn("model.ckpt: keeping state_dict: 2 tensors, 36 B\n", text)
        listed = self.run_json("ls", "model.safetensors")
        self.assertEqual(sorted(tensor["name"] for tensor in listed["tensors"]), ["fc.bias", "fc.weight"])
        self.assert_sealed("model.safetensors")

    def test_a_selection_of_nothing_is_an_error(self):
        result = self.run_tool("convert", "--select", "weights", self.lightning(), expect=FAILURE)
        self.assert_error(result, "path_not_found", "model.ckpt", "weights")
        result = self.run_tool("convert", "--include", "zzz*", "model.ckpt", expect=FAILURE)
        self.assert_error(result, "tensor_not_found", "model.ckpt")
        self.assertEqual(self.names(), ["model.ckpt"])

    def test_a_mistyped_selection_is_suggested(self):
        result = self.run_tool("convert", "--select", "state-dict", self.lightning(), expect=FAILURE)
        self.assert_error(result, "path_not_found", "nothing at 'state-dict' of the root",
                          "did you mean 'state_dict'?")
        result = self.run_tool("convert", "--select", "weights", "model.ckpt", expect=FAILURE)
        self.assertNotIn("did you mean", result.stderr)

    def test_include_and_exclude_choose_by_name(self):
        globs = ["--include", "*weight", "--include", "*bias", "--exclude", "*.bias"]
        self.run_tool("convert", *globs, self.lightning(), "out.safetensors")
        listed = self.run_json("ls", "out.safetensors")
        self.assertEqual([tensor["name"] for tensor in listed["tensors"]], ["state_dict.fc.weight"])

    def test_no_seal_writes_a_plain_file_and_says_what_it_leaves_out(self):
        text = self.run_tool("convert", "--no-seal", self.lightning()).stdout
        self.assertRegex(text, r"note: .*without a seal")
        listed = self.run_json("ls", "model.safetensors")
        self.assertEqual((listed["seal"], listed["tensor_count"]), ("unsealed", 3))

    def test_a_safetensors_file_is_aligned_and_sealed(self):
        self.run_tool("convert", self.plain(), "-o", "b.safetensors")
        self.assert_sealed("b.safetensors")
        offsets = [tensor["offset"] for tensor in self.run_json("ls", "b.safetensors")["tensors"]]
        self.assertEqual(min(offsets) % 4096, 0)
        self.assertEqual(self.run_raw("cat", "b.safetensors", "a").stdout, b"abc")

    def test_tied_tensors_become_an_alias_or_are_expanded(self):
        weight = inputs.Tensor([2], [1, 2])
        inputs.write_torch(self.path("t.pth"), {"embed": weight, "head": weight})
        self.run_tool("convert", "t.pth")
        listed = self.run_json("ls", "t.safetensors")
        self.assertEqual((listed["tensor_count"], listed["aliases"]), (1, [{"name": "head", "target": "embed"}]))
        self.run_tool("convert", "t.pth", "--expand-aliases", "--force")
        listed = self.run_json("ls", "t.safetensors")
        self.assertEqual((listed["tensor_count"], listed["aliases"]), (2, []))
        self.assertEqual(self.run_raw("cat", "t.safetensors", "head").stdout, inputs.floats(1, 2))

    def test_a_huge_expansion_is_refused_unless_allowed(self):
        value = inputs.Tensor([1 << 20, 1 << 10], [1], stride=(0, 0))
        inputs.write_torch(self.path("e.pth"), {"w": value})
        result = self.run_tool("convert", "e.pth", expect=FAILURE)
        self.assert_error(result, "expansion_refused", "e.pth", "--allow-expansion")
        self.assertEqual(self.names(), ["e.pth"])
        self.run_tool("convert", "e.pth", "--allow-expansion", "--dry-run")

    def test_tensors_that_claim_more_bytes_than_can_be_counted_have_no_small_size(self):
        value = {f"w{i}": inputs.Tensor([1 << 29, 1 << 29], [1], stride=(0, 0)) for i in range(16)}  # 16 EiB
        inputs.write_torch(self.path("e.pth"), value)
        result = self.run_tool("convert", "e.pth", "--allow-expansion", "--dry-run", expect=FAILURE)
        self.assertEqual(result.stdout, "e.pth: state dict: 16 tensors, 16.0 EiB\n")
        found = self.run_json("convert", "e.pth", "--allow-expansion", "--dry-run", expect=FAILURE)["files"][0]
        self.assertEqual((found["found"], found["nbytes"]), ("state dict: 16 tensors, 16.0 EiB", 2**64 - 1))

    def test_a_record_with_another_crc_is_refused_or_warned_about(self):
        inputs.write_torch(self.path("t.pth"), {"w": inputs.Tensor([2], [1, 2])})
        self.run_tool("convert", "--strict-crc", "t.pth", "whole.safetensors")
        inputs.state_another_crc(self.path("t.pth"), "archive/data/0")
        for out in ("c.safetensors", "c.pth"):
            result = self.run_tool("convert", "t.pth", "-o", out, expect=FAILURE)
            self.assert_error(result, "zip_crc_mismatch", "t.pth", "archive/data/0", "use --ignore-crc to")
        warning = r"\Aflatbed: t\.pth: warning: record 'archive/data/0': CRC-32 does not match: found 0x.*\n\Z"
        result = self.run_tool("convert", "--ignore-crc", "--quiet", "t.pth", "a.safetensors")
        self.assertRegex(result.stderr, warning)
        report = self.run_json("convert", "--ignore-crc", "t.pth", "--force", "-o", "b.pth")["files"][0]
        self.assertEqual([row["record"] for row in report["crc"]["mismatches"]], ["archive/data/0"])
        self.assertEqual((report["crc"]["checked"], len(report["notes"]), len(report["warnings"])), (4, 0, 1))
        result = self.run_tool("convert", "--ignore-crc", "t.pth", "--out-dir", "out")
        self.assertRegex(result.stderr, warning)
        self.assertIn("out/t.safetensors (warning: CRC mismatch in 1 record)\n", result.stdout)
        shutil.rmtree(self.path("out"))
        self.run_tool("convert", "--ignore-crc", "--strict-crc", "t.pth", expect=USAGE)
        for out in ("c.safetensors", "c.pth"):
            result = self.run_tool("convert", "--strict-crc", "t.pth", "-o", out, expect=FAILURE)
            self.assert_error(result, "zip_crc_mismatch", "t.pth", "archive/data/0", "--strict-crc")
        self.assertEqual(self.names(), ["a.safetensors", "b.pth", "t.pth", "whole.safetensors"])

    def test_a_storage_that_states_0_as_crc_states_none(self):
        inputs.write_torch(self.path("t.pth"), {"w": inputs.Tensor([2], [1, 2])})
        inputs.state_another_crc(self.path("t.pth"), "archive/data/0", crc=0)
        text = self.run_tool("convert", "t.pth", "a.safetensors").stdout
        self.assertIn("note: 1 storage states 0 as CRC, which means none, and cannot be checked\n", text)
        text = self.run_tool("verify", "t.pth", expect=UNSEALED).stdout
        self.assertEqual(text, "t.pth: no seal; all 3 zip CRCs match; 1 storage states no CRC\n")

    def test_the_output_has_the_permissions_of_the_input(self):
        def mode(name):
            return oct(os.stat(self.path(name)).st_mode & 0o7777)

        inputs.write_torch(self.path("t.pth"), {"w": inputs.Tensor([2], [1, 2])})
        for bits in (0o600, 0o640, 0o4755):
            os.chmod(self.path("t.pth"), bits)
            for out in ("a.safetensors", "a.pth"):
                self.run_tool("convert", "t.pth", "-o", out)
                self.assertEqual(mode(out), oct(bits & 0o777), out)
                self.path(out).unlink()
        inputs.write_torch(self.path("empty.pth"), {"token": "secret"})
        os.chmod(self.path("empty.pth"), 0o600)
        self.run_tool("convert", "empty.pth", "empty.safetensors")
        self.assertEqual(mode("empty.safetensors"), "0o600")
        os.chmod(self.path(self.plain()), 0o600)
        self.run_tool("convert", "--sidecar", self.plain())
        self.assertEqual(mode(self.plain() + ".flatbed.json"), "0o600")

    def test_of_a_set_the_output_has_the_permissions_that_all_shards_have(self):
        for i, bits in enumerate((0o644, 0o604)):
            inputs.write_safetensors(self.path(f"s{i}.safetensors"), {f"w{i}": ("U8", [1], b"x")})
            os.chmod(self.path(f"s{i}.safetensors"), bits)
        index = {"weight_map": {f"w{i}": f"s{i}.safetensors" for i in range(2)}}
        self.path("model.safetensors.index.json").write_text(json.dumps(index))
        self.run_tool("convert", "model.safetensors.index.json", "-o", "out.safetensors")
        self.assertEqual(os.stat(self.path("out.safetensors")).st_mode & 0o7777, 0o604)

    def test_an_output_that_is_a_link_is_replaced_and_its_target_stays(self):
        inputs.write_torch(self.path("t.pth"), {"w": inputs.Tensor([2], [1, 2])})
        self.path("blobs").mkdir()
        self.path("blobs/abc").write_bytes(b"blob")
        for target in ("blobs/abc", "blobs/none"):
            self.path("out.safetensors").symlink_to(target)
            self.run_tool("convert", "--force", "t.pth", "-o", "out.safetensors")
            self.assertFalse(self.path("out.safetensors").is_symlink())
            self.assert_sealed("out.safetensors")
            self.path("out.safetensors").unlink()
        self.assertEqual(os.listdir(self.path("blobs")), ["abc"])
        self.assertEqual(self.path("blobs/abc").read_bytes(), b"blob")

    def test_a_zip_without_crcs_is_noted_or_refused(self):
        source = ROOT / "tests/fixtures/torch2/without_crc.pth"
        text = self.run_tool("convert", source, "a.safetensors").stdout
        self.assertIn("note: without_crc.pth: the zip states no CRCs, so its records cannot be checked", text)
        result = self.run_tool("convert", "--strict-crc", source, "b.safetensors", expect=FAILURE)
        self.assert_error(result, "zip_crc_mismatch", "without_crc.pth", "states no CRC")
        self.assertEqual(self.names(), ["a.safetensors"])

    def test_a_torch_file_is_written_for_out_that_ends_in_pth(self):
        text = self.run_tool("convert", self.plain(), "b.pth").stdout
        self.assertIn("b.pth: written", text)
        self.assertIn("a PyTorch file", text)
        with zipfile.ZipFile(self.path("b.pth")) as archive:
            self.assertIsNone(archive.testzip())
            self.assertEqual(archive.namelist()[:2], ["archive/data.pkl", "archive/byteorder"])
            self.assertEqual(archive.namelist()[-1], "archive/version")
            self.assertEqual(archive.read("archive/version"), b"3\n")
            self.assertIn(b"abc", [archive.read(name) for name in archive.namelist()])
        self.assertEqual(self.run_raw("cat", "b.pth", "a").stdout, b"abc")

    def test_a_torch_file_goes_there_and_back(self):
        self.run_tool("convert", self.lightning(), "a.safetensors")
        for out in ("b.pth", "b.pt", "b.bin", "b.ckpt"):
            self.run_tool("convert", "a.safetensors", out)
            self.assertEqual(self.run_tool("ls", "--tree", out).stdout.splitlines()[1:],
                             self.run_tool("ls", "--tree", "model.ckpt").stdout.splitlines()[1:])
        self.run_tool("convert", "a.safetensors", "c.pth", "--select", "state_dict")
        names = [tensor["name"] for tensor in self.run_json("ls", "c.pth")["tensors"]]
        self.assertTrue(names and not any(name.startswith("state_dict") for name in names), names)

    def test_a_torch_file_is_replaced_by_force_alone(self):
        self.run_tool("convert", self.plain(), "-o", "b.pth")
        inputs.write_safetensors(self.path("a.safetensors"), {"other": ("U8", [1], b"x")})
        result = self.run_tool("convert", "a.safetensors", "-o", "b.pth", expect=USAGE)
        self.assert_error(result, "file_exists", "b.pth", "--force")
        self.run_tool("convert", "--force", "a.safetensors", "-o", "b.pth")
        self.assertEqual(self.run_raw("cat", "b.pth", "other").stdout, b"x")

    def test_options_of_torch_files_need_one(self):
        for option in ("--allow-conversion", "--unsafe-objects", "--keep-device"):
            result = self.run_tool("convert", option, self.plain(), "-o", "b.safetensors", expect=USAGE)
            self.assert_error(result, "invalid_argument", option, ".pth")
        result = self.run_tool("convert", "--expand-aliases", "a.safetensors", "b.pth", expect=USAGE)
        self.assert_error(result, "invalid_argument", "--expand-aliases")

    def test_what_weights_only_refuses_is_named_or_converted(self):
        inputs.write_torch(self.path("n.pth"), {"w": inputs.Tensor([2], [1, 2]), "s": frozenset([3])})
        result = self.run_tool("convert", "n.pth", "-o", "o.pth", expect=FAILURE)
        self.assert_error(result, "weights_only_refused", "'s'", "builtins.frozenset", "--allow-conversion")
        self.assertEqual(self.names(), ["n.pth"])
        text = self.run_tool("convert", "--allow-conversion", "n.pth", "-o", "o.pth").stdout
        self.assertIn("note: builtins.frozenset became set: at 's'", text)
        self.run_tool("convert", "--unsafe-objects", "n.pth", "-o", "p.pth")

    def test_a_sidecar_leaves_the_file_as_it_is(self):
        before = self.path(self.plain()).read_bytes()
        text = self.run_tool("convert", "--sidecar", "a.safetensors").stdout
        self.assertIn("a.safetensors.flatbed.json: written", text)
        self.assertEqual(self.names(), ["a.safetensors", "a.safetensors.flatbed.json"])
        self.assertEqual(self.path("a.safetensors").read_bytes(), before)
        self.assert_sealed("a.safetensors")

    def test_a_dry_run_writes_nothing(self):
        text = self.run_tool("convert", "--dry-run", self.lightning()).stdout
        self.assertIn("model.safetensors: would be written: 3 tensors, 60 B\n", text)
        self.run_tool("convert", "--dry-run", "model.ckpt", "--out-dir", "new")
        self.assertEqual(self.names(), ["model.ckpt"])

    def test_quiet_says_nothing_and_progress_never_reaches_a_pipe(self):
        result = self.run_tool("convert", "--quiet", self.lightning())
        self.assertEqual((result.stdout, result.stderr), ("", ""))
        self.assertEqual(self.run_tool("convert", "model.ckpt").stderr, "")

    def test_progress_with_rate_and_time_on_a_terminal(self):
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 64 << 20)
        drawn = self.run_on_terminal("convert", "big.safetensors", "-o", "out.safetensors", stream="stderr").stderr
        self.assertRegex(drawn, r"converting \d[^,]* of 64\.0 MiB, [^,]*/s")

    def test_json_reports_what_was_done(self):
        report = self.run_json("convert", self.lightning(), "-o", "out.safetensors")
        (file,) = report["files"]
        self.assertEqual((report["converted"], report["failed"], report["exit_code"]), (1, 0, 0))
        self.assertEqual((file["input"], file["output"]), ("model.ckpt", "out.safetensors"))
        self.assertEqual(file["status"], "converted")
        self.assertEqual((file["tensors"], file["nbytes"]), (3, 60))
        self.assertEqual(file["file_nbytes"], self.path("out.safetensors").stat().st_size)
        self.assertTrue(file["durable"])
        self.assertRegex(file["content"], r"\A[0-9a-f]{16}\Z")
        self.assertFalse(self.run_json("convert", "model.ckpt", "--no-sync")["files"][0]["durable"])

    def test_json_reports_failures_with_code_name_and_message(self):
        report = self.run_json("convert", "missing.pth", expect=FAILURE)
        error = report["files"][0]["error"]
        self.assertEqual((error["code"], error["name"]), (2, "file_not_found"))
        self.assertIn("missing.pth", error["message"])
        self.assertEqual((report["failed"], report["exit_code"]), (1, 1))

    def test_content_decides_not_the_extension(self):
        os.rename(self.path(self.lightning()), self.path("model.bin"))
        self.run_tool("convert", "model.bin")
        self.assert_sealed("model.safetensors")

    def test_impostors_are_named_and_leave_nothing(self):
        for name, (content, code, word) in inputs.IMPOSTORS.items():
            self.path(name).write_bytes(content)
            result = self.run_tool("convert", name, "-o", "out.safetensors", expect=FAILURE)
            self.assert_error(result, code, name, word)
            self.assertFalse(self.path("out.safetensors").exists())

    def test_a_file_name_with_spaces_and_control_characters(self):
        name = "my model\x1b[1m.pth"
        self.lightning(name)
        text = self.run_tool("convert", name).stdout
        self.assertNotIn("\x1b", text)
        self.assert_sealed("my model\x1b[1m.safetensors")


class WholeModelTest(ToolTest):
    """Files of torch.save(model)."""

    NAMES = ["0.weight", "0.mean", "1.weight", "head.weight"]

    def model(self):
        inputs.write_torch(self.path("m.pt"), inputs.net())
        return "m.pt"

    def checkpoint(self):
        state = {"optimizer": {"state": {0: {"m": inputs.Tensor([1], [1])}}, "param_groups": []}}
        value = {"epoch": 3, "model": inputs.net(), "ema": inputs.net(), "plain": {"a.b": inputs.Tensor([1], [2])}}
        inputs.write_torch(self.path("c.pt"), {**value, **state})
        return "c.pt"

    def test_a_model_becomes_its_state_dict_and_the_tool_says_so(self):
        lines = self.run_tool("convert", self.model()).stdout.splitlines()
        self.assertEqual(lines[0], "m.pt: whole model inputs.Module: 4 tensors, 32 B")
        self.assertEqual(lines[1], "m.pt: keeping its state dict: 3 tensors, 28 B; "
                         "use --whole to keep the whole object")
        self.assertIn("m.pt: note: 2 buffers that are not persistent and thus not part of the state dict", lines)
        loaded = self.load("m.safetensors")
        self.assertIsInstance(loaded, collections.OrderedDict)
        self.assertEqual(list(loaded), self.NAMES)
        self.assertEqual(self.run_raw("cat", "m.safetensors", "head.weight").stdout, inputs.floats(6, 7))

    def test_whole_keeps_everything(self):
        text = self.run_tool("convert", "--whole", self.model(), "w.safetensors").stdout
        self.assertNotIn("keeps", text)
        listed = self.run_json("ls", "w.safetensors")
        self.assertEqual(listed["kind"], "whole model inputs.Module")
        names = sorted(tensor["name"] for tensor in listed["tensors"])
        self.assertEqual(names, ["0.mean", "0.weight", "1.tmp", "1.weight"])
        self.assertEqual(listed["aliases"], [{"name": "flat.0", "target": "0.weight"}])
        self.run_tool("convert", "w.safetensors", "-o", "s.safetensors")
        self.run_tool("convert", "m.pt", "t.safetensors")
        self.assertEqual(self.path("s.safetensors").read_bytes(), self.path("t.safetensors").read_bytes())

    def test_a_checkpoint_with_models_is_kept_and_says_what_can_be_selected(self):
        lines = self.run_tool("convert", self.checkpoint()).stdout.splitlines()
        self.assertEqual(
            lines[1],
            "c.pt: keeping everything; for the weights only, use one of: "
            "--select ema (whole model inputs.Module, 4 tensors), "
            "--select model (whole model inputs.Module, 4 tensors), --select plain (state dict, 1 tensor)",
        )
        (file,) = self.run_json("convert", "c.pt", "--dry-run")["files"]
        self.assertEqual([pick["select"] for pick in file["weights"]], ["ema", "model", "plain"])
        self.assertEqual(file["weights"][0]["kind"], "whole model inputs.Module")
        self.assertEqual(self.run_json("ls", "c.pt")["weights"], file["weights"])

    def test_a_selected_model_is_its_state_dict(self):
        text = self.run_tool("convert", "--select", "model", self.checkpoint()).stdout
        self.assertIn("keeping model, the state dict of whole model inputs.Module: 3 tensors, 28 B", text)
        self.assertEqual(list(self.load("c.safetensors")), self.NAMES)
        self.run_tool("convert", "--select", "model.head", "c.pt", "h.safetensors")
        self.assertEqual(list(self.load("h.safetensors")), ["weight"])
        self.run_tool("convert", "--select", "optimizer.state", "c.pt", "o.safetensors")
        self.assertEqual(list(self.load("o.safetensors")), [0])
        self.run_tool("convert", "--select", "model", "--whole", "c.pt", "w.safetensors")
        self.assertEqual(self.run_json("ls", "w.safetensors")["kind"], "whole model inputs.Module")

    def test_every_command_selects_alike(self):
        names = [tensor["name"] for tensor in self.run_json("ls", self.checkpoint(), "--select", "ema")["tensors"]]
        self.assertEqual(names, ["0.weight", "0.mean", "1.weight"])
        loaded = self.run_json("load", "c.pt", "--select", "ema")
        self.assertIn("3", json.dumps(loaded))
        self.assertEqual(self.run_raw("cat", "c.pt", "head.weight", "--select", "ema").stdout, inputs.floats(6, 7))

    def test_globs_choose_within_the_state_dict(self):
        text = self.run_tool("convert", self.model(), "--include", "head.*").stdout
        self.assertIn("m.pt: keeping matching tensors of its state dict: 1 tensor, 8 B", text)

    def test_a_model_without_tensors_of_its_own_is_kept_whole(self):
        inputs.write_torch(self.path("e.pt"), inputs.Module(cache=inputs.Tensor([1], [1])))
        self.assertNotIn("keeps", self.run_tool("convert", "e.pt").stdout)
        self.assertEqual(self.run_json("ls", "e.safetensors")["kind"], "whole model inputs.Module")

    def test_a_torch_file_gets_the_state_dict_of_a_model_when_allowed(self):
        result = self.run_tool("convert", self.checkpoint(), "-o", "o.pth", expect=FAILURE)
        self.assert_error(result, "weights_only_refused", "'model'", "whole model inputs.Module", "--allow-conversion")
        text = self.run_tool("convert", "--allow-conversion", "c.pt", "-o", "o.pth").stdout
        self.assertIn("note: whole model inputs.Module became its state dict: 2 times, first at 'model'", text)
        # Two buffers of each model are not persistent; what else a model holds is no part of its state dict.
        self.assertIn("c.pt: keeping what weights_only=True allows and replacing the rest; "
                      "for the weights only, use one", text)
        self.assertNotIn("everything", text)
        held = len(self.run_json("ls", "o.pth")["tensors"])
        self.assertLess(held, len(self.run_json("ls", "c.pt")["tensors"]))
        self.assertIn(f"o.pth: written: {held} tensors, ", text)
        (file,) = self.run_json("convert", "--allow-conversion", "--dry-run", "c.pt", "-o", "n.pth")["files"]
        self.assertEqual(file["tensors"], held)
        self.assertEqual(file["nbytes"], sum(tensor["nbytes"] for tensor in self.run_json("ls", "o.pth")["tensors"]))
        loaded = self.run_json("ls", "o.pth", "--select", "ema")
        self.assertEqual([tensor["name"] for tensor in loaded["tensors"]], ["0.weight", "0.mean", "1.weight"])
        self.assertEqual(loaded["kind"], "state dict")
        self.run_tool("convert", self.model(), "-o", "s.pth")
        self.assertEqual(self.run_json("ls", "s.pth")["kind"], "state dict")
        result = self.run_tool("convert", "--whole", "m.pt", "-o", "w.pth", expect=FAILURE)
        self.assert_error(result, "weights_only_refused", "at the root", "whole model inputs.Module")


class GrammarTest(ToolTest):
    def torch(self, name):
        inputs.write_torch(self.path(name), {"w": inputs.Tensor([1], [1])})
        return name

    def safetensors(self, name):
        inputs.write_safetensors(self.path(name), {name: ("U8", [1], b"x")})
        return name

    def refused(self, *arguments):
        before = {path: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}
        result = self.run_tool("convert", *arguments, expect=USAGE)
        after = {path: path.read_bytes() for path in self.folder.iterdir() if path.is_file()}
        self.assertEqual(before, after)
        return result

    def test_a_safetensors_input_needs_a_place_for_its_output(self):
        result = self.refused(self.safetensors("a.safetensors"))
        self.assert_error(result, "invalid_argument", "-o OUT", "--out-dir", "--sidecar")

    def test_wrong_command_lines_are_objects_in_json(self):
        report = self.run_json("convert", self.safetensors("a.safetensors"), expect=USAGE)
        self.assertEqual((report["exit_code"], report["error"]["name"]), (USAGE, "invalid_argument"))

    def test_an_output_that_is_not_named_safetensors(self):
        self.assert_error(self.refused(self.torch("a.pth"), "b.onnx"), "invalid_argument", "b.onnx",
                          ".safetensors", ".bin")

    def test_several_inputs_with_one_output(self):
        result = self.refused(self.torch("a.pth"), self.torch("b.pth"), "c.safetensors")
        self.assert_error(result, "invalid_argument", "c.safetensors", "--out-dir")

    def test_two_safetensors_files_never_overwrite_each_other(self):
        self.safetensors("a.safetensors")
        self.safetensors("b.safetensors")
        for force in ([], ["--force"]):
            result = self.refused(*force, "a.safetensors", "b.safetensors")
            self.assert_error(result, "invalid_argument", "a.safetensors", "would overwrite itself", "-o OUT")
        self.run_tool("convert", "--force", "a.safetensors", "-o", "b.safetensors")
        self.assert_sealed("b.safetensors")

    def test_an_input_is_never_its_own_output(self):
        self.safetensors("a.safetensors")
        os.symlink("a.safetensors", self.path("link.safetensors"))
        for out in ("a.safetensors", "./a.safetensors", "link.safetensors"):
            self.assert_error(self.refused("--force", "a.safetensors", "-o", out), "invalid_argument",
                              "refusing to overwrite")
        self.assert_error(self.refused("a.safetensors", "--out-dir", "."), "invalid_argument", "refusing to overwrite")

    def test_a_hard_link_to_the_input_is_the_input(self):
        self.safetensors("a.safetensors")
        os.link(self.path("a.safetensors"), self.path("b.safetensors"))
        result = self.run_tool("convert", "--force", "a.safetensors", "-o", "b.safetensors", expect=USAGE)
        self.assert_error(result, "invalid_argument", "b.safetensors", "refusing to overwrite")

    def test_two_inputs_with_one_output_name(self):
        result = self.refused(self.torch("a.pth"), self.torch("a.bin"))
        self.assert_error(result, "name_collision", "a.pth", "a.bin", "a.safetensors")
        self.path("d").mkdir()
        result = self.refused("a.pth", self.torch("d/a.pth"), "--out-dir", "out")
        self.assert_error(result, "name_collision", "d/a.pth")

    def test_a_directory_is_no_output_and_needs_a_named_one(self):
        self.path("d.safetensors").mkdir()
        self.assert_error(self.refused(self.torch("a.pth"), "d.safetensors"), "invalid_argument", "--out-dir")
        self.assert_error(self.refused("d.safetensors"), "invalid_argument", "directory")

    def test_out_dir_is_made_and_keeps_the_name(self):
        self.run_tool("convert", self.torch("a.pth"), "--out-dir", "x/y")
        self.assert_sealed("x/y/a.safetensors")

    def test_an_out_dir_that_cannot_be_made(self):
        result = self.run_tool("convert", self.torch("a.pth"), "--out-dir", "a.pth/x", expect=FAILURE)
        self.assert_error(result, "io_error", "a.pth/x")

    def test_a_set_becomes_one_file(self):
        weight_map = {}
        for number, name in ((1, "w"), (2, "v")):
            shard = f"m-0000{number}-of-00002.safetensors"
            inputs.write_safetensors(self.path(shard), {name: ("U8", [1], b"x")})
            weight_map[name] = shard
        self.path("m.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        self.run_tool("convert", "m.safetensors.index.json")
        self.assert_sealed("m.safetensors")
        listed = self.run_json("ls", "m.safetensors")
        self.assertEqual(sorted(tensor["name"] for tensor in listed["tensors"]), ["v", "w"])
        self.run_tool("convert", ".", "--out-dir", "out")
        self.assert_sealed(pathlib.Path("out") / f"{self.folder.name}.safetensors")


class SafetyTest(ToolTest):
    def test_a_full_disk_leaves_the_old_output_and_nothing_else(self):
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 8 << 20)
        self.path("out.safetensors").write_bytes(b"the old one")

        def small_disk():
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

        arguments = ("convert", "--force", "big.safetensors", "-o", "out.safetensors")
        result = self.run_tool(*arguments, expect=FAILURE, preexec_fn=small_disk)
        self.assert_error(result, "no_space", "out.safetensors")
        self.assertEqual(self.names(), ["big.safetensors", "out.safetensors"])
        self.assertEqual(self.path("out.safetensors").read_bytes(), b"the old one")

    def test_a_damaged_input_is_not_converted(self):
        writer.write(self.path("s.safetensors"), [("w", "U8", [5000], bytes(5000))])
        raw = bytearray(self.path("s.safetensors").read_bytes())
        raw[-1] ^= 1
        self.path("s.safetensors").write_bytes(raw)
        result = self.run_tool("convert", "s.safetensors", "-o", "out.safetensors", expect=FAILURE)
        self.assert_error(result, "chunk_corrupt", "'w'")
        self.assertEqual(self.names(), ["s.safetensors"])

    def test_unwritable_output_is_an_error_but_the_file_is_whole(self):
        inputs.write_torch(self.path("a.pth"), {"w": inputs.Tensor([1], [1])})
        with open("/dev/full", "w") as full:
            result = self.run_tool("convert", "a.pth", expect=FAILURE, stdout=full)
        self.assert_error(result, "no_space", "standard output")
        self.assert_sealed("a.safetensors")
