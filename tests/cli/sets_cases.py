"""flatbed convert --max-shard-size: sharded sets, as huggingface_hub cuts them."""

import json
import os
import unittest

import inputs
from tool import FAILURE, OK, USAGE, ToolTest

INDEX = "model.safetensors.index.json"


class SetTest(ToolTest):
    def many(self, name="a.safetensors", count=150, nbytes=48):
        tensors = {f"t{i:03}": ("U8", [nbytes], bytes([i]) * nbytes) for i in range(count)}
        inputs.write_safetensors(self.path(name), tensors)
        return name

    def files(self, folder="s"):
        return sorted(entry.name for entry in self.path(folder).iterdir())

    def state(self, folder="s"):
        return [(name, os.lstat(self.path(folder) / name).st_ino) for name in self.files(folder)]

    def convert(self, *arguments, expect=OK):
        (file,) = self.run_json("convert", self.many(), "-o", "s", *arguments, expect=expect)["files"]
        return file


class ShardSizeTest(SetTest):
    def test_a_set_has_the_names_of_the_hub_and_an_index(self):
        text = self.run_tool("convert", self.many(), "-o", "s", "--max-shard-size", "2K").stdout
        self.assertRegex(text, r"(?m)^s: written: 150 tensors, \S+ KiB in 4 files, sealed, ")
        shards = [f"model-0000{i}-of-00004.safetensors" for i in range(1, 5)]
        self.assertEqual(self.files(), [*shards, INDEX])
        index = json.loads((self.path("s") / INDEX).read_text())
        self.assertEqual(list(index["weight_map"]), [f"t{i:03}" for i in range(150)])
        # 41 x 48 bytes are 1,968.
        self.assertEqual([list(index["weight_map"].values()).count(name) for name in shards], [41, 41, 41, 27])
        self.assertEqual((index["metadata"]["total_size"], index["metadata"]["total_parameters"]), (7200, 7200))
        self.assertEqual(bytes(self.load("s")["t149"].data), bytes([149]) * 48)
        self.run_tool("verify", "s")

    def test_a_shard_of_another_set_is_found(self):
        self.convert("--max-shard-size", "2K")
        self.assert_sealed("s/model-00001-of-00004.safetensors")
        (self.path("s") / "model-00004-of-00004.safetensors").unlink()
        self.path("other.safetensors").write_bytes(self.path("a.safetensors").read_bytes())
        self.run_tool("convert", "other.safetensors", "-o", "s/model-00004-of-00004.safetensors")
        result = self.run_tool("verify", "s", expect=FAILURE)
        self.assert_error(result, "shard_mixed_set", "content digest does not match")

    def test_a_large_limit_gives_one_file_without_index(self):
        file = self.convert("--max-shard-size", "5GB")
        self.assertEqual(self.files(), ["model.safetensors"])
        self.assertEqual(len(file["shards"]), 1)
        self.assertEqual(file["content"], file["shards"][0]["content"])

    def test_merging_a_set_gives_the_file_that_convert_writes(self):
        self.convert("--max-shard-size", "2K")
        self.run_tool("convert", "s", "-o", "merged.safetensors")
        self.run_tool("convert", "a.safetensors", "-o", "b.safetensors")
        self.assertEqual(self.path("merged.safetensors").read_bytes(), self.path("b.safetensors").read_bytes())

    def test_a_checkpoint_keeps_its_structure_across_shards(self):
        inputs.write_torch(self.path("m.pth"), {"epoch": 3, "a": inputs.Tensor([4], [1, 2, 3, 4]),
                                                "b": [inputs.Tensor([2], [5, 6])]})
        self.run_tool("convert", "m.pth", "-o", "s", "--max-shard-size", "16")
        loaded = self.load("s")
        self.assertEqual(loaded["epoch"], 3)
        self.assertEqual(sorted(json.loads((self.path("s") / INDEX).read_text())["weight_map"]), ["a", "b.0"])

    def test_a_record_with_another_crc_is_refused_or_warned_about(self):
        inputs.write_torch(self.path("t.pth"), {"v": inputs.Tensor([2], [1, 2]), "w": inputs.Tensor([2], [3, 4])})
        inputs.state_another_crc(self.path("t.pth"), "archive/data/1")
        arguments = ("convert", "t.pth", "-o", "s", "--max-shard-size", "8")
        self.assert_error(self.run_tool(*arguments, expect=FAILURE), "zip_crc_mismatch", "archive/data/1")
        self.assertEqual(self.names(), ["t.pth"])
        result = self.run_tool(*arguments, "--ignore-crc")
        self.assertIn("warning: record 'archive/data/1': CRC-32 does not match", result.stderr)
        self.assertEqual(len(self.files()), 3)

    def test_a_whole_checkpoint_is_counted_once_in_the_crc_report(self):
        inputs.write_torch(self.path("t.pth"), {"v": inputs.Tensor([2], [1, 2]), "w": inputs.Tensor([2], [3, 4])})
        alone = self.run_json("convert", "t.pth", "-o", "x.safetensors")["files"][0]["crc"]
        shards = self.run_json("convert", "t.pth", "-o", "s", "--max-shard-size", "8")["files"][0]["crc"]
        self.assertEqual(shards, alone)

    def test_json_lists_the_shards(self):
        file = self.convert("--max-shard-size", "2K")
        self.assertEqual([shard["tensors"] for shard in file["shards"]], [41, 41, 41, 27])
        self.assertEqual([shard["nbytes"] for shard in file["shards"]], [1968, 1968, 1968, 1296])
        for shard in file["shards"]:
            self.assertEqual(shard["file_nbytes"], self.path(shard["path"]).stat().st_size)
            self.assertEqual(shard["content"], self.run_json("ls", shard["path"])["files"][0]["content"])
        self.assertEqual(file["file_nbytes"], sum((self.path("s") / name).stat().st_size for name in self.files()))
        self.assertIsNone(file["content"])

    def test_sizes_are_the_hubs(self):
        sizes = {"2KB": 2000, "2kb": 2000, "2 KB": 2000, "2K": 2000, "2000": 2000, "2000B": 2000, "0.002MB": 2000,
                 "2KiB": 2048, "2kib": 2048}
        for text, nbytes in sizes.items():
            (file,) = self.run_json("convert", self.many(count=3, nbytes=1000), "-o", "x", "-n", "--max-shard-size",
                                    text)["files"]
            self.assertEqual([shard["nbytes"] for shard in file["shards"]], [2000, 1000], text)
            self.assertLessEqual(2000, nbytes)
        for text in ("", "0", "0.5", "-1", "1e3", "5XB", "GB", "1..5K", "nan", "9999999TB", "0x10", "5GB5"):
            result = self.run_tool("convert", "a.safetensors", "-o", "x", f"--max-shard-size={text}", expect=USAGE)
            self.assertIn("--max-shard-size", result.stderr, text)

    def test_the_shards_of_a_dry_run_are_those_of_the_run(self):
        text = self.run_tool("convert", "-n", self.many(), "-o", "new/s", "--max-shard-size", "2K").stdout
        self.assertIn("new/s/model-00004-of-00004.safetensors: 27 tensors, 1.3 KiB\n", text)
        self.assertIn("new/s: would be written: 150 tensors, 7.0 KiB in 4 files\n", text)
        self.assertEqual(self.names(), ["a.safetensors"])
        self.run_tool("convert", "a.safetensors", "-o", "new/s/", "--max-shard-size", "2K")
        self.assertEqual(len(self.files("new/s")), 5)


    def test_a_dry_run_does_not_care_what_lies_beside_a_missing_folder(self):
        self.path("s").mkdir()
        (self.path("s") / "mine").write_text("mine")
        self.many()
        self.run_tool("convert", "-n", "a.safetensors", "-o", "new/s", "--max-shard-size", "2K")
        os.rename(self.path("a.safetensors"), self.path("b.pth"))
        self.path("b.safetensors").mkdir()
        self.run_tool("convert", "-n", "b.pth", "--out-dir", "new/more")
        self.assertEqual(self.names(), ["b.pth", "b.safetensors", "s"])


class ReplacingTest(SetTest):
    def test_a_second_run_finds_the_set_up_to_date(self):
        self.convert("--max-shard-size", "2K")
        before = self.state()
        for more in ([], ["--checksum"], ["--force"], ["--dry-run"]):
            self.assertEqual(self.convert("--max-shard-size", "2K", *more)["status"], "up_to_date")
        text = self.run_tool("convert", "a.safetensors", "-o", "s/", "--max-shard-size", "2KB").stdout
        self.assertIn("s: up to date\n", text)
        self.assertEqual(self.state(), before)

    def test_another_set_is_refused_and_replaced_with_force(self):
        self.convert("--max-shard-size", "2K")
        before = self.state()
        for more in ([], ["--dry-run"]):
            result = self.run_tool("convert", "a.safetensors", "-o", "s", "--max-shard-size", "3K", *more, expect=USAGE)
            self.assert_error(result, "file_exists", "a.safetensors: s exists and is not what would be written",
                              "which is not part of the set", "--force")
        self.assertEqual(self.state(), before)
        self.assertEqual(self.convert("--max-shard-size", "3K", "--force")["status"], "converted")
        self.assertEqual(len(self.files()), 4)
        self.assertEqual(self.names(), ["a.safetensors", "s"])
        self.run_tool("verify", "s")

    def test_a_folder_with_other_files_is_never_replaced(self):
        self.convert("--max-shard-size", "2K")
        (self.path("s") / "config.json").write_text("{}")
        self.assertEqual(self.convert("--max-shard-size", "2K")["status"], "up_to_date")
        before = self.state()
        result = self.run_tool("convert", "a.safetensors", "-o", "s", "--max-shard-size", "3K", "-f", expect=USAGE)
        self.assert_error(result, "file_exists", "holds 'config.json'", "only a folder with nothing but a set")
        self.assertEqual(self.state(), before)
        self.assertEqual(self.names(), ["a.safetensors", "s"])

    def test_a_file_or_a_link_is_never_replaced(self):
        self.many()
        self.path("s").write_text("mine")
        self.path("link").symlink_to("nowhere")
        for output in ("s", "link"):
            for more in ([], ["--force"]):
                result = self.run_tool("convert", "a.safetensors", "-o", output, "--max-shard-size", "2K", *more,
                                       expect=USAGE)
                self.assert_error(result, "file_exists", output, "" if more else "; name a new folder [")
        self.assertEqual(self.names(), ["a.safetensors", "link", "s"])

    def test_the_folder_of_the_input_is_refused(self):
        self.convert("--max-shard-size", "2K")
        for source in ("s", f"s/{INDEX}", "s/model-00001-of-00004.safetensors"):
            result = self.run_tool("convert", source, "-o", "s", "--max-shard-size", "3K", "-f", expect=USAGE)
            self.assert_error(result, "invalid_argument", "refusing to overwrite s")

    def test_the_folder_that_a_link_to_the_input_leads_to_is_refused(self):
        self.convert("--max-shard-size", "5GB")
        before = self.state()
        self.path("in.safetensors").symlink_to("s/model.safetensors")
        result = self.run_tool("convert", "in.safetensors", "-o", "s", "--max-shard-size", "2K", "-f", expect=USAGE)
        self.assert_error(result, "invalid_argument", "refusing to overwrite s: it is also the input's folder")
        self.assertEqual(self.state(), before)

    def test_what_does_not_fit_is_refused_by_name(self):
        self.many()
        self.many("b.safetensors")
        size = ["--max-shard-size", "2K"]
        for arguments, word in (
            (["a.safetensors"], "-o FOLDER"),
            (["a.safetensors", "b.safetensors"], "single input"),
            (["a.safetensors", "--out-dir", "d"], "-o FOLDER"),
            (["a.safetensors", "-o", "x.safetensors"], "is the name of a file"),
            (["a.safetensors", "-o", "x.pth"], "is the name of a file"),
            (["a.safetensors", "-o", ".."], "is not the name of a new folder"),
            (["a.safetensors", "-o", "/"], "is not the name of a new folder"),
            (["--sidecar", "a.safetensors"], "--sidecar"),
            (["a.safetensors", "-o", "s", "--keep-device"], "--keep-device"),
        ):
            result = self.run_tool("convert", *arguments, *size, expect=USAGE)
            self.assert_error(result, "invalid_argument", word)
        self.assertEqual(self.names(), ["a.safetensors", "b.safetensors"])

    @unittest.skipIf(os.geteuid() == 0, "root may write everywhere")
    def test_a_read_only_folder_stays_empty(self):
        self.many()
        self.path("ro").mkdir(mode=0o500)
        result = self.run_tool("convert", "a.safetensors", "-o", "ro/s", "--max-shard-size", "2K", expect=FAILURE)
        self.assert_error(result, "permission_denied", "ro/s")
