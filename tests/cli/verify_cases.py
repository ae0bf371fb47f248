"""flatbed verify: every state and its exit code."""

import json
import os

import inputs
import writer
from tool import ANNOTATED, CRC_MATCHES, FAILURE, OK, ROOT, TIME_LIMIT, UNSEALED, ToolTest

CHUNK = inputs.CHUNK


class VerifyTest(ToolTest):
    def sealed(self, name="s.safetensors", nbytes=3 * CHUNK + 5):
        writer.write(self.path(name), [("w", "U8", [nbytes], bytes(nbytes)), ("b", "U8", [2], b"hi")])
        return self.path(name)

    def damage(self, path, tensor, offset):
        listed = self.run_json("ls", path)
        where = next(t["offset"] for t in listed["tensors"] if t["name"] == tensor)
        with open(path, "r+b") as stream:
            stream.seek(where + offset)
            byte = stream.read(1)[0]
            stream.seek(where + offset)
            stream.write(bytes([byte ^ 1]))

    def annotated(self, name="annotated.safetensors"):
        """A sealed file whose other metadata was changed, as save_file(tensors, metadata=...) does."""
        raw = self.sealed(name, 10).read_bytes()
        changed = raw.replace(b'"format":"pt"', b'"format":"tf"')
        self.assertNotEqual(raw, changed)
        self.path(name).write_bytes(changed)
        return self.path(name)

    def unsealed(self, name="u.safetensors"):
        inputs.write_safetensors(self.path(name), {"w": ("U8", [1], b"x")})
        return self.path(name)

    def test_a_sealed_file_exits_with_0(self):
        text = self.run_tool("verify", self.sealed()).stdout
        self.assertRegex(text, r"\A\S+s\.safetensors: sealed: 5 chunks \(768\.0 KiB\) match, content [0-9a-f]{16}\n\Z")

    def test_damage_names_tensor_and_bytes_and_exits_with_1(self):
        path = self.sealed()
        self.damage(path, "w", CHUNK + 7)
        text = self.run_tool("verify", path, expect=FAILURE).stdout
        self.assertIn("damaged: 1 byte range does not match\n", text)
        self.assertIn(f"tensor 'w': bytes [{CHUNK},{2 * CHUNK}) do not match\n", text)

    def test_adjacent_damage_is_one_range_and_the_tail_ends_with_the_tensor(self):
        path = self.sealed()
        self.damage(path, "w", 2 * CHUNK)
        self.damage(path, "w", 3 * CHUNK + 4)
        self.damage(path, "b", 1)
        report = self.run_json("verify", path, expect=FAILURE)
        ranges = sorted((d["tensor"], d["begin"], d["end"]) for d in report["files"][0]["damaged"])
        self.assertEqual(ranges, [("b", 0, 2), ("w", 2 * CHUNK, 3 * CHUNK + 5)])
        self.assertEqual((report["exit_code"], report["files"][0]["state"]), (1, "damaged"))

    def test_an_annotated_file_exits_with_3(self):
        self.assertIn(": annotated: ", self.run_tool("verify", self.annotated(), expect=ANNOTATED).stdout)

    def test_an_unsealed_file_exits_with_4(self):
        text = self.run_tool("verify", self.unsealed(), expect=UNSEALED).stdout
        self.assertIn(": no seal; nothing to check against\n", text)

    def zipped(self, *records):
        """A PyTorch file of four records, some of which do not match their CRC."""
        inputs.write_torch(self.path("a.pth"), {"w": inputs.Tensor([1], [1])})
        for record in records:
            inputs.state_another_crc(self.path("a.pth"), record)
        return "a.pth"

    def test_a_pytorch_file_is_unsealed_and_its_crcs_are_checked(self):
        text = self.run_tool("verify", self.zipped(), expect=CRC_MATCHES).stdout
        self.assertEqual(text, "a.pth: no seal; all 4 zip CRCs match\n")

    def test_a_record_with_another_crc_is_named_and_exits_with_1(self):
        text = self.run_tool("verify", self.zipped("archive/data/0", "archive/data.pkl"), expect=FAILURE).stdout
        first, pickle, data = text.splitlines()
        self.assertEqual(first, "a.pth: damaged: CRC mismatch in 2 of 4 records")
        one = r"CRC-32 does not match: found 0x[0-9a-f]{8}, expected 0x[0-9a-f]{8}\Z"
        self.assertRegex(pickle, r"\A  a\.pth: record 'archive/data\.pkl': " + one)
        self.assertRegex(data, r"\A  a\.pth: record 'archive/data/0': " + one)
        report = self.run_json("verify", "a.pth", expect=FAILURE)["files"][0]
        self.assertEqual((report["state"], report["crc"]["checked"], report["crc"]["mismatched"]), ("damaged", 4, 2))
        row = report["crc"]["mismatches"][1]
        self.assertEqual((row["file"], row["record"]), ("a.pth", "archive/data/0"))
        self.assertEqual(int(row["stated"], 16), int(row["found"], 16) ^ 1)

    def test_of_a_set_each_shard_is_checked(self):
        shards = ["pytorch_model-1.bin", "pytorch_model-2.bin"]
        for i, shard in enumerate(shards):
            inputs.write_torch(self.path(shard), {f"w{i}": inputs.Tensor([1], [i])})
            inputs.state_another_crc(self.path(shard), "archive/data/0")
        index = {"weight_map": {f"w{i}": shard for i, shard in enumerate(shards)}}
        self.path("pytorch_model.bin.index.json").write_text(json.dumps(index))
        crc = self.run_json("verify", "pytorch_model.bin.index.json", expect=FAILURE)["files"][0]["crc"]
        self.assertEqual(crc["checked"], 8)
        self.assertEqual([os.path.basename(row["file"]) for row in crc["mismatches"]], shards)
        report = self.run_json("convert", "--ignore-crc", "pytorch_model.bin.index.json", "--include", "w1",
                               "out.safetensors")
        crc = report["files"][0]["crc"]
        self.assertEqual([os.path.basename(row["file"]) for row in crc["mismatches"]], shards[1:])

    def test_a_zip_without_crcs_is_only_unsealed(self):
        path = ROOT / "tests/fixtures/torch2/without_crc.pth"
        text = self.run_tool("verify", path, expect=UNSEALED).stdout
        self.assertIn(": no seal; the zip states no CRCs\n", text)
        crc = self.run_json("verify", path, expect=UNSEALED)["files"][0]["crc"]
        self.assertEqual((crc["checked"], crc["mismatched"], crc["without"]), (0, 0, [str(path)]))

    def test_a_newer_seal_is_named_and_exits_with_4(self):
        manifest = json.loads((ROOT / "spec/vectors/manifest.json").read_text())
        newer = [name for name, row in manifest.items() if row["expect"] == "newer"]
        self.assertTrue(newer, "spec/vectors has a file of a newer version")
        text = self.run_tool("verify", ROOT / "spec/vectors" / newer[0], expect=UNSEALED).stdout
        self.assertIn(": newer: ", text)

    def test_a_broken_seal_exits_with_1(self):
        path = self.sealed()
        path.write_bytes(path.read_bytes().replace(b'"b":', b'"c":'))
        self.assert_error(self.run_tool("verify", path, expect=FAILURE), "seal_content_mismatch", "s.safetensors")

    def test_files_that_cannot_be_opened_exit_with_1(self):
        self.assert_error(self.run_tool("verify", "missing", expect=FAILURE), "file_not_found", "missing")
        for name, (content, code, word) in inputs.IMPOSTORS.items():
            self.path(name).write_bytes(content)
            self.assert_error(self.run_tool("verify", name, expect=FAILURE), code, word)

    def test_of_several_files_the_worst_counts(self):
        sealed, annotated, unsealed = self.sealed(), self.annotated(), self.unsealed()
        self.run_tool("verify", sealed, sealed, expect=OK)
        self.run_tool("verify", annotated, sealed, expect=ANNOTATED)
        self.run_tool("verify", sealed, unsealed, annotated, expect=UNSEALED)
        result = self.run_tool("verify", unsealed, "missing", annotated, sealed, expect=FAILURE)
        lines = result.stdout.splitlines()
        self.assertEqual(lines[3], "4 files: 1 annotated, 1 error, 1 sealed, 1 unsealed")
        self.assertRegex(lines[4], r"\Afailed: 'missing': no such file")
        self.assertEqual((len(lines), len(result.stderr.splitlines())), (5, 1))
        self.run_tool("verify", sealed, self.zipped(), annotated, expect=CRC_MATCHES)
        self.run_tool("verify", unsealed, self.zipped(), expect=UNSEALED)

    def test_failures_among_several_files_are_repeated_at_the_end(self):
        self.sealed("b.safetensors")
        self.damage(self.sealed(), "w", 0)
        lines = self.run_tool("verify", "s.safetensors", "b.safetensors", expect=FAILURE).stdout.splitlines()
        self.assertEqual(lines[-2], "2 files: 1 damaged, 1 sealed")
        self.assertEqual(lines[-1], "failed: s.safetensors: 1 byte range does not match")

    def test_quiet_prints_only_what_is_not_whole(self):
        result = self.run_tool("verify", "--quiet", self.sealed(), self.unsealed(), expect=UNSEALED)
        self.assertRegex(result.stdout, r"\A\S*u\.safetensors: no seal; [^\n]*\n\Z")
        self.assertEqual(self.run_tool("verify", "--quiet", self.sealed()).stdout, "")
        self.assertEqual(self.run_tool("verify", "-q", self.zipped(), expect=CRC_MATCHES).stdout, "")

    def test_json_has_one_entry_per_file(self):
        report = self.run_json("verify", self.sealed(), self.unsealed(), "missing", expect=FAILURE)
        self.assertEqual([file["state"] for file in report["files"]], ["sealed", "unsealed", "error"])
        self.assertEqual([file["exit_code"] for file in report["files"]], [0, 4, 1])
        self.assertEqual(report["files"][2]["error"]["name"], "file_not_found")
        self.assertEqual(report["files"][0]["chunks_checked"], 5)
        self.assertEqual(report["files"][0]["bytes_checked"], 3 * CHUNK + 7)

    def test_a_sidecar_counts_as_a_seal(self):
        path = self.unsealed()
        self.run_tool("convert", "--sidecar", path)
        self.run_tool("verify", path, expect=OK)
        self.damage(path, "w", 0)
        self.run_tool("verify", path, expect=FAILURE)

    def test_a_name_cannot_forge_a_line(self):
        name = "w\nother.safetensors: sealed"
        writer.write(self.path("n.safetensors"), [(name, "U8", [2], b"hi")])
        self.damage(self.path("n.safetensors"), name, 0)
        text = self.run_tool("verify", "n.safetensors", expect=FAILURE).stdout
        self.assertEqual(len(text.splitlines()), 2)

    def test_agrees_with_the_second_implementation_on_every_vector(self):
        manifest = json.loads((ROOT / "spec/vectors/manifest.json").read_text())
        exits = {"sealed": OK, "annotated": ANNOTATED, "unsealed": UNSEALED, "newer": UNSEALED}
        for name, row in manifest.items():
            if not name.startswith("valid/") or row["expect"] not in exits:
                continue
            self.run_tool("verify", ROOT / "spec/vectors" / name, expect=exits[row["expect"]])

    def test_progress_is_drawn_on_a_terminal_only(self):
        path = self.sealed(nbytes=64 * CHUNK)
        self.assertEqual(self.run_tool("verify", path).stderr, "")
        drawn = self.run_on_terminal("verify", path, stream="stderr").stderr
        self.assertRegex(drawn, r"verifying \d[^,]* of 16\.0 MiB, [^,]*/s")
        self.assertTrue(drawn.endswith("\r\x1b[K"), drawn)

    def test_a_shard_without_sums_beside_one_with_them_is_not_checked(self):
        inputs.write_torch(self.path("x.bin"), {"w": inputs.Tensor([1], [1])})
        self.path("y.bin").write_bytes((ROOT / "tests/fixtures/torch2/legacy.pth").read_bytes())
        legacy = self.run_json("ls", "y.bin")["tensors"][0]["name"]
        weight_map = {"w": "x.bin", legacy: "y.bin"}
        self.path("pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
        self.run_tool("verify", "x.bin", expect=CRC_MATCHES)
        self.run_tool("verify", "y.bin", expect=UNSEALED)
        self.run_tool("verify", "pytorch_model.bin.index.json", expect=UNSEALED)

    def test_an_unwritable_output_is_an_error_whatever_was_found(self):
        inputs.write_torch(self.path("t.pth"), {"w": inputs.Tensor([1], [1])})
        self.unsealed()
        for name in ("t.pth", "u.safetensors"):
            with open("/dev/full", "w") as full:
                result = self.run_tool("verify", self.path(name), expect=FAILURE, stdout=full)
            self.assert_error(result, "no_space", "standard output")

    def test_unwritable_output_is_an_error(self):
        with open("/dev/full", "w") as full:
            result = self.run_tool("verify", self.sealed(), expect=FAILURE, stdout=full)
        self.assert_error(result, "no_space", "standard output")

    def test_a_closed_pipe_is_no_error(self):
        read_end, write_end = os.pipe()
        os.close(read_end)
        process = self.start("verify", self.sealed(), stdout=write_end)
        os.close(write_end)
        _, err = process.communicate(timeout=TIME_LIMIT)
        self.assertEqual((process.returncode, err), (OK, b""))
