"""One contender of compare_load.py that is a Python package: loads a file whenever it is told to.

Usage: load_peers.py PEER FILE [SETTING=NUMBER...]

PEER            what is timed                                                      settings
safetensors-touch    safe_open and get_tensors, mapped; one byte of every page          threads
safetensors-copy     the same, then each tensor is copied into memory kept for it       threads
safetensors-pread    the same by the pread backend, into memory of its own              readers
torch-touch          torch.load(mmap=True) of the .pth; one byte of every page          threads
torch-copy           the same, then copied                                              threads
fastsafetensors      its C++ reader, without a GPU, into memory kept for it             threads direct buffer

Prints "ready"; then for each line read: "load": the seconds of a load; "sum": of all that lies in
the memory, as numbers of 64 bits. Imports are not timed, and memory that is kept was touched.
"""

import concurrent.futures
import json
import os
import struct
import sys
import time

import torch

PAGE = 4096


def page_of_each(tensors):
    """One byte of every page; the sum makes them be read."""
    return sum(int(tensor.reshape(-1).view(torch.uint8)[::PAGE].sum()) for tensor in tensors.values())


def words(tensors):
    """The sum that bench_load_serve takes of its memory."""
    return sum(int(tensor.reshape(-1).view(torch.int64).sum()) for tensor in tensors.values()) % (1 << 64)


class Mapped:
    """Tensors of a mapped file: touched in place, or copied into memory that is kept."""

    def __init__(self, open_file, copies, threads=0):
        self.open_file = open_file
        self.copies = copies
        self.kept = None
        if threads:
            torch.set_num_threads(threads)

    def load(self):
        tensors = self.open_file()
        if not self.copies:
            page_of_each(tensors)
        elif self.kept is None:
            self.kept = {name: tensor.clone() for name, tensor in tensors.items()}
        else:
            for name, tensor in tensors.items():
                self.kept[name].copy_(tensor)

    def sum(self):
        return words(self.kept or self.open_file())


class Pread:
    """safetensors reads into memory that it allocates: malloc is told by the environment to keep and
    give again what was freed, and the last load is freed before the next."""

    def __init__(self, path, readers=1):
        self.path = path
        self.readers = readers
        self.tensors = {}

    def open(self):
        from safetensors import safe_open
        return safe_open(self.path, framework="pt", backend="pread")

    def read(self, names):
        with self.open() as file:
            return {name: file.get_tensor(name) for name in names}

    def load(self):
        if self.readers == 1:
            with self.open() as file:
                self.tensors = file.get_tensors()
            return
        with self.open() as file:
            names = list(file.offset_keys())
        with concurrent.futures.ThreadPoolExecutor(self.readers) as pool:
            for part in pool.map(self.read, [names[i::self.readers] for i in range(self.readers)]):
                self.tensors.update(part)

    def forget(self):
        self.tensors = {}

    def sum(self):
        return words(self.tensors)


class Fastsafetensors:
    """The reader that the package uses where there is no GPUDirect, in its CPU form, given the
    whole data section to read, as the package does, to memory that is kept."""

    def __init__(self, path, threads=2, direct=0, buffer=16 << 10):
        from fastsafetensors import cpp
        self.path = path
        self.cpp = cpp
        self.flags = os.O_RDONLY | (os.O_DIRECT if direct else 0)
        with open(path, "rb") as file:
            self.begin = 8 + struct.unpack("<Q", file.read(8))[0]
            json.loads(file.read(self.begin - 8))
        self.nbytes = os.path.getsize(path) - self.begin
        cpp.load_library_functions("")
        self.memory = torch.empty(self.nbytes, dtype=torch.uint8).fill_(1)
        self.buffer = cpp.gds_device_buffer(self.memory.data_ptr(), self.nbytes, False)
        self.reader = cpp.nogds_file_reader(False, buffer, threads, False, 0)

    def load(self):
        descriptor = os.open(self.path, self.flags)
        request = self.reader.submit_read(descriptor, self.buffer, self.begin, self.nbytes, 0)
        if request < 0 or self.reader.wait_read(request) == 0:
            sys.exit("load_peers.py: fastsafetensors fails to read")
        os.close(descriptor)

    def sum(self):
        return words({"": self.memory})


def make_peer(name, path, settings):
    def map_safetensors():
        from safetensors import safe_open
        with safe_open(path, framework="pt") as file:
            return file.get_tensors()

    def map_torch():
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)

    package, _, way = name.partition("-")
    if package == "fastsafetensors":
        return Fastsafetensors(path, **settings)
    if way == "pread":
        return Pread(path, **settings)
    return Mapped(map_safetensors if package == "safetensors" else map_torch, way == "copy", **settings)


def main():
    name, path, *pairs = sys.argv[1:]
    settings = {key: int(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    peer = make_peer(name, path, settings)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "sum":
            print(peer.sum(), flush=True)
            continue
        getattr(peer, "forget", lambda: None)()
        start = time.perf_counter()
        peer.load()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main()
