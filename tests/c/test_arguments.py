"""Every function of a header of the C interface with one wrong argument at a time, while the others are as they
should be. NULL in the place of a pointer is invalid_argument and named, or the header allows it; structs of an
impossible size, and of a later version that sets what this one does not have, are refused. Everything is taken from
the header, so that a new function is tried without a change here.

Usage: test_arguments.py LIBRARY [HEADER]
"""

import ctypes
import os
import re
import sys
import tempfile
import unittest
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_double, c_int, c_int32, c_int64, c_uint32, c_uint64, \
    c_void_p

LIBRARY = ctypes.CDLL(sys.argv[1])  # of a component, which finds the functions of libflatbed, too
HEADER = sys.argv[2] if len(sys.argv) > 2 else "flatbed.h"
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
INVALID_ARGUMENT = 10

# What may be NULL wherever it stands: what is left out then has its default, or is not asked for.
OPTIONAL = {"error", "options", "report", "context"}
# Memory of no bytes may be NULL, and these calls have sizes of 0; the rest is what single functions allow.
OPTIONAL_OF = {
    "flatbed_open_memory": {"bytes"}, "flatbed_read": {"out"}, "flatbed_buffer_read": {"out"},
    "flatbed_tree_add_tuple": {"items"}, "flatbed_expected_add": {"shape"}, "flatbed_save_plan_add": {"shape", "bytes"},
    "flatbed_load_all": {"device"}, "flatbed_series_entry_verified": {"out"}, "flatbed_series_save": {"out"},
    "flatbed_series_prune": {"out"}, "flatbed_series_roll_back": {"out"}, "flatbed_pending_save_wait": {"out"},
}
# An error of their own comes before the pointer is looked at, with the arguments that are passed here.
NOT_NAMED = {"flatbed_open_shards": {"paths"}, "flatbed_open_reader_shards": {"readers"}}


# How many calls there are at least, so that a header that is not understood is noticed.
LEAST_CALLS = {"flatbed.h": 300, "flatbed_remote.h": 15}
LEAST_STRUCTS = {"flatbed.h": 50, "flatbed_remote.h": 2}

# These set members of the caller's struct, and fill none.
FILL_SOME = {"flatbed_shard_slice", "flatbed_group_by_layer"}


class String(Structure):
    _fields_ = [("data", c_char_p), ("size", c_uint64)]


class Value(Structure):
    _fields_ = [("tree", c_void_p), ("id", c_uint32), ("reserved", c_uint32)]


class Error(Structure):
    _fields_ = [("code", c_int32), ("message_size", c_uint32), ("name", c_char_p), ("message", c_char * 1008)]


NUMBERS = {"uint32_t": c_uint32, "uint64_t": c_uint64, "int32_t": c_int32, "int64_t": c_int64, "int": c_int,
           "double": c_double}
RESULTS = {**NUMBERS, "void": None, "const char*": c_char_p, "void*": c_void_p, "flatbed_string": String,
           "flatbed_value": Value}
CALLBACK = ctypes.CFUNCTYPE(c_int32, c_void_p)(lambda _context: 0)


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def parse_header():
    """(result, name, [(type, parameter)]) of each function; the type of a callback is 'callback'."""
    text = re.sub(r"//.*", "", read("include", "flatbed", HEADER))
    for result, name, arguments in re.findall(r"FLATBED_API ([^;(]*?)\b(flatbed_\w+)\(([^;]*)\);", text):
        arguments = re.sub(r"\w+ \(\*(\w+)\)\([^()]*\)", r"callback \1", " ".join(arguments.split()))
        parameters = [] if arguments == "void" else [
            tuple(part.strip() for part in re.match(r"(.*?)(\w+)$", argument.strip()).groups())
            for argument in arguments.split(",")]
        yield result.strip(), name, parameters


def struct_sizes():
    """Of the structs that begin with their size."""
    text = read("src", "c", "first_sizes.hpp") + read("remote", "remote_c.cpp")
    return {name: int(size) for name, size in re.findall(r"FLATBED_FIRST_SIZE\((\w+), (\d+)\)", text)}


class Arguments(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.sizes = struct_sizes()
        # pylint: disable-next=consider-using-with
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = os.path.join(ROOT, "tests", "fixtures", "torch2", "state_dict.pth").encode()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def make(self, function, *arguments):
        out, error = c_void_p(), Error()
        code = getattr(LIBRARY, function)(*arguments, byref(out), byref(error))
        self.assertEqual(code, 0, (function, error.message))
        return out

    def new_handle(self, kind):
        """One of this kind, which the test leaves to the end of the process."""
        host = self.make("flatbed_device_host") if kind in ("device", "buffer", "staging_pool") else None
        model = self.make("flatbed_open", self.model, None)
        if kind in ("series", "series_entries", "pending_save"):
            series = self.make("flatbed_series_open", os.path.join(tempfile.mkdtemp(dir=self.folder.name),
                                                                   "run").encode(), None)
            if kind == "series":
                return series
            stamp = (c_uint64 * 4)(32, 1, 0, 0)
            pending = self.make("flatbed_series_save_async", series, self.make("flatbed_save_plan_new"), stamp)
            LIBRARY.flatbed_pending_save_wait(pending, None, None, None)
            return pending if kind == "pending_save" else self.make("flatbed_series_list", series)
        makers = {
            "checkpoint": lambda: model,
            "page_lock": lambda: None,  # is only freed
            "tree": lambda: self.make("flatbed_tree_of", model),
            "cancel": lambda: self.make("flatbed_cancel_new"),
            "device": lambda: host,
            "buffer": lambda: self.make("flatbed_buffer_new", host, c_uint64(64)),
            "staging_pool": lambda: self.make("flatbed_staging_pool_new", host, c_uint64(0), c_uint64(0)),
            "plan": lambda: self.make("flatbed_plan_new"),
            "expected": lambda: self.make("flatbed_expected_of", model),
            "save_plan": lambda: self.make("flatbed_save_plan_new"),
            "remote": lambda: self.make("flatbed_remote_new", None),
            "credentials": lambda: None,  # there is one in a callback only
            "loaded": lambda: self.make("flatbed_load_all", model, None, None),
        }
        if kind == "loaded":
            out = c_void_p()
            self.assertEqual(LIBRARY.flatbed_load_all(model, None, None, byref(out), None, None), 0)
            return out
        return makers[kind]()

    def valid(self, kind, parameter):
        """An argument of this type that is as it should be."""
        kind = kind.removeprefix("const ").removesuffix(" const")
        if kind in NUMBERS:
            return NUMBERS[kind](5 if parameter == "dtype" else 0)
        if kind == "callback":
            return CALLBACK
        if kind == "flatbed_string":
            return String(b"x", 1)
        if kind == "flatbed_value":
            return Value()
        if kind == "char*":
            return os.path.join(self.folder.name, "absent").encode()
        if kind == "flatbed_error*":
            return ctypes.pointer(Error())
        name = kind.removesuffix("*")
        if name in self.sizes:
            buffer = (c_uint64 * (self.sizes[name] // 8))()
            buffer[0] = self.sizes[name]
            if name == "flatbed_reader":
                buffer[6] = ctypes.cast(CALLBACK, c_void_p).value  # `read`
            return buffer
        handle = re.fullmatch(r"flatbed_(\w+)\*", kind)
        if handle and handle.group(1) not in ("string", "value"):
            return self.new_handle(handle.group(1))
        return (c_uint64 * 16)()  # memory for a result

    def call(self, function, result, arguments):
        call = getattr(LIBRARY, function)
        call.restype = RESULTS[result]
        return call(*arguments)

    def test_every_pointer_may_be_null_or_is_named(self):
        tried = 0
        for result, name, parameters in parse_header():
            for position, (kind, parameter) in enumerate(parameters):
                if kind in NUMBERS or kind in ("flatbed_string", "flatbed_value"):
                    continue
                frees = name.endswith("_free")
                arguments = [None if at == position else self.valid(*each) for at, each in enumerate(parameters)]
                error = next((each for each, (kind, _) in zip(arguments, parameters)
                              if kind == "flatbed_error*" and each is not None), None)
                code = self.call(name, result, arguments)
                tried += 1
                optional = parameter in OPTIONAL | OPTIONAL_OF.get(name, set())
                if frees or optional or result != "int32_t":
                    continue
                with self.subTest(function=name, parameter=parameter):
                    self.assertEqual(code, INVALID_ARGUMENT, error.contents.message)
                    if parameter not in NOT_NAMED.get(name, set()):
                        self.assertIn(f"'{parameter}'".encode(), error.contents.message)
        self.assertGreater(tried, LEAST_CALLS[HEADER])
        print(f"{tried} calls with one NULL each")

    def structs(self):
        """Each struct with a size that a function takes: the function, and its position there."""
        for result, name, parameters in parse_header():
            for position, (kind, parameter) in enumerate(parameters):
                if kind.removeprefix("const ").removesuffix("*") in self.sizes and result == "int32_t":
                    yield name, parameters, position, parameter

    def call_with_size(self, name, parameters, position, size, after):
        """Calls with a struct of `size` bytes, in whose place there is room for more, of which all is `after`."""
        kind, _ = parameters[position]
        known = self.sizes[kind.removeprefix("const ").removesuffix("*")] // 8
        struct = (c_uint64 * (known + 8))(*([size] + [0] * (known - 1) + [after] * 8))
        arguments = [struct if at == position else self.valid(*each) for at, each in enumerate(parameters)]
        return self.call(name, "int32_t", arguments), arguments[-1].contents.message, struct[known:]

    def test_structs_that_are_too_small_or_absurd_are_refused(self):
        for name, parameters, position, parameter in self.structs():
            kind, _ = parameters[position]
            for size in (0, 8, self.sizes[kind.removeprefix("const ").removesuffix("*")] - 8, 1 << 40):
                with self.subTest(function=name, parameter=parameter, size=size):
                    code, message, after = self.call_with_size(name, parameters, position, size, 7)
                    self.assertEqual(code, INVALID_ARGUMENT)
                    self.assertIn(b"struct_size", message)
                    self.assertEqual(after, [7] * 8)

    def test_structs_of_a_later_version_may_not_set_what_this_one_lacks(self):
        tried = 0
        for name, parameters, position, parameter in self.structs():
            kind, _ = parameters[position]
            size = self.sizes[kind.removeprefix("const ").removesuffix("*")]
            with self.subTest(function=name, parameter=parameter):
                code, _, _ = self.call_with_size(name, parameters, position, size, 7)
                later, _, _ = self.call_with_size(name, parameters, position, size + 64, 0)
                self.assertEqual(later, code)  # zero is the default of what it lacks
                code, message, after = self.call_with_size(name, parameters, position, size + 64, 7)
                if kind.startswith("const "):
                    self.assertEqual(code, INVALID_ARGUMENT)
                    self.assertIn(b"bytes that this version of flatbed does not have", message)
                elif code == 0 and name not in FILL_SOME:
                    self.assertEqual(after, [0] * 8)  # what is filled has no more than this version's
                tried += 1
        self.assertGreater(tried, LEAST_STRUCTS[HEADER])

    def test_everything_may_be_zero_at_once(self):
        for result, name, parameters in parse_header():
            zeros = {"flatbed_string": String(), "flatbed_value": Value()}
            arguments = [zeros.get(kind, NUMBERS[kind](0) if kind in NUMBERS else None) for kind, _ in parameters]
            code = self.call(name, result, arguments)
            if result == "int32_t" and name != "flatbed_series_entry_verified":
                with self.subTest(function=name):
                    self.assertEqual(code, INVALID_ARGUMENT)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
