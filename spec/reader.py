#!/usr/bin/env python3
"""Reader for flatbed files: the second implementation of FORMAT.md, in Python's standard library.

    import reader
    checkpoint = reader.load("model.safetensors")       # the nested object that was saved

    file = reader.File("model.safetensors")              # or piece by piece
    file.state, file.tensors["fc.weight"].shape, file.read("fc.weight")

Here are the container, the seal, files and sets; strict_json.py, xxh3.py, tree.py and restore.py belong to it, and
writer.py writes. Section marks such as (R7) are the numbered rules of FORMAT.md. Every refusal is a FormatError, whose
code is the name of the rule's error.
torch and numpy are used when they can be imported, the xxhash module or libxxhash for speed; none of them is needed.

    python3 reader.py check FILE...          print the seal state or the error of files, index files, directories
    python3 reader.py make-vectors DIR       write the test vectors
    python3 reader.py check-vectors DIR      check every vector against its expectation
"""

import contextlib
import os
import re
import stat
import struct
import sys
from collections import namedtuple

from strict_json import FormatError, JsonParser, Members, decode_utf8, is_size
from tree import check_aliases, check_tree
from xxh3 import xxh3

MAX_HEADER = 100_000_000  # R2
MAX_SIDECAR = 100_000_000  # C2
HEADER_DEPTH = 127  # R6, and of an index (H1)
SIDECAR_DEPTH = 8  # C1
CHUNK = 262_144  # S3

# The 22 element types and their size in bits (section 5 of FORMAT.md).
DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16, "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


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
    if not os.path.lexists(name):
        return None
    if not os.path.isfile(name):
        return b""
    with open(name, "rb") as stream:
        return stream.read(MAX_SIDECAR + 1)


def open_regular(path):
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FormatError("not_a_regular_file", os.fspath(path))
        return open(path, "rb")
    except FileNotFoundError:
        raise FormatError("file_not_found", os.fspath(path)) from None


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
            for shard in sorted(set(shards or weight_map.values()), key=lambda name: name.encode("utf-8")):
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
        # The tree and the aliases of the first shard speak for the whole set (H3).
        self.strings = next(iter(self.files.values())).strings if self.files else {}

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
    ending = parts and parts[-1].lower().endswith(".safetensors")
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
    if not os.path.exists(path):
        raise FormatError("shard_missing", f"{path} is a link to nothing")
    return File(path, verify)


def check_same_set(stated, files):
    """H4. stated: the value of flatbed.shards or None; files: in byte order of their names."""
    if stated is None or not stated.startswith("1/"):
        return
    contents = stated[2:]
    if len(contents) != 16 * len(files):
        raise FormatError("shard_mixed_set", "flatbed.shards does not hold one digest for each shard")
    for i, (name, file) in enumerate(files.items()):
        if file.seal.content != contents[16 * i : 16 * i + 16]:
            raise FormatError("shard_mixed_set", f"{name} is not the file that the index was written for")


def open_path(path, verify="if_sealed", follow_links=True):
    """A File, or a ShardedSet for an index. A directory stands for what find_in_directory finds."""
    if os.path.isdir(path):
        found = find_in_directory(path)
        if len(found) > 1:
            return ShardedSet(path, verify, follow_links, found)
        path = os.path.join(path, found[0])
    if INDEX_NAME.search(os.fspath(path)):
        return ShardedSet(path, verify, follow_links)
    return File(path, verify)


INDEX_NAME = re.compile(r"\.safetensors\.index\.([^/]*\.)?json$", re.IGNORECASE)
SHARD_NAME = re.compile(r"(.*)-(\d+)-of-(\d+)(\.[^/]*)?\.safetensors$", re.IGNORECASE)
VARIANT = re.compile(r"(.+)\.[^.]+\.safetensors$")


def find_in_directory(path):
    """The names of the one file or index that a directory stands for, or of a set's shards (H1)."""
    names = [name for name in os.listdir(path) if not name.startswith(".") and os.path.isfile(os.path.join(path, name))]
    lower = {name.lower() for name in names}
    indexes = [name for name in names if INDEX_NAME.search(name)]
    files = [name for name in names if name.lower().endswith(".safetensors")]
    shards = [name for name in files if SHARD_NAME.match(name)]
    single = [name for name in files if name not in shards and not is_variant(name.lower(), lower)]
    plain = [name for name in indexes if name.lower().endswith(".safetensors.index.json")]
    found = plain or single or indexes
    if not found and shards:
        return complete_set(path, shards)
    if len(found) != 1:
        raise FormatError("index_ambiguous", f"{path} holds {len(found)} to choose from: {', '.join(sorted(found))}")
    return found


def is_variant(name, names):
    """Whether NAME.VARIANT.safetensors is beside NAME.safetensors."""
    match = VARIANT.match(name)
    return bool(match) and match[1] + ".safetensors" in names


def complete_set(path, shards):
    """H1: shards without an index, all of 1..N."""
    matches = [SHARD_NAME.match(name.lower()) for name in shards]
    if len({(match[1], match[3], match[4]) for match in matches}) != 1:
        raise FormatError("index_ambiguous", f"{path} holds several sets without an index")
    if {int(match[2]) for match in matches} != set(range(1, int(matches[0][3]) + 1)):
        raise FormatError("shard_missing", f"{path} holds {len(shards)} of {matches[0][3]} shards and no index")
    return shards


def load(path, verify="if_sealed", backend=None, classes=None):
    """The nested object that was saved at `path`: a file, an index, or a directory that holds one index.

    backend: "torch", "numpy" or "plain"; by default the first of these that can be imported. classes: {(module,
    qualname): class} of objects that would be inert otherwise; their constructors run, so name only what you trust.
    """
    from restore import Builder, make_backend

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


def main(arguments):
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
