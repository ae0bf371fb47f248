"""verify, convert, scan, diff, match; progress and interruption."""

from __future__ import annotations

import os
import pathlib
import pickle
import signal
import struct
import threading
import unittest
from typing import Any

import flatbed
from support import FIXTURES, FolderTest, expanded_pth, has, needs_numpy, two_tensors


class ConvertArgumentsTest(FolderTest):
    def test_a_size_of_shards_is_for_sets(self) -> None:
        with self.assertRaisesRegex(ValueError, "max_shard_size"):
            flatbed.convert(
                two_tensors(), self.folder / "a.st", format="safetensors", max_shard_size=100
            )

    def test_bytes_are_no_path(self) -> None:
        with self.assertRaisesRegex(TypeError, "to: expected a str or an os.PathLike, not bytes"):
            flatbed.convert(two_tensors(), b"a.st")  # type: ignore[arg-type]


class VerifyTest(FolderTest):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "sealed.safetensors"
        flatbed.convert(two_tensors(), self.path)

    def test_a_sound_file_is_ok(self) -> None:
        for source in (self.path, str(self.path), flatbed.open(self.path)):
            report = flatbed.verify(source)
            self.assertTrue(report.ok)
            self.assertEqual((report.bytes_checked, report.chunks_checked), (40, 2))
        self.assertEqual(flatbed.open(self.path).verify(threads=1), report)

    def test_damage_is_named(self) -> None:
        damaged = self.path.read_bytes().replace(struct.pack("<q", 7), struct.pack("<q", 9))
        self.path.write_bytes(damaged)
        report = flatbed.verify(self.path)
        self.assertFalse(report.ok)
        (range_,) = report.damaged
        self.assertEqual((range_.tensor, range_.begin, range_.end), ("b", 0, 16))
        self.assertEqual(range_.file, str(self.path))

    def test_a_callable_for_progress_stays_open(self) -> None:
        class Bar:
            closed = False

            def __call__(self, done: int, total: int) -> None:
                pass

            def close(self) -> None:
                self.closed = True

        bar = Bar()
        flatbed.verify(self.path, progress=bar)
        self.assertFalse(bar.closed)

    def test_a_file_without_sums_says_so(self) -> None:
        report = flatbed.verify(two_tensors())
        self.assertEqual((report.bytes_checked, report.crc.unchecked_files), (0, 1))

    def test_a_zip_is_checked_by_its_sums(self) -> None:
        report = flatbed.verify(FIXTURES / "state_dict.pth")
        self.assertTrue(report.ok)
        self.assertGreater(report.crc.checked, 0)

    def test_arguments_are_checked(self) -> None:
        for arguments in ({"threads": "2"}, {"threads": -1}, {"progress": 3}, {"progress": "bar"}):
            with self.assertRaises((TypeError, OverflowError)):
                flatbed.verify(self.path, **arguments)  # type: ignore[arg-type]
        with self.assertRaises(TypeError):
            flatbed.verify(None)  # type: ignore[arg-type]


class ProgressTest(FolderTest):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.folder / "sealed.safetensors"
        flatbed.convert(two_tensors(), self.path)

    def runs(self) -> dict[str, Any]:
        """Everything that takes a progress."""
        return {
            "verify": lambda p: flatbed.verify(self.path, progress=p),
            "method": lambda p: flatbed.open(self.path).verify(progress=p),
            "convert": lambda p: flatbed.convert(two_tensors(), self.folder / "out", progress=p),
            "diff": lambda p: flatbed.diff(self.path, two_tensors(), progress=p),
        }

    def test_is_told_bytes_done_and_in_total(self) -> None:
        for name, run in self.runs().items():
            calls: list[tuple[int, int]] = []
            run(lambda done, total: calls.append((done, total)))
            self.assertEqual(calls[-1][0], calls[-1][1], name)
            self.assertGreater(calls[-1][1], 0, name)

    def test_what_it_raises_ends_the_work_and_is_raised(self) -> None:
        def fail(done: int, total: int) -> None:
            raise LookupError("stop")

        for name, run in self.runs().items():
            with self.subTest(name), self.assertRaisesRegex(LookupError, "stop"):
                run(fail)
        self.assertFalse((self.folder / "out").exists())

    def test_a_callback_of_another_form_is_raised(self) -> None:
        with self.assertRaises(TypeError):
            flatbed.verify(self.path, progress=lambda: None)  # type: ignore[arg-type,misc]

    def test_an_interrupt_ends_the_work(self) -> None:
        def interrupt(done: int, total: int) -> None:
            os.kill(os.getpid(), signal.SIGINT)

        with self.assertRaises(KeyboardInterrupt):
            flatbed.convert(FIXTURES / "checkpoint.pth", self.folder / "out", progress=interrupt)
        self.assertFalse((self.folder / "out").exists())
        self.assertEqual([path.name for path in self.folder.iterdir()], [self.path.name])

    def test_a_callback_may_call_back_in(self) -> None:
        checkpoint = flatbed.open(self.path)
        seen = []
        checkpoint.verify(progress=lambda done, total: seen.append(len(checkpoint["a"].read())))
        self.assertEqual(set(seen), {24})

    @unittest.skipUnless(has("tqdm"), "tqdm is not installed")
    def test_a_bar_of_tqdm(self) -> None:
        import contextlib
        import io

        shown = io.StringIO()
        with contextlib.redirect_stderr(shown):
            flatbed.verify(self.path, progress=True)
        self.assertIn("100%", shown.getvalue())

    @unittest.skipIf(has("tqdm"), "tqdm is installed")
    def test_without_tqdm_a_bar_is_refused_by_name(self) -> None:
        with self.assertRaisesRegex(ImportError, "tqdm"):
            flatbed.verify(self.path, progress=True)


class ConvertTest(FolderTest):
    def test_converts_a_pth_and_back(self) -> None:
        sealed, again = self.folder / "out.safetensors", self.folder / "again.pth"
        report = flatbed.convert(FIXTURES / "state_dict.pth", sealed)
        self.assertEqual((report.nbytes, report.durable), (sealed.stat().st_size, True))
        self.assertEqual(flatbed.open(sealed).files[0].content, report.content)
        flatbed.convert(sealed, again)
        self.assertEqual(flatbed.open(again).layout, "torch_zip")
        self.assertTrue(flatbed.diff(FIXTURES / "state_dict.pth", again).same)

    def test_replaces_nothing_unless_asked(self) -> None:
        path = self.write("there", b"precious")
        with self.assertRaises(flatbed.FileError) as caught:
            flatbed.convert(two_tensors(), path)
        self.assertEqual(caught.exception.name, "file_exists")
        self.assertEqual(path.read_bytes(), b"precious")
        flatbed.convert(two_tensors(), path, replace=True)
        self.assertEqual(len(flatbed.open(path)), 2)

    def test_refuses_to_replace_its_input(self) -> None:
        path = self.write("in.safetensors", two_tensors())
        with self.assertRaisesRegex(flatbed.Error, "also the input"):
            flatbed.convert(path, path, replace=True)

    def test_refuses_to_replace_the_index_or_the_folder_of_its_input(self) -> None:
        folder, plain = self.folder / "set", self.write("in.safetensors", two_tensors())
        flatbed.convert(two_tensors(), folder, max_shard_size=24)
        index = folder / "model.safetensors.index.json"
        before = index.read_bytes()
        part = flatbed.open(index).select(include=["a"]).rename({"*": "x.{1}"}).cast("bf16")
        sources: tuple[tuple[Any, Any, int | None], ...] = (
            (index, index, None), (folder, index, None), (part, index, None), (index, folder, 30),
            (plain, self.folder, 30),
        )  # fmt: skip
        for source, to, shard in sources:
            with self.subTest(source=source, to=to):
                with self.assertRaisesRegex(flatbed.Error, "also the input"):
                    flatbed.convert(source, to, replace=True, max_shard_size=shard)
        self.assertEqual(index.read_bytes(), before)

    def test_refuses_what_is_far_larger_than_its_source(self) -> None:
        with self.assertRaises(flatbed.Error) as caught:
            flatbed.convert(expanded_pth(1 << 44), self.folder / "out.safetensors")
        self.assertEqual(caught.exception.name, "expansion_refused")
        flatbed.convert(expanded_pth(4), self.folder / "out.safetensors", allow_expansion=True)

    def test_selects_renames_and_casts(self) -> None:
        path = self.folder / "out.safetensors"
        flatbed.convert(FIXTURES / "checkpoint.pth", path, select="model", exclude=["*.bias"],
                        rename={"*": "net.{1}"}, dtype="bf16", keep=["net.1.*"])
        checkpoint = flatbed.open(path)
        self.assertEqual(checkpoint["net.0.weight"].dtype, "BF16")
        self.assertEqual(checkpoint["net.1.weight"].dtype, "F32")
        self.assertNotIn("net.0.bias", checkpoint)

    def test_a_whole_model_becomes_its_state_dict(self) -> None:
        path = self.folder / "out.safetensors"
        flatbed.convert(FIXTURES / "whole_model.pth", path)
        self.assertNotIn("cache.0", flatbed.open(path))  # an attribute, not a parameter
        flatbed.convert(FIXTURES / "whole_model.pth", path, state_dict=False, replace=True)
        self.assertIn("cache.0", flatbed.open(path))

    def test_keeps_metadata(self) -> None:
        path = self.write("in.safetensors", two_tensors().replace(b'{"a"', b'{"a"'))
        flatbed.convert(path, self.folder / "out.safetensors")
        self.assertIn("format", flatbed.open(self.folder / "out.safetensors").metadata)

    def test_writes_a_set(self) -> None:
        report = flatbed.convert(two_tensors(), self.folder / "set", max_shard_size=24)
        self.assertEqual(len(report.files), 2)
        self.assertEqual(len(flatbed.open(self.folder / "set").files), 2)

    def test_writes_without_a_seal(self) -> None:
        path = self.folder / "out.safetensors"
        self.assertEqual(flatbed.convert(two_tensors(), path, seal=False, sync=False).content, "")
        self.assertEqual(flatbed.open(path).seal, "unsealed")

    def test_arguments_are_checked(self) -> None:
        for to in (None, b"out", 3):
            with self.assertRaises(TypeError):
                flatbed.convert(two_tensors(), to)  # type: ignore[arg-type]
        with self.assertRaisesRegex(ValueError, "gguf"):
            flatbed.convert(two_tensors(), "x", format="gguf")  # type: ignore[arg-type]
        with self.assertRaises(flatbed.Error):
            flatbed.convert(two_tensors(), self.folder / "set", max_shard_size=0)
        with self.assertRaises(flatbed.FileError):
            flatbed.convert(two_tensors(), self.folder / "no" / "folder" / "x")


class ScanTest(FolderTest):
    def test_a_plain_file(self) -> None:
        report = flatbed.scan(FIXTURES / "state_dict.pth")
        self.assertEqual(report.verdict, "plain")
        self.assertEqual(report.files[0].what, "a zip of torch.save")

    def test_names_what_would_be_called(self) -> None:
        class Stranger:
            def __reduce__(self) -> tuple[Any, ...]:
                return os.system, ("true",)

        report = flatbed.scan(self.write("stranger.pkl", pickle.dumps(Stranger())))
        self.assertEqual(report.verdict, "dangerous")
        self.assertEqual((report.findings[0].module, report.findings[0].qualname),
                         (os.system.__module__, "system"))

    def test_a_folder(self) -> None:
        self.write("a.txt", b"hello")
        (self.folder / "inner").mkdir()
        self.write("inner/b.txt", b"hello")
        flat, deep = (flatbed.scan(self.folder, recursive=deep) for deep in (False, True))
        self.assertEqual([pathlib.Path(file.path).name for file in flat.files if file.scanned],
                         ["a.txt"])
        self.assertEqual(sorted(pathlib.Path(file.path).name for file in deep.files),
                         ["a.txt", "b.txt"])

    def test_a_missing_file_is_an_error(self) -> None:
        with self.assertRaises(flatbed.FileError):
            flatbed.scan(self.folder / "nowhere")
        with self.assertRaises(TypeError):
            flatbed.scan(two_tensors())  # type: ignore[arg-type]

    def test_an_interrupt_ends_a_scan(self) -> None:
        # Opcodes without end: more than a second of work.
        path = self.write("long.pkl", b"\x80\2" + b"N0" * 120_000_000 + b".")
        timer = threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with self.assertRaises(KeyboardInterrupt):
            flatbed.scan(path)
        timer.join()


class DiffTest(FolderTest):
    def test_equal_checkpoints_are_the_same(self) -> None:
        report = flatbed.diff(two_tensors(), two_tensors())
        self.assertTrue(report.same)
        self.assertEqual(report.equal_tensors, 2)

    def test_names_what_differs(self) -> None:
        other = two_tensors().replace(struct.pack("<f", 5), struct.pack("<f", 7))
        report = flatbed.diff(two_tensors(), other, values=True)
        (difference,) = report.tensors
        self.assertEqual((difference.name, difference.change, difference.chunks), ("a", "bytes", 1))
        assert difference.values is not None
        self.assertEqual((difference.values.max_abs, difference.values.different), (2.0, 1))
        renamed = flatbed.open(two_tensors()).rename({"a": "c"})
        changes = {d.name: (d.change, d.shape_a) for d in
                   flatbed.diff(two_tensors(), renamed).tensors}
        self.assertEqual(changes, {"a": ("removed", (2, 3)), "c": ("added", None)})

    def test_names_places_of_the_structure(self) -> None:
        path = self.folder / "out.safetensors"
        flatbed.convert(FIXTURES / "checkpoint.pth", path)
        report = flatbed.diff(FIXTURES / "checkpoint.pth", path)
        self.assertEqual((report.trees_compared, report.tree), (True, []))


class MatchTest(unittest.TestCase):
    def test_a_checkpoint_matches_itself(self) -> None:
        checkpoint = flatbed.open(two_tensors())
        report = flatbed.match(checkpoint, two_tensors())
        self.assertTrue(report.complete)
        self.assertEqual(report.matched, 2)

    def test_names_missing_unexpected_and_mismatched(self) -> None:
        report = flatbed.match(two_tensors(), {"a": {"shape": [3, 3]}, "c": None,
                                               "b": {"dtype": "I32"}}, exact_dtypes=True)
        self.assertEqual((report.missing_keys, report.unexpected_keys), (["c"], []))
        self.assertEqual([(m.name, m.expected_shape, m.expected_dtype) for m in report.mismatched],
                         [("a", (3, 3), None), ("b", None, "I32")])
        self.assertFalse(report.complete)

    def test_suggests_a_prefix_and_near_names(self) -> None:
        state = flatbed.open(FIXTURES / "state_dict.pth")
        report = flatbed.match(state.rename(add_prefix="module."), state)
        assert report.suggested is not None
        self.assertEqual((report.suggested.strip, report.suggested.matches), ("module.", 9))
        report = flatbed.match(state, dict.fromkeys([*state, "0.weigth"]))
        self.assertEqual(report.missing_keys, ["0.weigth"])

    @needs_numpy
    def test_takes_arrays(self) -> None:
        import numpy

        expected = {"a": numpy.zeros((2, 3), "f4"), "b": numpy.zeros(2, "i8")}
        self.assertTrue(flatbed.match(two_tensors(), expected, exact_dtypes=True).complete)

    def test_other_types_are_refused(self) -> None:
        expected: Any
        for expected in (None, 1.5, [1]):
            with self.assertRaises(TypeError):
                flatbed.match(two_tensors(), expected)  # type: ignore[arg-type]


if __name__ == "__main__":
    unittest.main()
