"""Test vectors of the container: rules R1 to R22 of FORMAT.md. Each is built from a few visible lines."""

import json
import struct
from collections import namedtuple

from reader import DTYPE_BITS

# One line of the manifest. files: path -> bytes of what belongs to it, or Made. vectors/README.md explains the rest.
Vector = namedtuple("Vector", "path kind expect rule twin cause where files options", defaults=("-",))

# The codes of R1, R2, ...: one each.
CODES = (
    "file_too_short", "header_too_large", "header_truncated", "header_not_utf8", "header_not_json", "header_too_deep",
    "header_not_object", "metadata_invalid", "duplicate_metadata", "duplicate_name", "entry_invalid", "duplicate_field",
    "unknown_dtype", "shape_invalid", "offsets_invalid", "offsets_gap", "offsets_overlap", "size_overflow",
    "partial_byte", "size_mismatch", "data_truncated", "trailing_data",
)  # fmt: skip

F32X4 = '{"dtype":"F32","shape":[4],"data_offsets":[0,16]}'
FOUR_FLOATS = struct.pack("<4f", 1, 2, 3, 4)
HEADER = '{"a":' + F32X4 + "}"
MAX63 = (1 << 63) - 1


# A file that is not committed: how it is made, of what, and how long it becomes. README.md in vectors/ explains it.
Made = namedtuple("Made", "how source size", defaults=("-", "-"))


def vectors():
    for name, rule, raw in (*valid_json(), *valid_names_and_fields(), *valid_tensors()):
        path = f"valid/{name}.safetensors"
        yield Vector(path, "container", "ok", rule, "-", "-", "-", {path: raw})
    invalid = (
        lengths(),
        utf8(),
        json_texts(),
        levels(),
        metadata(),
        names(),
        entries(),
        numbers(),
        tiling(),
        sizes(),
        ends(),
    )
    for group in invalid:
        for number, name, raw, twin in group:
            path, rule = f"invalid/R{number:02}-{name}.safetensors", f"R{number}"
            yield Vector(
                path, "container", CODES[number - 1], rule, f"valid/{twin}.safetensors", "-", "-", {path: raw}
            )
    for name, codes, raw in several_rules():
        path = f"invalid/E1-{name}.safetensors"
        yield Vector(path, "container", "|".join(codes), "E1", "valid/plain.safetensors", "-", "-", {path: raw})
    yield from opened_otherwise()


# Building blocks.


def container(header, data=FOUR_FLOATS, length=None):
    """A file of this header and data; length: a wrong N."""
    raw = header.encode("utf-8") if isinstance(header, str) else header
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype, shape, begin, end):
    return f'{{"dtype":"{dtype}","shape":{json.dumps(shape, separators=(",", ":"))},"data_offsets":[{begin},{end}]}}'


def one(value, data=FOUR_FLOATS):
    """A file with one member, "a"."""
    return container('{"a":' + value + "}", data)


def beside_a(members, data=FOUR_FLOATS):
    """A file with these members after "a", which is four floats."""
    return container(HEADER[:-1] + "," + members + "}", data)


def before_a(members, data=FOUR_FLOATS):
    return container("{" + members + ',"a":' + F32X4 + "}", data)


def with_field(field):
    """A file whose one entry has one more field."""
    return one(F32X4[:-1] + "," + field + "}")


# Valid: (name, rule, bytes).


def valid_json():
    yield "plain", "R1", one(F32X4)
    yield "no-tensors", "R1", container("{}", b"")
    yield "no-tensors-padded", "R5", container("{}      ", b"")
    yield "white-space-before", "R5", container("\n\r\t " + HEADER)
    yield "white-space-after", "R5", container(HEADER + " \t\r\n")
    yield "white-space-inside", "R5", container(' { "a" : ' + F32X4.replace(",", " ,\n ") + " } ")
    yield "depth-127", "R6", with_field('"x":' + "[" * 125 + "]" * 125)
    yield "metadata", "R8", before_a('"__metadata__":{"format":"pt","k":""}')
    yield "metadata-null", "R8", before_a('"__metadata__":null')
    yield "metadata-empty", "R8", before_a('"__metadata__":{}')
    yield "metadata-last", "R8", beside_a('"__metadata__":{"k":"v"}')
    yield "metadata-key-like-a-name", "R9", before_a('"__metadata__":{"a":"1","dtype":"2"}')
    yield "metadata-long-value", "R8", before_a('"__metadata__":{"k":"' + "x" * 10_000 + '"}')


def valid_names_and_fields():
    yield "escapes", "R5", container(r'{"\u0061\"\\\/\b\f\n\r\t\u20ac\ud83d\ude00":' + F32X4 + "}")
    yield "name-empty", "N4", container('{"":' + F32X4 + "}")
    yield "name-nul", "N4", container(r'{"a\u0000b":' + F32X4 + "}")
    yield "name-path", "N4", container('{"../a/b":' + F32X4 + "}")
    yield "name-unicode", "R4", container('{"模型.\U0001f600":' + F32X4 + "}")
    yield "name-noncharacter", "R4", container('{"\uffff\u007f":' + F32X4 + "}")
    yield "names-alike", "R10", beside_a('"A":' + entry("F32", [], 16, 20), FOUR_FLOATS + bytes(4))
    yield "field-unknown", "R11", with_field('"xxh3":"00","more":{"x":[1,-2.5e3,null,true]}')
    yield "field-64-bits", "J4", with_field('"x":[-9223372036854775808,18446744073709551615]')
    yield "field-minus-zero", "J5", with_field('"x":[-0,-0.0,0e5]')
    long = f'[0.{"9" * 5000},{"9" * 300}.{"9" * 4700}]'
    yield "field-reals-of-5000-digits", "J4", with_field('"x":' + long)
    yield "field-tiny-real", "J4", with_field('"x":[1e-999,1.7976931348623157e308]')
    yield "field-unknown-twice", "R12", with_field('"x":1,"x":2')
    yield "field-order", "R11", one('{"data_offsets":[0,16],"shape":[4],"dtype":"F32"}')
    yield "field-escaped", "R11", one(r'{"\u0064type":"F\u00332","shape":[4],"data_offsets":[0,16]}')


def valid_tensors():
    yield "rank-0", "R14", one(entry("F32", [], 0, 4), FOUR_FLOATS[:4])
    yield "rank-200", "R14", one(entry("F32", [1] * 199 + [4], 0, 16))
    yield "shape-zero-then-max", "R18", one(entry("F32", [0, MAX63, MAX63], 0, 0), b"")
    yield "empty-only", "R16", one(entry("F32", [0], 0, 0), b"")
    yield "empty-first", "R16", before_a('"z":' + entry("F32", [0], 0, 0))
    yield "empty-first-listed-last", "R16", beside_a('"z":' + entry("F32", [0], 0, 0))
    yield "empty-last", "R16", beside_a('"z":' + entry("F32", [0, 3], 16, 16))
    yield "empty-two-at-end", "R16", beside_a('"z":' + entry("U8", [0], 16, 16) + ',"y":' + entry("F64", [0], 16, 16))
    halves = entry("F32", [2], 0, 8), entry("F32", [2], 8, 16)
    yield "empty-between", "R16", container(f'{{"a":{halves[0]},"z":{entry("U8", [0], 8, 8)},"b":{halves[1]}}}')
    yield "unordered", "R16", container(f'{{"b":{halves[1]},"a":{halves[0]}}}')
    odd = f'{{"a":{entry("U8", [1], 0, 1)},"b":{entry("F32", [4], 1, 17)}}}'
    yield "unaligned", "R16", container(odd, b"\1" + FOUR_FLOATS)
    yield "all-dtypes", "R13", every_dtype()
    yield "f4-even", "R19", one(entry("F4", [1, 4], 0, 2), b"\x21\x43")
    yield "f6-four", "R19", one(entry("F6_E2M3", [4], 0, 3), b"\1\2\3")
    yield "bool-two", "R13", one(entry("BOOL", [3], 0, 3), b"\0\1\2")


def every_dtype():
    members, data = [], b""
    for i, (dtype, bits) in enumerate(DTYPE_BITS.items()):
        raw = bytes((16 * i + j) & 0xFF for j in range(bits))  # 8 elements
        members.append(f'"{dtype.lower()}":' + entry(dtype, [2, 4], len(data), len(data) + len(raw)))
        data += raw
    return container("{" + ",".join(members) + "}", data)


# Invalid: (number of the rule, name, bytes, name of the valid twin).


def lengths():
    plain = one(F32X4)
    yield 1, "one-byte", plain[:1], "plain"
    yield 1, "seven-bytes", plain[:7], "plain"
    yield 2, "over-the-limit", container(HEADER, length=100_000_001), "plain"
    yield 2, "two-to-63", container(HEADER, length=1 << 63), "plain"
    yield 2, "wraps-to-zero", container(HEADER, length=(1 << 64) - 8), "plain"
    yield 2, "all-ones", container(HEADER, length=(1 << 64) - 1), "plain"
    yield 3, "at-the-limit", container(HEADER, length=100_000_000), "plain"
    yield 3, "one-byte-missing", plain[: 8 + len(HEADER) - 1], "plain"
    yield 3, "length-alone", plain[:8], "plain"


def utf8():
    for name, raw in (
        ("lone-continuation", b"\x80"),
        ("overlong", b"\xc0\xaf"),
        ("surrogate", b"\xed\xa0\x80"),
        ("above-unicode", b"\xf4\x90\x80\x80"),
        ("cut-sequence", b"\xe2\x82"),
        ("latin-1", b"\xe9"),
    ):
        yield 4, name, container(b'{"' + raw + b'":' + F32X4.encode() + b"}"), "name-unicode"
    yield 4, "utf-16", container("\ufeff{}".encode("utf-16-le"), b""), "no-tensors"


def json_texts():
    for name, text, twin in (*malformed_structure(), *malformed_strings(), *malformed_numbers()):
        yield 5, name, container(text), twin


def malformed_structure():
    yield "empty-header", "", "no-tensors"
    yield "only-spaces", "        ", "no-tensors-padded"
    yield "cut", HEADER[:-1], "plain"
    yield "two-values", "{}{}", "no-tensors"
    yield "trailing-nul", HEADER + "\0\0", "white-space-after"
    yield "trailing-form-feed", HEADER + "\f", "white-space-after"
    yield "leading-no-break-space", "\u00a0" + HEADER, "white-space-before"
    yield "byte-order-mark", "\ufeff" + HEADER, "white-space-before"
    yield "comment", '{/*x*/"a":' + F32X4 + "}", "white-space-inside"
    yield "trailing-comma", '{"a":' + F32X4 + ",}", "plain"
    yield "missing-comma", '{"a":' + F32X4 + '"b":' + F32X4 + "}", "names-alike"
    yield "missing-colon", '{"a"' + F32X4 + "}", "plain"
    yield "bare-key", "{a:" + F32X4 + "}", "plain"
    yield "number-key", "{1:" + F32X4 + "}", "plain"
    yield "mismatched-close", '{"a":' + F32X4 + "]", "plain"
    yield "word-true", HEADER.replace("]}", '],"x":True}'), "field-unknown"


def malformed_strings():
    yield "single-quotes", "{'a':" + F32X4 + "}", "plain"
    for name, key, twin in (
        ("raw-control", "a\tb", "escapes"),
        ("raw-nul", "a\0b", "name-nul"),
        ("bad-escape", r"a\x00", "escapes"),
        ("short-escape", r"a\u12", "escapes"),
        ("half-pair-high", r"\ud800", "escapes"),
        ("half-pair-low", r"\udc00", "escapes"),
        ("half-pair-then-letter", r"\ud800\u0041", "escapes"),
    ):
        yield name, '{"' + key + '":' + F32X4 + "}", twin
    yield "half-pair-in-a-field", HEADER.replace("]}", r'],"x":"\ud800"}'), "field-unknown"


def malformed_numbers():
    for name, shape in (
        ("leading-zero", "04"),
        ("plus-sign", "+4"),
        ("hex-number", "0x4"),
        ("bare-point", "4."),
        ("leading-point", ".4"),
        ("bare-exponent", "4e"),
        ("bare-minus", "-"),
    ):
        yield name, HEADER.replace("[4]", f"[{shape}]"), "plain"
    yield "shape-above-64-bits", HEADER.replace("[4]", "[18446744073709551616]"), "shape-zero-then-max"
    for name, number in (
        ("nan", "NaN"),
        ("nan-small", "nan"),
        ("infinity-short", "inf"),
        ("infinity", "-Infinity"),
        ("field-above-64-bits", "18446744073709551616"),
        ("field-below-64-bits", "-9223372036854775809"),
        ("field-above-binary64", "1e999"),
        ("field-of-5000-digits", "9" * 5000),
    ):
        yield name, HEADER.replace("]}", f'],"x":{number}}}'), "field-unknown"


def levels():
    yield 6, "depth-128", with_field('"x":' + "[" * 126 + "]" * 126), "depth-127"
    yield 6, "depth-128-objects", with_field('"x":' + '{"x":' * 125 + "{}" + "}" * 125), "depth-127"
    yield 6, "depth-128-at-the-top", container("[" * 128 + "0" + "]" * 128, b""), "no-tensors"
    yield 6, "depth-20000", container("[" * 20_000 + "]" * 20_000, b""), "no-tensors"
    for name, text in (("array", "[]"), ("string", '"a"'), ("number", "7"), ("null", "null")):
        yield 7, name, container(text, b""), "no-tensors"
    yield 7, "depth-127", container("[" * 127 + "]" * 127, b""), "no-tensors"


def metadata():
    for name, value, twin in (
        ("number", "1", "metadata"),
        ("string", '"pt"', "metadata"),
        ("array", "[]", "metadata-empty"),
        ("false", "false", "metadata-null"),
        ("number-value", '{"k":1}', "metadata"),
        ("null-value", '{"k":null}', "metadata"),
        ("object-value", '{"k":{"x":"y"}}', "metadata"),
        ("is-a-tensor", F32X4, "metadata"),
    ):
        yield 8, name, before_a('"__metadata__":' + value), twin
    for name, values, twin in (
        ("twice", ('{"k":"1"}', '{"l":"2"}'), "metadata"),
        ("null-twice", ("null", "null"), "metadata-null"),
        ("null-then-object", ("null", "{}"), "metadata-null"),
    ):
        yield 9, name, before_a('"__metadata__":%s,"__metadata__":%s' % values), twin
    yield 9, "escaped-twice", before_a(r'"\u005f_metadata__":{},"__metadata__":{}'), "metadata-empty"
    yield 9, "key-twice", before_a('"__metadata__":{"k":"1","k":"1"}'), "metadata"
    yield 9, "key-twice-escaped", before_a(r'"__metadata__":{"k":"1","\u006b":"2"}'), "metadata"


def names():
    second, data = entry("F32", [], 16, 20), FOUR_FLOATS + bytes(4)
    yield 10, "same", beside_a('"a":' + F32X4), "names-alike"
    yield 10, "other-bytes", beside_a('"a":' + second, data), "names-alike"
    yield 10, "escaped", beside_a(r'"\u0061":' + second, data), "names-alike"
    yield 10, "first-unusable", before_a('"a":' + entry("F32", [4], 0, 9999)), "plain"


def entries():
    for name, value in (
        ("array", '["F32",[4],[0,16]]'),
        ("string", '"x"'),
        ("number", "16"),
        ("null", "null"),
        ("empty-object", "{}"),
        ("other-object", '{"v":1}'),
        ("no-dtype", '{"shape":[4],"data_offsets":[0,16]}'),
        ("no-shape", '{"dtype":"F32","data_offsets":[0,16]}'),
        ("no-offsets", '{"dtype":"F32","shape":[4]}'),
        ("field-in-capitals", '{"DTYPE":"F32","shape":[4],"data_offsets":[0,16]}'),
    ):
        yield 11, name, one(value), "plain"
    yield 11, "extension-key", before_a('"__profile__":"x"'), "metadata"
    yield 12, "dtype", with_field('"dtype":"F32"'), "field-unknown-twice"
    yield 12, "shape", with_field('"shape":[4]'), "field-unknown-twice"
    yield 12, "offsets", with_field('"data_offsets":[0,16]'), "field-unknown-twice"
    yield 12, "escaped", with_field(r'"dtyp\u0065":"F32"'), "field-unknown-twice"
    for name, dtype in (
        ("lower-case", '"f32"'), ("unknown", '"U4"'), ("empty", '""'), ("space", '"F32 "'), ("nul", r'"F32\u0000"'),
        ("torch-name", '"float32"'), ("number", "32"), ("null", "null"), ("array", '["F32"]'),
    ):  # fmt: skip
        yield 13, name, one(F32X4.replace('"F32"', dtype)), "all-dtypes"


def numbers():
    for name, shape in (
        ("negative", "[-4]"), ("minus-zero", "[-0]"), ("fraction", "[4.0]"), ("exponent", "[4e0]"),
        ("string", '["4"]'), ("null", "[null]"), ("true", "[true]"), ("nested", "[[4]]"), ("number", "4"),
        ("object", "{}"), ("absent", "null"),
    ):  # fmt: skip
        yield 14, name, one(F32X4.replace("[4]", shape)), "plain"
    yield 14, "two-to-63", one(entry("F32", [0, 1 << 63], 0, 0), b""), "shape-zero-then-max"
    yield 14, "all-ones", one(entry("F32", [0, (1 << 64) - 1], 0, 0), b""), "shape-zero-then-max"
    for name, offsets in (
        ("one", "[16]"), ("three", "[0,16,16]"), ("none", "[]"), ("object", '{"begin":0,"end":16}'), ("number", "16"),
        ("string", '["0","16"]'), ("negative", "[-16,0]"), ("minus-zero", "[-0,16]"), ("fraction", "[0,16.0]"),
        ("exponent", "[0,16e0]"), ("null", "[0,null]"), ("reversed", "[16,0]"),
        ("two-to-63", "[0,9223372036854775808]"), ("all-ones", "[18446744073709551615,18446744073709551615]"),
    ):  # fmt: skip
        yield 15, name, one(F32X4.replace("[0,16]", offsets)), "plain"


def tiling():
    yield 16, "at-start", one(entry("F32", [4], 16, 32), bytes(32)), "plain"
    yield 16, "between", beside_a('"b":' + entry("F32", [4], 32, 48), bytes(48)), "names-alike"
    yield 16, "before-empty", beside_a('"b":' + entry("F32", [0], 24, 24), bytes(24)), "empty-last"
    yield 16, "huge", one(entry("U8", [1], MAX63 - 1, MAX63)), "plain"
    yield 17, "same-bytes", beside_a('"b":' + F32X4), "names-alike"
    yield 17, "partly", beside_a('"b":' + entry("F32", [4], 8, 24), bytes(24)), "names-alike"
    yield 17, "inside", beside_a('"b":' + entry("F32", [2], 4, 12)), "names-alike"
    yield 17, "empty-inside", beside_a('"b":' + entry("F32", [0], 8, 8)), "empty-between"


def sizes():
    yield 18, "zero-last", one(entry("F32", [MAX63, MAX63, 0], 0, 0), b""), "shape-zero-then-max"
    yield 18, "product", one(entry("F32", [1 << 32, 1 << 32, 4], 0, 16)), "plain"
    yield 18, "wraps-to-four", one(entry("U8", [4194305, 4194305, 211106198978564], 0, 4), bytes(4)), "plain"
    yield 18, "bits", one(entry("F64", [1 << 58], 0, 16)), "plain"
    yield 19, "f4-odd", one(entry("F4", [1, 3], 0, 2), bytes(2)), "f4-even"
    yield 19, "f4-scalar", one(entry("F4", [], 0, 1), bytes(1)), "f4-even"
    yield 19, "f6-three", one(entry("F6_E3M2", [3], 0, 3), bytes(3)), "f6-four"
    yield 20, "too-long", one(entry("F32", [3], 0, 16)), "plain"
    yield 20, "too-short", one(entry("F32", [5], 0, 16)), "plain"
    yield 20, "zero-dimension", one(entry("F32", [0], 0, 16)), "empty-only"
    yield 20, "empty-range", one(entry("F32", [4], 0, 0), b""), "empty-only"
    yield 20, "scalar", one(entry("F64", [], 0, 4), bytes(4)), "rank-0"


def ends():
    plain = one(F32X4)
    yield 21, "one-byte", plain[:-1], "plain"
    yield 21, "all-data", container(HEADER, b""), "plain"
    yield 21, "huge", one(entry("U8", [MAX63 >> 3], 0, MAX63 >> 3)), "plain"
    yield 22, "one-byte", plain + b"\0", "plain"
    yield 22, "spaces", plain + b"    ", "plain"
    yield 22, "after-no-tensors", container("{}", b"\0"), "no-tensors"
    yield 22, "two-files", plain + plain, "plain"


# Files that break several rules: (name, the errors of which any is right, bytes).


def several_rules():
    yield "utf8-and-json", ("header_not_utf8", "header_not_json"), container(b'{"\x80', b"")
    yield "depth-and-json", ("header_too_deep", "header_not_json"), container("[" * 128, b"")
    yield "fields", ("unknown_dtype", "shape_invalid", "offsets_invalid"), one(
        '{"dtype":"F31","shape":[-4],"data_offsets":[16,0]}'
    )
    yield "name-and-entry", ("duplicate_name", "entry_invalid", "trailing_data"), beside_a('"a":{}')
    yield "metadata-and-entry", ("metadata_invalid", "entry_invalid"), container('{"a":[],"__metadata__":[]}')
    yield "gap-and-sizes", ("offsets_gap", "size_mismatch", "data_truncated"), one(entry("F32", [5], 8, 24))
    yield "overlap-and-sizes", ("offsets_overlap", "size_mismatch"), beside_a('"b":' + entry("F32", [5], 8, 16))
    yield "sizes", ("size_overflow", "partial_byte", "data_truncated"), container(
        f'{{"a":{entry("F32", [MAX63, 4], 0, 20)},"b":{entry("F4", [3], 20, 22)}}}'
    )


def opened_otherwise():
    """H5: what a path leads to."""
    plain = "valid/plain.safetensors"
    for name, expect, how, source in (
        ("link", "ok", "link", "../" + plain),
        ("link-to-nothing", "file_not_found", "link", "nothing"),
        ("fifo", "not_a_regular_file", "fifo", "-"),
    ):
        path = f"made/{name}.safetensors"
        twin = "-" if expect == "ok" else plain
        yield Vector(path, "container", expect, "H5", twin, "-", "-", {path: Made(how, source)})
