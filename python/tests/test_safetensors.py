"""flatbed.safetensors: what it reads, verifies, refuses and writes. Parts need numpy or torch."""

import concurrent.futures
import copy
import importlib.util
import json
import os
import pathlib
import pickle
import signal
import struct
import subprocess
import sys
import tempfile
import textwrap
import unittest
import warnings

import flatbed
import flatbed.safetensors as fs
from flatbed.safetensors import _open

try:
    import numpy as np
except ImportError:
    np = None
try:
    import torch
except ImportError:
    torch = None
REFERENCE = importlib.util.find_spec("safetensors") is not None

CHUNK = 262_144


def spec(values, dtype="uint8", shape=None):
    """A TensorSpec of a bytearray, which the caller keeps."""
    import ctypes

    address = ctypes.addressof(
        (ctypes.c_char * max(len(values), 1)).from_buffer(values or bytearray(1))
    )
    return fs.TensorSpec(
        dtype=dtype,
        shape=[len(values)] if shape is None else shape,
        data_ptr=address,
        data_len=len(values),
    )


class FileTest(unittest.TestCase):
    """Tests with a folder and a sealed file of two tensors: "a" of three chunks and "b" of one."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.path = self.folder / "model.safetensors"
        self.a = bytearray(os.urandom(3 * CHUNK))
        self.b = bytearray(os.urandom(40))
        self.write(self.path, seal=True)

    def write(self, path, seal, metadata=None):
        fs.serialize_file(
            {"b": spec(self.b, "float32", [2, 5]), "a": spec(self.a, shape=[3, CHUNK])},
            path,
            metadata,
            seal=seal,
        )

    def offset(self, name, path=None):
        """Where a tensor begins in the file."""
        data = (path or self.path).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        return 8 + length + json.loads(data[8 : 8 + length])[name]["data_offsets"][0]

    def flip(self, name, at=0, path=None):
        """Changes one byte of a tensor in the file."""
        offset = self.offset(name, path) + at
        with open(path or self.path, "r+b") as file:
            file.seek(offset)
            byte = file.read(1)[0]
            file.seek(offset)
            file.write(bytes([byte ^ 1]))


class DeserializeTest(FileTest):
    def test_gives_every_tensor_in_the_order_of_the_file(self):
        (name_a, a), (name_b, b) = fs.deserialize(self.path.read_bytes())
        self.assertEqual((name_a, name_b), ("a", "b"))
        self.assertEqual(a, {"shape": [3, CHUNK], "dtype": "U8", "data": self.a})
        self.assertEqual(b, {"shape": [2, 5], "dtype": "F32", "data": self.b})
        self.assertIsInstance(a["data"], bytearray)

    def test_verifies_unless_it_is_off(self):
        self.flip("b", 7)
        data = self.path.read_bytes()
        with self.assertRaisesRegex(fs.SafetensorError, "tensor 'b'") as raised:
            fs.deserialize(data)
        self.assertEqual(raised.exception.name, "chunk_corrupt")
        self.assertEqual(len(fs.deserialize(data, verify="off")), 2)

    def test_refuses_what_is_no_file(self):
        for data in (b"", b"abc", b"\x05\0\0\0\0\0\0\0{abc}"):
            with self.assertRaisesRegex(fs.SafetensorError, "Error while deserializing: "):
                fs.deserialize(data)
        with self.assertRaises(TypeError):
            fs.deserialize("text")

    def test_an_empty_file_has_no_tensors(self):
        self.assertEqual(fs.deserialize(b"\x02\0\0\0\0\0\0\0{}"), [])


class SerializeTest(FileTest):
    def test_writes_the_bytes_of_the_reference(self):
        values = bytearray(range(16))
        header = b'{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}    '
        self.assertEqual(
            fs.serialize({"test": spec(values, "int32", [2, 2])}),
            struct.pack("<Q", 64) + header + values,
        )
        self.assertEqual(fs.serialize({}), struct.pack("<Q", 8) + b"{}      ")
        self.assertEqual(fs.serialize({}, {}), struct.pack("<Q", 24) + b'{"__metadata__":{}}     ')
        self.assertEqual(fs.serialize({}, {"k": "v"})[8:], b'{"__metadata__":{"k":"v"}}      ')

    def test_a_file_has_the_same_bytes(self):
        specs = {"a": spec(self.a), "b": spec(self.b)}
        for seal in (False, True):
            fs.serialize_file(specs, self.folder / "same", {"k": "v"}, seal=seal)
            self.assertEqual(
                (self.folder / "same").read_bytes(), fs.serialize(specs, {"k": "v"}, seal=seal)
            )

    def test_hides_the_keys_of_a_seal(self):
        self.write(self.path, True, {"flat": "bed", "format": "pt"})
        self.assertIn(b'"flatbed.digests"', self.path.read_bytes())
        with fs.safe_open(self.path, "np") if np else _NumpyLess(self.path) as file:
            self.assertEqual(file.metadata(), {"flat": "bed", "format": "pt"})

    def test_a_spec_counts_elements(self):
        values = bytearray(6)
        made = spec(values, "float4_e2m1fn_x2", (2, 3))
        self.assertEqual((made.dtype, made.shape, made.data_len), ("F4", [2, 6], 6))
        self.assertIn("dtype='F4', shape=[2, 6]", repr(made))
        with self.assertRaises(AttributeError):
            made.dtype = "F32"

    def test_refuses_what_makes_no_file(self):
        values = bytearray(8)
        with self.assertRaisesRegex(fs.SafetensorError, "'nonsense', expected one of: bool"):
            spec(values, "nonsense")
        with self.assertRaisesRegex(
            fs.SafetensorError, "Error while serializing: tensor 'a'.*needs 12"
        ):
            fs.serialize({"a": spec(values, "float32", [3])})
        with self.assertRaisesRegex(fs.SafetensorError, "reserved"):
            fs.serialize({}, {"flatbed": "x"})
        with self.assertRaisesRegex(fs.SafetensorError, "Error while serializing: "):
            fs.serialize_file({}, self.folder / "none" / "a")
        for arguments in (({"a": {}},), ([],), ({1: spec(values)},), ({}, {"a": 1})):
            with self.assertRaises(TypeError):
                fs.serialize(*arguments)
        for arguments in ({"shape": [-1]}, {"data_len": -1}, {"dtype": 1}, {"data_ptr": "0"}):
            with self.assertRaises((TypeError, OverflowError)):
                fs.TensorSpec(
                    **{"dtype": "int8", "shape": [0], "data_ptr": 0, "data_len": 0, **arguments}
                )
        with self.assertRaises(TypeError):
            fs.TensorSpec("int8", [0], 0, 0)

    def test_names_with_lone_surrogates_are_refused(self):
        for tensors, metadata in (({"\ud800": spec(self.b)}, None), ({}, {"\ud800": ""})):
            with self.assertRaises(UnicodeEncodeError):
                fs.serialize(tensors, metadata)

    def test_a_file_that_is_replaced_stays_whole_for_its_readers(self):
        file = _open._flatbed.SafetensorsFile.open(str(self.path), True, _open._known)
        memory = file.view(0)
        self.a[0] ^= 255
        self.write(self.path, seal=True)
        self.assertNotEqual(bytes(memory)[0], self.a[0])


class _NumpyLess:
    """A file's metadata, where there is no numpy for safe_open()."""

    def __init__(self, path):
        self.file = _open._flatbed.SafetensorsFile.open(str(path), True, _open._known)

    def __enter__(self):
        return self.file

    def __exit__(self, *_):
        pass


class ErrorTest(unittest.TestCase):
    def test_is_raised_with_a_message_alone(self):
        error = fs.SafetensorError("what is wrong")
        self.assertEqual(str(error), "what is wrong")
        self.assertEqual(error.name, "invalid_argument")

    def test_is_copied_and_pickled(self):
        for error in (fs.SafetensorError("m"), fs.SafetensorError("m", 66, "chunk_corrupt")):
            for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
                self.assertEqual(
                    (str(twin), twin.code, twin.name), (str(error), error.code, error.name)
                )

    def test_its_module_can_be_imported(self):
        self.assertIs(
            sys.modules[fs.SafetensorError.__module__].SafetensorError, fs.SafetensorError
        )


@unittest.skipIf(np is None, "needs numpy")
class OpenTest(FileTest):
    def test_lists_names_and_metadata(self):
        with fs.safe_open(self.path, framework="np") as file:
            self.assertEqual(file.keys(), ["a", "b"])
            self.assertEqual(file.offset_keys(), ["a", "b"])
            self.assertEqual(file.metadata(), {"format": "pt"})
        self.write(self.path, seal=False)
        with fs.safe_open(self.path, framework="np") as file:
            self.assertEqual(file.keys(), ["a", "b"])
            self.assertEqual(file.offset_keys(), ["b", "a"])  # the wider dtype first
            self.assertIsNone(file.metadata())

    def test_gives_tensors_that_may_be_written(self):
        for verify in ("tensor", "copy", "off"):
            for backend in ("mmap", "pread"):
                with fs.safe_open(self.path, "np", backend=backend, verify=verify) as file:
                    a = file.get_tensor("a")
                    tensors = file.get_tensors()
                self.assertEqual(a.tobytes(), bytes(self.a))
                a[0, 0] ^= 1
                self.assertEqual(list(tensors), ["a", "b"])
                self.assertEqual(tensors["a"].tobytes(), bytes(self.a))
                self.assertEqual((tensors["b"].dtype, tensors["b"].shape), (np.float32, (2, 5)))

    def test_refuses_damage_by_the_tensors_name(self):
        self.flip("a", 2 * CHUNK)
        for verify in ("tensor", "copy"):
            for backend in ("mmap", "pread"):
                with fs.safe_open(self.path, "np", backend=backend, verify=verify) as file:
                    for call in (
                        lambda: file.get_tensor("a"),
                        file.get_tensors,
                        lambda: file.get_slice("a")[:, 0],
                    ):
                        with self.assertRaisesRegex(
                            fs.SafetensorError, "tensor 'a': chunk 2"
                        ) as raised:
                            call()
                        self.assertEqual(raised.exception.name, "chunk_corrupt")
                    file.get_tensor("b")
                    file.get_slice("a")[:2]  # its own chunks are sound
                    with self.assertRaises(fs.SafetensorError):
                        file.get_slice("a")[2]
        with fs.safe_open(self.path, "np", verify="off") as file:
            self.assertEqual(len(file.get_tensors()), 2)

    def test_refuses_a_damaged_header(self):
        data = bytearray(self.path.read_bytes())
        data[data.index(b"flatbed.digests") + 20] ^= 1
        self.path.write_bytes(data)
        with self.assertRaisesRegex(
            fs.SafetensorError, "Error while deserializing header: "
        ) as raised:
            fs.safe_open(self.path, "np")
        self.assertEqual(raised.exception.name, "seal_content_mismatch")
        fs.safe_open(self.path, "np", verify="off").get_tensors()

    def test_a_file_that_changes_is_verified_again(self):
        for _ in range(3):
            fs.safe_open(self.path, "np").get_tensors()
            self.flip("b")
            with self.assertRaises(fs.SafetensorError):
                fs.safe_open(self.path, "np").get_tensors()
            self.flip("b")

    def test_an_open_file_that_changes_gives_no_more_tensors_in_place(self):
        os.utime(self.path, (1, 1))  # so that the change shows, however soon it comes
        file = fs.safe_open(self.path, "np")._opened()
        (number, *_) = file.find("b")
        self.assertEqual(bytes(file.view(number)), bytes(self.b))
        self.flip("b")
        for view in (file.view, file.view_unchecked):
            with self.assertRaisesRegex(flatbed.FileError, "changed"):
                view(number)
        with self.assertRaises(flatbed.Error):
            file.all(False)

    def test_a_sidecar_seals_too(self):
        self.write(self.path, seal=False)
        command = [
            os.environ.get("FLATBED_TOOL", "flatbed"),
            "convert",
            "--sidecar",
            str(self.path),
        ]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            self.skipTest("there is no flatbed on PATH")
        self.flip("b")
        with self.assertRaisesRegex(fs.SafetensorError, "tensor 'b'"):
            fs.safe_open(self.path, "np").get_tensor("b")

    def test_memory_that_was_never_initialized_has_no_bytes(self):
        kind = _open._flatbed.SafetensorsMemory
        for _ in range(100):
            with self.assertRaises(BufferError):
                memoryview(kind.__new__(kind))

    def test_what_was_taken_outlives_the_file(self):
        with fs.safe_open(self.path, "np") as file:
            taken = file.get_slice("b")
        with self.assertRaisesRegex(fs.SafetensorError, "closed"):
            file.keys()
        self.path.unlink()
        self.assertEqual(taken[0].tobytes(), bytes(self.b[:20]))

    def test_says_what_cannot_be_opened(self):
        with self.assertRaises(FileNotFoundError) as raised:
            fs.safe_open("notafile", framework="np")
        self.assertEqual(str(raised.exception), "No such file or directory: notafile")
        with self.assertRaisesRegex(FileNotFoundError, "No such file or directory: a\0b"):
            fs.safe_open("a\0b", framework="np")
        with self.assertRaisesRegex(fs.SafetensorError, "NUL"):
            fs.serialize_file({}, "a\0b")
        with self.assertRaises(OSError):
            fs.safe_open(self.folder, framework="np")
        os.mkfifo(self.folder / "pipe")
        with self.assertRaisesRegex(OSError, "not a regular file") as raised:
            fs.safe_open(self.folder / "pipe", framework="np")
        self.assertNotIsInstance(raised.exception, IsADirectoryError)
        other = self.folder / "index.json"
        other.write_text(json.dumps({"weight_map": {"a": self.path.name}}))
        for path, text in ((other, "safetensors file"), (pathlib.Path(__file__), "")):
            with self.assertRaisesRegex(fs.SafetensorError, text):
                fs.safe_open(path, framework="np")

    def test_names_that_are_not_utf8_have_their_errors(self):
        path = os.fsencode(self.folder) + b"/\xff"
        os.mkdir(path)
        with self.assertRaisesRegex(IsADirectoryError, r"\\xff"):
            fs.safe_open(os.fsdecode(path), "np")
        index = path + b"/index.json"
        with open(index, "w") as file:
            json.dump({"weight_map": {"a": "../" + self.path.name}}, file)
        with self.assertRaises(fs.SafetensorError):
            fs.safe_open(os.fsdecode(index), "np")

    def test_refuses_arguments_that_it_does_not_know(self):
        for arguments, error in (
            ({"framework": "xx"}, fs.SafetensorError),
            ({"framework": "np", "device": "cuda"}, fs.SafetensorError),
            ({"framework": "np", "device": "zz"}, fs.SafetensorError),
            ({"framework": "np", "device": 1.5}, fs.SafetensorError),
            ({"framework": "np", "backend": "x"}, fs.SafetensorError),
            ({"framework": "np", "verify": "x"}, ValueError),
            ({"framework": 1}, TypeError),
            ({}, TypeError),
        ):
            with self.assertRaises(error, msg=arguments):
                fs.safe_open(self.path, **arguments)
        with self.assertRaises(TypeError):
            fs.safe_open(3, "np")
        with self.assertRaises(TypeError):
            fs.safe_open(os.fsencode(self.path), "np")
        with fs.safe_open(self.path, "np") as file:
            for get in (file.get_tensor, file.get_slice):
                with self.assertRaisesRegex(fs.SafetensorError, "does not contain tensor zz"):
                    get("zz")
                with self.assertRaises(TypeError):
                    get(3)

    def test_a_handle_is_opened_by_its_name(self):
        with open(self.path, "rb") as stream, fs._safe_open_handle(stream, framework="np") as file:
            self.assertEqual(file.get_tensor("b").tobytes(), bytes(self.b))
        with self.assertRaises(AttributeError):
            fs._safe_open_handle("text", "np")

    def test_many_threads_share_one_file(self):
        with (
            fs.safe_open(self.path, "np") as file,
            concurrent.futures.ThreadPoolExecutor(8) as pool,
        ):
            for a in pool.map(lambda row: file.get_slice("a")[row % 3], range(64)):
                self.assertEqual(a.shape, (CHUNK,))
            for b in pool.map(lambda _: file.get_tensor("b"), range(64)):
                self.assertEqual(b.tobytes(), bytes(self.b))

    def test_threads_that_verify_work_for_many_threads_and_after_a_fork(self):
        path, large = self.folder / "large.safetensors", bytearray(16 << 20)
        fs.serialize_file({"w": spec(large)}, path, seal=True)

        def take(_=None):
            with fs.safe_open(path, "np", verify="copy") as file:
                return file.get_tensor("w").nbytes

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            self.assertEqual(set(pool.map(take, range(16))), {16 << 20})
        with warnings.catch_warnings():  # that threads may have locks, which here they have not
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:  # where those threads are not
            signal.alarm(30)
            found = take(), take()
            _open._known = None
            os._exit(found != (16 << 20, 16 << 20))
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        self.flip("w", (16 << 20) - 1, path)
        for _ in range(4):
            with self.assertRaisesRegex(fs.SafetensorError, "'w'"):
                take()


@unittest.skipIf(np is None, "needs numpy")
class NumpySliceTest(FileTest):
    def setUp(self):
        super().setUp()
        self.array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
        from flatbed.safetensors.numpy import save_file

        save_file(
            {"t": self.array, "s": np.array(7.0), "e": np.zeros((0, 3))}, self.path, seal=True
        )
        self.file = fs.safe_open(self.path, "np")

    def test_takes_what_numpy_takes(self):
        whole = slice(None)
        taken = self.file.get_slice("t")
        self.assertEqual((taken.get_shape(), taken.get_dtype()), ([3, 4, 5], "I16"))
        for index in (
            whole,
            (),
            ...,
            0,
            -1,
            (1, 2),
            (1, 2, 3),
            (1, -1, slice(2, 4)),
            slice(1, 2),
            slice(1, 3),
            (slice(0, 2), slice(1, 3)),
            (whole, 0),
            (whole, whole, 0),
            (..., 1),
            (0, ..., slice(None, None, 2)),
            slice(None, None, 2),
            (whole, slice(1, 4, 2)),
            slice(0, 3, 5),
            (0, slice(1, 4), whole),
            (slice(0, 1), 0),
            (2, slice(None, None, 3)),
            slice(-2, None),
            slice(None, -1),
            (whole, slice(0, 0)),
            (1, slice(2, 1)),
            (np.int64(1), whole),
            [],
            (slice(2, 3), slice(1, 2), slice(0, 5)),
        ):
            expected = self.array[slice(0, 0) if index == [] else index]
            found = taken[index]
            self.assertEqual((found.shape, found.dtype), (expected.shape, expected.dtype), index)
            self.assertTrue(np.array_equal(found, expected), index)
            found[...] = 0  # its own memory
        self.assertTrue(np.array_equal(taken[:], self.array))
        self.assertEqual(self.file.get_slice("s")[...], 7.0)
        self.assertEqual(self.file.get_slice("e")[:, 1:].shape, (0, 2))

    def test_copies_are_verified_each_time(self):
        for options in ({"verify": "copy"}, {"backend": "pread"}):
            with fs.safe_open(self.path, "np", **options) as file:
                taken = file.get_slice("t")
                self.assertTrue(np.array_equal(taken[:, ::2], self.array[:, ::2]))
                self.flip("t")
                with self.assertRaisesRegex(fs.SafetensorError, "tensor 't'"):
                    taken[:, ::2]
                self.flip("t")

    def test_says_what_does_not_fit(self):
        taken = self.file.get_slice("t")
        for index, message in (
            (
                (slice(1, None), 20),
                r"Error during slicing \[1:, 20\] with shape \[3, 4, 5\]: index 20 out of bounds "
                "for tensor dimension #1 of size 4",
            ),
            (
                slice(None, 20),
                r"slicing \[:20\] with shape .*: index 19 out of bounds for tensor dimension #0",
            ),
            ((0, -5), "Invalid index -5 for dimension 1 of size 4"),
            ((0, 0, 0, 0), "more slicing indexes than dimensions"),
            ([0, 1], "Non empty lists"),
            (slice(None, None, 0), "positive, found 0"),
            (slice(None, None, -1), "positive, found -1"),
            ((..., ...), "only one ellipsis"),
            (None, "position 0 must be an integer"),
            ((0, 1.5), "position 1 must be an integer, a slice or an ellipsis, not float"),
        ):
            with self.assertRaisesRegex(fs.SafetensorError, message):
                taken[index]
        with self.assertRaises(TypeError):
            taken[0:1.5]


@unittest.skipIf(np is None, "needs numpy")
class NumpyTest(FileTest):
    def test_loads_what_it_saved(self):
        from flatbed.safetensors import numpy as fn

        arrays = {
            "bool": np.array([True, False]),
            "c64": np.array([1 + 2j], np.complex64),
            "e": np.zeros((0, 3), np.int64),
            "big": np.arange(5, dtype=">u2"),
            "scalar": np.array(5.5),
            "f16": np.ones((2, 3), np.float16),
        }
        for seal in (False, True):
            fn.save_file(arrays, self.path, {"k": "v"}, seal=seal)
            self.assertEqual(self.path.read_bytes(), fn.save(arrays, {"k": "v"}, seal=seal))
            for loaded in (fn.load_file(self.path), fn.load(self.path.read_bytes())):
                self.assertEqual(sorted(loaded), sorted(arrays))
                for name, array in arrays.items():
                    self.assertEqual(loaded[name].shape, array.shape)
                    self.assertEqual(loaded[name].dtype, array.dtype.newbyteorder("="))
                    self.assertTrue(np.array_equal(loaded[name], array))
                    self.assertTrue(loaded[name].flags.writeable)
        with self.assertRaisesRegex(ValueError, "not contiguous"):
            fn.save({"a": np.zeros((3, 4)).T})
        with self.assertRaises(fs.SafetensorError):
            fn.save({"a": np.zeros(3, np.complex128)})

    @unittest.skipUnless(REFERENCE, "needs safetensors")
    def test_writes_what_the_reference_writes(self):
        script = """
            import sys, numpy as np
            from safetensors.numpy import save_file
            arrays = dict(np.load(sys.argv[1]))
            save_file(arrays, sys.argv[2] + ".none")
            save_file(arrays, sys.argv[2] + ".empty", {})
            save_file(arrays, sys.argv[2] + ".one", {"ké\\n": '"v\\x01'})
        """
        from flatbed.safetensors import numpy as fn

        rng = np.random.default_rng(5)
        arrays = {
            f"{name}.{i}": rng.integers(0, 2, size=shape).astype(dtype)
            for i, (dtype, shape) in enumerate(
                (dtype, shape)
                for dtype in "? u1 i1 u2 i2 f2 u4 i4 f4 c8 f8 u8 i8".split()
                for shape in ((), (3,), (2, 0), (5, 7))
            )
            for name in ("b", "ä", "a")
        }
        np.savez(self.folder / "arrays.npz", **arrays)
        theirs = self.folder / "theirs"
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script), self.folder / "arrays.npz", theirs],
            check=True,
        )
        for suffix, metadata in ((".none", None), (".empty", {}), (".one", {"ké\n": '"v\x01'})):
            expected = theirs.with_suffix(suffix).read_bytes()
            fn.save_file(arrays, self.path, metadata)
            self.assertEqual(self.path.read_bytes(), expected)
            self.assertEqual(fn.save(arrays, metadata), expected)


@unittest.skipIf(torch is None, "needs torch")
class TorchTest(FileTest):
    def setUp(self):
        super().setUp()
        from flatbed.safetensors import torch as ft

        self.ft = ft

    def test_loads_what_it_saved(self):
        tensors = {
            "bf16": torch.arange(6, dtype=torch.bfloat16).view(2, 3),
            "scalar": torch.tensor(5),
            "c": torch.zeros(2, 0),
            "bool": torch.tensor([True, False]),
            "c64": torch.tensor([1 + 2j], dtype=torch.complex64),
        }
        for name in ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "uint16", "uint64"):
            if hasattr(torch, name):
                tensors[name] = torch.ones(3).to(getattr(torch, name))
        if hasattr(torch, "float4_e2m1fn_x2"):
            tensors["f4"] = torch.zeros(2, 2, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
        for seal in (False, True):
            self.ft.save_file(tensors, self.path, {"k": "v"}, seal=seal)
            self.assertEqual(self.path.read_bytes(), self.ft.save(tensors, {"k": "v"}, seal=seal))
            for loaded in (
                self.ft.load_file(self.path),
                self.ft.load_file(self.path, backend="pread"),
                self.ft.load_file(self.path, verify="copy"),
                self.ft.load_file(self.path, verify="off"),
                self.ft.load(self.path.read_bytes()),
            ):
                self.assertEqual(sorted(loaded), sorted(tensors))
                for name, tensor in tensors.items():
                    self.assertEqual(
                        (loaded[name].dtype, loaded[name].shape), (tensor.dtype, tensor.shape)
                    )
                    self.assertEqual(self.bytes_of(loaded[name]), self.bytes_of(tensor), name)

    @staticmethod
    def bytes_of(tensor):
        return (
            bytes(tensor.contiguous().view(-1).view(torch.uint8).tolist())
            if tensor.numel()
            else b""
        )

    def test_tensors_are_the_programs_own(self):
        before = self.path.read_bytes()
        loaded = self.ft.load_file(self.path)
        loaded["a"].zero_()
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(
            bytes(self.ft.load_file(self.path)["a"][0, :9].tolist()), bytes(self.a[:9])
        )
        self.assertTrue(all(self.ft._is_complete(tensor) for tensor in loaded.values()))
        self.path.unlink()
        self.assertEqual(int(loaded["a"].sum()), 0)

    def test_refuses_damage_by_the_tensors_name(self):
        self.flip("a", CHUNK)
        for verify in ("tensor", "copy"):
            with self.assertRaisesRegex(fs.SafetensorError, "tensor 'a': chunk 1"):
                self.ft.load_file(self.path, verify=verify)
            with fs.safe_open(self.path, "pt", verify=verify) as file:
                part = file.get_slice("a")
                for index in (0, slice(2, 3), (0, slice(5, 9)), (slice(0, 1), 3), (2, ...)):
                    part[index]
                for index in (
                    1,
                    slice(0, 2),
                    (slice(None), 0),
                    ...,
                    [0],
                    torch.tensor([0]),
                    (1, slice(0, 9)),
                ):
                    with self.assertRaisesRegex(
                        fs.SafetensorError, "tensor 'a': chunk 1", msg=index
                    ):
                        part[index]
        self.assertEqual(len(self.ft.load_file(self.path, verify="off")), 2)

    def test_slices_are_those_of_torch(self):
        tensor = torch.arange(60, dtype=torch.int16).view(3, 4, 5)
        self.ft.save_file(
            {"t": tensor, "e": torch.zeros(0, 3), "s": torch.tensor(7.0)}, self.path, seal=True
        )
        whole = slice(None)
        for options in ({}, {"verify": "copy"}, {"backend": "pread"}, {"verify": "off"}):
            with fs.safe_open(self.path, "pt", **options) as file:
                taken = file.get_slice("t")
                for index in (
                    whole,
                    (),
                    ...,
                    0,
                    -1,
                    (1, 2),
                    (slice(0, 2), slice(1, 3)),
                    (whole, 0),
                    (..., 1),
                    slice(None, None, 2),
                    (0, ..., slice(None, None, 2)),
                    slice(-2, None),
                    slice(5, 9),
                    (1, slice(2, 1)),
                    None,
                    (None, 0),
                    [0, 2],
                    torch.tensor([2, 0]),
                    (whole, [1, 1]),
                    ((1, 2),),
                    ((2, 0), whole),
                    (whole, (1, 3), slice(0, 2)),
                    ((True, False, True),),
                    torch.tensor([True, False, True]),
                    True,
                    [],
                ):
                    expected = tensor[index]
                    found = taken[index]
                    self.assertEqual(
                        (found.shape, found.dtype), (expected.shape, expected.dtype), index
                    )
                    self.assertTrue(torch.equal(found, expected), index)
                with self.assertRaises(IndexError):
                    taken[7]
                self.assertEqual(file.get_slice("e")[:, 1:].shape, (0, 2))
                self.assertEqual(file.get_slice("s")[...], 7.0)

    def test_conjugated_and_negated_tensors_are_written_as_their_values(self):
        c = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64)
        tensors = {"conj": c.conj(), "neg": torch._neg_view(torch.arange(3.0))}
        for name, tensor in self.ft.load(self.ft.save(tensors)).items():
            self.assertTrue(torch.equal(tensor, tensors[name]), name)

    def test_refuses_what_a_file_cannot_hold(self):
        shared = torch.zeros(4, 4)
        for tensors, error, text in (
            ({"a": shared, "b": shared[1:]}, RuntimeError, "share memory.*'a', 'b'"),
            ({"a": shared.t()[:2]}, ValueError, "'a' is not contiguous"),
            ({"a": torch.sparse_coo_tensor(size=(2, 3))}, ValueError, "'a' is sparse"),
            ({"a": 5}, ValueError, "'a' is no tensor"),
            ([shared], ValueError, "dict"),
            ({"a": torch.zeros(2, device="meta")}, RuntimeError, "meta tensor"),
            ({"a": torch.zeros(2, dtype=torch.complex128)}, fs.SafetensorError, "complex128"),
        ):
            with self.assertRaisesRegex(error, text):
                self.ft.save_file(tensors, self.path)
        self.ft.save_file({"a": shared[1:], "b": shared[:1]}, self.path)  # apart

    def test_models_with_shared_tensors_are_written_once(self):
        class Tied(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.a = torch.nn.Linear(3, 3)
                self.b = self.a
                self.c = torch.nn.Linear(3, 3)
                self.c.weight = torch.nn.Parameter(torch.rand(3, 3).t())

        model, other = Tied(), Tied()
        with self.assertRaisesRegex(ValueError, "force_contiguous=True"):
            self.ft.save_model(model, self.path, force_contiguous=False)
        for seal in (False, True):
            self.ft.save_model(model, self.path, {"format": "pt"}, seal=seal)
            with fs.safe_open(self.path, "pt") as file:
                self.assertEqual(file.keys(), ["a.bias", "a.weight", "c.bias", "c.weight"])
                self.assertEqual(
                    file.metadata(), {"b.bias": "a.bias", "b.weight": "a.weight", "format": "pt"}
                )
            missing, unexpected = self.ft.load_model(other, self.path)
            self.assertEqual((set(missing), list(unexpected)), (set(), []))
            for name, tensor in model.state_dict().items():
                self.assertTrue(torch.equal(other.state_dict()[name], tensor))
        with self.assertRaisesRegex(
            RuntimeError, 'Missing key.*"weight"\n.*Unexpected key.*"a.bias"'
        ):
            self.ft.load_model(torch.nn.Linear(3, 3), self.path)

    def test_groups_tensors_that_overlap(self):
        a = torch.zeros(100)
        tensors = {
            "a": a,
            "b": a[:10],
            "c": a[50:60],
            "d": torch.zeros(3),
            "m": torch.zeros(3, device="meta"),
        }
        self.assertEqual(self.ft._find_shared_tensors(tensors), [{"a", "b", "c"}, {"d"}])
        self.assertEqual(dict(self.ft._remove_duplicate_names(tensors)), {"a": ["b", "c"]})
        inside = {"a": a, "b": a[10:20], "c": a[30:40]}
        self.assertEqual(self.ft._find_shared_tensors(inside), [{"a", "b", "c"}])
        self.assertEqual(dict(self.ft._remove_duplicate_names(inside)), {"a": ["b", "c"]})


if __name__ == "__main__":
    unittest.main()
