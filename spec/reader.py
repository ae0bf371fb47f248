#!/usr/bin/env python3
"""Reader for flatbed files: the second implementation of FORMAT.md, in Python's standard library.

    import reader
    checkpoint = reader.load("model.safetensors")       # the nested object that was saved

    file = reader.File("model.safetensors")              # or piece by piece
    file.state, file.tensors["fc.weight"].shape, file.read("fc.weight")

    series = reader.Series("run")                        # a folder of the checkpoints of one run
    series.latest().name, series.best().score

This one file is the whole reader: copy it where it is needed. writer.py beside it writes, make_vectors.py makes and
checks the test vectors. In the order of the sections below: JSON, XXH3, the container, the seal, the tree and the
aliases, files and sets, series, the tree as Python objects, the command. Section marks such as (R7) are the numbered
rules of FORMAT.md. Every refusal is a FormatError, whose code is the name of the rule's error.
torch and numpy are used when they can be imported, the xxhash module or libxxhash for speed; none of them is needed.

    python3 reader.py check FILE...          print the seal state or the error of files, index files, directories
    python3 reader.py series DIR...          list the checkpoints of series, with the latest and the best one
    python3 reader.py make-vectors DIR       write the test vectors
    python3 reader.py check-vectors DIR      check every vector against its expectation
"""

import contextlib
import ctypes
import errno
import json
import os
import re
import stat
import struct
import sys
from collections import Counter, OrderedDict, namedtuple

MAX_HEADER = 100_000_000  # R2
MAX_SIDECAR = 100_000_000  # C2
MAX_SEALED_SHARDS = 6000  # H4
HEADER_DEPTH = 127  # R6, and of an index (H1)
SIDECAR_DEPTH = 8  # C1
TREE_DEPTH = 512  # T7
ALIASES_DEPTH = 8  # A2
CHUNK = 262_144  # S3
STATEMENT_END = 4096  # Q2
MAX_STATEMENT = 3072  # Q3
MAX_METRIC = 256  # Q4

# The 22 element types and their size in bits (section 5 of FORMAT.md).
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# JSON (section 4): J1 to J7. Objects keep their order and their duplicates: each text decides what those mean.


LIMIT_63 = 1 << 63
LIMIT_64 = 1 << 64


class FormatError(Exception):
    """A file breaks a rule. code: the name that FORMAT.md ties to the rule; where: "name:begin-end" of a bad chunk."""

    def __init__(self, code, message, where="-"):
        super().__init__(f"{code}: {message}")
        self.code, self.where = code, where


class Members(list):
    """A JSON object: its (key, value) pairs in text order."""


class MinusZero:
    """The number `-0`, an integer by its form that no rule accepts."""


MINUS_ZERO = MinusZero()

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"([^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*)"')
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_PLAIN_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"null": None, "true": True, "false": False}


class JsonParser:
    """One JSON text. Iterative, so that depth is bounded by `max_depth` alone."""

    def __init__(self, text, max_depth, not_json, too_deep=None, number_range=None):
        self.text, self.at, self.max_depth = text, 0, max_depth
        self.not_json, self.too_deep, self.number_range = (not_json, too_deep or not_json, number_range or not_json)

    def parse(self):
        stack, keys = [], []  # open containers; the key each open object waits to give a value
        while True:
            self.skip_space()
            opener = self.peek()
            if opener == "{" or opener == "[":
                if len(stack) == self.max_depth:
                    raise FormatError(self.too_deep, f"more than {self.max_depth} levels at character {self.at}")
                stack.append(Members() if opener == "{" else [])
                self.take()
                if self.peek() != ("}" if opener == "{" else "]"):
                    if opener == "{":
                        keys.append(self.key())
                    continue
                self.at += 1
                value = stack.pop()
            else:
                value = self.scalar()
            # A value is complete: attach it, and close the containers that end here.
            while True:
                self.skip_space()
                if not stack:
                    if self.at != len(self.text):
                        self.fail("something follows the value")
                    return value
                top = stack[-1]
                top.append((keys.pop(), value) if isinstance(top, Members) else value)
                mark = self.take()
                if mark == ",":
                    if isinstance(top, Members):
                        keys.append(self.key())
                    break
                if mark != ("}" if isinstance(top, Members) else "]"):
                    self.fail(f"{mark!r} where ',' or the end of an object or array was wanted")
                value = stack.pop()

    def fail(self, why, code=None):
        raise FormatError(code or self.not_json, f"{why}, at character {self.at}")

    def skip_space(self):
        self.at = _SPACE.match(self.text, self.at).end()

    def peek(self):
        return self.text[self.at : self.at + 1]

    def take(self):
        """The next character; the white space after it is skipped."""
        character = self.peek()
        self.at += len(character)
        self.skip_space()
        return character

    def key(self):
        key = self.string()
        self.skip_space()
        if self.take() != ":":
            self.fail("no ':' after a key")
        return key

    def string(self):
        match = _STRING.match(self.text, self.at)
        if not match:
            self.fail("no string, or an unfinished or malformed one")
        self.at = match.end()
        raw = match[1]
        if "\\" not in raw:
            return raw
        text = _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else _PLAIN_ESCAPES.get(m[2], m[2]), raw)
        try:  # joins escaped surrogate pairs, and refuses half of one
            return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
        except UnicodeDecodeError:
            self.fail("half of a surrogate pair")

    def scalar(self):
        if self.peek() == '"':
            return self.string()
        for word, value in _WORDS.items():
            if self.text.startswith(word, self.at):
                self.at += len(word)
                return value
        match = _NUMBER.match(self.text, self.at)
        if not match:
            self.fail("no value")
        self.at = match.end()
        if match[1] or match[2]:
            value = float(match[0])
            if value in (float("inf"), float("-inf")):
                self.fail("a number that is too large for binary64", self.number_range)
            return value
        if match[0] == "-0":
            return MINUS_ZERO
        if len(match[0]) > 20 or not -LIMIT_63 <= int(match[0]) < LIMIT_64:
            self.fail("an integer that does not fit 64 bits", self.number_range)
        return int(match[0])


def decode_utf8(raw, code):
    try:
        return bytes(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(code, f"not UTF-8 at byte {error.start}") from None


def is_size(value):
    """Whether this is an integer in [0, 2^63)."""
    return type(value) is int and 0 <= value < LIMIT_63


# ---------------------------------------------------------------------------------------------------------------------
# XXH3-64 with seed 0 and the default secret (section 2): xxh3_pure is the algorithm, xxh3 the fastest at hand.


_MASK = (1 << 64) - 1
_P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)


def _u64(data, at):
    return int.from_bytes(data[at : at + 8], "little")


def _u32(data, at):
    return int.from_bytes(data[at : at + 4], "little")


def _fold(a, b):
    product = a * b
    return (product & _MASK) ^ (product >> 64)


def _avalanche(h):
    h = (h ^ h >> 37) * 0x165667919E3779F9 & _MASK
    return h ^ h >> 32


def _avalanche64(h):
    h = (h ^ h >> 33) * _P64[1] & _MASK
    h = (h ^ h >> 29) * _P64[2] & _MASK
    return h ^ h >> 32


def _rotate(h, bits):
    return (h << bits | h >> 64 - bits) & _MASK


def _mix16(data, at, secret):
    return _fold(_u64(data, at) ^ _u64(_SECRET, secret), _u64(data, at + 8) ^ _u64(_SECRET, secret + 8))


def _xxh3_to_16(data, n):
    if n == 0:
        return _avalanche64(_u64(_SECRET, 56) ^ _u64(_SECRET, 64))
    if n < 4:
        combined = data[0] << 16 | data[n >> 1] << 24 | data[n - 1] | n << 8
        return _avalanche64(combined ^ _u32(_SECRET, 0) ^ _u32(_SECRET, 4))
    if n < 9:
        h = (_u32(data, n - 4) + (_u32(data, 0) << 32)) ^ _u64(_SECRET, 8) ^ _u64(_SECRET, 16)
        h = (h ^ _rotate(h, 49) ^ _rotate(h, 24)) * 0x9FB21C651E98DF25 & _MASK
        h = (h ^ (h >> 35) + n) * 0x9FB21C651E98DF25 & _MASK
        return h ^ h >> 28
    low = _u64(data, 0) ^ _u64(_SECRET, 24) ^ _u64(_SECRET, 32)
    high = _u64(data, n - 8) ^ _u64(_SECRET, 40) ^ _u64(_SECRET, 48)
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    return _avalanche(n + swapped + high + _fold(low, high) & _MASK)


def _xxh3_to_240(data, n):
    h = n * _P64[0]
    if n <= 128:
        for i in range((n - 1) // 32 + 1):
            h += _mix16(data, 16 * i, 32 * i) + _mix16(data, n - 16 * (i + 1), 32 * i + 16)
        return _avalanche(h & _MASK)
    for i in range(8):
        h += _mix16(data, 16 * i, 16 * i)
    h = _avalanche(h & _MASK)
    for i in range(8, n // 16):
        h += _mix16(data, 16 * i, 16 * (i - 8) + 3)
    return _avalanche(h + _mix16(data, n - 16, 136 - 17) & _MASK)


def _accumulate(lanes, data, at, secret):
    values = struct.unpack_from("<8Q", data, at)
    keys = struct.unpack_from("<8Q", _SECRET, secret)
    for i in range(8):
        keyed = values[i] ^ keys[i]
        lanes[i ^ 1] = lanes[i ^ 1] + values[i] & _MASK
        lanes[i] = lanes[i] + (keyed & 0xFFFFFFFF) * (keyed >> 32) & _MASK


def _xxh3_long(data, n):
    lanes = [_P32[2], _P64[0], _P64[1], _P64[2], _P64[3], _P32[1], _P64[4], _P32[0]]
    stripes = (n - 1) // 64
    for stripe in range(stripes):
        _accumulate(lanes, data, 64 * stripe, 8 * (stripe % 16))
        if stripe % 16 == 15:
            for i in range(8):
                lanes[i] = (lanes[i] ^ lanes[i] >> 47 ^ _u64(_SECRET, 128 + 8 * i)) * _P32[0] & _MASK
    _accumulate(lanes, data, n - 64, 121)
    h = n * _P64[0]
    for i in range(0, 8, 2):
        h += _fold(lanes[i] ^ _u64(_SECRET, 11 + 8 * i), lanes[i + 1] ^ _u64(_SECRET, 19 + 8 * i))
    return _avalanche(h & _MASK)


def xxh3_pure(data):
    n = len(data)
    if n <= 16:
        return _xxh3_to_16(data, n)
    if n <= 240:
        return _xxh3_to_240(data, n)
    return _xxh3_long(data, n)


def fastest():
    try:
        import xxhash

        return xxhash.xxh3_64_intdigest
    except ImportError:
        pass
    try:
        function = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
    except (OSError, AttributeError):
        return xxh3_pure
    function.restype, function.argtypes = ctypes.c_uint64, [ctypes.c_char_p, ctypes.c_size_t]
    return lambda data: function(bytes(data), len(data))


xxh3 = fastest()


# ---------------------------------------------------------------------------------------------------------------------
# The container (section 6): rules R1 to R22, checked in their order.


class TensorInfo(namedtuple("TensorInfo", "name dtype shape begin end")):
    """One tensor of a file: begin and end are its half-open range in the data buffer."""

    @property
    def nbytes(self):
        return self.end - self.begin


class Header(namedtuple("Header", "raw metadata tensors data_start")):
    """A checked header. raw: bytes 0..7+N; metadata: dict; tensors: name -> TensorInfo, in text order."""


def read_container(stream):
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    start = stream.read(8)
    if len(start) < 8:
        raise FormatError("file_too_short", f"{len(start)} bytes")  # R1
    (length,) = struct.unpack("<Q", start)
    if length > MAX_HEADER:
        raise FormatError("header_too_large", f"N is {length}")  # R2
    if length > size - 8:
        raise FormatError("header_truncated", f"N is {length}, but only {size - 8} bytes follow")  # R3
    raw = start + stream.read(length)
    metadata, entries = parse_header(raw[8:])
    check_tiling(entries)
    check_sizes(entries)
    end = max((entry.end for entry in entries), default=0)
    if end > size - 8 - length:
        raise FormatError("data_truncated", f"the data ends at {end}, the buffer at {size - 8 - length}")  # R21
    if end < size - 8 - length:
        raise FormatError("trailing_data", f"{size - 8 - length - end} bytes after the last tensor")  # R22
    return Header(raw, metadata, {entry.name: entry for entry in entries}, 8 + length)


def parse_header(raw):
    text = decode_utf8(raw, "header_not_utf8")  # R4
    top = JsonParser(text, HEADER_DEPTH, "header_not_json", "header_too_deep").parse()  # R5, R6
    if not isinstance(top, Members):
        raise FormatError("header_not_object", "the header is JSON of another kind")  # R7
    metadata, seen, entries = {}, set(), []
    for name, value in top:
        if name in seen:
            code = "duplicate_metadata" if name == "__metadata__" else "duplicate_name"
            raise FormatError(code, f"{name!r} occurs twice")  # R9, R10
        seen.add(name)
        if name == "__metadata__":
            metadata = parse_metadata(value)
        else:
            entries.append(parse_entry(name, value))
    return metadata, entries


def parse_metadata(value):
    if value is None:
        return {}
    if not isinstance(value, Members):
        raise FormatError("metadata_invalid", "__metadata__ is no object")  # R8
    metadata = {}
    for key, text in value:
        if key in metadata:
            raise FormatError("duplicate_metadata", f"{key!r} occurs twice in __metadata__")  # R9
        if not isinstance(text, str):
            raise FormatError("metadata_invalid", f"the value of {key!r} is no string")  # R8
        metadata[key] = text
    return metadata


def parse_entry(name, value):
    if not isinstance(value, Members):
        raise FormatError("entry_invalid", f"{name!r} is no object")  # R11
    fields = {}
    for key, field in value:
        if key not in ("dtype", "shape", "data_offsets"):
            continue
        if key in fields:
            raise FormatError("duplicate_field", f"{name!r} has {key!r} twice")  # R12
        fields[key] = field
    if len(fields) != 3:
        raise FormatError("entry_invalid", f"{name!r} lacks a field")  # R11
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise FormatError("unknown_dtype", f"{name!r}: {dtype!r}")  # R13
    if type(shape) is not list or not all(is_size(x) for x in shape):
        raise FormatError("shape_invalid", f"{name!r}: {shape!r}")  # R14
    if (
        type(offsets) is not list
        or len(offsets) != 2
        or not all(is_size(x) for x in offsets)
        or offsets[0] > offsets[1]
    ):
        raise FormatError("offsets_invalid", f"{name!r}: {offsets!r}")  # R15
    return TensorInfo(name, dtype, tuple(shape), *offsets)


def by_offset(entries):
    return sorted(entries, key=lambda entry: (entry.begin, entry.end))


def check_tiling(entries):
    expected = 0
    for entry in by_offset(entries):
        if entry.begin > expected:
            raise FormatError("offsets_gap", f"[{expected},{entry.begin}) belongs to no tensor")  # R16
        if entry.begin < expected:
            raise FormatError("offsets_overlap", f"{entry.name!r} begins at {entry.begin}, before {expected}")  # R17
        expected = entry.end


def check_sizes(entries):
    for entry in by_offset(entries):
        bits = 1
        for factor in (*entry.shape, DTYPE_BITS[entry.dtype]):
            bits *= factor
            if bits >= 1 << 64:
                raise FormatError("size_overflow", f"{entry.name!r}: {list(entry.shape)}")  # R18
        if bits % 8:
            raise FormatError("partial_byte", f"{entry.name!r}: {bits} bits")  # R19
        if bits // 8 != entry.nbytes:
            raise FormatError("size_mismatch", f"{entry.name!r}: {entry.nbytes} bytes, wanted {bits // 8}")  # R20


# ---------------------------------------------------------------------------------------------------------------------
# The seal (section 8) and the sidecar (section 11).


def digest(data):
    return f"{xxh3(data):016x}"


SEAL_PREFIX = b'{"__metadata__":{"flatbed":"'  # bytes 8..35
SEAL_VALUE = re.compile(r"([0-9a-f]{16})/([1-9][0-9]{0,3})/(.*)", re.DOTALL)
HEX_16 = re.compile(r"[0-9a-f]{16}")


def in_name_order(names):
    return sorted(names, key=lambda name: name.encode("utf-8"))


def pack_string(text):
    raw = text.encode("utf-8")
    return struct.pack("<Q", len(raw)) + raw


def is_ours(key):
    """S1: the metadata keys of the format."""
    return key == "flatbed" or key.startswith("flatbed.")


def content_input(tensors, pairs):
    """What the content digest covers (S4). tensors: name -> (dtype, shape); pairs: the flatbed.* metadata."""
    parts = [b"flatbed seal 1\n\0", struct.pack("<Q", len(tensors))]
    for name in in_name_order(tensors):
        dtype, shape = tensors[name]
        parts.append(pack_string(name) + pack_string(dtype))
        parts.append(struct.pack(f"<{1 + len(shape)}Q", len(shape), *shape))
    covered = [key for key in in_name_order(pairs) if key.startswith("flatbed.")]
    parts.append(struct.pack("<Q", len(covered)))
    for key in covered:
        parts.append(pack_string(key) + pack_string(pairs[key]))
    return b"".join(parts)


class Seal(namedtuple("Seal", "state content digests error sidecar")):
    """A state of S6. error: why it is broken, a FormatError; digests: tensor name -> list of digests of its chunks."""


def inspect_seal(header, sidecar=None):
    """The state of a file whose container is valid. sidecar: the bytes of the sidecar that counts (C2), or None."""
    pairs = {key: text for key, text in header.metadata.items() if is_ours(key)}
    from_sidecar = sidecar is not None
    if not pairs and not from_sidecar:
        return Seal("unsealed", None, {}, None, False)  # row 2
    try:
        if from_sidecar:
            pairs = parse_sidecar(sidecar)
        state, content, digests = judge_seal(header, pairs, from_sidecar)
        return Seal(state, content, digests, None, from_sidecar)
    except FormatError as error:
        return Seal("broken", None, {}, error, from_sidecar)


def judge_seal(header, pairs, from_sidecar):
    malformed = "sidecar_malformed" if from_sidecar else "seal_malformed"
    value = SEAL_VALUE.fullmatch(pairs.get("flatbed", ""))
    if not value:
        raise FormatError(malformed, "no value of the form header/version/rest")  # row 3
    stated, version, rest = value.groups()
    right = header_digest_is(stated, header.raw, from_sidecar)
    if version != "1":
        if from_sidecar:
            raise FormatError(malformed, f"version {version} in a sidecar")  # C3
        if not right:
            raise FormatError("seal_header_mismatch", f"sealed by version {version}, and damaged")  # row 5
        return "newer", None, {}  # row 4
    if not HEX_16.fullmatch(rest):
        raise FormatError("seal_malformed", "no content digest")  # row 6a
    shapes = {name: (info.dtype, info.shape) for name, info in header.tensors.items()}
    if digest(content_input(shapes, pairs)) != rest:
        raise FormatError(
            "seal_content_mismatch", "changed by another program, or damaged: if it is right, seal it again"
        )
    digests = split_digests(header.tensors, pairs.get("flatbed.digests"))
    return ("sealed" if right else "annotated"), rest, digests  # rows 8 and 7


def header_digest_is(stated, raw, from_sidecar):
    if from_sidecar:
        return digest(raw) == stated
    if raw[8:36] != SEAL_PREFIX or raw[36:52] != stated.encode():
        return False
    return digest(raw[:36] + b"0" * 16 + raw[52:]) == stated


def split_digests(tensors, text):
    chunks = {name: -(-tensors[name].nbytes // CHUNK) for name in in_name_order(tensors)}
    total = sum(chunks.values())
    if text is None or len(text) != 16 * total or not re.fullmatch(r"[0-9a-f]*", text):
        raise FormatError("seal_digests_malformed", f"flatbed.digests is no {16 * total} hex digits")  # row 6
    digests, at = {}, 0
    for name, count in chunks.items():
        digests[name] = [text[at + 16 * i : at + 16 * i + 16] for i in range(count)]
        at += 16 * count
    return digests


def parse_sidecar(raw):
    code = "sidecar_malformed"
    if len(raw) > MAX_SIDECAR:
        raise FormatError(code, f"{len(raw)} bytes")
    value = JsonParser(decode_utf8(raw, code), SIDECAR_DEPTH, code).parse()
    wanted = ["flatbed", "flatbed.digests"]
    if not isinstance(value, Members) or sorted(key for key, _ in value) != wanted:
        raise FormatError(code, "no object with exactly flatbed and flatbed.digests")
    if not all(isinstance(text, str) for _, text in value):
        raise FormatError(code, "a value is no string")
    return dict(value)


def read_sidecar(path):
    """The bytes of the sidecar beside `path`, or None (C1, C2). What is no regular file has no bytes."""
    name = os.fspath(path) + ".flatbed.json"
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            return b""
    except OSError as error:
        # Nothing can have a name that is too long. A loop of links is something, and no regular file.
        return None if error.errno in (errno.ENOENT, errno.ENAMETOOLONG) else b""
    with open(name, "rb") as stream:
        return stream.read(MAX_SIDECAR + 1)


def open_regular(path):
    """H5, of what is no directory."""
    try:
        if stat.S_ISREG(os.stat(path).st_mode):
            return open(path, "rb")
    except (FileNotFoundError, NotADirectoryError):
        raise FormatError("file_not_found", os.fspath(path)) from None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
    raise FormatError("not_a_regular_file", os.fspath(path))


# ---------------------------------------------------------------------------------------------------------------------
# The tree and the aliases (sections 9 and 10): T1 to T7 and A2. tensors: name -> TensorInfo of a file or set.


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


HEX_BYTES = re.compile(r"(?:[0-9a-f]{2})*")
HEX_INT = re.compile(r"-?[1-9a-f][0-9a-f]*")
# What numpy's dtype.str can be (T6): an order of bytes exactly where it matters, a kind, the size of an item, a unit.
TYPESTR = re.compile(
    r"\|(?:[biu]1|[SV][1-9][0-9]{0,8})|[<>](?:[iu][248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|U[1-9][0-9]{0,8}"
    r"|[Mm]8(?:\[(?:[2-9]|[1-9][0-9]{1,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)
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
PACKED = {"quint4x2": 2, "quint2x4": 4}  # elements in a byte
# Stored dtype -> torch's name of it. The attribute `dtype` never says what the stored dtype says.
TORCH_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "U16": "uint16", "U32": "uint32", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32",
    "F64": "float64", "C64": "complex64", "F4": "float4_e2m1fn_x2", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


def kind_and_size(typestr):
    """("f", 8) of the numpy type "<f8". The size of a "U" counts characters."""
    return typestr[1], int(re.match("[0-9]+", typestr[2:])[0])


def packed_nbytes(shape, together):
    """The bytes of a tensor whose elements share bytes within a row: each row is padded to whole bytes."""
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows * -(-shape[-1] // together) if shape else 1


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
        fits = fits and (dtype in STORED_AS or dtype not in TORCH_NAMES.values())
        if dtype in COMPLEX:
            fits = fits and info.shape[-1:] == (2,)
            rank -= 1
        if dtype in PACKED:
            fits = fits and rank == 1 and "shape" in attributes
            fits = fits and info.shape[0] == packed_nbytes(attributes["shape"], PACKED[dtype])
        elif dtype is None or dtype in STORED_AS:
            fits = fits and "shape" not in attributes
        if dtype == "float4_e2m1fn_x2":
            fits = fits and rank == 0
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
        self.need(isinstance(text, str) and TYPESTR.fullmatch(text), f"{text!r} is no numpy type")
        kind, size = kind_and_size(text)
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
    ATTRIBUTES = {  # in the order in which writers write them
        "grad": lambda value: value is True,
        "param": lambda value: value is True,
        "device": lambda value: isinstance(value, str),
        "stride": is_size_list,
        "dtype": lambda value: isinstance(value, str),
        "shape": is_size_list,
        "quant": lambda value: True,
        "state": lambda value: True,
    }


# ---------------------------------------------------------------------------------------------------------------------
# Files and sharded sets (sections 6 and 12). Both have tensors, find(), read(), tree(), aliases().


class Source:
    """What a file and a set have in common: tensors by name, and the tree and aliases of one header."""

    tensors = {}  # name -> TensorInfo
    strings = {}  # the metadata that holds flatbed.tree and flatbed.aliases

    def tree(self):
        """The checked JSON of the tree (T1..T8), or None where no structure is recorded."""
        text = self.strings.get("flatbed.tree")
        return None if text is None else check_tree(text, self.tensors)

    def tree_is_recorded(self):
        return "flatbed.tree" in self.strings

    def aliases(self):
        """Other name -> stored name (A1, A2)."""
        text = self.strings.get("flatbed.aliases")
        return {} if text is None else check_aliases(text, self.tensors)

    def find(self, name):
        """The tensor of this name or alias."""
        if name not in self.tensors:
            name = self.aliases().get(name, name)
        if name not in self.tensors:
            raise FormatError("tensor_not_found", repr(name))
        return self.tensors[name]


class File(Source):
    """One file: checked when opened; its tensors are read, and checked against their digests, on request.

    source: a path or a seekable binary stream. verify: "if_sealed", "required" or "off" (S6). Close it, or use `with`.
    """

    def __init__(self, source, verify="if_sealed"):
        self.path = source if isinstance(source, (str, os.PathLike)) else None
        self._stream = source if self.path is None else open_regular(self.path)
        try:
            self.header = read_container(self._stream)
            sidecar = None if self.path is None else read_sidecar(self.path)
            self.notes = []  # what a user should be told, in sentences
            if sidecar is not None and any(is_ours(key) for key in self.header.metadata):
                self.notes.append("the sidecar is ignored: the file has a seal of its own")
                sidecar = None
            self.seal = inspect_seal(self.header, sidecar)
            admit(self.seal, verify)
        except BaseException:
            self.close()
            raise
        self.verify = verify
        self.tensors, self.metadata, self.state = (self.header.tensors, self.header.metadata, self.seal.state)
        # A newer version may mean something else by these (V2).
        self.strings = {} if self.state == "newer" else self.metadata

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.path is not None:
            self._stream.close()

    def read(self, name):
        """The bytes of a tensor, every chunk of them verified if the file is sealed."""
        info = self.find(name)
        data = bytearray(info.nbytes)
        self._stream.seek(self.header.data_start + info.begin)
        if self._stream.readinto(data) != info.nbytes:
            raise FormatError("file_changed", f"{info.name!r} could not be read to its end")
        if self.verify != "off":
            self.check_chunks(info, data)
        return data

    def check_chunks(self, info, data):
        """Raises unless every chunk of a tensor's bytes has its digest (S7). Nothing to check in an unsealed file."""
        code = "chunk_corrupt" if self.state == "sealed" else "chunk_rewritten"
        for i, wanted in enumerate(self.seal.digests.get(info.name, ())):
            begin, end = i * CHUNK, min((i + 1) * CHUNK, info.nbytes)
            if digest(memoryview(data)[begin:end]) != wanted:
                raise FormatError(code, f"{info.name!r}: bytes [{begin},{end})", f"{info.name}:{begin}-{end}")


def admit(seal, verify):
    """Raises unless the state may be read in this mode: the three right columns of the table in S6."""
    if verify == "off":
        return
    if seal.error is not None:
        raise seal.error
    if verify == "required" and seal.state == "unsealed":
        raise FormatError("not_sealed", "a seal was required")
    if verify == "required" and seal.state == "newer":
        raise FormatError("seal_newer", "sealed by a newer version")


class ShardedSet(Source):
    """An index and the files it names (H1..H4). verify and follow_links hold for every shard."""

    def __init__(self, path, verify="if_sealed", follow_links=True, shards=None):
        """path: the index. Where there is none, the folder, and shards: the names of the files in it."""
        self.path, self.missing, self.tensors, self._file_of, self.files = path, {}, {}, {}, {}
        weight_map, stated = read_index(path) if shards is None else (None, None)
        folder = os.path.dirname(os.fspath(path)) if shards is None else path
        with contextlib.ExitStack() as opened:
            for shard in sorted(set(shards or weight_map.values()), key=file_name_bytes):
                self.files[shard] = opened.enter_context(open_shard(folder, shard, verify, follow_links))
            for name, shard in weight_map.items() if shards is None else self._all_tensors():
                self._list(name, shard)
            if verify != "off":
                check_same_set(stated, self.files)
            self.notes = [f"{shard}: {note}" for shard, file in self.files.items() for note in file.notes]
            self.notes += [f"{shard}: {name!r} is listed and not there" for name, shard in self.missing.items()]
            unlisted = sum(len(file.tensors) for file in self.files.values()) - len(self.tensors)
            if unlisted:
                self.notes.append(f"tensors that the index does not list are ignored: {unlisted}")
            self._opened = opened.pop_all()
        # The tree, the aliases and the metadata of the first shard speak for the whole set (H3).
        first = next(iter(self.files.values()))
        self.strings, self.metadata = first.strings, first.metadata

    def _all_tensors(self):
        return [(name, shard) for shard, file in self.files.items() for name in file.tensors]

    def _list(self, name, shard):
        if name in self.tensors:
            raise FormatError("name_collision", f"{name!r} is in two shards")
        if name not in self.files[shard].tensors:
            self.missing[name] = shard
            return
        self.tensors[name], self._file_of[name] = self.files[shard].tensors[name], self.files[shard]

    def find(self, name):
        if name in self.missing:
            raise FormatError("shard_tensor_missing", f"{name!r} is not in {self.missing[name]}")
        return super().find(name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._opened.close()

    def read(self, name):
        info = self.find(name)
        return self._file_of[info.name].read(info.name)

    @property
    def state(self):
        """The state that all shards have, or "mixed"."""
        states = {file.state for file in self.files.values()}
        return states.pop() if len(states) == 1 else "mixed"


def read_index(path):
    """(weight_map, the value of flatbed.shards or None) of an index file."""
    code = "index_malformed"
    with open_regular(path) as stream:
        top = JsonParser(decode_utf8(stream.read(), code), HEADER_DEPTH, code).parse()
    if not isinstance(top, Members):
        raise FormatError(code, "no object")
    keys = [key for key, _ in top]
    if keys.count("weight_map") != 1 or keys.count("metadata") > 1:
        raise FormatError(code, "no single weight_map, or more than one metadata")
    fields = {"metadata": None, **dict(top)}
    if fields["metadata"] is None:  # the same as absent
        fields["metadata"] = Members()
    if not all(isinstance(fields[key], Members) for key in ("weight_map", "metadata")) or not fields["weight_map"]:
        raise FormatError(code, "weight_map or metadata is no object, or weight_map is empty")
    stated = [value for key, value in fields["metadata"] if key == "flatbed.shards"]
    if len(stated) > 1 or not all(isinstance(value, str) for value in stated):
        raise FormatError(code, "flatbed.shards is no single string")
    weight_map = {}
    for name, shard in fields["weight_map"]:
        if name in weight_map:
            raise FormatError("index_duplicate_name", f"{name!r} is mapped twice")
        if not isinstance(shard, str):
            raise FormatError(code, f"{name!r} is mapped to no string")
        weight_map[name] = check_shard_name(shard)
    return weight_map, stated[0] if stated else None


def check_shard_name(name):
    """H2: the name without "." components."""
    parts = [part for part in name.split("/") if part != "."]
    refused = not parts or any(part == "" or part.startswith(".") for part in parts)
    ending = parts and ascii_lower(parts[-1]).endswith(".safetensors")
    if refused or not ending or re.search(r"[\\:\x00-\x1f\x7f]", name):
        raise FormatError("shard_name_refused", repr(name))
    return "/".join(parts)


def open_shard(folder, name, verify, follow_links):
    path = os.path.join(folder, name)
    if not os.path.lexists(path):
        raise FormatError("shard_missing", path)
    parts = name.split("/")
    on_the_way = [os.path.join(folder, *parts[: i + 1]) for i in range(len(parts))]
    if not follow_links and any(os.path.islink(part) for part in on_the_way):
        raise FormatError("shard_link_refused", path)
    try:
        return File(path, verify)
    except FormatError as error:
        if error.code == "file_not_found":
            raise FormatError("shard_missing", f"{path} is a link to nothing") from None
        raise


def check_same_set(stated, files):
    """H4. stated: the value of flatbed.shards or None; files: in byte order of their names."""
    if stated is None or not stated.startswith("1/"):
        return
    contents = stated[2:]
    if len(files) > MAX_SEALED_SHARDS or len(contents) != 16 * len(files):
        raise FormatError("shard_mixed_set", "flatbed.shards does not hold one digest for each shard")
    for i, (name, file) in enumerate(files.items()):
        if file.seal.content != contents[16 * i : 16 * i + 16]:
            raise FormatError("shard_mixed_set", f"{name} is not the file that the index was written for")


def open_path(path, verify="if_sealed", follow_links=True):
    """A File, or a ShardedSet for an index. A directory stands for what find_in_directory finds."""
    if os.path.isdir(path):
        found = find_in_directory(path)
        if isinstance(found, list):
            return ShardedSet(path, verify, follow_links, found)
        path = os.path.join(path, found)
    if is_index(path):
        return ShardedSet(path, verify, follow_links)
    return File(path, verify)


def is_index(path):
    """Whether a file is an index: its first bytes say so, not its name (H5)."""
    with open_regular(path) as stream:
        head = stream.read(512)
    if 0 in head[:8]:
        return False  # the length field of a container
    return head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\n\r")[:1] in (b"{", b"[")


# Of names in lower case.
INDEX_NAME = re.compile(r".*\.safetensors\.index\.(?:.*\.)?json", re.DOTALL)
SHARD_NAME = re.compile(r"(.*)-([0-9]+)-of-([0-9]+)((?:\..*)?)\.safetensors", re.DOTALL)
VARIANT = re.compile(r"(.+)\.[^.]+\.safetensors", re.DOTALL)


def file_name_bytes(name):
    """The bytes of a file's name, also of one that is not UTF-8."""
    return name.encode("utf-8", "surrogateescape")


def ascii_lower(name):
    """H1, H2: letters in either case are those of ASCII."""
    return file_name_bytes(name).lower().decode("utf-8", "surrogateescape")


def find_in_directory(path):
    """H1: the name of the one file or index that a directory stands for, or a list of a set's shards."""
    names = {name: ascii_lower(name) for name in os.listdir(path) if may_be_file(path, name)}
    indexes = [name for name, lower in names.items() if INDEX_NAME.fullmatch(lower)]
    plain = [name for name in indexes if names[name].endswith(".safetensors.index.json")]
    files = [name for name, lower in names.items() if lower.endswith(".safetensors")]
    shards = {name: SHARD_NAME.fullmatch(names[name]) for name in files if SHARD_NAME.fullmatch(names[name])}
    taken = set(names.values())
    single = [name for name in files if name not in shards and not is_variant(names[name], taken)]
    found = plain or single or indexes
    if not found and shards:
        return complete_set(path, shards)
    if len(found) != 1:
        raise FormatError("index_ambiguous", f"{path} holds {len(found)} to choose from: {', '.join(sorted(found))}")
    return found[0]


def may_be_file(path, name):
    """Whether a name counts: also that of a link that leads nowhere, so that opening it says so."""
    whole = os.path.join(path, name)
    return not name.startswith(".") and (os.path.isfile(whole) or not os.path.exists(whole))


def is_variant(name, names):
    """Whether NAME.VARIANT.safetensors is beside NAME.safetensors."""
    match = VARIANT.fullmatch(name)
    return bool(match) and match[1] + ".safetensors" in names


def complete_set(path, shards):
    """H1: shards without an index, each of 1..N once. shards: name -> match of SHARD_NAME."""
    if len({(match[1], match[3], match[4]) for match in shards.values()}) != 1:
        raise FormatError("index_ambiguous", f"{path} holds several sets without an index")
    numbers, count = {}, int(next(iter(shards.values()))[3])
    for name, match in shards.items():
        number = int(match[2])
        if not 1 <= number <= count:
            raise FormatError("index_ambiguous", f"{path} holds {name}, whose number is not in 1 to {count}")
        if number in numbers:
            raise FormatError("index_ambiguous", f"{path} holds number {number} twice: {numbers[number]}, {name}")
        numbers[number] = name
    if len(numbers) != count:
        raise FormatError("shard_missing", f"{path} holds {len(numbers)} of {count} shards and no index")
    return list(shards)


# ---------------------------------------------------------------------------------------------------------------------
# Series (section 13): Q1 to Q8. A folder is listed from the first 4,096 bytes of each file.


SEALED_START = re.compile(re.escape(SEAL_PREFIX) + rb'([0-9a-f]{16}/1/[0-9a-f]{16})","flatbed\.series":')
STRING_BYTES = re.compile(rb'"((?:[^"\\]|\\.)*)"', re.DOTALL)
STATEMENT_VALUE = re.compile(r"1/([0-9a-f]{16})/(.*)", re.DOTALL)
SHARD_OF_OURS = re.compile(r"model-[0-9]{5}-of-[0-9]{5}\.safetensors")
LIMIT_53 = 1 << 53


class Statement(namedtuple("Statement", "sequence step score metric mode parent saved_at epoch")):
    """What a checkpoint says of its place in a series (Q4), member by member. score: a float or None."""


class SeriesEntry(namedtuple("SeriesEntry", "name file seal text statement")):
    """A checkpoint in the folder. name: its file or folder; file: the path of what states; seal, text: the values of
    "flatbed" and "flatbed.series" in it."""

    step = property(lambda self: self.statement.step)
    score = property(lambda self: self.statement.score)


def read_statement(path):
    """The values of "flatbed" and "flatbed.series" in a file, or None if it is not of a series (Q2)."""
    with open(path, "rb") as stream:
        head = stream.read(STATEMENT_END)
    start = SEALED_START.match(head, 8)
    string = start and STRING_BYTES.match(head, start.end())
    if string:
        with contextlib.suppress(FormatError):
            text = decode_utf8(string[0], "series_malformed")
            return start[1].decode(), JsonParser(text, 0, "series_malformed").parse()
    with File(path) as file:
        text = file.strings.get("flatbed.series")
        return None if text is None else (file.strings["flatbed"], text)


def parse_statement(text):
    """The Statement of a value of flatbed.series (Q3, Q4)."""
    code = "series_malformed"
    value = STATEMENT_VALUE.fullmatch(text)
    if not value or len(text.encode("utf-8")) > MAX_STATEMENT:
        raise FormatError(code, "no value of the form 1/sum/json, or one that is too long")
    if digest(value[2].encode("utf-8")) != value[1]:
        raise FormatError(code, "the statement does not match its sum")
    members = JsonParser(value[2], 1, code).parse()
    if not isinstance(members, Members) or tuple(key for key, _ in members) != Statement._fields:
        raise FormatError(code, "no object with exactly the eight members, in their order")
    stated = Statement(**dict(members))
    for member, right in (
        ("sequence", is_53_bit(stated.sequence) and stated.sequence >= 1),
        ("step", is_53_bit(stated.step) and stated.step >= 0),
        ("score", stated.score is None or type(stated.score) is float or stated.score in ("nan", "inf", "-inf")),
        ("score", stated.score is None or stated.metric is not None),
        ("metric", stated.metric is None or is_metric(stated.metric)),
        ("mode", stated.mode is None if stated.metric is None else stated.mode in ("min", "max")),
        ("parent", stated.parent is None or is_digest(stated.parent)),
        ("saved_at", is_53_bit(stated.saved_at)),
        ("epoch", stated.epoch is None or is_53_bit(stated.epoch)),
    ):
        if not right:
            raise FormatError(code, f"{member} is {getattr(stated, member)!r}")
    if json.dumps(stated._asdict(), ensure_ascii=False, separators=(",", ":")) != value[2]:
        raise FormatError(code, "not the one form that its members have")
    return stated if stated.score is None else stated._replace(score=float(stated.score))


def is_53_bit(value):
    return type(value) is int and abs(value) < LIMIT_53


def is_metric(value):
    return isinstance(value, str) and 1 <= len(value.encode("utf-8")) <= MAX_METRIC


def is_digest(value):
    return isinstance(value, str) and HEX_16.fullmatch(value) is not None


class Series:
    """The checkpoints of a folder. entries: in order (Q6); skipped: name -> why it is not listed (Q8); noted: names of
    entries that are odd; notes: sentences about all of these."""

    def __init__(self, folder):
        self.folder, self.skipped, self.noted, self.notes = folder, {}, [], []
        found = sorted(self._find(), key=lambda entry: (entry.statement.sequence, file_name_bytes(entry.name)))
        self.entries = list(self._without_copies(found))
        named = [entry.statement for entry in self.entries if entry.statement.metric is not None]
        self.metric, self.mode = (named[0].metric, named[0].mode) if named else (None, None)  # Q7
        self._note()

    def _find(self):
        for name in sorted(os.listdir(self.folder), key=file_name_bytes):
            file = stating_file(self.folder, name)
            try:
                found = file and read_statement(file)
                if found:
                    yield SeriesEntry(name, file, *found, parse_statement(found[1]))
            except (FormatError, OSError) as error:
                self.skipped[name] = error
                self.notes.append(f"{name} is skipped: {error}")

    def _without_copies(self, found):
        """Q6: of copies the first that is whole, or the first."""
        groups = {}
        for entry in found:
            groups.setdefault((entry.statement.sequence, entry.seal), []).append(entry)
        standing = {self._first_of(copies).name for copies in groups.values()}
        return (entry for entry in found if entry.name in standing)

    def _first_of(self, copies):
        alone = len(copies) == 1
        return copies[0] if alone else next((c for c in copies if self.error_of(c) is None), copies[0])

    def _note(self):
        sequences = Counter(entry.statement.sequence for entry in self.entries)
        for entry in self.entries:
            stated = entry.statement
            if sequences[stated.sequence] > 1:
                self.notes.append(f"{entry.name}: another checkpoint has the sequence number {stated.sequence}, too")
            if stated.metric is not None and not self._has_our_metric(entry):
                self.notes.append(f"{entry.name}: has another metric: {stated.metric!r} ({stated.mode})")
            if self.notes and self.notes[-1].startswith(entry.name + ":"):
                self.noted.append(entry.name)

    def _has_our_metric(self, entry):
        return (entry.statement.metric, entry.statement.mode) == (self.metric, self.mode)

    def error_of(self, entry):
        """Why a checkpoint is not whole (Q5), or None. The bytes of its tensors are not read."""
        try:
            with open_path(os.path.join(self.folder, entry.name), "if_sealed", follow_links=False) as source:
                files = source.files.values() if isinstance(source, ShardedSet) else [source]
                for file in files:
                    admit(file.seal, "required")
                    if file.state != "sealed":
                        raise FormatError("seal_header_mismatch", f"{file.path} was changed after it was sealed")
                for name in getattr(source, "missing", ()):
                    source.find(name)
                first = next(iter(files))
                stated = first.metadata.get("flatbed"), first.metadata.get("flatbed.series")
                if not os.path.samefile(first.path, entry.file) or stated != (entry.seal, entry.text):
                    raise FormatError("file_changed", f"{first.path} does not state what {entry.file} did")
        except (FormatError, OSError) as error:
            return error

    def latest(self):
        """The last checkpoint that is whole (Q7)."""
        return self._first_whole(reversed(self.entries))

    def best(self):
        """The whole checkpoint with the best score (Q7); of equal ones the first."""
        scored = [entry for entry in self.entries if entry.score is not None and self._has_our_metric(entry)]
        sign = -1 if self.mode == "max" else 1
        numbers = [entry for entry in scored if entry.score == entry.score]  # no NaN
        return self._first_whole(sorted(numbers, key=lambda entry: sign * entry.score))

    def at(self, step):
        """The last checkpoint of this step that is whole (Q7)."""
        return self._first_whole(entry for entry in reversed(self.entries) if entry.step == step)

    def _first_whole(self, entries):
        for entry in entries:
            if self.error_of(entry) is None:
                return entry
        raise FormatError("step_not_found", f"{self.folder} has no such checkpoint that is whole")


def stating_file(folder, name):
    """Q1: the path of the file that speaks for an entry of the folder, or None if the entry is not considered."""
    path = os.path.join(folder, name)
    if name.startswith(".") or name == "abandoned" or os.path.islink(path):
        return None
    if not os.path.isdir(path):
        return path if name.endswith(".safetensors") and is_plain_file(path) else None
    names = ["model.safetensors"]
    if is_plain_file(os.path.join(path, "model.safetensors.index.json")):
        names = sorted(n for n in os.listdir(path) if SHARD_OF_OURS.fullmatch(n))
    files = (os.path.join(path, n) for n in names)
    return next((file for file in files if is_plain_file(file)), None)


def is_plain_file(path):
    """Whether this is a regular file and not a link."""
    return os.path.lexists(path) and stat.S_ISREG(os.lstat(path).st_mode)


# ---------------------------------------------------------------------------------------------------------------------
# The tree as Python objects. Nothing named in a file is ever imported or called, but for the closed list of
# constructors (T4) and the classes that the caller passes in. Everything else becomes an inert Object or Global.


class Tensor:
    """A tensor as plain bytes, little-endian, in C order. dtype, shape: as stored; attributes: those of T5."""

    def __init__(self, dtype, shape, data, attributes=None):
        self.dtype, self.shape, self.data, self.attributes = (dtype, tuple(shape), memoryview(data), attributes or {})

    def __repr__(self):
        return f"Tensor({self.dtype!r}, {list(self.shape)}, {len(self.data)} bytes)"


class Array(Tensor):
    """A numpy array as plain bytes. typestr: its dtype.str."""

    def __init__(self, typestr, dtype, shape, data):
        super().__init__(dtype, shape, data)
        self.typestr = typestr


class Scalar(namedtuple("Scalar", "typestr raw")):
    """A numpy scalar: its dtype.str and bytes."""


class Global(namedtuple("Global", "module qualname")):
    """A class or function that is named and never looked up."""


class Object:
    """The result of a call that is not made: function(*args), then items appended, pairs set, a state given.

    has_state: whether a state is given that is None; another one is always given.
    """

    def __init__(self, function, args):
        self.function, self.args, self.items, self.pairs, self.state = function, args, [], [], None
        self.has_state = False

    def __repr__(self):
        return f"Object({self.function!r}, {self.args!r})"


# The constructors that every reader knows (T4), each with exactly the arguments that pickle gives it.


def _ordered_dict(pairs=()):
    return OrderedDict(pairs)


def _one_list(kind):
    def build(items=()):
        if type(items) is not list and items != ():
            raise TypeError("no list")
        return kind(items)

    return build


def _complex(real, imaginary):
    if type(real) is not float or type(imaginary) is not float:
        raise TypeError("no floats")
    return complex(real, imaginary)


def _bytearray(text=b"", encoding=None):
    if encoding is not None:
        if encoding != "latin-1":
            raise TypeError("no latin-1")
        text = text.encode(encoding)
    if type(text) is not bytes:
        raise TypeError("no bytes")
    return bytearray(text)


CONSTRUCTORS = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("builtins", "set"): _one_list(set),
    ("builtins", "frozenset"): _one_list(frozenset),
    ("builtins", "complex"): _complex,
    ("builtins", "bytearray"): _bytearray,
}
CLASSES = {
    ("collections", "OrderedDict"): OrderedDict,
    **{("builtins", kind.__name__): kind for kind in (set, frozenset, complex, bytearray)},
}


def set_state(value, state):
    """What pickle's BUILD does, for an object whose class the caller knows."""
    if hasattr(type(value), "__setstate__"):
        value.__setstate__(state)
    else:
        set_attributes(value, state)


def set_attributes(value, state):
    if type(state) is not dict or not all(isinstance(key, str) for key in state):
        raise TypeError("a state that is no dict of names")
    vars(value).update(state)


class Storage:
    """The bytes that all tensors of one name share. flat: torch's view of them, made on first use."""

    def __init__(self, raw):
        self.raw, self.flat = raw, None


class PlainBackend:
    """Tensors as Tensor, arrays as Array, scalars as Scalar. The other backends fall back to it."""

    constructors = {}  # (module, qualname) -> function, beyond CONSTRUCTORS

    def tensor(self, info, storage, attributes):
        return Tensor(info.dtype, info.shape, storage.raw, attributes)

    def array(self, info, storage, typestr):
        return Array(typestr, info.dtype, info.shape, storage.raw)

    def scalar(self, typestr, raw):
        return Scalar(typestr, raw)

    def constant(self, module, qualname):
        """What a global stands for where it is no class (a dtype, a layout), or None."""
        return None


class NumpyBackend(PlainBackend):
    """Arrays and scalars of numpy; tensors too, but for the types that numpy lacks."""

    TYPES = {dtype: "<" + kind for kind, dtype in ARRAY_DTYPES.items() if kind != "c16"}

    def __init__(self):
        import numpy

        self.numpy = numpy

    def tensor(self, info, storage, attributes):
        if info.dtype not in self.TYPES or "dtype" in attributes or "quant" in attributes:
            return super().tensor(info, storage, attributes)
        return self._view(storage.raw, self.TYPES[info.dtype], info.shape)

    def array(self, info, storage, typestr):
        kind = "{}{}".format(*kind_and_size(typestr))
        if kind not in ARRAY_DTYPES:
            return self._view(storage.raw, typestr, info.shape[:-1])
        shape = info.shape[:-1] if kind == "c16" else info.shape
        array = self._view(storage.raw, "<" + kind, shape)  # stored little-endian, whatever the array was
        return array.astype(typestr) if typestr[0] == ">" else array

    def scalar(self, typestr, raw):
        return self._view(bytearray(raw), typestr, (1,))[0]

    def _view(self, raw, typestr, shape):
        dtype = self.numpy.dtype(typestr)
        if not raw:
            return self.numpy.zeros(shape, dtype)
        return self.numpy.frombuffer(raw, dtype).reshape(shape)


class TorchBackend(PlainBackend):
    """Tensors, dtypes, layouts, sizes and devices of torch. Every tensor is on the CPU, wherever it was."""

    QUANTIZED = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
    STORAGES = {
        "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
        "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
        "ComplexDouble": "complex128", "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32",
        "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4",
    }  # fmt: skip

    def __init__(self):
        import torch

        self.torch = torch
        try:
            self.numpy = NumpyBackend()
        except ImportError:
            self.numpy = PlainBackend()
        self.array, self.scalar = self.numpy.array, self.numpy.scalar
        self.constructors = {("torch", "Size"): torch.Size, ("torch", "device"): torch.device}
        self._add_tensor_makers()

    def _add_tensor_makers(self):
        """Torch's own functions for tensors that are not one block, and its storages."""
        for name in ("_rebuild_sparse_tensor", "_rebuild_nested_tensor", "_rebuild_meta_tensor_no_storage",
                     "_rebuild_parameter", "_rebuild_parameter_with_state"):  # fmt: skip
            if hasattr(self.torch._utils, name):
                self.constructors[("torch._utils", name)] = getattr(self.torch._utils, name)
        # torch 1.9 to 1.13 had a function of its own for CSR
        sparse = self.torch._utils._rebuild_sparse_tensor
        self.constructors[("torch._utils", "_rebuild_sparse_csr_tensor")] = sparse
        if hasattr(self.torch.Tensor, "untyped_storage"):
            self.constructors[("torch.storage", "UntypedStorage")] = lambda tensor: tensor.untyped_storage()
            for name, dtype in self.STORAGES.items():
                self.constructors[("torch", name + "Storage")] = self._typed_storage(getattr(self.torch, dtype))

    def _typed_storage(self, dtype):
        make = self.torch.storage.TypedStorage
        return lambda tensor: make(wrap_storage=tensor.untyped_storage(), dtype=dtype, _internal=True)

    def constant(self, module, qualname):
        value = getattr(self.torch, qualname, None) if module == "torch" else None
        kinds = (self.torch.dtype, self.torch.layout, self.torch.memory_format, self.torch.qscheme)
        return value if isinstance(value, kinds) else None

    def tensor(self, info, storage, attributes):
        name = attributes.get("dtype") or TORCH_NAMES.get(info.dtype, "")
        dtype = getattr(self.torch, self.QUANTIZED.get(name, name), None)
        quantizer = attributes.get("quant", ())
        if name in PACKED and len(quantizer) == 4 and isinstance(dtype, self.torch.dtype):
            return self._packed(storage, dtype, attributes["shape"], quantizer)
        if not isinstance(dtype, self.torch.dtype) or name in PACKED or (name in self.QUANTIZED) != bool(quantizer):
            return super().tensor(info, storage, attributes)  # a type that this torch does not have
        shape = info.shape[:-1] if name in COMPLEX else info.shape
        if info.dtype == "F4":
            shape = (*shape[:-1], shape[-1] // 2)
        tensor = self._strided(self._flat(storage).view(dtype).view(shape), attributes.get("stride"))
        if quantizer:
            tensor = self._quantized(tensor, *quantizer)
        if "param" in attributes:
            tensor = self.torch.nn.Parameter(tensor, requires_grad="grad" in attributes)
        elif "grad" in attributes:
            tensor.requires_grad_(True)
        if "state" in attributes:
            set_attributes(tensor, attributes["state"])
        return tensor

    def _flat(self, storage):
        if storage.flat is None:
            uint8 = self.torch.uint8
            empty = self.torch.empty(0, dtype=uint8)
            storage.flat = self.torch.frombuffer(storage.raw, dtype=uint8) if storage.raw else empty
        return storage.flat

    def _strided(self, tensor, stride):
        """The same values with the strides of the source, where those are a permutation of dense ones."""
        if stride is None or tensor.numel() == 0:
            return tensor
        expected = 1
        for step, size in sorted(zip(stride, tensor.shape)):
            if size != 1 and step != expected:
                return tensor
            expected *= size
        return self.torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)

    def _packed(self, storage, dtype, shape, quantizer):
        """Several elements in a byte. Torch makes such tensors for each channel only."""
        _, scales, zero_points, axis = quantizer
        make = self.torch._empty_per_channel_affine_quantized
        tensor = make(shape, scales=scales, zero_points=zero_points, axis=axis, dtype=dtype)
        tensor.untyped_storage().copy_(self._flat(storage).untyped_storage())
        return tensor

    def _quantized(self, integers, scheme, scale, zero_point, axis=None):
        if axis is None:
            return self.torch._make_per_tensor_quantized_tensor(integers, scale, zero_point)
        return self.torch._make_per_channel_quantized_tensor(integers, scale, zero_point, axis)


BACKENDS = {"torch": TorchBackend, "numpy": NumpyBackend, "plain": PlainBackend}


def make_backend(name):
    """The backend of this name; None: the richest that can be imported."""
    if name is not None:
        return BACKENDS[name]()
    for backend in BACKENDS.values():
        with contextlib.suppress(ImportError):
            return backend()




class Builder:
    """Builds the objects of a checked tree. Nothing is looked up by name but the tables above and `classes`."""

    def __init__(self, source, backend, classes):
        self.source, self.backend, self.classes = source, backend, classes
        self.constructors = {**CONSTRUCTORS, **backend.constructors, **classes}
        self.storages, self.objects = {}, {}  # by tensor name; by id

    def storage(self, name):
        if name not in self.storages:
            self.storages[name] = Storage(self.source.read(name))
        return self.storages[name]

    def tensor(self, name, attributes):
        return self.backend.tensor(self.source.tensors[name], self.storage(name), attributes)

    def build(self, tree):
        with room_for_depth():
            return self.node(tree)

    def node(self, value, own=None):
        if type(value) is not list:
            return value
        tag, parts = value[0], value[1:]
        if tag == "id":
            return self.node(parts[1], parts[0])
        if tag == "ref":
            return self.objects[parts[0]]
        result = self.BUILD[tag](self, parts, own)
        if own is not None:
            self.objects[own] = result
        return result

    def begin(self, result, own):
        """An object that is complete enough to be referred to from within."""
        if own is not None:
            self.objects[own] = result
        return result

    def nodes(self, values):
        return [self.node(value) for value in values]

    def set_pairs(self, target, values):
        for i in range(0, len(values), 2):
            key = self.node(values[i])
            try:
                target[key] = self.node(values[i + 1])
            except TypeError as error:
                raise FormatError("tree_malformed_key", f"a key cannot be used: {error}") from None

    def build_bytes(self, parts, own):
        return bytes.fromhex(parts[0]) if isinstance(parts[0], str) else bytes(self.storage(parts[0][1]).raw)

    def build_list(self, parts, own):
        result = self.begin([], own)
        for value in parts:
            result.append(self.node(value))
        return result

    def build_dict(self, parts, own):
        result = self.begin({}, own)
        self.set_pairs(result, parts)
        return result

    def build_global(self, parts, own):
        name = tuple(parts)
        known = self.backend.constant(*name) or self.classes.get(name) or CLASSES.get(name)
        return Global(*name) if known is None else known

    def build_object(self, parts, own):
        args = tuple(self.nodes(parts[1][1:]))
        make = self.constructor(parts[0], args)
        if make is None:
            return self.inert(parts, args, own)
        try:
            result = self.begin(make(), own)
            for value in parts[2] if len(parts) > 2 else ():
                result.append(self.node(value))
            self.set_pairs(result, parts[3] if len(parts) > 3 else ())
            state = self.node(parts[4]) if len(parts) > 4 else None
            if state is not None:
                set_state(result, state)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise FormatError("tree_malformed_node", f"{parts[0]} does not accept its arguments: {error}") from None
        return result

    def constructor(self, function, args):
        """A call that makes the object, or None where its class is not known."""
        if type(function) is not list or function[0] != "global":
            return None
        name = tuple(function[1:])
        if name == ("copyreg", "__newobj__"):
            known = bool(args) and any(args[0] is known for known in self.classes.values())
            return (lambda: args[0].__new__(*args)) if known else None
        build = self.constructors.get(name)
        if name in self.backend.constructors and any(isinstance(arg, (Object, Tensor)) for arg in args):
            return None  # made of parts that are not known themselves
        return None if build is None else lambda: build(*args)

    def inert(self, parts, args, own):
        result = self.begin(Object(self.node(parts[0]), args), own)
        if len(parts) > 2:
            result.items = self.nodes(parts[2])
            result.pairs = [tuple(self.nodes(parts[3][i : i + 2])) for i in range(0, len(parts[3]), 2)]
        if len(parts) > 4:
            result.state, result.has_state = self.node(parts[4]), True
        return result

    def build_tensor(self, parts, own):
        attributes = dict(parts[1]) if len(parts) > 1 else {}
        for key in ("quant", "state"):
            if key in attributes:
                attributes[key] = self.node(attributes[key])
        try:
            return self.tensor(parts[0], attributes)
        except (TypeError, ValueError, RuntimeError) as error:
            raise FormatError("tree_unknown_attribute", f"{parts[0]!r}: {error}") from None

    def build_array(self, parts, own):
        info = self.source.tensors[parts[0]]
        return self.backend.array(info, self.storage(info.name), parts[1])

    BUILD = {
        "int": lambda self, parts, own: int(parts[0], 16),
        "float": lambda self, parts, own: struct.unpack(">d", bytes.fromhex(parts[0]))[0],
        "str": lambda self, parts, own: bytes.fromhex(parts[0]).decode("utf-8", "surrogatepass"),
        "bytes": build_bytes,
        "list": build_list,
        "tuple": lambda self, parts, own: tuple(self.nodes(parts)),
        "dict": build_dict,
        "global": build_global,
        "object": build_object,
        "tensor": build_tensor,
        "array": build_array,
        "scalar": lambda self, parts, own: self.backend.scalar(parts[0], bytes.fromhex(parts[1])),
    }


def load(path, verify="if_sealed", backend=None, classes=None):
    """The nested object that was saved at `path`: a file, an index, or a directory that holds one index.

    backend: "torch", "numpy" or "plain"; by default the first of these that can be imported. classes: {(module,
    qualname): class} of objects that would be inert otherwise; their constructors run, so name only what you trust.
    """
    with open_path(path, verify) as source:
        builder = Builder(source, make_backend(backend), classes or {})
        if source.tree_is_recorded():
            return builder.build(source.tree())
        flat = {name: builder.tensor(name, {}) for name in source.tensors}
        flat.update({other: flat[stored] for other, stored in source.aliases().items()})
        return flat


# ---------------------------------------------------------------------------------------------------------------------
# The command.


def check(path):
    """The seal state of a file or set all of whose bytes, tree and aliases are right. Raises FormatError."""
    return check_with_notes(path)[0]


def check_with_notes(path):
    with open_path(path) as source:
        source.tree()
        source.aliases()
        for name in source.tensors:
            source.read(name)
        return source.state, source.notes


def series_lines(folder):
    """A series as lines of text: its notes, its checkpoints, and which of them are the latest and the best."""
    series = Series(folder)
    yield from (f"{folder}: {note}" for note in series.notes)
    for entry in series.entries:
        stated = entry.statement
        score = "no score" if stated.score is None else f"score {stated.score}"
        error = series.error_of(entry)
        yield f"{os.path.join(folder, entry.name)}: step {stated.step}, {score}, {error or 'sealed'}"
    for word, choose in (("latest", series.latest), ("best", series.best)):
        with contextlib.suppress(FormatError):
            yield f"{folder}: {word}: {choose().name}"


def main(arguments):
    if len(arguments) >= 2 and arguments[0] == "series":
        for folder in arguments[1:]:
            print(*series_lines(folder), sep="\n")
        return 0
    if len(arguments) >= 2 and arguments[0] == "check":
        failed = False
        for path in arguments[1:]:
            try:
                state, notes = check_with_notes(path)
                print("; ".join((f"{path}: {state}", *notes)))
            except (FormatError, OSError) as error:
                failed = True
                print(f"{path}: {error}")
        return 1 if failed else 0
    if len(arguments) == 2 and arguments[0] in ("make-vectors", "check-vectors"):
        import make_vectors

        run = make_vectors.make if arguments[0] == "make-vectors" else make_vectors.check
        return run(arguments[1])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
