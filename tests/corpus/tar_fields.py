"""Tar archives as torch wrote them before 0.1.10, field by field; and the members' own contents."""

import struct

import assembler as asm

BLOCK = 512
FIELDS = {"name": (0, 100), "mode": (100, 8), "nbytes": (124, 12), "mtime": (136, 12), "sum": (148, 8),
          "kind": (156, 1),
          "link": (157, 100), "magic": (257, 8), "prefix": (345, 155)}


def header(name, size, **lies):
    """A block. A lie is the bytes of a field; the sum is right unless it lies."""
    true = {"name": name, "mode": b"0000644", "nbytes": b"%011o" % size, "mtime": b"%011o" % 0, "kind": b"0",
            "magic": b"ustar\00000"}
    block = bytearray(BLOCK)
    for field, value in {**true, **lies}.items():
        at, width = FIELDS[field]
        block[at:at + width] = value[:width].ljust(width, b"\0")
    if "sum" not in lies:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data):
    return data + bytes(-len(data) % BLOCK)


def member(name, data, **lies):
    return header(name, len(data), **lies) + padded(data)


def archive(members, end=bytes(2 * BLOCK)):
    """`members`: pairs of name and contents, or whole members as bytes."""
    return b"".join(each if isinstance(each, bytes) else member(*each) for each in members) + end


def storage_row(key=0, kind="FloatStorage", location="cpu", count=6, data=bytes(range(24)), row=None):
    row = (key, location, asm.name("torch", kind)) if row is None else row
    return asm.pickled(row) + struct.pack("<q", count) + data


def tensor_row(key=1, storage=0, sizes=(2, 3), strides=(3, 1), offset=0, rank=None, row=None):
    row = (key, storage, asm.name("torch", "FloatTensor")) if row is None else row
    out = asm.pickled(row) + struct.pack("<ii", len(sizes) if rank is None else rank, 0)
    return out + b"".join(struct.pack("<q", n) for n in (*sizes, *strides, offset))


def members(machine=None, storages=None, views=None, tensors=None, pickle=None, counts=(1, 1)):
    """The four members; whole contents as bytes, or lists of rows."""
    rows = [storage_row()] if storages is None else storages
    if isinstance(rows, list):
        rows = asm.pickled(counts[0]) + b"".join(rows) + asm.pickled([] if views is None else views)
    shapes = [tensor_row()] if tensors is None else tensors
    if isinstance(shapes, list):
        shapes = asm.pickled(counts[1]) + b"".join(shapes)
    machine = {"protocol_version": 1000} if machine is None else machine
    value = {"w": asm.code("1") + b"Q"} if pickle is None else pickle
    return [(b"sys_info", machine if isinstance(machine, bytes) else asm.pickled(machine)), (b"storages", rows),
            (b"tensors", shapes), (b"pickle", value if isinstance(value, bytes) else asm.pickled(value))]
