"""Checking the texts of flatbed.tree and flatbed.aliases: FORMAT.md sections 9 and 10, T1 to T7 and A2.

check_tree(text, tensors) and check_aliases(text, tensors) return the JSON, or raise FormatError. tensors: name ->
TensorInfo of a file or set. restore.py makes Python objects of a checked tree.
"""

import contextlib
import re
import sys

from strict_json import MINUS_ZERO, FormatError, JsonParser, Members, is_size

TREE_DEPTH = 512  # T7
ALIASES_DEPTH = 8  # A2


def check_aliases(text, tensors):
    code = "aliases_malformed"
    value = JsonParser(text, ALIASES_DEPTH, code).parse()
    if not isinstance(value, Members):
        raise FormatError(code, "no object")
    aliases = {}
    for other, stored in value:
        if other in aliases or other in tensors:
            raise FormatError(code, f"{other!r} is taken")
        if not isinstance(stored, str) or stored not in tensors:
            raise FormatError(code, f"{other!r} stands for {stored!r}, which is no tensor")
        aliases[other] = stored
    return aliases


@contextlib.contextmanager
def room_for_depth():
    """Trees are at most TREE_DEPTH levels deep and take four calls a level, which is more than Python allows."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(before + 5 * TREE_DEPTH)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def check_tree(text, tensors):
    """The JSON of a tree that follows T1..T7. tensors: name -> TensorInfo."""
    root = JsonParser(text, TREE_DEPTH, "tree_not_json", "tree_too_deep", "tree_malformed_number").parse()
    with room_for_depth():
        TreeCheck(tensors).node(root, frozenset())
    return root


HEX_16 = re.compile(r"[0-9a-f]{16}")
HEX_BYTES = re.compile(r"(?:[0-9a-f]{2})*")
HEX_INT = re.compile(r"-?[1-9a-f][0-9a-f]*")
TYPESTR = re.compile(r"[<>|]([biufcSUVMm])([1-9][0-9]{0,8})(\[[0-9]*[A-Za-z]+\])?")
SHAREABLE = ("list", "tuple", "dict", "object", "tensor", "array")
SELF_REFERRING = ("list", "dict", "object")  # an open id of these may be referred to (a cycle)
NOT_KEYS = ("list", "dict", "array")
# numpy type -> stored dtype; a "c16" has a last dimension of 2 besides. All others are raw bytes in U8.
ARRAY_DTYPES = {
    "b1": "BOOL", "i1": "I8", "u1": "U8", "i2": "I16", "u2": "U16", "i4": "I32", "u4": "U32", "i8": "I64", "u8": "U64",
    "f2": "F16", "f4": "F32", "f8": "F64", "c8": "C64", "c16": "F64",
}  # fmt: skip
# torch's name -> stored dtype, where the stored dtype is another (T6).
STORED_AS = {
    "complex128": "F64", "complex32": "F16", "bcomplex32": "BF16",
    "qint8": "I8", "quint8": "U8", "qint32": "I32", "quint4x2": "U8", "quint2x4": "U8",
    "bits8": "U8", "bits1x8": "U8", "bits2x4": "U8", "bits4x2": "U8", "bits16": "U16", "float4_e2m1fn_x2": "U8",
    **{f"int{n}": "I8" for n in range(1, 8)}, **{f"uint{n}": "U8" for n in range(1, 8)},
}  # fmt: skip
COMPLEX = ("complex128", "complex32", "bcomplex32")
PACKED = ("quint4x2", "quint2x4")


def is_size_list(value):
    return type(value) is list and all(type(x) is int and 0 <= x < 1 << 53 for x in value)


class TreeCheck:
    """Checks nodes in text order. barred: ids of objects that do not exist yet, because this is inside their F or A."""

    def __init__(self, tensors):
        self.tensors = tensors
        self.ids = []  # [tag, still open]

    def node(self, value, barred, own=None):
        """Returns the node's tag, that of what it refers to, or "scalar". own: the id around this node."""
        if value is None or type(value) in (bool, str, float):
            return "scalar"
        if value is MINUS_ZERO or type(value) is int and abs(value) >= 1 << 53:
            raise FormatError("tree_malformed_number", "an integer that is -0 or not below 2^53")
        if type(value) is int:
            return "scalar"
        if isinstance(value, Members):
            raise FormatError("tree_unexpected_object", "a JSON object where a node was wanted")
        if not value or not isinstance(value[0], str):
            raise FormatError("tree_malformed_node", "an array that does not begin with a tag")
        check = self.TAGS.get(value[0])
        if check is None:
            raise FormatError("tree_unknown_tag", repr(value[0]))
        return check(self, value[1:], barred, own) or value[0]

    def need(self, condition, what, code="tree_malformed_node"):
        if not condition:
            raise FormatError(code, what)

    def nodes(self, values, barred):
        for value in values:
            self.node(value, barred)

    def pairs(self, values, barred):
        self.need(len(values) % 2 == 0, "a key without a value")
        seen = set()
        for i in range(0, len(values), 2):
            key = values[i]
            self.need(self.node(key, barred) not in NOT_KEYS, "a list, dict or array as a key", "tree_malformed_key")
            if type(key) is list and key[0] == "int":
                key = int(key[1], 16)
            elif type(key) is list and key[0] == "str":
                key = bytes.fromhex(key[1]).decode("utf-8", "surrogatepass")
            if type(key) in (int, str):
                self.need((type(key), key) not in seen, f"{key!r} is a key twice", "tree_duplicate_key")
                seen.add((type(key), key))
            self.node(values[i + 1], barred)

    def tensor_named(self, name):
        self.need(isinstance(name, str), "a tensor's name is no string")
        self.need(name in self.tensors, f"{name!r}", "tree_unknown_tensor")
        return self.tensors[name]

    def hex_text(self, values, pattern, what):
        self.need(len(values) == 1 and isinstance(values[0], str), what)
        self.need(pattern.fullmatch(values[0]), what, "tree_malformed_number")
        return values[0]

    def check_int(self, values, barred, own):
        text = self.hex_text(values, HEX_INT, "int: no canonical hex")
        self.need(abs(int(text, 16)) >= 1 << 53, "int: fits a number", "tree_malformed_number")

    def check_float(self, values, barred, own):
        self.hex_text(values, HEX_16, "float: no 16 hex digits")

    def check_str(self, values, barred, own):
        raw = bytes.fromhex(self.hex_text(values, HEX_BYTES, "str: no hex"))
        try:
            raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise FormatError("tree_malformed_number", "str: no UTF-8 with surrogates") from None

    def check_bytes(self, values, barred, own):
        if len(values) == 1 and type(values[0]) is list:
            inner = values[0]
            self.need(len(inner) == 2 and inner[0] == "tensor", "bytes: no hex and no plain tensor")
            info = self.tensor_named(inner[1])
            self.need(info.dtype == "U8" and len(info.shape) == 1, "bytes: the tensor is not U8 of rank 1")
        else:
            self.hex_text(values, HEX_BYTES, "bytes: no hex")

    def check_sequence(self, values, barred, own):
        self.nodes(values, barred)

    def check_dict(self, values, barred, own):
        self.pairs(values, barred)

    def check_global(self, values, barred, own):
        self.need(len(values) == 2 and all(isinstance(x, str) and x for x in values), "global: not two names")

    def check_object(self, values, barred, own):
        self.need(len(values) in (2, 4, 5), "object: not 2, 4 or 5 parts")
        self.need(type(values[1]) is list and values[1][:1] == ["tuple"], "object: A is no tuple")
        self.need(all(type(x) is list for x in values[2:4]), "object: I or P is no array")
        not_yet = barred if own is None else barred | {own}
        self.nodes(values[:2], not_yet)
        if len(values) > 2:
            self.nodes(values[2], barred)
            self.pairs(values[3], barred)
        self.nodes(values[4:], barred)

    def check_tensor(self, values, barred, own):
        self.need(len(values) in (1, 2), "tensor: not a name and attributes")
        info = self.tensor_named(values[0])
        if len(values) == 1:
            return
        self.need(isinstance(values[1], Members), "tensor: the attributes are no object")
        attributes = {}
        for key, value in values[1]:
            self.need(key not in attributes, f"{key!r} occurs twice", "tree_duplicate_member")
            self.need(key in self.ATTRIBUTES, f"{key!r}", "tree_unknown_attribute")
            self.need(self.ATTRIBUTES[key](value), f"{key!r} has the wrong form", "tree_unknown_attribute")
            attributes[key] = value
            if key in ("quant", "state"):
                self.node(value, barred)
        self.check_stored_as(info, attributes)

    def check_stored_as(self, info, attributes):
        """T6: dtype, shape and stride must fit what is stored."""
        dtype, rank = attributes.get("dtype"), len(info.shape)
        fits = STORED_AS.get(dtype, info.dtype) == info.dtype
        if dtype in COMPLEX:
            fits = fits and info.shape[-1:] == (2,)
            rank -= 1
        if dtype in PACKED:
            fits = fits and rank == 1 and "shape" in attributes
        elif dtype is None or dtype in STORED_AS:
            fits = fits and "shape" not in attributes
        rank = len(attributes.get("shape", range(rank)))
        fits = fits and len(attributes.get("stride", range(rank))) == rank
        self.need(fits, f"{info.name!r}: dtype, shape or stride do not fit", "tree_unknown_attribute")

    def check_array(self, values, barred, own):
        self.need(len(values) == 2, "array: not a name and a type")
        kind, size = self.typestr(values[1])
        info = self.tensor_named(values[0])
        stored = ARRAY_DTYPES.get(f"{kind}{size}")
        fits = info.dtype == (stored or "U8")
        if stored is None:
            fits = fits and info.shape[-1:] == (size,)
        elif kind == "c" and size == 16:
            fits = fits and info.shape[-1:] == (2,)
        self.need(fits, f"array: {info.dtype} {list(info.shape)} does not hold {values[1]}")

    def check_scalar(self, values, barred, own):
        self.need(len(values) == 2, "scalar: not a type and hex")
        _, size = self.typestr(values[0])
        self.hex_text(values[1:], HEX_BYTES, "scalar: no hex")
        self.need(len(values[1]) == 2 * size, f"scalar: {values[0]} has {size} bytes")

    def typestr(self, text):
        """(kind, bytes of an item)"""
        match = TYPESTR.fullmatch(text) if isinstance(text, str) else None
        self.need(match and (match[3] is None or match[1] in "mM"), f"{text!r} is no numpy type")
        kind, size = match[1], int(match[2])
        return kind, 4 * size if kind == "U" else size

    def check_id(self, values, barred, own):
        self.need(len(values) == 2, "id: not a number and a node")
        number, inner = values
        in_sequence = type(number) is int and number == len(self.ids)
        self.need(in_sequence, f"id {number!r} where {len(self.ids)} was wanted", "tree_malformed_id")
        shareable = type(inner) is list and inner and inner[0] in SHAREABLE
        self.need(shareable, f"id {number} marks what cannot be shared", "tree_malformed_id")
        self.ids.append([inner[0], True])
        self.node(inner, barred, number)
        self.ids[number][1] = False
        return inner[0]

    def check_ref(self, values, barred, own):
        self.need(len(values) == 1 and is_size(values[0]), "ref: not a number")
        number = values[0]
        self.need(number < len(self.ids), f"ref {number} is to no earlier id", "tree_malformed_ref")
        tag, is_open = self.ids[number]
        usable = not is_open or tag in SELF_REFERRING and number not in barred
        self.need(usable, f"ref {number} is to something that does not exist yet", "tree_malformed_ref")
        return tag

    TAGS = {
        "int": check_int, "float": check_float, "str": check_str, "bytes": check_bytes,
        "list": check_sequence, "tuple": check_sequence, "dict": check_dict, "global": check_global,
        "object": check_object, "tensor": check_tensor, "array": check_array, "scalar": check_scalar,
        "id": check_id, "ref": check_ref,
    }  # fmt: skip
    ATTRIBUTES = {
        "grad": lambda value: value is True,
        "param": lambda value: value is True,
        "device": lambda value: isinstance(value, str),
        "dtype": lambda value: isinstance(value, str),
        "stride": is_size_list,
        "shape": is_size_list,
        "quant": lambda value: True,
        "state": lambda value: True,
    }
