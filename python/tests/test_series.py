"""flatbed.Series and flatbed.torch.Series."""

import os
import subprocess
import sys
import textwrap
import unittest

import flatbed
from states import FolderTest

try:
    import numpy
except ImportError:
    numpy = None
try:
    import torch
except ImportError:
    torch = None
else:
    import flatbed.torch as ft


@unittest.skipIf(numpy is None, "numpy is not installed")
class ArraySeriesTest(FolderTest):
    def series(self, **options):
        series = flatbed.Series(self.path("run"), **options)
        self.addCleanup(series.close)
        return series

    def test_arrays_by_name_come_back(self):
        series = self.series(metric="loss", mode="min")
        array = numpy.arange(6.0).reshape(2, 3).T
        pending = series.save({"a": array}, step=1, score=0.5, wait=False)
        array[:] = 0
        self.assertEqual(pending.result().entry.step, 1)
        series.save({"a": array}, step=2, score=0.7)
        self.assertEqual((series.latest().step, series.best().step, len(series.list())), (2, 1, 2))
        best = series.open(series.best())
        self.assertEqual(numpy.asarray(best["a"]).tolist(), [[0, 3], [1, 4], [2, 5]])
        with flatbed.Series(self.path("run")) as other, self.assertRaises(flatbed.Error) as raised:
            other.save({"a": array}, step=3, score=0.1)
        self.assertEqual(raised.exception.name, "series_locked")

    def test_what_is_no_dict_of_arrays_is_refused(self):
        series = self.series()
        for state in ([1], None, {1: numpy.zeros(2)}, {"a": "text"}):
            with self.assertRaises(TypeError):
                series.save(state, step=1)
        self.assertFalse(os.path.exists(self.path("run")))

    def test_a_path_with_a_nul_is_refused(self):
        with self.assertRaisesRegex(ValueError, "null byte"):
            flatbed.Series("a\0b")


@unittest.skipIf(torch is None, "torch is not installed")
class SeriesTest(FolderTest):
    def state(self, step):
        return {
            "w": torch.full((1000,), float(step)),
            "t": torch.full((3, 4), float(step)).t(),
            "epoch": step,
        }

    def series(self, **options):
        series = ft.Series(self.path("run"), **options)
        self.addCleanup(series.close)
        return series

    def test_the_latest_and_the_best_come_back(self):
        series = self.series(metric="accuracy", mode="max")
        for step, score in ((1, 0.5), (2, 0.9), (3, 0.7)):
            saved = series.save(self.state(step), step=step, score=score)
            self.assertEqual(
                (saved.entry.step, saved.entry.score, saved.durable), (step, score, True)
            )
        self.assertEqual((series.latest().step, series.best().step), (3, 2))
        self.assertEqual(series.load_best()["epoch"], 2)
        self.assertEqual(series.load_latest(map_location="cpu")["epoch"], 3)
        self.assertEqual([entry.step for entry in series.list()], [1, 2, 3])
        self.assertEqual((series.list().metric, series.list().mode), ("accuracy", "max"))
        self.assertEqual(series.load(series.at(1))["epoch"], 1)
        self.assertEqual(series.latest().epoch, 3)

    def test_metrics_are_a_dict_that_has_the_score(self):
        series = self.series(metric="loss", mode="min")
        series.save(self.state(1), step=1, metrics={"loss": 0.25, "other": 1})
        self.assertEqual(series.best().score, 0.25)
        with self.assertRaises(KeyError):
            series.save(self.state(2), step=2, metrics={"other": 1})
        with self.assertRaises(ValueError):
            series.save(self.state(2), step=2, metrics={"loss": 1}, score=1)

    def test_saves_in_the_background_keep_their_values(self):
        series = self.series()
        pending = []
        state = self.state(0)
        for step in range(1, 4):
            state["w"].fill_(step)
            state["t"].fill_(step)
            pending.append(series.save(state, step=step, wait=False))
        state["w"].fill_(-1)
        state["t"].fill_(-1)
        self.assertEqual([one.result().entry.step for one in pending], [1, 2, 3])
        for step in range(1, 4):
            found = series.load(series.at(step))
            self.assertEqual((float(found["w"][0]), float(found["t"][0, 0])), (step, step))

    def test_old_checkpoints_are_pruned(self):
        series = self.series(metric="loss", mode="min", keep_last=2)
        for step in range(1, 6):
            saved = series.save(self.state(step), step=step, score=float(step))
        self.assertEqual([entry.step for entry in series.list()], [1, 4, 5])
        self.assertEqual([entry.step for entry in saved.pruned], [3])
        removed, kept = series.prune(dry_run=True)
        self.assertEqual((removed, len(kept)), ([], 3))

    def test_roll_back_moves_later_ones_away(self):
        series = self.series()
        for step in (1, 2, 3):
            series.save(self.state(step), step=step)
        moved = series.roll_back(1)
        self.assertEqual([entry.step for entry in moved], [3, 2])
        self.assertEqual(series.latest().step, 1)
        series.save(self.state(2), step=2)

    def test_damage_is_found(self):
        series = self.series()
        path = series.save(self.state(1), step=1).entry.path
        self.assertEqual([ok for _, ok, _ in series.verify()], [True])
        with open(path, "r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\xff")
        ((entry, ok, why),) = series.verify()
        self.assertEqual((entry.step, ok, bool(why)), (1, False, True))
        with self.assertRaises(flatbed.SealError):
            series.load(entry)

    def test_errors_have_codes(self):
        series = self.series()
        with self.assertRaises(flatbed.Error) as raised:
            series.latest()
        self.assertEqual(raised.exception.name, "step_not_found")
        series.save(self.state(2), step=2)
        for call, name in (
            (lambda: series.save(self.state(1), step=1), "step_not_after"),
            (lambda: series.save(self.state(3), step=3, score=1.0), "invalid_argument"),
            (lambda: series.at(7), "step_not_found"),
            (lambda: series.save({"w": lambda: 1}, step=3), "tree_not_representable"),
        ):  # fmt: skip
            with self.assertRaises(flatbed.Error) as raised:
                call()
            self.assertEqual(raised.exception.name, name)
        with self.assertRaises(ValueError):
            ft.Series(self.path("run"), mode="best")
        self.assertEqual([entry.step for entry in series.list()], [2])

    def test_one_process_writes(self):
        series = self.series()
        series.save(self.state(1), step=1)
        code = textwrap.dedent("""
            import sys, torch, flatbed, flatbed.torch as ft
            series = ft.Series(sys.argv[1])
            print(series.latest().step)
            try:
                series.save({"w": torch.ones(1)}, step=5)
            except flatbed.Error as error:
                print(error.name)
        """)
        run = [sys.executable, "-c", code, self.path("run")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

        def words():  # the last ones, because libraries of torch may print
            done = subprocess.run(
                run, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            return done.stdout.split()

        self.assertEqual(words()[-2:], ["1", "series_locked"])
        series.close()
        self.assertEqual(words()[-1], "1")

    def test_a_closed_series_raises(self):
        series = self.series()
        series.close()
        with self.assertRaises(ValueError):
            series.list()

    def test_a_program_that_ends_finishes_its_save(self):
        code = textwrap.dedent("""
            import sys, torch, flatbed.torch as ft
            series = ft.Series(sys.argv[1])
            series.save({"w": torch.ones(5_000_000)}, step=1, wait=False)
        """)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", code, self.path("run")], env=environment, check=True)
        self.assertEqual(float(self.series().load_latest()["w"].sum()), 5_000_000)

    def test_sets_of_shards(self):
        series = self.series(max_shard_size=2000)
        saved = series.save(self.state(1), step=1)
        self.assertTrue(saved.entry.is_set)
        self.assertEqual(series.load_latest()["epoch"], 1)

    def test_a_callback_cannot_write_to_its_series(self):
        series = self.series()
        calls = {
            "close": series.close,
            "prune": series.prune,
            "save": lambda: series.save(self.state(2), step=2),
        }
        for name, call in calls.items():
            with self.subTest(name), self.assertRaisesRegex(RuntimeError, "progress callback"):
                series.save(self.state(1), step=1, progress=lambda *_, call=call: call())
        self.assertEqual(len(series.list()), 0)

    def test_a_callback_that_raises_leaves_nothing(self):
        def stop(done, total):
            raise ZeroDivisionError

        series = self.series()
        with self.assertRaises(ZeroDivisionError):
            series.save({"w": torch.zeros(20_000_000)}, step=1, progress=stop)
        self.assertEqual(len(series.list()), 0)


if __name__ == "__main__":
    unittest.main()
