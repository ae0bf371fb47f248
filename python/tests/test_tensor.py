"""flatbed.Tensor: reading, and the bytes as memory."""

from __future__ import annotations

import array
import ctypes
import gc
import hashlib
import importlib
import struct
import unittest
from typing import Any

import flatbed
from support import (
    FIXTURES,
    FolderTest,
    expanded_pth,
    needs_numpy,
    needs_torch,
    safetensors_bytes,
    two_tensors,
)

FORMATS = {
    "BOOL": "?", "U8": "B", "I8": "b", "I16": "h", "U16": "H", "F16": "e", "I32": "i", "U32": "I",
    "F32": "f", "C64": "Zf", "F64": "d", "I64": "q", "U64": "Q",
}
# (code, bits) of DLPack 1.1.
DLPACK = {
    "BOOL": (6, 8), "U8": (1, 8), "I8": (0, 8), "I16": (0, 16), "U16": (1, 16), "F16": (2, 16),
    "BF16": (4, 16), "I32": (0, 32), "U32": (1, 32), "F32": (2, 32), "C64": (5, 64),
    "F64": (2, 64), "I64": (0, 64), "U64": (1, 64), "F8_E5M2": (12, 8), "F8_E4M3": (10, 8),
    "F8_E8M0": (14, 8), "F8_E4M3FNUZ": (11, 8), "F8_E5M2FNUZ": (13, 8), "F4": (17, 4),
    "F6_E2M3": (15, 6), "F6_E3M2": (16, 6),
}
BITS = {name: bits for name, (_, bits) in DLPACK.items()}


def one_of_each() -> flatbed.Checkpoint:
    """A tensor [2, 4] of each dtype, under its name."""
    return flatbed.open(
        safetensors_bytes({name: (name, [2, 4], bytes(bits)) for name, bits in BITS.items()})
    )


def capsule_fields(capsule: Any, versioned: bool) -> tuple[Any, ...]:
    """(data, device, ndim, code, bits, lanes, shape, flags) of a DLPack capsule."""
    import ctypes

    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    name = b"dltensor_versioned" if versioned else b"dltensor"
    at = pointer(capsule, name)
    head = ctypes.string_at(at, 80 if versioned else 48)
    flags = struct.unpack_from("<Q", head, 24)[0] if versioned else None
    fields = struct.unpack_from("<QiiiBBHQQ", head, 32 if versioned else 0)
    data, device, _, ndim, code, bits, lanes, shape, _ = fields
    sizes = struct.unpack(f"<{ndim}q", ctypes.string_at(shape, 8 * ndim)) if ndim else ()
    return data, device, ndim, code, bits, lanes, sizes, flags


class ReadTest(FolderTest):
    def setUp(self) -> None:
        super().setUp()
        self.tensor = flatbed.open(two_tensors())["a"]

    def test_knows_itself(self) -> None:
        self.assertEqual((self.tensor.name, self.tensor.dtype, self.tensor.shape),
                         ("a", "F32", (2, 3)))
        self.assertEqual((self.tensor.nbytes, self.tensor.stored), (24, "plain"))

    def test_reads_all_and_parts(self) -> None:
        contents = struct.pack("<6f", *range(6))
        self.assertEqual(self.tensor.read(), contents)
        self.assertEqual(self.tensor.read(4), contents[4:])
        self.assertEqual(self.tensor.read(4, 8), contents[4:12])
        self.assertEqual(self.tensor.read(nbytes=0), b"")
        self.assertEqual(self.tensor.read(24), b"")

    def test_ranges_outside_are_refused(self) -> None:
        offset: Any
        nbytes: Any
        for offset, nbytes in ((25, None), (25, 0), (0, 25), (20, 5), (2**63, 2**63)):
            with self.assertRaises(flatbed.Error) as caught:
                self.tensor.read(offset, nbytes)
            self.assertEqual(caught.exception.name, "buffer_too_small")
        for offset, nbytes in ((-1, None), (0, -1), (1.0, None), ("0", None), (2**64, 0)):
            with self.assertRaises((TypeError, OverflowError, ValueError)):
                self.tensor.read(offset, nbytes)

    def test_reads_into_memory(self) -> None:
        out = bytearray(b"x" * 10)
        self.assertEqual(self.tensor.read_into(out, 4), 10)
        self.assertEqual(out, self.tensor.read(4, 10))
        values = array.array("f", bytes(24))
        self.assertEqual(self.tensor.read_into(values), 24)
        self.assertEqual(list(values), [0, 1, 2, 3, 4, 5])
        with self.assertRaises(flatbed.Error):
            self.tensor.read_into(bytearray(25))

    def test_memory_that_cannot_be_filled_is_refused(self) -> None:
        for read_only in (b"x" * 8, memoryview(b"x" * 8)):
            with self.assertRaisesRegex(BufferError, "writable"):
                self.tensor.read_into(read_only)
        with self.assertRaisesRegex(BufferError, "contiguous"):
            self.tensor.read_into(memoryview(bytearray(16))[::2])
        for other in (None, 3, [0], "text"):
            with self.assertRaisesRegex(TypeError, "buffer"):
                self.tensor.read_into(other)  # type: ignore[arg-type]

    def test_sealed_bytes_are_verified(self) -> None:
        path = self.folder / "sealed.safetensors"
        flatbed.convert(two_tensors(), path)
        path.write_bytes(path.read_bytes().replace(struct.pack("<q", 7), struct.pack("<q", 9)))
        tensor = flatbed.open(path)["b"]
        with self.assertRaisesRegex(flatbed.SealError, "'b'") as caught:
            tensor.read()
        self.assertEqual(caught.exception.name, "chunk_corrupt")
        with self.assertRaises(flatbed.SealError):
            tensor.read_into(bytearray(16))
        self.assertEqual(len(tensor.read(verify=False)), 16)

    def test_memory_for_far_more_than_the_file_has_is_not_asked_for(self) -> None:
        tensor = flatbed.open(expanded_pth(1 << 44))["w"]  # 64 TiB of one float
        for use in (tensor.read, tensor.__dlpack__, lambda: tensor.__dlpack__(copy=True),
                    lambda: memoryview(tensor)):
            with self.assertRaisesRegex(flatbed.Error, "'w'.*too large") as caught:
                use()
            self.assertEqual(caught.exception.name, "expansion_refused")
        self.assertEqual(tensor.read(1 << 40, 8), struct.pack("<2f", 1.5, 1.5))

    def test_a_file_that_shrinks_is_an_error(self) -> None:
        path = self.write("two.safetensors", two_tensors())
        tensor = flatbed.open(path)["b"]
        path.write_bytes(path.read_bytes()[:-1])
        with self.assertRaises(flatbed.FileError):
            tensor.read()


class BufferTest(unittest.TestCase):
    def test_has_the_format_of_the_dtype(self) -> None:
        for name, tensor in one_of_each().items():
            with self.subTest(name):
                if name not in FORMATS:
                    with self.assertRaisesRegex(BufferError, name):
                        memoryview(tensor)
                    continue
                view = memoryview(tensor)
                self.assertEqual((view.format, view.shape), (FORMATS[name], (2, 4)))
                self.assertEqual(view.nbytes, tensor.nbytes)
                self.assertTrue(view.c_contiguous)

    def test_every_fixture_reads_the_same_as_memory(self) -> None:
        for name in ("views.pth", "big_endian.pth", "deflated.pth", "pickled_0.pth", "scalars.pth"):
            for tensor in flatbed.open(FIXTURES / name).values():
                if tensor.dtype in FORMATS:
                    self.assertEqual(memoryview(tensor).tobytes(), tensor.read())

    def test_writing_is_seen_by_this_tensor_alone(self) -> None:
        path = FIXTURES / "state_dict.pth"
        before = path.read_bytes()
        checkpoint = flatbed.open(path)
        tensor = checkpoint["0.weight"]
        view = memoryview(tensor).cast("B")
        view[0] ^= 1
        self.assertEqual(memoryview(tensor).cast("B")[0], view[0])
        self.assertNotEqual(memoryview(checkpoint["0.weight"]).cast("B")[0], view[0])
        self.assertNotEqual(tensor.read(0, 1)[0], view[0])
        self.assertEqual(path.read_bytes(), before)

    def test_tensors_without_elements_and_scalars(self) -> None:
        checkpoint = flatbed.open(safetensors_bytes({
            "none": ("F32", [0, 3], b""), "deep": ("I8", [2**40, 0, 2**40], b""),
            "scalar": ("I16", [], b"\1\0")}))
        self.assertEqual(memoryview(checkpoint["none"]).shape, (0, 3))
        self.assertEqual(memoryview(checkpoint["deep"]).nbytes, 0)
        scalar = memoryview(checkpoint["scalar"])
        self.assertEqual((scalar.ndim, scalar.tobytes()), (0, b"\1\0"))

    def test_consumers_of_plain_bytes_get_one_dimension(self) -> None:
        tensor = flatbed.open(two_tensors())["a"]
        self.assertEqual(hashlib.sha256(tensor).digest(), hashlib.sha256(tensor.read()).digest())

    def test_the_order_of_fortran_is_refused(self) -> None:
        checkpoint = flatbed.open(two_tensors())
        f_contiguous = 0x58
        view = ctypes.create_string_buffer(128)  # at least a Py_buffer
        get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
        with self.assertRaisesRegex(BufferError, "Fortran"):
            get(ctypes.py_object(checkpoint["a"]), view, f_contiguous)
        get(ctypes.py_object(checkpoint["b"]), view, f_contiguous)
        release(view)

    def test_a_view_keeps_the_memory(self) -> None:
        tensor = flatbed.open(two_tensors())["b"]
        view = memoryview(tensor)
        del tensor
        gc.collect()
        self.assertEqual(view.tolist(), [7, 8])


class DlpackTest(unittest.TestCase):
    def test_has_the_code_of_the_dtype(self) -> None:
        for name, tensor in one_of_each().items():
            lanes, shape = (2, (2, 2)) if name == "F4" else (1, (2, 4))
            for version in (None, (1, 1)):
                capsule = tensor.__dlpack__(max_version=version)
                fields = capsule_fields(capsule, version is not None)
                data, device, ndim, code, bits, got_lanes, got_shape, flags = fields
                self.assertEqual((device, ndim, code, bits), (1, 2, *DLPACK[name]), name)
                self.assertEqual((got_lanes, got_shape), (lanes, shape), name)
                self.assertIn(flags, (None, 0))
                self.assertNotEqual(data, 0)

    def test_an_odd_number_of_f4_is_refused(self) -> None:
        tensor = flatbed.open(safetensors_bytes({"x": ("F4", [2, 3], bytes(3))}))["x"]
        with self.assertRaisesRegex(BufferError, "F4"):
            tensor.__dlpack__()

    def test_is_on_the_host(self) -> None:
        tensor = one_of_each()["F32"]
        self.assertEqual(tensor.__dlpack_device__(), (1, 0))
        tensor.__dlpack__(dl_device=(1, 0))
        with self.assertRaisesRegex(BufferError, "host"):
            tensor.__dlpack__(dl_device=(2, 0))

    def test_versions_choose_the_capsule(self) -> None:
        tensor = one_of_each()["F32"]
        for version, name in ((None, "dltensor"), ((0, 8), "dltensor"),
                              ((1, 0), "dltensor_versioned"), ((2, 0), "dltensor_versioned")):
            self.assertIn(f'"{name}"', str(tensor.__dlpack__(max_version=version)))

    def test_a_copy_is_read_and_says_so(self) -> None:
        tensor = flatbed.open(FIXTURES / "state_dict.pth")["0.weight"]
        shared = [capsule_fields(tensor.__dlpack__(max_version=(1, 0)), True)[0] for _ in range(2)]
        self.assertEqual(shared[0], shared[1])
        capsule = tensor.__dlpack__(max_version=(1, 0), copy=True)
        copied = capsule_fields(capsule, True)
        self.assertNotEqual(copied[0], shared[0])
        self.assertEqual(copied[-1], 2)
        self.assertEqual(copied[0] % 64, 0)

    def test_what_must_be_read_cannot_be_without_a_copy(self) -> None:
        tensor = flatbed.open(FIXTURES / "deflated.pth")
        name = next(iter(tensor))
        with self.assertRaisesRegex(BufferError, "copy=False"):
            tensor[name].__dlpack__(copy=False)
        tensor[name].__dlpack__()
        with self.assertRaisesRegex(BufferError, "copy=False"):
            flatbed.open(two_tensors())["a"].__dlpack__(copy=False)  # bytes are not mapped
        flatbed.open(FIXTURES / "state_dict.pth")["0.weight"].__dlpack__(copy=False)

    def test_arguments_are_checked(self) -> None:
        tensor = one_of_each()["F32"]
        for arguments in ({"max_version": 1}, {"max_version": (1,)}, {"max_version": ("1", "0")},
                          {"dl_device": 1}, {"dl_device": ("cpu", 0)}, {"dl_device": (1, "x")},
                          {"dl_device": ("1", 0)}, {"dl_device": (1.0, 0)}, {"copy": 1}):
            with self.assertRaises(TypeError):
                tensor.__dlpack__(**arguments)
        with self.assertRaises(ValueError):
            tensor.__dlpack__(stream=1)  # type: ignore[arg-type]
        with self.assertRaises(TypeError):
            tensor.__dlpack__(None)  # type: ignore[misc]


@needs_numpy
class NumpyTest(unittest.TestCase):
    def setUp(self) -> None:
        import numpy

        self.np = numpy

    def test_memory_for_far_more_than_the_file_has_is_not_asked_for(self) -> None:
        tensor = flatbed.open(expanded_pth(1 << 44))["w"]
        for copy in (True, None):
            with self.assertRaisesRegex(flatbed.Error, "too large"):
                tensor.__array__(copy=copy)

    def test_shares_memory(self) -> None:
        tensor = flatbed.open(FIXTURES / "state_dict.pth")["0.weight"]
        first, second = self.np.asarray(tensor), self.np.from_dlpack(tensor)
        self.assertTrue(self.np.shares_memory(first, second))
        self.assertTrue(first.flags.writeable)
        first[0, 0] = 7
        self.assertEqual(second[0, 0], 7)
        self.assertEqual(first.dtype, "float32")

    def test_has_every_dtype_that_numpy_has(self) -> None:
        for name, tensor in one_of_each().items():
            if name not in FORMATS:
                for make in (self.np.asarray, tensor.__array__):
                    with self.assertRaisesRegex(TypeError, f"'{name}'.* numpy has no dtype {name}"):
                        make() if make == tensor.__array__ else make(tensor)
                continue
            array = self.np.asarray(tensor)
            self.assertEqual((array.shape, array.nbytes), ((2, 4), tensor.nbytes))
            self.assertEqual(array.dtype, tensor.__array__().dtype)

    def test_copies_and_converts_where_asked(self) -> None:
        tensor = flatbed.open(two_tensors())["a"]
        shared = self.np.asarray(tensor)
        self.assertFalse(self.np.shares_memory(tensor.__array__(copy=True), shared))
        self.assertTrue(self.np.shares_memory(tensor.__array__(copy=False), shared))
        self.assertEqual(self.np.asarray(tensor, dtype="f8").tolist(), [[0, 1, 2], [3, 4, 5]])
        self.assertEqual(tensor.__array__("f8").dtype, "float64")
        with self.assertRaises(ValueError):
            tensor.__array__("f8", copy=False)

    def test_reads_into_arrays(self) -> None:
        tensor = flatbed.open(two_tensors())["a"]
        array = self.np.zeros((2, 3), "f4")
        tensor.read_into(array)
        self.assertEqual(array.tolist(), [[0, 1, 2], [3, 4, 5]])
        with self.assertRaises(BufferError):
            tensor.read_into(array.T)
        array.flags.writeable = False
        with self.assertRaises(BufferError):
            tensor.read_into(array)

    def test_memory_outlives_the_tensor(self) -> None:
        made = self.np.from_dlpack(flatbed.open(two_tensors())["b"])
        gc.collect()
        self.assertEqual(made.tolist(), [7, 8])


@needs_torch
class TorchTest(unittest.TestCase):
    def setUp(self) -> None:
        self.torch: Any = importlib.import_module("torch")

    def test_takes_memory_over_and_may_write(self) -> None:
        checkpoint = flatbed.open(FIXTURES / "state_dict.pth")
        taken = self.torch.from_dlpack(checkpoint["0.weight"])
        taken.add_(1)
        again = self.torch.from_dlpack(checkpoint["0.weight"])
        self.assertTrue(self.torch.equal(taken, again + 1))

    def test_takes_bf16(self) -> None:
        taken = self.torch.from_dlpack(one_of_each()["BF16"])
        self.assertEqual((taken.dtype, tuple(taken.shape)), (self.torch.bfloat16, (2, 4)))


if __name__ == "__main__":
    unittest.main()
