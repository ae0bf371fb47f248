"""flatbed series: tables, paths, JSON and exit codes of a folder of checkpoints, and what each action leaves alone."""

import fcntl
import os
import re

import inputs
import reader
import writer
from tool import FAILURE, USAGE, ToolTest

SAVED_AT = 1764390000123  # 2025-11-29 04:20:00
VAL_LOSS = {"metric": "val_loss", "mode": "min"}


def name_of(step):
    return f"step-{step:012}.safetensors"


class SeriesTest(ToolTest):
    def checkpoint(self, sequence, step, score=None, name=None, data=b"abc", **members):
        """A file of the series in `run`, written by the second implementation. Returns its path."""
        members = {**VAL_LOSS, "saved_at": SAVED_AT, **members, "sequence": sequence, "step": step, "score": score}
        self.path("run").mkdir(exist_ok=True)
        path = f"run/{name or name_of(step)}"
        metadata = {"flatbed.series": writer.statement(**members)}
        writer.write(self.path(path), [("w", "U8", [len(data)], data)], metadata=metadata)
        return path

    def training(self, *scores):
        return [self.checkpoint(i, 1000 * i, score) for i, score in enumerate(scores, 1)]

    def model(self, name="model.safetensors"):
        tree = '["dict","epoch",7,"w",["tensor","w"]]'
        writer.write(self.path(name), [("w", "F32", [2], inputs.floats(1, 2))], tree=tree)
        return name

    def damage(self, path):
        """Flips a bit of the last tensor byte."""
        raw = bytearray(self.path(path).read_bytes())
        raw[-1] ^= 1
        self.path(path).write_bytes(raw)

    def cut(self, path):
        os.truncate(self.path(path), self.path(path).stat().st_size - 1)

    def in_run(self):
        """The files in the folder of the series, below it too: path -> bytes."""
        run = self.path("run")
        files = (path for path in run.rglob("*") if path.is_file() and not path.is_symlink())
        return {str(path.relative_to(run)): path.read_bytes() for path in files}

    # The list.

    def test_lists_a_table_with_marks(self):
        self.training(0.5, 0.25)
        self.checkpoint(3, 12000, 0.75, epoch=12, saved_at=0)
        result = self.run_tool("series", "run")
        self.assertEqual(result.stderr, "")
        self.assertEqual(result.stdout, """\
  STEP    SCORE  EPOCH  SIZE     SEALED  SAVED AT (UTC)       NAME
  1,000   0.5    -      4.0 KiB  yes     2025-11-29 04:20:00  step-000000001000.safetensors
  2,000   0.25   -      4.0 KiB  yes     2025-11-29 04:20:00  step-000000002000.safetensors  best
  12,000  0.75   12     4.0 KiB  yes     1970-01-01 00:00:00  step-000000012000.safetensors  latest

3 checkpoints, 12.0 KiB; the lowest 'val_loss' is the best
""")
        self.assertEqual(self.run_tool("series", "run", "list").stdout, result.stdout)

    def test_what_is_damaged_is_listed_and_named(self):
        one, two = self.training(0.5, 0.25)
        self.cut(two)
        self.path("run/three.safetensors").write_bytes(self.path(one).read_bytes()[:200])
        result = self.run_tool("series", "run")
        self.assertRegex(result.stdout, rf"(?m)^  2,000 .* no  .* {name_of(2000)}$")
        self.assertRegex(result.stdout, rf"(?m)^  1,000 .* yes .* {name_of(1000)}  latest, best$")
        lines = result.stderr.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(all(line.startswith("flatbed: run: warning: ") for line in lines), lines)
        self.assertIn("three.safetensors", lines[0])
        self.assertIn(name_of(2000), lines[1])

    def test_an_empty_folder_has_no_checkpoints(self):
        self.path("run").mkdir()
        self.assertEqual(self.run_tool("series", "run").stdout, "0 checkpoints\n")
        self.assert_error(self.run_tool("series", "nowhere", expect=FAILURE), "file_not_found", "nowhere")
        self.path("file").write_bytes(b"")
        self.assert_error(self.run_tool("series", "file", expect=FAILURE), "not_a_regular_file", "file")

    def test_odd_metrics_and_names_are_shown_safely(self):
        self.checkpoint(1, 1, 0.5, name="a\x1b[31m\n.safetensors", metric="m\0\x1b\n\u202e" + "x" * 200)
        text = self.run_tool("series", "run").stdout
        for character in "\x1b\0\u202e":
            self.assertNotIn(character, text)
        self.assertEqual(text.count("\n"), 4)
        report = self.run_json("series", "run")
        self.assertEqual(report["metric"], "m\0\x1b\n\u202e" + "x" * 200)
        self.assertEqual(report["checkpoints"][0]["path"], "run/a\x1b[31m\n.safetensors")

    def test_clocks_may_say_anything(self):
        times = {1: -1, 2: (1 << 53) - 1, 3: 1 - (1 << 53), 4: 253402300799999, 5: 253402300800000}
        for step, saved_at in times.items():
            self.checkpoint(step, step, saved_at=saved_at)
        shown = re.findall(r"yes +([-\d]+(?: [:\d]+)?) +step", self.run_tool("series", "run").stdout)
        self.assertEqual(shown, ["1969-12-31 23:59:59", "-", "-", "9999-12-31 23:59:59", "-"])
        self.assertEqual(self.run_tool("series", "run", "latest").stdout, f"run/{name_of(5)}\n")

    def test_a_terminal_cuts_long_names(self):
        self.checkpoint(1, 1, 0.5, name="step" * 40 + ".safetensors")
        result = self.run_on_terminal("series", "run", stream="stdout")
        for line in result.stdout.splitlines():
            self.assertLessEqual(len(line), 100, line)
        self.assertIn("…", result.stdout)
        self.assertIn("step" * 40, self.run_tool("series", "run").stdout)

    def test_scores_that_are_no_numbers(self):
        self.training(float("nan"), float("inf"), float("-inf"), None)
        text = self.run_tool("series", "run").stdout
        self.assertRegex(text, r"(?m)^  1,000  nan ")
        self.assertRegex(text, r"(?m)^  3,000  -inf .*best$")
        self.assertRegex(text, r"(?m)^  4,000  - .*latest$")
        rows = self.run_json("series", "run")["checkpoints"]
        self.assertEqual([row["score"] for row in rows], ["nan", "inf", "-inf", None])

    def test_json_has_every_checkpoint(self):
        one, two = self.training(0.5, 0.25)
        self.cut(two)
        report = self.run_json("series", "run")
        self.assertEqual((report["metric"], report["mode"], report["action"]), ("val_loss", "min", "list"))
        first, second = report["checkpoints"]
        with reader.File(str(self.path(one))) as file:
            self.assertEqual(first.pop("content"), file.seal.content)
        self.assertEqual(first, {
            "path": one, "sequence": 1, "step": 1000, "score": 0.5, "epoch": None, "nbytes": 4099,
            "saved_at": SAVED_AT, "sharded": False, "parent": None, "latest": True, "best": True, "whole": True,
            "error": None,
        })
        self.assertEqual((second["whole"], second["error"]["name"]), (False, "data_truncated"))
        self.assertEqual(report["notes"], [])

    # The latest and the best one.

    def test_latest_and_best_print_a_path_and_nothing_else(self):
        one, two, three = self.training(0.5, 0.25, 0.75)
        self.assertEqual(self.run_tool("series", "run", "latest").stdout, three + "\n")
        self.assertEqual(self.run_tool("series", "run", "best").stdout, two + "\n")
        self.run_tool("verify", self.run_tool("series", "run", "best").stdout[:-1])
        report = self.run_json("series", "run", "best")
        self.assertEqual((report["checkpoint"]["path"], report["notes"]), (two, []))

    def test_the_latest_that_is_whole_comes_with_a_warning(self):
        one, two, three = self.training(0.5, 0.25, 0.125)
        self.cut(three)
        for action in ("latest", "best"):
            result = self.run_tool("series", "run", action)
            self.assertEqual(result.stdout, two + "\n")
            self.assertRegex(result.stderr, rf"\Aflatbed: run: warning: [^\n]*{name_of(3000)}[^\n]*\n\Z")
            self.assertEqual(len(self.run_json("series", "run", action)["notes"]), 1)

    def test_without_any_the_exit_code_says_so(self):
        self.path("run").mkdir()
        for action in ("latest", "best"):
            for folder in ("run", "nowhere"):
                result = self.run_tool("series", folder, action, expect=FAILURE)
                self.assertEqual(result.stdout, "")
                self.assert_error(result, "step_not_found", folder)
            report = self.run_json("series", "run", action, expect=FAILURE)
            self.assertEqual((report["checkpoint"], report["error"]["name"]), (None, "step_not_found"))
        self.checkpoint(1, 1, float("nan"))
        self.run_tool("series", "run", "best", expect=FAILURE)

    def test_a_path_that_looks_like_an_option_is_none(self):
        self.checkpoint(1, 1, 0.5)
        self.path("run").rename(self.path("-run"))
        self.assertEqual(self.run_tool("series", "--", "-run", "latest").stdout, f"./-run/{name_of(1)}\n")

    # Saving.

    def test_save_begins_and_continues_a_series(self):
        model = self.model()
        result = self.run_tool("series", "run", "save", model, "--step", 1000, "--score", 0.5, "--metric", "val_loss")
        self.assertRegex(result.stdout, rf"\Asaved run/{name_of(1000)}: step 1,000, [\d.]+ KiB\n\Z")
        self.run_tool("series", "run", "save", model, "--step", 2000, "--score", "-2.5e-3")
        self.run_tool("series", "run", "save", model, "--step", 3000, "--score", "nan", "--mode", "min")
        self.run_tool("series", "run", "save", model, "--step", 4000)
        series = reader.Series(str(self.path("run")))
        stated = [entry.statement for entry in series.entries]
        self.assertEqual([one.sequence for one in stated], [1, 2, 3, 4])
        self.assertEqual([one.step for one in stated], [1000, 2000, 3000, 4000])
        self.assertEqual((stated[0].score, stated[1].score, stated[3].score), (0.5, -0.0025, None))
        self.assertEqual([one.epoch for one in stated], [7, 7, 7, 7])
        self.assertEqual((series.metric, series.mode, series.notes), ("val_loss", "min", []))
        self.assertEqual((series.latest().step, series.best().step), (4000, 2000))
        with reader.File(series.entries[2].file) as parent:
            self.assertEqual(stated[3].parent, parent.seal.content)
        for entry in series.entries:
            self.assert_sealed(f"run/{entry.name}")
        self.assertEqual(self.load(f"run/{name_of(4000)}")["epoch"], 7)

    def test_save_writes_sets(self):
        tensors = [(f"t{i}", "U8", [1000], bytes([i]) * 1000) for i in range(3)]
        writer.write(self.path("m.safetensors"), tensors)
        report = self.run_json("series", "run", "save", "m.safetensors", "--step", 1, "--max-shard-size", "1KB")
        self.assertTrue(report["checkpoint"]["sharded"])
        series = reader.Series(str(self.path("run")))
        self.assertEqual(self.path("run") / series.latest().name, self.path(report["checkpoint"]["path"]))
        self.assertEqual(len(list((self.path("run") / series.latest().name).iterdir())), 4)
        self.assertEqual(self.run_tool("series", "run", "latest").stdout, report["checkpoint"]["path"] + "\n")

    def test_a_save_that_does_not_fit_changes_nothing(self):
        model = self.model()
        self.run_tool("series", "run", "save", model, "--step", 1000, "--score", 0.5, "--metric", "val_loss")
        before = self.in_run()
        for arguments, code in (
            ((model, "--step", 1000), "step_not_after"),
            ((model, "--step", 999), "step_not_after"),
            ((model, "--step", 2000, "--metric", "accuracy"), "series_mismatch"),
            ((model, "--step", 2000, "--mode", "max"), "series_mismatch"),
            (("missing", "--step", 2000), "file_not_found"),
            ((model, "--step", 2**53), "invalid_argument"),
            ((model, "--step", 2000, "--metric", "m" * 257), "invalid_argument"),
        ):
            self.assert_error(self.run_tool("series", "run", "save", *arguments, expect=FAILURE), code)
            self.assertEqual(self.in_run(), before)
        result = self.run_tool("series", "new", "save", model, "--step", 1, "--score", 1, expect=FAILURE)
        self.assert_error(result, "invalid_argument", "metric")

    def test_one_process_writes_at_a_time(self):
        self.training(0.5)
        folder = os.open(self.path("run"), os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            for arguments in (("save", self.model(), "--step", 2000), ("prune", "--keep-last", 1), ("roll-back", 1000)):
                self.assert_error(self.run_tool("series", "run", *arguments, expect=FAILURE), "series_locked", "run")
            self.run_tool("series", "run", "latest")
        finally:
            os.close(folder)

    # Pruning.

    def test_prune_removes_what_no_limit_keeps(self):
        self.training(0.5, 0.125, 0.25, 0.75, 0.5)
        result = self.run_tool("series", "run", "prune", "--keep-last", 2, "--dry-run")
        self.assertEqual([line.split(":")[0] for line in result.stdout.splitlines()[:-1]],
                         [f"would remove run/{name_of(step)}" for step in (1000, 3000)])
        self.assertEqual(result.stdout.splitlines()[-1], "2 checkpoints to remove, 3 kept")
        self.assertEqual(len(self.in_run()), 5)
        result = self.run_tool("series", "run", "prune", "--keep-last", 2)
        self.assertEqual(result.stdout.splitlines()[-1], "2 checkpoints removed, 3 kept")
        self.assertEqual(sorted(self.in_run()), [name_of(step) for step in (2000, 4000, 5000)])
        report = self.run_json("series", "run", "prune", "--keep-best", 1)
        self.assertEqual([entry["step"] for entry in report["removed"]], [4000])
        self.assertEqual(([entry["step"] for entry in report["kept"]], report["dry_run"]), ([2000, 5000], False))
        self.run_tool("series", "run", "prune", "--keep-every", 5000, "--keep-best", 0)
        self.assertEqual(sorted(self.in_run()), [name_of(5000)])

    def test_prune_needs_a_limit(self):
        self.training(0.5, 0.25)
        self.assert_error(self.run_tool("series", "run", "prune", expect=USAGE), "invalid_argument", "--keep-last")
        self.assert_error(self.run_tool("series", "run", "prune", "-n", expect=USAGE), "invalid_argument")
        self.assertEqual(len(self.in_run()), 2)

    def test_no_action_touches_what_is_not_of_the_series(self):
        paths = self.training(0.5, 0.25, 0.125)
        self.model("run/mine.safetensors")
        self.model("run/.hidden.safetensors")
        self.path("run/sub").mkdir()
        self.model("run/sub/model.safetensors")
        self.path("run/notes.txt").write_text("mine")
        self.path("run/empty.safetensors").write_bytes(b"")
        self.path("run/link.safetensors").symlink_to(name_of(1000))
        mine = {name: raw for name, raw in self.in_run().items() if f"run/{name}" not in paths}
        for arguments in (("prune", "--keep-last", 1, "--keep-best", 0), ("roll-back", 3000), ("verify",),
                          ("save", self.model(), "--step", 4000)):
            self.run_tool("series", "run", *arguments, expect=None)
            self.assertLessEqual(mine.items(), self.in_run().items())
            self.assertTrue(self.path("run/link.safetensors").is_symlink())

    # Going back.

    def test_roll_back_moves_later_checkpoints_aside(self):
        paths = self.training(0.5, 0.25, 0.125)
        later = {self.path(path).read_bytes() for path in paths[1:]}
        result = self.run_tool("series", "run", "roll-back", 1000)
        self.assertTrue(result.stdout.endswith(f"2 checkpoints moved; the latest is {paths[0]}: step 1,000, 4.0 KiB\n"),
                        result.stdout)
        self.assertEqual({path.read_bytes() for path in self.path("run/abandoned").iterdir()}, later)
        self.assertEqual(self.run_tool("series", "run", "latest").stdout, paths[0] + "\n")
        self.run_tool("series", "run", "save", self.model(), "--step", 2000)
        latest = reader.Series(str(self.path("run"))).latest()
        self.assertEqual((latest.statement.sequence, latest.step), (4, 2000))
        report = self.run_json("series", "run", "roll-back", 1000)
        self.assertEqual((report["checkpoint"]["step"], [entry["step"] for entry in report["moved"]]), (1000, [2000]))
        self.assertEqual(len(list(self.path("run/abandoned").iterdir())), 3)

    def test_roll_back_to_what_is_not_there_or_not_whole_moves_nothing(self):
        one, two = self.training(0.5, 0.25)
        self.assert_error(self.run_tool("series", "run", "roll-back", 1500, expect=FAILURE), "step_not_found", "1500")
        self.cut(one)
        self.assert_error(self.run_tool("series", "run", "roll-back", 1000, expect=FAILURE), "data_truncated", one)
        self.assertEqual(sorted(self.in_run()), [name_of(1000), name_of(2000)])
        self.assertFalse(self.path("run/abandoned").exists())

    # Verifying.

    def test_verify_reads_every_byte(self):
        one, two, three = self.training(0.5, 0.25, 0.125)
        result = self.run_tool("series", "run", "verify")
        self.assertEqual(result.stdout.splitlines()[0], f"{one}: step 1,000, 4.0 KiB: sealed: 1 chunk matches")
        self.assertEqual(result.stdout.splitlines()[-1], "every byte matches in 3 of 3 checkpoints")
        self.damage(two)
        self.cut(three)
        result = self.run_tool("series", "run", "verify", "-j", 1, expect=FAILURE)
        lines = result.stdout.splitlines()
        self.assertIn("damaged: 1 byte range does not match; the first is [0,3) of tensor 'w'", lines[1])
        self.assertIn("[data_truncated]", lines[2])
        self.assertEqual(lines[3], "every byte matches in 1 of 3 checkpoints")
        report = self.run_json("series", "run", "verify", expect=FAILURE)
        self.assertEqual([row["state"] for row in report["checkpoints"]], ["sealed", "damaged", "error"])
        self.assertEqual(report["checkpoints"][1]["damaged"], [{"file": two, "tensor": "w", "begin": 0, "end": 3}])
        self.assertEqual(report["error"]["name"], "data_truncated")

    def test_verify_fails_for_what_was_skipped(self):
        self.training(0.5)
        self.path("run/empty.safetensors").write_bytes(b"")
        result = self.run_tool("series", "run", "verify", expect=FAILURE)
        self.assertIn("empty.safetensors", result.stderr)

    # The command line.

    def test_wrong_command_lines(self):
        self.training(0.5)
        model, before = self.model(), self.in_run()
        for arguments, text in (
            (("latst",), "did you mean latest?"),
            (("fly",), "expected one of list, latest, best, save, prune, roll-back, verify"),
            (("latest", "x"), "latest takes no 'x'"),
            (("save", "--step", 1), "save needs FILE"),
            (("save", model), "save needs --step"),
            (("save", "", "--step", 2000), "empty"),
            (("roll-back",), "roll-back needs STEP"),
            (("roll-back", "1e3"), "'1e3': expected a step"),
            (("roll-back", "-1"), "-1"),
            (("best", "--step", 1), "--step is an option of save, not of best"),
            (("--keep-last", 1), "--keep-last is an option of prune, not of list"),
            (("save", model, "--step", 2000, "--dry-run"), "--dry-run is an option of prune"),
            (("save", model, "--step", 2000, "--score", "good"), "expected a number"),
            (("save", model, "--step", 2000, "--score", "1e999"), "expected a number"),
            (("save", model, "--step", 2000, "--mode", "low"), "expected min or max"),
            (("save", model, "--step", "-1"), "--step: '-1': expected a whole number"),
            (("save", model, "--step", "1.5"), "expected a whole number"),
            (("prune", "--keep-last", "-1"), "expected a whole number"),
            (("save", model, "--step", 2000, "--max-shard-size", "0"), "expected a size"),
            (("prune", "--keep-every", 0), "--keep-every: expected a number above 0"),
            (("verify", "--threads", 0), "--threads"),
        ):
            result = self.run_tool("series", "run", *arguments, expect=USAGE)
            self.assert_error(result, "invalid_argument", text)
            self.assertEqual(result.stdout, "")
        self.run_tool("series", "", expect=USAGE)
        self.assertEqual(self.in_run(), before)

    def test_help_has_every_action(self):
        text = self.run_tool("series", "--help").stdout
        self.assertIn("\nUsage: flatbed series [OPTIONS] DIR [ACTION] [ARGUMENT]\n", text)
        for action in ("latest", "best", "save FILE", "prune", "roll-back STEP", "verify"):
            self.assertIn(f"\n  series DIR {action}", text)
