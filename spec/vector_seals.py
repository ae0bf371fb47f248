"""Test vectors of the seal and the sidecar: the rows of the state table S6 of FORMAT.md, and C1 to C3."""

import io
import json
import struct

import reader
import writer
from reader import CHUNK
from vector_containers import F32X4, FOUR_FLOATS, Made, Vector, container, entry, one

SMALL = [("h", "F32", [4], FOUR_FLOATS), ("w", "U8", [3], b"abc")]
SMALL_TREE = '["dict","h",["tensor","h"],"w",["tensor","w"]]'
VALUE_AT, CONTENT_AT = 36, 55  # where the value of "flatbed" and its content digest begin in a file
ZEROS = "0" * 16
WORKED_EXAMPLE = [("e", "F32", [0], b""), ("k", "F32", [1024], bytes(4096)), ("w", "U8", [3], b"abc")]
WIDE = [("k", "U8", [CHUNK + 3], bytes(CHUNK) + b"end")]


def vectors():
    for name, rule, raw in valid_seals():
        path = f"valid/{name}.safetensors"
        yield Vector(path, "seal", "sealed", rule, "-", "-", "-", {path: raw})
    for group in (rows_1_and_2(), row_3(), rows_4_and_5(), row_6(), row_6_digests(), rows_7_and_8()):
        for row, name, raw, state, *cause_and_where in group:
            cause, where = (*cause_and_where, "-", "-")[:2]
            path = f"seal/row{row}-{name}.safetensors"
            twin = "-" if state == "unsealed" else "valid/sealed-two-chunks" if len(raw) > CHUNK else "valid/small"
            twin += ".safetensors" if twin != "-" else ""
            yield Vector(path, "seal", state, f"S6.{row}", twin, cause, where, {path: raw})
    for kind in ("tree", "aliases"):  # S8: these strings of a newer version are not interpreted
        path = f"seal/row4-its-{kind}.safetensors"
        yield Vector(path, kind, "absent", "S8", "valid/small.safetensors", "-", "-", {path: newer_strings()})
    yield from sidecar_vectors()


# Building blocks.


def small(**options):
    return writer.build(SMALL, **{"tree": SMALL_TREE, "metadata": {"author": "me"}, **options})


def replaced(raw, old, new):
    """raw with one string replaced, at the same length; the seal is left as it was."""
    old, new = old.encode("utf-8"), new.encode("utf-8")
    assert raw.count(old) == 1 and len(old) == len(new)
    return raw.replace(old, new)


def split(raw):
    """The head and the data of a file."""
    end = 8 + struct.unpack_from("<Q", raw)[0]
    return raw[:end], raw[end:]


def resealed(raw):
    """raw with a right header digest, whatever its content digest says."""
    head, data = split(raw)
    return writer.seal_header(head) + data


def unpadded(raw):
    """raw without the padding of its header, sealed again: readers must not depend on L1, and vectors stay small."""
    head, data = split(raw)
    return resealed(container(head[8:].rstrip(b" "), data))


def with_value(value):
    """The small file with another value of "flatbed"; its header digest is right where the value has one."""
    strings = {"format": "pt", "flatbed.digests": writer.chunk_digests(SMALL), "flatbed": value}
    raw = writer.pad_header(strings, SMALL) + FOUR_FLOATS + b"abc"
    return resealed(raw) if value.startswith(ZEROS + "/") else raw


def with_strings(strings):
    """The small file with these strings, and right digests of header and content."""
    return writer.sealed({"format": "pt", **strings}, SMALL)


def with_digests(text):
    return with_strings({"flatbed.digests": text})


def rewritten(raw, change=lambda metadata: None):
    """What a tool makes of a file that reads it and saves it again: other order, other padding, the same metadata."""
    header = reader.read_container(io.BytesIO(raw))
    metadata = dict(reversed(header.metadata.items()))
    change(metadata)
    members, data = {"__metadata__": metadata}, b""
    for info in sorted(header.tensors.values(), reverse=True):
        start, end = len(data), len(data) + info.nbytes
        members[info.name] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": [start, end]}
        data += raw[header.data_start + info.begin : header.data_start + info.end]
    text = json.dumps(members, separators=(",", ":")).encode()
    return container(text + b" " * (-len(text) % 8), data)


def flipped(raw, at):
    at %= len(raw)
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def flipped_hex(raw, at):
    """raw with another hex digit at `at`."""
    return raw[:at] + (b"1" if raw[at : at + 1] != b"1" else b"2") + raw[at + 1 :]


# Seals: (row, name, bytes, state), then the error that names the cause, and the chunk that is damaged.


def valid_seals():
    yield "small", "S6.8", small()
    yield "worked-example", "S6.8", writer.build(WORKED_EXAMPLE, tree='["dict","epoch",3,"w",["tensor","w"]]')
    yield "sealed-no-tensors", "S3", writer.build([])
    yield "sealed-empty-tensors", "S3", writer.build([("x", "F16", [0, 2], b""), ("y", "BOOL", [3, 0], b"")])
    names = ["", "~", "a\0", "\u00e9", "\uffff", "\U0001f600", "Z", "a"]
    yield "sealed-name-order", "S4", writer.build([(name, "U8", [1], bytes([i])) for i, name in enumerate(names)])
    yield "sealed-unknown-key", "S1", small(metadata={"flatbed.later": "anything", "z": "1"})
    yield "sealed-key-of-a-third-party", "V1", small(metadata={"flatbed.x.org.example": "anything"})
    yield "sealed-series", "L2", small(metadata={"flatbed.series": writer.statement(), "flatbed.a": "1", "a": "2"})
    yield "sealed-escapes", "L6", small(metadata={"note": '"\\\b\t\n\f\r\0\x1f/\u2028é'})
    yield "sealed-two-chunks", "S3", writer.build(WIDE)
    yield "sealed-unpadded", "L1", unpadded(small())


def rows_1_and_2():
    raw = small()
    yield 1, "data-cut", raw[:-1], "invalid", "data_truncated"
    yield 1, "byte-added", raw + b"\0", "invalid", "trailing_data"
    yield 1, "name-damaged", replaced(raw, '},"w":{', '},"h":{'), "invalid", "duplicate_name"
    yield 1, "padding-damaged", raw[:4090] + b"!" + raw[4091:], "invalid", "header_not_json"
    yield 2, "layout-without-seal", writer.build(SMALL, seal=False), "unsealed"
    alike = {"Flatbed": "1", "flatbed_x": "2", "flat.bed": "3"}
    yield 2, "keys-alike", writer.build(SMALL, metadata=alike, seal=False), "unsealed"


def row_3():
    for name, key in (("tree", "flatbed.tree"), ("unknown", "flatbed.x"), ("empty-suffix", "flatbed.")):
        lost = container(f'{{"__metadata__":{{"{key}":"[\\"dict\\"]"}},"a":{F32X4}}}')
        yield 3, "no-seal-" + name, lost, "broken", "seal_malformed"
    yield 3, "key-damaged", replaced(small(), '"flatbed":', '"flatbee":'), "broken", "seal_malformed"
    for name, value in (
        ("empty", ""),
        ("no-slash", ZEROS),
        ("one-slash", ZEROS + "/1"),
        ("no-header", "/1/" + ZEROS),
        ("short-header", ZEROS[1:] + "/1/" + ZEROS),
        ("capitals", "ABCDEF0123456789/1/" + ZEROS),
        ("space", " " + ZEROS + "/1/" + ZEROS),
        ("version-0", ZEROS + "/0/" + ZEROS),
        ("version-01", ZEROS + "/01/" + ZEROS),
        ("version-10000", ZEROS + "/10000/" + ZEROS),
        ("version-empty", ZEROS + "//" + ZEROS),
        ("version-fullwidth", ZEROS + "/\uff11/" + ZEROS),
        ("version-negative", ZEROS + "/-1/" + ZEROS),
    ):
        yield 3, "value-" + name, with_value(value), "broken", "seal_malformed"


def rows_4_and_5():
    version_2 = with_value(ZEROS + "/2/what a later version says")
    yield 4, "version-2", version_2, "newer"
    yield 4, "version-9999", with_value(ZEROS + "/9999/"), "newer"
    yield 4, "rest-of-two-lines", with_value(ZEROS + "/2/a\nb"), "newer"
    yield 4, "rest-like-ours", with_value(ZEROS + "/2/" + ZEROS), "newer"
    yield 4, "other-strings", newer_strings(), "newer"
    yield 5, "digest-damaged", flipped_hex(version_2, VALUE_AT), "broken", "seal_header_mismatch"
    yield 5, "name-changed", replaced(version_2, '"w":', '"x":'), "broken", "seal_header_mismatch"
    yield 5, "envelope-shifted", in_shifted_envelope(version_2), "broken", "seal_header_mismatch"
    yield 5, "rewritten", rewritten(version_2), "broken", "seal_header_mismatch"
    yield 5, "version-damaged", replaced(small(), "/1/", "/3/"), "broken", "seal_header_mismatch"


def newer_strings():
    strings = {"flatbed": ZEROS + "/2/x", "flatbed.tree": "not for us", "flatbed.aliases": "[", "format": "pt"}
    return resealed(writer.pad_header(strings, SMALL) + FOUR_FLOATS + b"abc")


def in_shifted_envelope(raw):
    """raw with a space before its header, whose digest is right for the place where it now stands: not bytes 36..51."""
    head, data = split(raw)
    text = b" " + head[8:-1]
    zeroed = head[:8] + text[:29] + b"0" * 16 + text[45:]
    return zeroed[:37] + reader.digest(zeroed).encode() + zeroed[53:] + data


def in_half_an_envelope(raw):
    """The same, with the digest of the head with bytes 36..51 taken as zeros, as if the envelope were right."""
    head, data = split(raw)
    for spaces in range(1, 1000):  # the digest's last digit stands at 52 and is hashed: one of sixteen texts is right
        text = b" " + head[8:-1]
        text = text[: -2 * spaces] + b" \n" * spaces
        for digit in b"0123456789abcdef":
            zeroed = head[:8] + text[:28] + b"0" * 16 + bytes([digit]) + text[45:]
            stated = reader.digest(zeroed[:36] + b"0" * 16 + zeroed[52:]).encode()
            if stated[15] == digit:
                return zeroed[:36] + b'"' + stated + zeroed[53:] + data
    raise AssertionError("no text found")


def with_escaped_digest():
    """A file whose HEADER begins with an escape. The nonce, found by trial, makes it right if 36..51 count as zeros."""
    stated, nonce = "a5a8e7dd992c1142", "0000002c"
    strings = {"flatbed.digests": writer.chunk_digests(SMALL)}
    content = reader.digest(reader.content_input({name: (dtype, shape) for name, dtype, shape, _ in SMALL}, strings))
    strings.update({"flatbed": f"{stated}/1/{content}", "format": "pt", "nonce": nonce})
    text = writer.pad_header(strings, SMALL)[8:].rstrip(b" ").replace(b'"flatbed":"a', b'"flatbed":"\\u0061', 1)
    raw = container(text, FOUR_FLOATS + b"abc")
    head, _ = split(raw)
    assert reader.digest(head[:36] + b"0" * 16 + head[52:]) == stated
    return raw


def row_6():
    for name, rest in (
        ("empty", ""),
        ("short", ZEROS[1:]),
        ("long", ZEROS + "0"),
        ("capitals", "ABCDEF0123456789"),
        ("newline", ZEROS + "\n"),
    ):
        yield 6, "rest-" + name, with_value(ZEROS + "/1/" + rest), "broken", "seal_malformed"
    raw = small()
    digests_at = raw.index(b'"flatbed.digests":"') + len(b'"flatbed.digests":"')
    reshaped = raw.replace(b'"shape":[4]', b'"shape":[2,2]', 1).replace(b"}  ", b"}", 1)
    for name, changed in (
        ("tensor-renamed", resealed(replaced(raw, '},"w":{', '},"x":{'))),
        ("dtype-changed", resealed(replaced(raw, '"F32"', '"I32"'))),
        ("shape-changed", resealed(reshaped)),
        ("tree-changed", resealed(replaced(raw, '[\\"dict\\"', '[\\"list\\"'))),
        ("content-damaged", flipped_hex(raw, CONTENT_AT)),
        ("digests-damaged", flipped_hex(raw, digests_at)),
        ("key-added", rewritten(raw, lambda metadata: metadata.update({"flatbed.x": "1"}))),
        ("tree-dropped", rewritten(raw, lambda metadata: metadata.pop("flatbed.tree"))),
    ):
        yield 6, name, changed, "broken", "seal_content_mismatch"


def row_6_digests():
    digests = writer.chunk_digests(SMALL)
    yield 6, "digests-missing", with_strings({}), "broken", "seal_digests_malformed"
    both = flipped_hex(with_strings({}), CONTENT_AT)
    yield 6, "content-and-digests", both, "broken", "seal_content_mismatch"
    for name, text in (
        ("empty", ""),
        ("short", digests[:-1]),
        ("one-less", digests[:-16]),
        ("long", digests + ZEROS),
        ("capitals", "A" * 32),
        ("spaced", digests[:15] + " " + digests[16:]),
    ):
        yield 6, "digests-" + name, with_digests(text), "broken", "seal_digests_malformed"


def rows_7_and_8():
    raw = small()
    yield 7, "rewritten", rewritten(raw), "annotated"
    yield 7, "key-added", rewritten(raw, lambda metadata: metadata.update({"note": "added later"})), "annotated"
    yield 7, "value-changed", replaced(raw, '"author":"me"', '"author":"us"'), "annotated"
    yield 7, "header-digest-damaged", flipped_hex(raw, VALUE_AT), "annotated"
    yield 7, "white-space", raw.replace(b'"h":{', b'"h": {', 1).replace(b"}  ", b"} ", 1), "annotated"
    yield 7, "envelope-shifted", in_shifted_envelope(raw), "annotated"
    yield 7, "envelope-shifted-by-half", in_half_an_envelope(raw), "annotated"
    yield 7, "envelope-escaped", with_escaped_digest(), "annotated"
    yield 7, "white-space-first", container(b" " + raw[8:4095], raw[4096:]), "annotated"
    yield 7, "chunk-changed", flipped(rewritten(raw), -1), "annotated", "chunk_rewritten", "h:0-16"
    yield 8, "chunk-changed", flipped(raw, -1), "sealed", "chunk_corrupt", "w:0-3"
    second = flipped(writer.build(WIDE), -1)
    yield 8, "second-chunk-changed", second, "sealed", "chunk_corrupt", f"k:{CHUNK}-{CHUNK + 3}"


# Sidecars: (row, name, the sidecar, the file, state), then cause and damaged chunk as above.

AND_B = ',"b":' + entry("U8", [3], 16, 19) + "}"
PLAIN = container('{"a":' + F32X4 + AND_B, FOUR_FLOATS + b"abc")
DESCRIBED = container('{"__metadata__":{"note":"later"},"a":' + F32X4 + AND_B, FOUR_FLOATS + b"abc")


def sidecar_vectors():
    right = writer.sidecar(PLAIN).decode()
    for row, name, text, raw, state, *cause_and_where in (*usable_sidecars(right), *broken_sidecars(right)):
        cause, where = (*cause_and_where, "-", "-")[:2]
        path = f"sidecar/row{row}-{name}.safetensors"
        twin = "-" if name == "right" else "sidecar/row8-right.safetensors"
        text = text if isinstance(text, bytes) else text.encode("utf-8")
        files = {path: raw, path + ".flatbed.json": text}
        yield Vector(path, "sidecar", state, "C3", twin, cause, where, files)
    yield from other_sidecars()


def usable_sidecars(right):
    yield 8, "right", right, PLAIN, "sealed"
    yield 8, "white-space", " " + right.replace(",", " ,\n ") + "\n", PLAIN, "sealed"
    yield 8, "other-order", json.dumps(dict(reversed(json.loads(right).items()))), PLAIN, "sealed"
    yield 8, "chunk-changed", right, flipped(PLAIN, -1), "sealed", "chunk_corrupt", "b:0-3"
    yield 8, "ignored-beside-a-seal", "not a sidecar", small(), "sealed"
    yield 7, "metadata-added", right, DESCRIBED, "annotated"
    yield 7, "metadata-added-chunk-changed", right, flipped(DESCRIBED, -1), "annotated", "chunk_rewritten", "b:0-3"


def broken_sidecars(right):
    damaged = replaced(small(), '"flatbed":', '"flatbee":')
    yield 3, "ignored-beside-a-damaged-seal", right, damaged, "broken", "seal_malformed"
    for name, text in (
        ("not-json", "{"),
        ("empty", ""),
        ("not-utf8", b"\xff"),
        ("byte-order-mark", "\ufeff" + right),
        ("array", "[" + right + "]"),
        ("other-key", right[:-1] + ',"x":"1"}'),
        ("key-twice", right[:-1] + ',"flatbed":"1"}'),
        ("number", '{"flatbed":1,"flatbed.digests":""}'),
        ("no-digests", right[: right.index(",")] + "}"),
        ("version-2", right.replace("/1/", "/2/")),
        ("no-value", right.replace("/1/", "-1-")),
        ("depth-9", '{"flatbed":' + "[" * 8 + "]" * 8 + ',"flatbed.digests":""}'),
        ("depth-100000", '{"flatbed":' + "[" * 99_999 + "]" * 99_999 + ',"flatbed.digests":""}'),
    ):
        yield 3, name, text, PLAIN, "broken", "sidecar_malformed"
    yield 6, "long-content", right.replace('","', '0","', 1), PLAIN, "broken", "seal_malformed"
    yield 6, "of-another-file", writer.sidecar(one(F32X4)), PLAIN, "broken", "seal_content_mismatch"
    pairs = {"flatbed.digests": ZEROS}
    content = reader.digest(reader.content_input({"a": ("F32", [4]), "b": ("U8", [3])}, pairs))
    short = json.dumps({"flatbed": f"{ZEROS}/1/{content}", **pairs})
    yield 6, "digests-short", short, PLAIN, "broken", "seal_digests_malformed"


def other_sidecars():
    """C2: what stands at the sidecar's name."""
    good = "sidecar/row8-right.safetensors"
    beside, malformed = good + ".flatbed.json", ("broken", "sidecar_malformed")
    path = "sidecar/row3-folder.safetensors"
    files = {path: PLAIN, path + ".flatbed.json/file": b""}
    yield Vector(path, "sidecar", malformed[0], "C2", good, malformed[1], "-", files)
    for row, name, made, state, cause in (
        (8, "at-the-limit", Made("fill", beside, "100000000"), "sealed", "-"),
        (3, "too-large", Made("fill", beside, "100000001"), *malformed),
        (3, "fifo", Made("fifo"), *malformed),
        (8, "link", Made("link", "../" + beside), "sealed", "-"),
        (2, "link-to-nothing", Made("link", "nothing"), "unsealed", "-"),
        (3, "link-to-itself", Made("link", "sidecar-row3-link-to-itself.safetensors.flatbed.json"), *malformed),
    ):
        path = f"made/sidecar-row{row}-{name}.safetensors"
        twin = "-" if state == "unsealed" else good
        files = {path: Made("copy", good), path + ".flatbed.json": made}
        yield Vector(path, "sidecar", state, "C2", twin, cause, "-", files)
