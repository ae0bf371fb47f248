"""The C interface from Python's ctypes, without a binding: structs by value, callbacks, errors.

Usage: test_ctypes.py LIBRARY
"""

import ctypes
import importlib.util
import os
import sys
import unittest
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_int32, c_uint32, c_uint64, c_void_p

LIBRARY = ctypes.CDLL(sys.argv[1])
FIXTURES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixtures")


class String(Structure):
    _fields_ = [("data", c_void_p), ("size", c_uint64)]

    def __bytes__(self):
        return ctypes.string_at(self.data, self.size)


class Error(Structure):
    _fields_ = [("code", c_int32), ("message_size", c_uint32), ("name", c_char_p), ("message", c_char * 1008)]


class Tensor(Structure):
    _fields_ = [("struct_size", c_uint64), ("name", String), ("shape", POINTER(c_uint64)), ("rank", c_uint64),
                ("nbytes", c_uint64), ("index", c_uint64), ("dtype", c_uint32), ("stored", c_uint32),
                ("storage", c_uint32), ("file", c_uint32), ("file_offset", c_uint64), ("file_nbytes", c_uint64),
                ("digests", String)]


ReadFunction = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint64, c_void_p, c_uint64, POINTER(Error))


class Reader(Structure):
    _fields_ = [("struct_size", c_uint64), ("context", c_void_p), ("label", String), ("nbytes", c_uint64),
                ("preferred_read_nbytes", c_uint64), ("read", ReadFunction), ("check_unchanged", c_void_p),
                ("close", c_void_p)]


LIBRARY.flatbed_version.restype = c_char_p
LIBRARY.flatbed_error_name.restype = c_char_p
LIBRARY.flatbed_tensor_count.restype = c_uint64
LIBRARY.flatbed_tensor_count.argtypes = [c_void_p]
LIBRARY.flatbed_tensor_at.argtypes = [c_void_p, c_uint64, POINTER(Tensor), POINTER(Error)]
LIBRARY.flatbed_tensor_find.argtypes = [c_void_p, String, POINTER(Tensor), POINTER(Error)]
LIBRARY.flatbed_read.argtypes = [c_void_p, c_uint64, c_uint64, c_void_p, c_uint64, c_uint32, POINTER(Error)]
LIBRARY.flatbed_checkpoint_free.argtypes = [c_void_p]


def text(data):
    buffer = ctypes.create_string_buffer(data, len(data))
    return String(ctypes.cast(buffer, c_void_p), len(data)), buffer


class Exported:
    """A tensor of a checkpoint as what from_dlpack() takes: the capsules of the array API standard."""

    def __init__(self, model, index, legacy):
        self.model, self.index, self.legacy = model, index, legacy

    def __dlpack_device__(self):
        return (1, 0)

    def __dlpack__(self, **_wishes):
        out, error = c_void_p(), Error()
        export = LIBRARY.flatbed_view_dlpack_legacy if self.legacy else LIBRARY.flatbed_view_dlpack
        if export(self.model, c_uint64(self.index), byref(out), byref(error)) != 0:
            raise BufferError(error.message.decode())
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [c_void_p, c_char_p, c_void_p]
        return new(out, b"dltensor" if self.legacy else b"dltensor_versioned", None)


class CInterface(unittest.TestCase):
    def setUp(self):
        self.error = Error()
        self.model = c_void_p()
        path = os.path.join(FIXTURES, "torch2", "state_dict.pth").encode()
        code = LIBRARY.flatbed_open(path, None, byref(self.model), byref(self.error))
        self.assertEqual(code, 0, self.error.message)

    def tearDown(self):
        LIBRARY.flatbed_checkpoint_free(self.model)

    def test_lists_and_reads_tensors(self):
        count = LIBRARY.flatbed_tensor_count(self.model)
        self.assertGreater(count, 0)
        for index in range(count):
            tensor = Tensor(struct_size=ctypes.sizeof(Tensor))
            self.assertEqual(LIBRARY.flatbed_tensor_at(self.model, index, byref(tensor), byref(self.error)), 0)
            data = ctypes.create_string_buffer(tensor.nbytes)
            self.assertEqual(
                LIBRARY.flatbed_read(self.model, index, 0, data, tensor.nbytes, 0, byref(self.error)), 0)
            name, _buffer = text(bytes(tensor.name))
            found = Tensor(struct_size=ctypes.sizeof(Tensor))
            self.assertEqual(LIBRARY.flatbed_tensor_find(self.model, name, byref(found), byref(self.error)), 0)
            self.assertEqual(found.index, index)

    def test_errors_have_code_name_and_message(self):
        name, _buffer = text(b"nowhere")
        tensor = Tensor(struct_size=ctypes.sizeof(Tensor))
        code = LIBRARY.flatbed_tensor_find(self.model, name, byref(tensor), byref(self.error))
        self.assertEqual(code, 11)
        self.assertEqual(self.error.code, 11)
        self.assertEqual(self.error.name, b"tensor_not_found")
        self.assertIn(b"nowhere", self.error.message)
        self.assertEqual(self.error.message_size, len(self.error.message))

    def test_reads_through_a_callback(self):
        with open(os.path.join(FIXTURES, "torch2", "state_dict.pth"), "rb") as file:
            contents = file.read()

        def read(_context, offset, out, nbytes, _error):
            ctypes.memmove(out, contents[offset:offset + nbytes], nbytes)
            return 0

        label, _buffer = text(b"python")
        callback = ReadFunction(read)
        reader = Reader(struct_size=ctypes.sizeof(Reader), label=label, nbytes=len(contents), read=callback)
        model = c_void_p()
        code = LIBRARY.flatbed_open_reader(byref(reader), None, byref(model), byref(self.error))
        self.assertEqual(code, 0, self.error.message)
        self.assertEqual(LIBRARY.flatbed_tensor_count(model), LIBRARY.flatbed_tensor_count(self.model))
        LIBRARY.flatbed_checkpoint_free(model)

    def test_frameworks_take_dlpack_and_write_to_it(self):
        frameworks = [module for module in ("numpy", "torch") if importlib.util.find_spec(module)]
        if not frameworks:
            self.skipTest("neither numpy nor torch is installed")
        for framework in map(importlib.import_module, frameworks):
            forms = (False, True) if framework.__name__ == "torch" or framework.__version__[0] >= "2" else (True,)
            for legacy in forms:
                with self.subTest(framework=framework.__name__, legacy=legacy):
                    self.check_framework(framework, legacy)

    def check_framework(self, framework, legacy):
        tensor = Tensor(struct_size=ctypes.sizeof(Tensor))
        for index in range(LIBRARY.flatbed_tensor_count(self.model)):
            self.assertEqual(LIBRARY.flatbed_tensor_at(self.model, index, byref(tensor), byref(self.error)), 0)
            data = ctypes.create_string_buffer(tensor.nbytes)
            LIBRARY.flatbed_read(self.model, index, 0, data, tensor.nbytes, 0, byref(self.error))
            array = framework.from_dlpack(Exported(self.model, index, legacy))
            array = array.numpy() if framework.__name__ == "torch" else array
            self.assertEqual(array.tobytes(), data.raw[:tensor.nbytes])
            if array.size and array.flags.writeable:
                array.reshape(-1)[0] = 1  # in place: on a read-only mapping this would end the process
                del array
                again = ctypes.create_string_buffer(tensor.nbytes)
                LIBRARY.flatbed_read(self.model, index, 0, again, tensor.nbytes, 0, byref(self.error))
                self.assertEqual(again.raw, data.raw)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
