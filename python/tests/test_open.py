"""flatbed.open(): every kind of source, and what it refuses."""

from __future__ import annotations

import gc
import io
import mmap
import os
import pickle
import unittest
import weakref
from typing import Any

import flatbed
from support import FIXTURES, FolderTest, safetensors_bytes, two_tensors


class OpenTest(FolderTest):
    def check(self, checkpoint: flatbed.Checkpoint) -> None:
        self.assertEqual(list(checkpoint), ["a", "b"])
        self.assertEqual(checkpoint["b"].read(), b"\7" + bytes(7) + b"\x08" + bytes(7))

    def test_opens_a_path(self) -> None:
        path = self.write("two.safetensors", two_tensors())
        self.check(flatbed.open(path))
        self.check(flatbed.open(str(path)))

    def test_opens_bytes_in_memory(self) -> None:
        for kind in (bytes, bytearray, memoryview):
            with self.subTest(kind.__name__):
                self.check(flatbed.open(kind(two_tensors())))

    def test_opens_a_mapped_file(self) -> None:
        with open(self.write("two.safetensors", two_tensors()), "rb") as file:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                checkpoint = flatbed.open(mapped)
                self.check(checkpoint)
                del checkpoint
                gc.collect()

    def test_holds_memory_as_long_as_a_tensor_exists(self) -> None:
        memory = bytearray(two_tensors())
        tensor = flatbed.open(memory)["a"]
        with self.assertRaises(BufferError):  # it is exported
            memory.clear()
        self.assertEqual(len(tensor.read()), 24)
        del tensor
        memory.clear()

    def test_opens_a_descriptor_which_stays_the_callers(self) -> None:
        descriptor = os.open(self.write("two.safetensors", two_tensors()), os.O_RDONLY)
        checkpoint = flatbed.open(descriptor)
        os.close(descriptor)
        self.check(checkpoint)
        self.assertEqual(checkpoint.files[0].path, f"descriptor {descriptor}")

    def test_opens_a_file_that_may_then_be_closed(self) -> None:
        with open(self.write("two.safetensors", two_tensors()), "rb") as file:
            checkpoint = flatbed.open(file, label="weights")
        self.check(checkpoint)
        self.assertEqual(checkpoint.files[0].path, "weights")

    def test_opens_shards_of_paths_and_of_buffers(self) -> None:
        parts = [
            safetensors_bytes({name: ("U8", [1], value)})
            for name, value in (("x", b"1"), ("y", b"2"))
        ]
        paths = [self.write(f"{i}.safetensors", part) for i, part in enumerate(parts)]
        for shards in (paths, tuple(map(str, paths)), parts):
            checkpoint = flatbed.open(shards)
            self.assertEqual({name: t.read() for name, t in checkpoint.items()},
                             {"x": b"1", "y": b"2"})
            self.assertEqual(len(checkpoint.files), 2)

    def test_opens_a_folder_with_an_index(self) -> None:
        self.assertEqual(len(flatbed.open(FIXTURES / "sharded")), 9)

    def test_opens_every_layout(self) -> None:
        for name, layout in (
            ("state_dict.pth", "torch_zip"),
            ("legacy.pth", "torch_legacy"),
            ("tar.pth", "torch_tar"),
            ("pickled_0.pth", "torch_pickle"),
            ("script_nested.pt", "torch_script"),
        ):
            self.assertEqual(flatbed.open(FIXTURES / name).layout, layout)

    def test_a_name_that_is_not_utf8_is_a_path(self) -> None:
        path = os.fsencode(self.folder) + b"/\xff.safetensors"
        with open(path, "wb") as file:
            file.write(two_tensors())
        checkpoint = flatbed.open(os.fsdecode(path))
        self.check(checkpoint)
        self.assertEqual(os.fsencode(checkpoint.files[0].path), path)


class RefusedTest(FolderTest):
    def test_names_a_missing_file(self) -> None:
        with self.assertRaisesRegex(flatbed.FileError, "nowhere") as caught:
            flatbed.open(self.folder / "nowhere")
        self.assertEqual((caught.exception.code, caught.exception.name), (2, "file_not_found"))

    def test_a_malformed_file_is_a_format_error(self) -> None:
        for contents in (b"", b"x" * 100, two_tensors()[:-1], two_tensors() + b"x"):
            with self.assertRaises(flatbed.FormatError):
                flatbed.open(contents)

    def test_other_types_are_refused_by_name(self) -> None:
        sources: Any = (None, 1.5, True, {"a"}, {"a": 1}, object(), [None], iter([]))
        for source in sources:
            with self.subTest(source), self.assertRaises(TypeError):
                flatbed.open(source)

    def test_a_list_of_paths_and_buffers_is_refused(self) -> None:
        path = self.write("two.safetensors", two_tensors())
        with self.assertRaisesRegex(TypeError, "not both"):
            flatbed.open([path, two_tensors()])

    def test_a_list_of_no_shards_is_refused(self) -> None:
        with self.assertRaises(flatbed.Error):
            flatbed.open([])

    def test_a_path_with_a_nul_is_refused(self) -> None:
        with self.assertRaises((ValueError, flatbed.Error)):
            flatbed.open("a\0b")

    def test_a_path_object_that_raises_is_passed_on(self) -> None:
        class Path:
            def __fspath__(self) -> str:
                raise KeyError("inside")

        with self.assertRaisesRegex(KeyError, "inside"):
            flatbed.open(Path())

    def test_closed_files_and_descriptors_are_refused(self) -> None:
        file = open(self.write("two.safetensors", two_tensors()), "rb")
        file.close()
        with self.assertRaisesRegex(ValueError, "closed"):
            flatbed.open(file)
        for descriptor in (-1, 1 << 40):
            with self.subTest(descriptor), self.assertRaises((ValueError, OverflowError)):
                flatbed.open(descriptor)
        with self.assertRaises(flatbed.FileError):
            flatbed.open(987_654)

    def test_a_pipe_is_no_model_file(self) -> None:
        read, write = os.pipe()
        self.addCleanup(os.close, read)
        self.addCleanup(os.close, write)
        with self.assertRaises(flatbed.FileError):
            flatbed.open(read)

    def test_a_released_or_scattered_buffer_is_refused(self) -> None:
        view = memoryview(two_tensors())
        with self.assertRaises(BufferError):
            flatbed.open(view[::2])
        view.release()
        with self.assertRaises((BufferError, ValueError)):
            flatbed.open(view)

    def test_a_stream_in_memory_without_a_descriptor_is_refused(self) -> None:
        with self.assertRaises(io.UnsupportedOperation):
            flatbed.open(io.BytesIO(two_tensors()))  # type: ignore[arg-type]

    def test_options_are_checked(self) -> None:
        with self.assertRaisesRegex(ValueError, "if_sealed"):
            flatbed.open(two_tensors(), check_seal="always")  # type: ignore[arg-type]
        with self.assertRaises(TypeError):
            flatbed.open(two_tensors(), "off")  # type: ignore[misc]
        with self.assertRaises(TypeError):
            flatbed.open(two_tensors(), follow_links="no")  # type: ignore[arg-type]

    def test_a_seal_can_be_required_or_ignored(self) -> None:
        path = self.folder / "sealed.safetensors"
        with self.assertRaises(flatbed.SealError) as caught:
            flatbed.open(two_tensors(), check_seal="required")
        self.assertEqual(caught.exception.name, "not_sealed")
        flatbed.convert(two_tensors(), path)
        self.assertEqual(flatbed.open(path, check_seal="required").seal, "sealed")
        damaged = path.read_bytes().replace(b'"I64"', b'"U64"')
        with self.assertRaises(flatbed.SealError):
            flatbed.open(damaged)
        self.assertEqual(flatbed.open(damaged, check_seal="off").seal, "broken")


class ErrorTest(unittest.TestCase):
    def test_every_code_has_a_class(self) -> None:
        from flatbed.errors import _from_code

        for code, name, _ in flatbed.ERROR_CODES:
            error = _from_code(code, name, "text")
            self.assertEqual((error.code, error.name, str(error)), (code, name, "text"))

    def test_codes_of_a_kind_have_its_class(self) -> None:
        from flatbed.errors import _from_code

        for code, kind in ((1, flatbed.FileError), (9, flatbed.FileError), (10, flatbed.Error),
                           (11, flatbed.TensorNotFoundError), (30, flatbed.FormatError),
                           (66, flatbed.SealError), (150, flatbed.FormatError),
                           (180, flatbed.DeviceError), (199, flatbed.Error)):
            self.assertIs(type(_from_code(code, "name", "text")), kind)

    def test_an_error_can_be_pickled(self) -> None:
        try:
            flatbed.open(b"")
        except flatbed.Error as error:
            again = pickle.loads(pickle.dumps(error))
            self.assertEqual((type(again), again.args), (type(error), error.args))

    def test_an_error_keeps_no_checkpoint_alive(self) -> None:
        checkpoint = flatbed.open(two_tensors())
        alive = weakref.ref(checkpoint)
        with self.assertRaises(KeyError):
            checkpoint["c"]
        del checkpoint
        gc.collect()
        self.assertIsNone(alive())


if __name__ == "__main__":
    unittest.main()
