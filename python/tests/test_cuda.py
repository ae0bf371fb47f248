"""flatbed.cuda over a libcuda.so.1 that is not NVIDIA's and needs no GPU. It delays what is queued
as far as CUDA may, and keeps a ledger of what was misused or not given back."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import textwrap
import unittest

import flatbed
import flatbed.cuda
from support import FolderTest, safetensors_bytes, two_tensors

FAKE_DIR = os.environ.get("FLATBED_FAKE_DRIVER_DIR")

# What an engine does: on a stream of its own it reads memory that is then loaded anew.
ENGINE = """
import ctypes
import flatbed, flatbed.cuda

driver = ctypes.CDLL("libcuda.so.1")

def call(name, version, *arguments):
    found, status = ctypes.c_void_p(), ctypes.c_int()
    find = driver.cuGetProcAddress_v2
    find.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint64,
                     ctypes.c_void_p]
    assert find(name.encode(), ctypes.byref(found), version, 1, ctypes.byref(status)) == 0
    assert ctypes.CFUNCTYPE(ctypes.c_int)(found.value)(*arguments) == 0, name

context, stream, pinned = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
call("cuInit", 2000, 0)
call("cuDevicePrimaryCtxRetain", 7000, ctypes.byref(context), 0)
call("cuCtxSetCurrent", 4000, context)
call("cuStreamCreate", 2000, ctypes.byref(stream), 1)
call("cuMemHostAlloc", 2020, ctypes.byref(pinned), ctypes.c_size_t(24), 0)

def queue_read(stream, tensor):
    call("cuMemcpyDtoHAsync", 3020, pinned, ctypes.c_uint64(tensor.data_ptr),
         ctypes.c_size_t(tensor.nbytes), stream)

def finish(stream):
    event = ctypes.c_void_p()
    call("cuEventCreate", 2000, ctypes.byref(event), 0)
    call("cuEventRecord", 2000, event, stream)
    call("cuEventSynchronize", 2000, event)
    call("cuEventDestroy", 4000, event)

def end():
    call("cuStreamDestroy", 4000, stream)
    call("cuMemFreeHost", 2000, pinned)
"""


@unittest.skipUnless(FAKE_DIR, "FLATBED_FAKE_DRIVER_DIR is not set")
class CudaTest(FolderTest):
    maxDiff = None

    def setUp(self) -> None:
        super().setUp()
        flatbed.convert(two_tensors(), self.folder / "two.safetensors")
        nines = {"a": ("F32", [2, 3], struct.pack("<6f", *[9] * 6))}
        flatbed.convert(safetensors_bytes(nines), self.folder / "nines.safetensors")

    def run_fake(self, code: str, fake: str = "devices=2,schedule=lazy") -> str:
        """What the program prints. The ledger has neither misuse nor leak."""
        ledger = self.folder / "ledger"
        ledger.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": str(FAKE_DIR),
            "FLATBED_FAKE_CUDA": fake,
            "FLATBED_FAKE_CUDA_LEDGER": str(ledger),
        }
        start = f"import os, flatbed, flatbed.cuda\nos.chdir({str(self.folder)!r})\n"
        command = [sys.executable, "-c", start + textwrap.dedent(code)]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        faults = [line for line in lines if not line.startswith(("NOTE ", "FAILED "))]
        self.assertEqual((ran.returncode, ran.stderr, faults), (0, "", []), ran.stdout)
        return ran.stdout

    def test_what_arrives_is_what_the_file_holds(self) -> None:
        for schedule in ("lazy", "eager", "random"):
            printed = self.run_fake(
                """
                tensors = flatbed.cuda.load("two.safetensors", "cuda:1")
                for name, t in sorted(tensors.items()):
                    print(name, t.dtype, t.shape, t.nbytes, t.device, t.read().hex())
                    assert t.__dlpack_device__() == (2, 1) and t.data_ptr % 256 == 0
                """,
                f"devices=2,schedule={schedule}",
            )
            a, b = struct.pack("<6f", *range(6)).hex(), struct.pack("<2q", 7, 8).hex()
            self.assertEqual(printed, f"a F32 (2, 3) 24 1 {a}\nb I64 (2,) 16 1 {b}\n")

    def test_a_capsule_keeps_the_block(self) -> None:
        self.run_fake(
            """
            import ctypes, gc
            tensor = flatbed.cuda.load("two.safetensors")["b"]
            weak = tensor.data_ptr
            old = tensor.__dlpack__(stream=1)
            new = tensor.__dlpack__(stream=None, max_version=(1, 1), dl_device=(2, 0), copy=False)
            del tensor
            gc.collect()
            get = ctypes.pythonapi.PyCapsule_GetPointer
            get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
            managed = get(old, b"dltensor")
            assert ctypes.c_void_p.from_address(managed).value == weak
            assert ctypes.c_int.from_address(managed + 8).value == 2  # kDLCUDA
            get(new, b"dltensor_versioned")
            del old, new  # the ledger says whether the block was freed
            """
        )

    def test_what_a_consumer_may_not_ask_for(self) -> None:
        self.run_fake(
            """
            tensor = flatbed.cuda.load("two.safetensors")["b"]
            for keywords, kind in (
                ({"stream": 0}, ValueError), ({"stream": "x"}, TypeError),
                ({"dl_device": (1, 0)}, BufferError), ({"dl_device": (2, 1)}, BufferError),
                ({"copy": True}, BufferError), ({"max_version": 1}, TypeError),
            ):
                try:
                    tensor.__dlpack__(**keywords)
                except kind:
                    continue
                raise AssertionError(keywords)
            """
        )

    def test_memory_of_the_caller_is_filled(self) -> None:
        printed = self.run_fake(
            """
            mine = flatbed.cuda.load("two.safetensors")["a"]
            class Array:
                __cuda_array_interface__ = {
                    "shape": (3, 2), "typestr": "<f4", "version": 3, "strides": (8, 4),
                    "data": (mine.data_ptr, False)}
            file = flatbed.open("two.safetensors")
            report = flatbed.cuda.load_into({"a": Array()}, file, stream="legacy")
            print(report.bytes_read, report.bytes_verified, mine.read().hex())
            pair = mine.data_ptr, 16
            flatbed.cuda.load_into({"b": pair}, "two.safetensors", "cuda:0", stream=None)
            print(mine.read()[:16].hex())
            """
        )
        lines = printed.splitlines()
        self.assertTrue(lines[0].endswith(struct.pack("<6f", *range(6)).hex()), printed)
        self.assertEqual(lines[1], struct.pack("<2q", 7, 8).hex())

    def test_copies_come_after_what_the_callers_stream_holds(self) -> None:
        old, new = struct.pack("<6f", *range(6)).hex(), struct.pack("<6f", *[9] * 6).hex()
        for after, read in (("stream.value", old), ("None", new)):
            printed = self.run_fake(
                ENGINE
                + textwrap.dedent(f"""
                mine = flatbed.cuda.load("two.safetensors")["a"]
                queue_read(stream, mine)
                flatbed.cuda.load_into({{"a": (mine.data_ptr, 24)}}, "nines.safetensors",
                                       stream={after})
                finish(stream)
                print(ctypes.string_at(pinned, 24).hex(), mine.read().hex())
                end()
                """)
            )
            self.assertEqual(printed.split(), [read, new], after)

    def test_errors_are_named(self) -> None:
        code = """
            def name_of(call):
                try:
                    call()
                except flatbed.Error as error:
                    return type(error).__name__, error.name
                return None
            load, into = flatbed.cuda.load, flatbed.cuda.load_into
            file = "two.safetensors"
            """
        cases = (
            ("load(file, 5)", "devices=2", ("DeviceError", "device_unavailable")),
            ("load(file)", "devices=0", ("DeviceError", "device_unavailable")),
            ("flatbed.cuda.devices()", "init=100", ("DeviceError", "device_unavailable")),
            ("load(file)", "driver=11020", ("DeviceError", "device_unavailable")),
            ("load(file)", "device_limit=8", ("FileError", "resource_exhausted")),
            ("load(file)", "fail=EventRecord:1:forever", ("DeviceError", "device_error")),
            (
                "into({'b': (4096, 16)}, file, stream=None)",
                "devices=1",
                ("Error", "destination_invalid"),
            ),
            (
                "into({'c': (4096, 16)}, file, stream=None)",
                "devices=1",
                ("TensorNotFoundError", "tensor_not_found"),
            ),
        )
        for call, fake, expected in cases:
            with self.subTest(call=call, fake=fake):
                script = textwrap.dedent(code) + f"print(name_of(lambda: {call}))"
                self.assertEqual(self.run_fake(script, fake).strip(), repr(expected))

    def test_devices_are_listed(self) -> None:
        printed = self.run_fake(
            """
            for device in flatbed.cuda.devices():
                assert device.name and device.memory_nbytes > 0 and device.pci_bus_id
                print(device.ordinal, device.compute_capability)
            """
        )
        self.assertEqual([line.split()[0] for line in printed.splitlines()], ["0", "1"])

    def test_a_damaged_file_is_an_error_on_the_way(self) -> None:
        path = self.folder / "two.safetensors"
        raw = bytearray(path.read_bytes())
        at = raw.index(struct.pack("<2q", 7, 8))
        raw[at] ^= 1
        path.write_bytes(raw)
        self.run_fake(
            """
            try:
                flatbed.cuda.load("two.safetensors")
            except flatbed.SealError as error:
                assert error.name == "chunk_corrupt", error.name
            else:
                raise AssertionError
            assert flatbed.cuda.load("two.safetensors", verify=False)["b"].read()[0] == 6
            """
        )


class ArgumentsTest(FolderTest):
    """What is refused before a driver is looked for."""

    def test_streams_and_devices_are_checked(self) -> None:
        path = self.write("two.safetensors", two_tensors())
        for stream in (0, -1, True, "default", 1.5, 2**64):
            with self.subTest(stream=stream), self.assertRaisesRegex(ValueError, "stream: found"):
                flatbed.cuda.load(path, stream=stream)  # type: ignore[arg-type]
        for device in (-1, True, "cpu", "cuda:", "cuda:x", "cuda:-1", 2**31, None):
            with self.subTest(device=device), self.assertRaisesRegex(ValueError, "device: found"):
                flatbed.cuda.load(path, device)  # type: ignore[arg-type]

    def test_destinations_are_checked(self) -> None:
        path = self.write("two.safetensors", two_tensors())

        class Array:
            def __init__(self, **changes: object) -> None:
                self.__cuda_array_interface__ = {
                    "shape": (2, 3),
                    "typestr": "<f4",
                    "data": (4096, False),
                    "version": 3,
                    **changes,
                }

        cases = (
            (b"x" * 24, TypeError, "expected an object with __cuda_array_interface__"),
            (Array(data=(4096, True)), ValueError, "read-only"),
            (Array(shape=(2, 2)), ValueError, "found 16 bytes"),
            (Array(strides=(4, 8)), ValueError, "contiguous"),
            ((4096, 23), ValueError, "found 23 bytes, F32\\[2, 3\\] needs 24"),
        )
        for destination, kind, message in cases:
            with self.subTest(message), self.assertRaisesRegex(kind, message):
                flatbed.cuda.load_into({"a": destination}, path, stream=None)

    @unittest.skipIf(os.path.exists("/dev/nvidiactl"), "this machine has a driver")
    def test_no_driver_is_an_error_that_says_so(self) -> None:
        path = self.write("two.safetensors", two_tensors())
        with self.assertRaisesRegex(flatbed.DeviceError, "no NVIDIA driver found|built without"):
            flatbed.cuda.load(path)
        with self.assertRaises(flatbed.DeviceError):
            flatbed.cuda.devices()
