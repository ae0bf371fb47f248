"""Test vectors of sharded sets: H1 to H4 of FORMAT.md. One folder below shards/ for each set."""

import io
import json

import reader
import writer
from vector_containers import FOUR_FLOATS, Vector, container, entry
from vector_seals import SMALL_TREE, replaced, resealed, rewritten, unpadded

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
    yield from directories()


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
    yield "other-members", "H1", {"dtype": "float32", "weight_map": WEIGHTS, "version": {"a": 1}}, shards()
    yield "unsealed-shard", "H1", index(), shards(FIRST, UNSEALED)
    yield "annotated-shard", "H4", stated("1/" + CONTENTS), shards(FIRST, rewritten(SECOND))
    yield "other-version", "H4", stated("2/anything"), shards()
    yield "no-version", "H4", stated(CONTENTS), shards()
    yield "huge-total-size", "H2", index(total_size=9223372036854775807), shards()
    sidecar = writer.sidecar(UNSEALED)
    second = json.loads(sidecar)["flatbed"].split("/")[2]
    with_sidecar = {**shards(FIRST, UNSEALED), NAMES[1] + ".flatbed.json": sidecar}
    yield "sidecar-shard", "H4", stated("1/" + content(FIRST) + second), with_sidecar


def malformed_indexes():
    for name, text in (
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
