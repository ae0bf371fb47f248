"""Test vectors of sharded sets: H1 to H4 of FORMAT.md. One folder below shards/ for each set."""

import io
import json

import reader
import writer
from vector_containers import FOUR_FLOATS, Made, Vector, container, entry
from vector_seals import SMALL_TREE, newer_strings, replaced, resealed, rewritten, unpadded

NAMES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
WEIGHTS = {"h": NAMES[0], "w": NAMES[1]}
INDEX = "model.safetensors.index.json"
TWIN = "shards/sealed/" + INDEX

# Two shards; "stale" is in no index.
FIRST = unpadded(writer.build([("h", "F32", [4], FOUR_FLOATS)], tree=SMALL_TREE, aliases={"tied": "w"}))
SECOND = unpadded(writer.build([("w", "U8", [3], b"abc"), ("stale", "U8", [1], b"x")]))
OTHER = unpadded(writer.build([("w", "U8", [3], b"xyz"), ("stale", "U8", [1], b"x")]))
UNSEALED = container('{"w":' + entry("U8", [3], 0, 3) + "}", b"abc")


def vectors():
    for name, rule, index, shards in valid_sets():
        path, files = f"shards/{name}/{INDEX}", folder(name, index, shards)
        yield Vector(path, "shards", "ok", rule, "-", "-", "-", files)
    for code, name, rule, index, shards in (*malformed_indexes(), *wrong_shards(), *mixed_sets()):
        path, files = f"shards/{name}/{INDEX}", folder(name, index, shards)
        yield Vector(path, "shards", code, rule, TWIN, "-", "-", files)
    for expect, name, rule, index, shards in trees_of_sets():
        path, files = f"shards/{name}/{INDEX}", folder(name, index, shards)
        yield Vector(path, "shards", expect, rule, "-" if expect == "ok" else TWIN, "-", "-", files)
    for expect, name, found in trees_without_an_index():
        files = {f"shards/{name}/{file}": raw for file, raw in found.items()}
        yield Vector(f"shards/{name}", "shards", expect, "H3", "-" if expect == "ok" else TWIN, "-", "-", files)
    yield from directories()
    yield from opened_otherwise()
    yield from links()


def folder(name, index, shards):
    """The files of a set. index: text, or what becomes JSON; shards: file name -> bytes."""
    text = index if isinstance(index, str) else json.dumps(index)
    files = {INDEX: text.encode("utf-8"), **shards}
    return {f"shards/{name}/{file}": raw for file, raw in files.items()}


def shards(first=FIRST, second=SECOND):
    return dict(zip(NAMES, (first, second)))


def index(weight_map=WEIGHTS, **metadata):
    return {"metadata": {"total_size": 19, **metadata}, "weight_map": weight_map}


def stated(value):
    return index(**{"flatbed.shards": value})


def content(raw):
    return reader.File(io.BytesIO(raw)).seal.content


CONTENTS = content(FIRST) + content(SECOND)


def valid_sets():
    yield "sealed", "H4", stated("1/" + CONTENTS), shards()
    yield "plain", "H1", index(), shards()
    yield "no-metadata", "H1", {"weight_map": WEIGHTS}, shards()
    yield "metadata-null", "H1", {"metadata": None, "weight_map": WEIGHTS}, shards()
    for name, second in (("name-nested", "part/b.safetensors"), ("name-in-capitals", "b.SafeTensors")):
        yield name, "H2", index({**WEIGHTS, "w": second}), {NAMES[0]: FIRST, second: SECOND}
    dotted = {"h": "./" + NAMES[0], "w": "././" + NAMES[1]}
    yield "name-with-dots", "H2", stated("1/" + CONTENTS) | {"weight_map": dotted}, shards()
    trailing = {"h": NAMES[0] + "/.", "w": "./" + NAMES[1] + "/./."}
    yield "name-with-dots-last", "H2", stated("1/" + CONTENTS) | {"weight_map": trailing}, shards()
    yield "other-members", "H1", {"dtype": "float32", "weight_map": WEIGHTS, "version": {"a": 1}}, shards()
    yield "unsealed-shard", "H1", index(), shards(FIRST, UNSEALED)
    yield "annotated-shard", "H4", stated("1/" + CONTENTS), shards(FIRST, rewritten(SECOND))
    yield "other-version", "H4", stated("2/anything"), shards()
    yield "other-version-10", "H4", stated("10/" + CONTENTS), shards()
    yield "no-version", "H4", stated(CONTENTS), shards()
    yield "depth-127", "H1", {"weight_map": WEIGHTS, "x": nested(126)}, shards()
    yield "byte-order", "H4", *in_byte_order("B.safetensors", "a.safetensors")
    yield "huge-total-size", "H2", index(total_size=9223372036854775807), shards()
    sidecar = writer.sidecar(UNSEALED)
    second = json.loads(sidecar)["flatbed"].split("/")[2]
    with_sidecar = {**shards(FIRST, UNSEALED), NAMES[1] + ".flatbed.json": sidecar}
    yield "sidecar-shard", "H4", stated("1/" + content(FIRST) + second), with_sidecar


def nested(levels):
    value = []
    for _ in range(levels - 1):
        value = [value]
    return value


def deep(levels):
    """An index of this depth."""
    return json.dumps({"weight_map": WEIGHTS})[:-1] + ',"x":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


def in_byte_order(first, second):
    """(index, shards) of a set whose files have these names, in the order of H4."""
    index = {"metadata": {"flatbed.shards": "1/" + CONTENTS}, "weight_map": {"w": second, "h": first}}
    return index, {first: FIRST, second: SECOND}


def malformed_indexes():
    for name, text in (
        ("depth-128", deep(128)),
        ("depth-128-in-metadata", json.dumps(index(x=nested(126)))),
        ("depth-100001", deep(100_001)),
        ("not-json", "{"),
        ("two-values", json.dumps(index()) + "{}"),
        ("byte-order-mark", "\ufeff" + json.dumps(index())),
        ("empty-weight-map", '{"weight_map":{}}'),
        ("metadata-array", json.dumps({"metadata": [], "weight_map": WEIGHTS})),
        ("metadata-twice", json.dumps(index())[:-1] + ',"metadata":{}}'),
        ("shards-number", json.dumps(stated(1))),
        (
            "shards-twice",
            json.dumps(stated("")).replace('"flatbed.shards": ""', '"flatbed.shards":"","flatbed.shards":""'),
        ),
        ("no-weight-map", '{"metadata":{}}'),
        ("weight-map-array", '{"weight_map":[]}'),
        ("weight-map-twice", '{"weight_map":{},"weight_map":{}}'),
        ("number", json.dumps(index({"h": NAMES[0], "w": 2}))),
    ):
        yield "index_malformed", "index-" + name, "H1", text, shards()
    twice = json.dumps(index())[:-2] + f',"h":"{NAMES[0]}"' + "}}"
    yield "index_duplicate_name", "index-name-twice", "H1", twice, shards()
    escaped = twice.replace(',"h"', r',"\u0068"')
    yield "index_duplicate_name", "index-name-twice-escaped", "H1", escaped, shards()
    for name, shard in (
        ("empty", ""),
        ("parent", "../model-00001-of-00002.safetensors"),
        ("absolute", "/model.safetensors"),
        ("parent-inside", "a/../b.safetensors"),
        ("parent-after-dot", "./../b.safetensors"),
        ("folder-empty", "a//b.safetensors"),
        ("folder-hidden", ".a/b.safetensors"),
        ("folder-only", "a/"),
        ("folder-by-its-end", "b.safetensors/"),
        ("only-dots", "./."),
        ("backslash", "a\\b.safetensors"),
        ("drive", "C:b.safetensors"),
        ("hidden", ".b.safetensors"),
        ("dots", "...safetensors"),
        ("pickle", "pytorch_model.bin"),
        ("nul", "b\0.safetensors"),
        ("newline", "b\n.safetensors"),
        ("delete", "b\x7f.safetensors"),
        ("capitals-elsewhere", "b.SAFETENSORS.x"),
    ):
        yield "shard_name_refused", "name-" + name, "H2", index({**WEIGHTS, "w": shard}), shards()


def wrong_shards():
    yield "shard_missing", "shard-missing", "H1", index(), {NAMES[0]: FIRST}
    yield "shard_tensor_missing", "tensor-missing", "H1", index({**WEIGHTS, "x": NAMES[1]}), shards()
    other_shard = index({**WEIGHTS, "w": NAMES[0], "stale": NAMES[1]})
    yield "shard_tensor_missing", "tensor-in-the-other-shard", "H1", other_shard, shards()
    yield "data_truncated", "shard-cut", "H1", index(), shards(FIRST, SECOND[:-1])
    broken = resealed(replaced(SECOND, '"stale":', '"stole":'))
    yield "seal_content_mismatch", "shard-broken", "H1", index(), shards(FIRST, broken)


def trees_of_sets():
    """H3: (expect, name, rule, index, shards)."""

    def first(**strings):
        return unpadded(writer.build([("h", "F32", [4], FOUR_FLOATS)], **strings))

    def second(**strings):
        return unpadded(writer.build([("w", "U8", [3], b"abc"), ("stale", "U8", [1], b"x")], **strings))

    wrong = {"tree": '["odict"]', "aliases": {"x": "nope"}}
    yield "ok", "tree-of-another-shard", "H3", index(), shards(first(), second(**wrong))
    yield "ok", "tree-across-shards", "H3", index(), shards(first(tree=SMALL_TREE, aliases={"tied": "w"}), second())
    yield "ok", "tree-of-a-newer-shard", "S8", index(), shards(newer_strings(), SECOND)
    unlisted = '["dict","h",["tensor","h"],"s",["tensor","stale"]]'
    yield "tree_unknown_tensor", "tree-of-an-unlisted-tensor", "H3", index(), shards(first(tree=unlisted), second())
    yield "tree_unknown_tag", "tree-malformed", "H3", index(), shards(first(tree='["odict"]'), second())
    stale = {"x": "stale"}
    yield "aliases_malformed", "aliases-of-an-unlisted-tensor", "H3", index(), shards(first(aliases=stale), second())


def trees_without_an_index():
    """H1 and H3: the first shard is the first in byte order of the names, not number 1."""
    wrong = unpadded(writer.build([("h", "F32", [4], FOUR_FLOATS)], tree='["odict"]'))
    yield "ok", "no-index-tree-of-number-1", {"m-1-of-2.safetensors": wrong, "m-02-of-2.safetensors": UNSEALED}
    names = "m-01-of-2.safetensors", "m-2-of-2.safetensors"
    yield "tree_unknown_tag", "no-index-tree-of-the-first", dict(zip(names, (wrong, UNSEALED)))


def mixed_sets():
    for name, value in (
        ("swapped", "1/" + content(SECOND) + content(FIRST)),
        ("short", "1/" + CONTENTS[:-1]),
        ("one-less", "1/" + content(FIRST)),
        ("long", "1/" + CONTENTS + "0" * 16),
        ("capitals", "1/" + "A" * 32),
    ):
        yield "shard_mixed_set", "mixed-" + name, "H4", stated(value), shards()
    yield "shard_mixed_set", "mixed-content", "H4", stated("1/" + CONTENTS), shards(FIRST, OTHER)
    yield "shard_mixed_set", "mixed-unsealed", "H4", stated("1/" + CONTENTS), shards(FIRST, UNSEALED)


def directories():
    """Vectors whose path is the folder."""
    files = folder("directory", stated("1/" + CONTENTS), shards())
    yield Vector("shards/directory", "shards", "ok", "H1", "-", "-", "-", files)
    text = json.dumps(index()).encode()
    files = {"shards/one-file/model.safetensors": UNSEALED, "shards/one-file/.b.safetensors": b""}
    yield Vector("shards/one-file", "shards", "ok", "H1", "-", "-", "-", files)
    for name, expect, found in (
        ("no-index", "ok", shards()),
        ("no-index-capitals", "ok", {"M-1-OF-2.SafeTensors": FIRST, "m-2-of-2.safetensors": SECOND}),
        ("no-index-incomplete", "shard_missing", {NAMES[0]: FIRST}),
        ("no-index-two-sets", "index_ambiguous", {**shards(), "b-1-of-1.safetensors": UNSEALED}),
        ("no-index-collision", "name_collision", shards(SECOND, OTHER)),
        ("no-index-variant", "ok", {f"m-{k}-of-2.fp16.safetensors": raw for k, raw in ((1, FIRST), (2, SECOND))}),
        ("no-index-unpadded", "ok", {numbered(k, 10): holding(f"t{k}") for k in range(1, 11)}),
        ("no-index-number-twice", "index_ambiguous", {**numbers(1, 2), "m-01-of-2.safetensors": holding("x")}),
        ("no-index-number-beyond", "index_ambiguous", numbers(1, 2, 3)),
        ("no-index-number-0", "index_ambiguous", numbers(0, 1, 2)),
        ("no-index-of-0", "index_ambiguous", {numbered(0, 0): holding("x")}),
        ("no-index-of-20000", "shard_missing", {numbered(1, 20_000): holding("x")}),
        ("no-index-of-2-to-64", "shard_missing", {numbered(1, (1 << 64) + 1): holding("x")}),
        ("no-index-beside-a-file", "ok", {numbered(1, 20_000): b"", "model.safetensors": UNSEALED}),
        ("name-like-a-shard", "ok", {"m-x-of-2.safetensors": UNSEALED}),
        ("variant-index", "ok", {"model.safetensors.index.fp16.json": text, **shards()}),
        ("variant-index-and-file", "ok", {"model.safetensors.index.fp16.json": b"{", "model.safetensors": UNSEALED}),
        ("variant-file", "ok", {"model.safetensors": UNSEALED, "model.fp16.safetensors": b""}),
        ("two-files", "index_ambiguous", {"a.safetensors": UNSEALED, "b.safetensors": UNSEALED}),
        ("folder-like-a-file", "ok", {"a.safetensors/b": b"", "model.safetensors": UNSEALED}),
        ("nothing", "index_ambiguous", {"config.json": b"{}"}),
        ("two-indexes", "index_ambiguous", {**{f"{x}.safetensors.index.json": text for x in "ab"}, **shards()}),
    ):
        files = {f"shards/{name}/{file}": raw for file, raw in found.items()}
        twin = "-" if expect == "ok" else TWIN
        yield Vector(f"shards/{name}", "shards", expect, "H1", twin, "-", "-", files)


def numbered(number, count):
    return f"m-{number}-of-{count}.safetensors"


def numbers(*those):
    """Shards of a set of two, each with a tensor of its own."""
    return {numbered(number, 2): holding(f"t{number}") for number in those}


def holding(name):
    return container(f'{{"{name}":' + entry("U8", [3], 0, 3) + "}", b"abc")


def opened_otherwise():
    """H5: an index is told by its content, and a shard is a regular file."""
    text, both = json.dumps(index()).encode(), shards()
    for name, file in (("name-of-an-index", "list.txt"), ("name-of-a-container", "x.safetensors")):
        files = {f"shards/{name}/{found}": raw for found, raw in {file: b" \n" + text, **both}.items()}
        yield Vector(f"shards/{name}/{file}", "shards", "ok", "H5", "-", "-", "-", files)
    # The bytes 257..261 are those by which a tar is known.
    text = '{"' + "m" * 255 + 'ustard":1,' + json.dumps(index())[1:]
    files = folder("index-with-a-magic-number", text, shards())
    yield Vector("shards/index-with-a-magic-number/" + INDEX, "shards", "ok", "H5", "-", "-", "-", files)
    path = "shards/container-named-index/" + INDEX
    yield Vector(path, "shards", "ok", "H5", "-", "-", "-", {path: UNSEALED})
    path = "shards/index-of-two-bytes/" + INDEX
    yield Vector(path, "shards", "index_malformed", "H5", TWIN, "-", "-", {path: b"{}"})
    files = folder("shard-is-a-folder", index(), {NAMES[0]: FIRST, NAMES[1] + "/file": b""})
    yield Vector("shards/shard-is-a-folder/" + INDEX, "shards", "not_a_regular_file", "H5", TWIN, "-", "-", files)


def links():
    """H2: sets whose shards are links, as in the cache of a hub; and names that Windows or macOS might change."""
    whole = [Made("link", f"../../shards/sealed/{name}") for name in NAMES]
    for name, expect, options, second in (
        ("links", "ok", "-", whole[1]),
        ("links-forbidden", "shard_link_refused", "links=forbid", whole[1]),
        ("link-to-nothing", "shard_missing", "-", Made("link", "nothing")),
        ("link-to-a-folder", "not_a_regular_file", "-", Made("link", "../../shards/sealed")),
        ("link-to-itself", "not_a_regular_file", "-", Made("link", NAMES[1])),
    ):
        files = {INDEX: Made("copy", TWIN), NAMES[0]: whole[0], NAMES[1]: second}
        files = {f"made/{name}/{file}": made for file, made in files.items()}
        twin = "-" if expect == "ok" else TWIN
        yield Vector(f"made/{name}/{INDEX}", "shards", expect, "H2", twin, "-", "-", files, options)
    for name, target in (("lost-index", "nothing"), ("lost-index-in-a-loop", INDEX)):  # H1: it counts
        files = {INDEX: Made("link", target), "model.safetensors": Made("copy", "shards/one-file/model.safetensors")}
        files = {f"made/{name}/{file}": made for file, made in files.items()}
        expect = "file_not_found" if target == "nothing" else "not_a_regular_file"
        yield Vector(f"made/{name}", "shards", expect, "H1", "shards/one-file", "-", "-", files)
    low, high = "\uff5e.safetensors", "\U0001f600.safetensors"
    order, _ = in_byte_order(low, high)
    stored = "shards/byte-order-of-utf8.index.json"
    files = {INDEX: Made("copy", stored)}
    files.update({name: Made("copy", f"shards/sealed/{NAMES[i]}") for i, name in enumerate((low, high))})
    files = {f"made/byte-order/{file}": made for file, made in files.items()}
    files[stored] = json.dumps(order).encode()
    yield Vector(f"made/byte-order/{INDEX}", "shards", "ok", "H4", "-", "-", "-", files)
