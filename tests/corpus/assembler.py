"""Pickles by hand: Python values, and pieces of pickle code where a value would stand.

code(x) gives the opcodes that push x. A bytes object is such opcodes already; bytes as a value are Bytes(b"...").
"""

import struct

STOP = b"."


class Bytes:
    """A bytes object, as a value of protocol 3."""
    def __init__(self, data):
        self.data = data


class Set:
    def __init__(self, *items):
        self.items = items


def text(value):
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    if 0 <= value < 256:
        return b"K" + struct.pack("<B", value)
    if 0 <= value < 65536:
        return b"M" + struct.pack("<H", value)
    if -2**31 <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def code(value):
    """The opcodes that push a value."""
    if isinstance(value, bytes):
        return value
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        return number(value)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Bytes):
        return b"B" + struct.pack("<I", len(value.data)) + value.data
    return container(value)


def container(value):
    if isinstance(value, tuple):
        return b"(" + b"".join(map(code, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(code, value)) + b"e" if value else b"]"
    if isinstance(value, Set):
        return b"\x8f(" + b"".join(map(code, value.items)) + b"\x90" if value.items else b"\x8f"
    assert isinstance(value, dict), value
    pairs = [code(key) + code(item) for key, item in value.items()]
    return b"}(" + b"".join(pairs) + b"u" if pairs else b"}"


def name(module, qualname):
    return b"c" + module.encode() + b"\n" + qualname.encode() + b"\n"


def call(function, *arguments):
    return code(function) + code(arguments) + b"R"


def build(target, state):
    return code(target) + code(state) + b"b"


def pickled(value, protocol=2):
    """A whole pickle of a value."""
    return bytes([0x80, protocol]) + code(value) + STOP


ORDERED_DICT = call(name("collections", "OrderedDict"))


def storage(kind="FloatStorage", key="0", location="cpu", count=6, first="storage", module="torch", more=()):
    """The persistent id of a storage. `kind` may be code that pushes the class."""
    kind = kind if isinstance(kind, bytes) else name(module, kind)
    return code((first, kind, key, location, count, *more)) + b"Q"


def tensor(of=None, offset=0, sizes=(2, 3), strides=(3, 1), grad=False, hooks=ORDERED_DICT, more=(),
           function="_rebuild_tensor_v2"):
    of = storage() if of is None else of
    return call(name("torch._utils", function), of, offset, sizes, strides, grad, hooks, *more)
