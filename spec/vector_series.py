"""Test vectors of series: Q1 to Q8 of FORMAT.md. One folder below series/ for each series, and NAME.json beside it:
what a reader of the folder finds. It is stated here, by hand: reader.py is not asked.
"""

import json
import math
from collections import namedtuple

import writer
from reader import Statement
from vector_containers import FOUR_FLOATS, Made, Vector, container
from vector_seals import flipped, flipped_hex, replaced, resealed, rewritten, small, split, unpadded
from writer import statement

ONE, TWO, THREE = (f"step-{step:012}.safetensors" for step in (1000, 2000, 3000))
VAL_LOSS = {"metric": "val_loss", "mode": "min"}
INDEX = "model.safetensors.index.json"
SAVED_AT = 1764390000123
LARGEST = (1 << 53) - 1

# A checkpoint of a vector. raw: its bytes, or those of the files of its folder by name; members: what it states.
Saved = namedtuple("Saved", "raw members")


def vectors():
    for group in (plain(), choices(), entries(), copies(), elsewhere(), damaged(), sets(), statements()):
        for name, rule, files, expected in group:
            yield vector(f"series/{name}", rule, files, expected)
    yield from links()


# Building blocks.


def content_of(raw):
    return raw[55:71].decode()


def checkpoint(data=b"abc", **members):
    """A file that states these members."""
    members = {"saved_at": SAVED_AT, **members}
    raw = unpadded(writer.build([("w", "U8", [3], data)], metadata={"flatbed.series": statement(**members)}))
    return Saved(raw, members)


def stating(value, data=b"abc"):
    """A file with this value of flatbed.series, right or wrong."""
    return unpadded(writer.build([("w", "U8", [3], data)], metadata={"flatbed.series": value}))


def replaced_text(raw, old, new):
    """raw with another text in its header, of any length, and a right digest of the header."""
    head, data = split(raw)
    assert head.count(old) == 1
    return resealed(container(head[8:].replace(old, new), data))


def training(*scores, **members):
    """Checkpoints of the steps 1000, 2000, ...: each continues from the one before it."""
    saved, parent = [], None
    for i, score in enumerate(scores, 1):
        saved.append(checkpoint(sequence=i, step=1000 * i, score=score, parent=parent, **{**VAL_LOSS, **members}))
        parent = content_of(saved[-1].raw)
    return saved


def expect(listed, latest, best=None, metric="val_loss", mode="min", **others):
    """What a reader finds. listed: name -> members, in order. others: skipped: name -> code; not_whole, and damaged
    (which only reading every byte shows): the same of entries; noted: names."""
    not_whole, damaged = others.get("not_whole", {}), others.get("damaged", {})
    entries = []
    for name, members in listed.items():
        stated = Statement(1, 0, None, None, None, None, 0, None)._replace(**members)._asdict()
        if stated["score"] is not None and not math.isfinite(stated["score"]):
            stated["score"] = repr(stated["score"])
        whole = not_whole.get(name, "ok")
        entries.append({"name": name, **stated, "whole": whole, "verified": damaged.get(name, whole)})
    return {
        "entries": entries,
        "metric": metric,
        "mode": mode if metric is not None else None,
        "latest": latest,
        "best": best,
        "skipped": others.get("skipped", {}),
        "noted": others.get("noted", []),
    }


def vector(path, rule, files, expected):
    """files: name -> Saved or bytes, Made, or a folder of these."""
    name = path.split("/")[1]
    found = {f"series/{name}.json": json.dumps(expected, indent=1).encode() + b"\n"}
    for file, raw in files.items():
        raw = raw.raw if isinstance(raw, Saved) else raw
        inner = {f"{path}/{file}/{part}": data for part, data in raw.items()} if isinstance(raw, dict) else {}
        found.update(inner or {f"{path}/{file}": raw})
    codes = {entry["verified"] for entry in expected["entries"]} | set(expected["skipped"].values())
    cause = "|".join(sorted(codes - {"ok"})) or "-"
    twin = "-" if cause == "-" else "series/statements" if path.endswith("-malformed") else "series/three"
    return Vector(path, "series", "ok" if expected["latest"] else "step_not_found", rule, twin, cause, "-", found)


def named(files):
    """name -> members of the checkpoints among these."""
    return {name: saved.members for name, saved in files.items() if isinstance(saved, Saved)}


# Series: (name, rule, files, what is found).


def plain():
    files = dict(zip((ONE, TWO, THREE), training(0.5, 0.25, 0.75)))
    yield "one", "Q1", {ONE: files[ONE]}, expect(named({ONE: files[ONE]}), ONE, ONE)
    yield "three", "Q4", files, expect(named(files), THREE, TWO)
    yield "none", "Q7", {"config.json": b"{}"}, expect({}, None, metric=None)
    renamed = dict(zip(("z", "m.final", "A copy"), files.values()))
    renamed = {name + ".safetensors": saved for name, saved in renamed.items()}
    yield "other-names", "Q6", renamed, expect(named(renamed), "A copy.safetensors", "m.final.safetensors")
    back = [checkpoint(sequence=i, step=step) for i, step in ((1, 200), (9007199254740991, 100), (10, 200), (9, 300))]
    order = dict(zip(("a.safetensors", "d.safetensors", "c.safetensors", "b.safetensors"), back))
    listed = {name: order[name].members for name in (f"{letter}.safetensors" for letter in "abcd")}
    yield "steps-that-go-back", "Q6", order, expect(listed, "d.safetensors", metric=None)


def choices():
    """Q7: which one is the best."""
    for name, scores, best, members in (
        ("max", (0.5, 0.75, 0.25), TWO, {"mode": "max"}),
        ("equal-scores", (0.5, 0.25, 0.25), TWO, {}),
        ("equal-scores-max", (0.5, 0.5, 0.25), ONE, {"mode": "max"}),
        ("equal-zeros", (1.0, 0.0, -0.0), TWO, {}),
        ("nan", (math.nan, 0.5, math.nan), TWO, {}),
        ("nan-max", (math.nan, 0.5, math.nan), TWO, {"mode": "max"}),
        ("only-nan", (math.nan, None), None, {}),
        ("infinities", (math.inf, -math.inf, 0.0), TWO, {}),
        ("infinities-max", (-math.inf, 0.0, math.inf), THREE, {"mode": "max"}),
        ("some-without-a-score", (None, 0.5, None), TWO, {}),
        ("no-metric", (None, None), None, {"metric": None, "mode": None}),
    ):
        files = dict(zip((ONE, TWO, THREE), training(*scores, **members)))
        found = expect(named(files), list(files)[-1], best, **{"metric": "val_loss", "mode": "min", **members})
        yield name, "Q7", files, found
    first, second, third, fourth = training(0.5, 0.25, 0.125, 0.75)
    second, third = (checkpoint(**{**second.members, "metric": "loss"}), checkpoint(**{**third.members, "mode": "max"}))
    files = {ONE: first, TWO: second, THREE: third, "4.safetensors": fourth}
    yield "other-metric-and-mode", "Q7", files, expect(named(files), "4.safetensors", ONE, noted=[TWO, THREE])
    unnamed = checkpoint(sequence=1, step=1000)
    second, third = training(None, 0.5, 0.75)[1:]
    files = {ONE: unnamed, TWO: second, THREE: third}
    yield "metric-of-the-second", "Q7", files, expect(named(files), THREE, TWO)


def entries():
    """Q1: what counts."""
    first, second, third = training(0.5, 0.25, 0.125)
    foreign = {
        ONE: first,
        "config.json": b"{}",
        "model.pth": second.raw,
        "safetensors": second.raw,
        "partial.safetensors.tmp": second.raw,
        "capitals.SafeTensors": second.raw,
        ".hidden.safetensors": second.raw,
        "unsealed.safetensors": unsealed(second.raw),
        "sealed.safetensors": unpadded(small()),
        "key-alike.safetensors": unpadded(small(metadata={"flatbed.serial": statement(**second.members)})),
        "newer.safetensors": resealed(replaced(second.raw, "/1/" + content_of(second.raw), "/2/" + "later" * 3 + "!")),
        "folder.safetensors": {"notes.txt": b""},
        "folder-of-files": {"other.safetensors": second.raw},
        ".hidden": {"model.safetensors": second.raw},
        "folders": {"below/model.safetensors": second.raw},
    }
    yield "foreign-files", "Q1", foreign, expect(named({ONE: first}), ONE, ONE)
    version_3 = replaced(second.raw, "/1/" + content_of(second.raw), "/3/" + content_of(second.raw))
    unreadable = {
        "empty.safetensors": (b"", "file_too_short"),
        "text.safetensors": (b"not a checkpoint", "header_too_large"),
        "cut.safetensors": (second.raw[:71], "header_truncated"),
        "envelope-damaged.safetensors": (replaced(second.raw, '"flatbed":', '"flatbee":'), "seal_malformed"),
        "key-damaged.safetensors": (replaced(second.raw, "flatbed.series", "flatbed.serjes"), "seal_content_mismatch"),
        "version-damaged.safetensors": (version_3, "seal_header_mismatch"),
        "header-digit-damaged.safetensors": (no_digit(second.raw, 36), "seal_malformed"),
        "content-digit-damaged.safetensors": (no_digit(second.raw, 55), "seal_malformed"),
    }
    files = {ONE: first, **{name: raw for name, (raw, _) in unreadable.items()}}
    skipped = {name: code for name, (_, code) in unreadable.items()}
    yield "unreadable-files", "Q8", files, expect(named({ONE: first}), ONE, ONE, skipped=skipped)
    files = {ONE: first, "abandoned": {TWO: second.raw, "3": b"", "model.safetensors": third.raw}}
    yield "abandoned", "Q1", files, expect(named({ONE: first}), ONE, ONE)


def no_digit(raw, at):
    return raw[:at] + b"g" + raw[at + 1 :]


def unsealed(raw):
    _, data = split(raw)
    return container('{"w":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}', data)


def copies():
    """Q6: two with one sequence number."""
    first, second = training(0.5, 0.25)
    a, b = "a.safetensors", "b.safetensors"
    files = {ONE: first, b: second, a: second.raw}
    yield "copies", "Q6", files, expect({ONE: first.members, a: second.members}, a, a)
    files = {ONE: first, b: second, a: second.raw[:-1]}
    yield "copies-first-cut", "Q6", files, expect(named(files), b, b)
    files = {ONE: first, a: Saved(second.raw[:-1], second.members), b: second.raw[:-2]}
    yield "copies-all-cut", "Q6", files, expect(named(files), ONE, ONE, not_whole={a: "data_truncated"})
    files = {ONE: first, a: checkpoint(b"xyz", **second.members), b: second}
    yield "equal-sequences", "Q6", files, expect(named(files), b, a, noted=[a, b])
    # The name that stands counts, also for the order.
    files = {ONE: first, a: second.raw[:-1], b: files[a], "c.safetensors": second}
    noted = [b, "c.safetensors"]
    yield "copies-first-cut-beside-another", "Q6", files, expect(named(files), noted[1], noted[0], noted=noted)
    files = {ONE: first, a: files[b], b: Saved(second.raw[:-1], second.members)}
    cut = {b: "data_truncated"}
    yield "equal-sequences-last-cut", "Q6", files, expect(named(files), a, a, noted=[a, b], not_whole=cut)


def elsewhere():
    """Q2: the key is not where writers put it, so that the whole header tells."""
    first, second = training(0.5, 0.25)
    raw = second.raw
    ours, theirs = (f'"{key}":{writer.quote(text)}'.encode() for key, text in strings_of(second))
    for name, changed in (
        ("key-after-others", replaced_text(raw, ours + b"," + theirs, theirs + b"," + ours)),
        ("key-escaped", replaced_text(raw, b'"flatbed.series":', b'"flatbed.serie\\u0073":')),
        ("space-before-statement", replaced_text(raw, b'"flatbed.series":', b'"flatbed.series": ')),
    ):
        files = {ONE: first, TWO: Saved(changed, second.members)}
        yield name, "Q2", files, expect(named(files), TWO, TWO)
    files = {ONE: first, TWO: Saved(rewritten(raw), second.members)}
    yield "rewritten", "Q2", files, expect(named(files), ONE, ONE, not_whole={TWO: "seal_header_mismatch"})
    for end in (4096, 4097):
        files = {ONE: first, TWO: ending_at(end)}
        yield f"statement-of-{end - 1}-bytes", "Q2", files, expect(named(files), TWO, ONE, noted=[TWO])


def strings_of(saved):
    """Two metadata pairs that stand side by side in a file of one tensor of three bytes."""
    yield "flatbed.series", statement(**saved.members)
    yield "flatbed.digests", saved.raw.split(b'"flatbed.digests":"')[1][:16].decode()


def ending_at(end):
    """A checkpoint whose statement, with its quote, ends before byte `end`: it has escapes that writers do not use."""
    for count in range(160, 165):  # of characters that have escapes in JSON, which are escaped again in the header
        saved = checkpoint(sequence=2, step=2000, metric="\0" * count, mode="min")
        old = writer.quote(statement(**saved.members)).encode()
        room = end - saved.raw.index(old) - len(old)
        if room % 5 == 0:  # an escape is five bytes longer than its character
            new = old.replace(b"0", b"\\u0030", room // 5)
            assert len(new) - len(old) == room
            return Saved(replaced_text(saved.raw, old, new), saved.members)
    raise AssertionError("no length fits")


def damaged():
    """Q5: the newest or the best is not whole."""
    first, second, third = training(0.5, 0.25, 0.125)
    raw = third.raw
    for name, code, bad in (
        ("newest-cut", "data_truncated", raw[:-1]),
        ("newest-longer", "trailing_data", raw + b"\0"),
        ("newest-cut-in-its-head", "header_truncated", raw[: raw.index(b',"format"')]),
        ("newest-with-another-name", "seal_content_mismatch", replaced(raw, '"w":', '"v":')),
        ("newest-with-another-type", "seal_content_mismatch", resealed(replaced(raw, '"U8"', '"I8"'))),
        ("newest-with-a-bit-of-its-digests", "seal_content_mismatch", flipped(raw, raw.index(b'digests":"') + 10)),
        ("newest-with-a-bit-of-its-seal", "seal_header_mismatch", flipped_hex(raw, 36)),
        ("newest-states-twice", "duplicate_metadata", replaced_text(raw, b'"format"', b'"flatbed.series":"","format"')),
    ):
        files = {ONE: first, TWO: second, THREE: Saved(bad, third.members)}
        yield name, "Q5", files, expect(named(files), TWO, TWO, not_whole={THREE: code})
    files = {ONE: first, TWO: second, THREE: Saved(flipped(raw, -1), third.members)}
    found = expect(named(files), THREE, THREE, damaged={THREE: "chunk_corrupt"})
    yield "newest-with-a-bit-of-its-tensors", "Q5", files, found
    for name, code, bad in (
        ("newest-with-a-bit-of-its-statement", "series_malformed", flipped(raw, raw.index(b"3000"))),
        ("newest-with-a-bit-of-its-sum", "series_malformed", flipped_hex(raw, 95)),
        ("newest-cut-in-its-statement", "header_truncated", raw[:150]),
    ):
        files = {ONE: first, TWO: second, THREE: bad}
        yield name, "Q8", files, expect(named(files), TWO, TWO, skipped={THREE: code})
    yield from cut_files()


def cut_files():
    saved = dict(zip((ONE, TWO, THREE), training(0.5, 0.25, 0.125)))
    for name, cut, whole in (
        ("oldest-cut", (ONE, TWO), THREE),
        ("best-cut", (THREE,), TWO),
        ("all-cut", tuple(saved), None),
    ):
        files = {file: Saved(one.raw[:-1] if file in cut else one.raw, one.members) for file, one in saved.items()}
        found = expect(named(files), whole, whole, not_whole=dict.fromkeys(cut, "data_truncated"))
        yield name, "Q7", files, found


# Folders.


def sharded(shard_nbytes=16, **members):
    """A checkpoint that is a set."""
    members = {"saved_at": SAVED_AT, **members}
    tensors = [("h", "F32", [4], FOUR_FLOATS), ("w", "U8", [3], b"abc")]
    metadata = {"flatbed.series": statement(**members)}
    shards = writer.cut(tensors, shard_nbytes)
    if len(shards) == 1:
        return Saved({"model.safetensors": unpadded(writer.build(tensors, metadata=metadata))}, members)
    names = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    raws = [unpadded(writer.build(shard, metadata=metadata if i == 0 else None)) for i, shard in enumerate(shards)]
    files = dict(zip(names, raws))
    return Saved({**files, INDEX: writer.index_of(dict(zip(names, shards)), files)}, members)


def sets():
    first = sharded(sequence=1, step=1000, score=0.25, **VAL_LOSS)
    second = sharded(99, sequence=2, step=2000, score=0.5, **VAL_LOSS)
    file = training(None, None, 0.75)[2]
    files = {"step-1": first, "step-2": second, THREE: file}
    yield "sets", "Q1", files, expect(named(files), THREE, "step-1")
    for name, code, raw, last in broken_sets():
        files = {"step-1": first, "step-2": second, "step-3": Saved(raw, last.members)}
        yield name, "Q5", files, expect(named(files), "step-2", "step-1", not_whole={"step-3": code})
    last = sharded(sequence=3, step=3000, score=0.125, **VAL_LOSS)
    shard_1, shard_2, _ = last.raw
    stray = {**last.raw, "model.safetensors": file.raw, "a.safetensors": file.raw}
    files = {"step-1": first, "step-3": Saved(stray, last.members)}
    yield "set-beside-stray-files", "Q1", files, expect(named(files), "step-3", "step-3")
    nothing = unpadded(writer.build([("h", "F32", [4], FOUR_FLOATS)]))
    for name, raw in (
        ("set-without-an-index", {name: raw for name, raw in last.raw.items() if name != INDEX}),
        ("set-that-states-nothing", {**last.raw, shard_1: nothing}),
        ("set-that-states-in-its-second-shard", {**last.raw, shard_1: nothing, shard_2: last.raw[shard_1]}),
        ("set-of-other-names", {name.replace("model", "m"): raw for name, raw in last.raw.items()}),
    ):
        files = {"step-1": first, "step-3": raw}
        yield name, "Q1", files, expect(named({"step-1": first}), "step-1", "step-1")


def broken_sets():
    """(name, code, files, the checkpoint that they were)"""
    last = sharded(sequence=3, step=3000, score=0.125, **VAL_LOSS)
    shard_1, shard_2, index = last.raw
    second = last.raw[shard_2]
    other = unpadded(writer.build([("w", "U8", [3], b"xyz")]))
    lost = json.loads(last.raw[index])
    lost["weight_map"]["x"] = shard_2
    for name, code, changes in (
        ("set-without-a-shard", "shard_missing", {shard_2: None}),
        ("set-with-another-shard", "shard_mixed_set", {shard_2: other}),
        ("set-with-a-shard-cut", "data_truncated", {shard_2: second[:-1]}),
        ("set-with-a-shard-annotated", "seal_header_mismatch", {shard_2: flipped_hex(second, 36)}),
        ("set-with-an-index-cut", "index_malformed", {index: last.raw[index][:-3]}),
        ("set-with-two-indexes", "index_ambiguous", {"other.safetensors.index.json": last.raw[index]}),
        ("set-without-a-tensor", "shard_tensor_missing", {index: json.dumps(lost, indent=2).encode()}),
    ):
        yield name, code, {file: raw for file, raw in {**last.raw, **changes}.items() if raw is not None}, last
    # The file that speaks for the folder is none of the set.
    lost = json.dumps({"weight_map": {"w": shard_2}}).encode()
    yield "set-without-its-first-shard", "file_changed", {**last.raw, index: lost}, last


# Statements. Each is a file of its own in one folder, beside a good one.


def statements():
    good = checkpoint(sequence=1, step=1)
    files = {name + ".safetensors": checkpoint(**members) for name, members in well_formed()}
    listed = dict(sorted(named(files).items(), key=lambda item: (item[1]["sequence"], item[0])))
    first = next(name for name, stated in listed.items() if stated.get("metric"))
    noted = [name for name, stated in listed.items() if stated.get("metric") and name != first]
    found = expect(listed, list(listed)[-1], first, listed[first]["metric"], listed[first]["mode"], noted=noted)
    yield "statements", "Q4", files, found
    for name, rule, values in (("forms-malformed", "Q3", malformed()), ("statements-malformed", "Q4", wrong())):
        files = {file + ".safetensors": stating(value) for file, value in values}
        skipped = dict.fromkeys(files, "series_malformed")
        found = expect({"good.safetensors": good.members}, "good.safetensors", metric=None, skipped=skipped)
        yield name, rule, {"good.safetensors": good, **files}, found


def well_formed():
    yield "smallest", {"sequence": 1, "step": 0, "saved_at": -LARGEST, "epoch": -LARGEST}
    yield "zeros", {"sequence": 2, "step": 0, "saved_at": 0, "epoch": 0, "score": -0.0, "metric": "a", "mode": "max"}
    yield "score-exponent", {"sequence": 3, "score": 1e-05, "metric": "loss", "mode": "min"}
    yield "score-whole", {"sequence": 4, "score": 100000.0, "metric": "loss", "mode": "max"}
    yield "score-denormal", {"sequence": 5, "score": 5e-324, "metric": "b", "mode": "max"}
    yield "metric-of-256-bytes", {"sequence": 6, "metric": "\u00e9" * 128, "mode": "max", "score": 1.0}
    yield "metric-with-escapes", {"sequence": 7, "metric": '"\\\b\t\n\f\r\0\x1f/\x7f\u2028', "mode": "min"}
    yield "metric-beyond-16-bits", {"sequence": 8, "metric": "\U0001f600", "mode": "min"}
    yield "longest", {
        "sequence": LARGEST - 1, "step": LARGEST, "score": -2.2250738585072014e-308, "metric": "\0" * 256,
        "mode": "min", "parent": "0123456789abcdef", "saved_at": LARGEST, "epoch": LARGEST,
    }  # fmt: skip
    yield "largest", {"sequence": LARGEST, "step": LARGEST}


def as_json(**members):
    return writer.compact(Statement(2, 2, None, None, None, None, SAVED_AT, None)._replace(**members)._asdict())


def malformed():
    """Q3: values that are not 1/SUM/JSON, or whose JSON has another form."""
    good = writer.summed(as_json())
    zeros = "0" * 16
    yield "empty", ""
    yield "no-sum", "1/" + as_json()
    yield "no-version", good[2:]
    yield "version-2", "2" + good[1:]
    yield "version-01", "0" + good
    yield "version-10", "10" + good[1:]
    yield "sum-of-other-text", f"1/{zeros}/" + as_json()
    yield "sum-in-capitals", good[:18].upper() + good[18:]
    yield "sum-short", good.replace("/", "/" + zeros[:1], 1)
    yield "text-added", good + " "
    yield "too-long", writer.summed(as_json(parent="0" * 4000))
    for name, text in (
        ("not-json", as_json()[:-1]),
        ("nothing", ""),
        ("array", "[" + as_json() + "]"),
        ("two-values", as_json() * 2),
        ("space", as_json().replace(",", ", ", 1)),
        ("space-after", as_json() + " "),
        ("trailing-comma", as_json()[:-1] + ",}"),
        ("byte-order-mark", "\ufeff" + as_json()),
        ("key-escaped", as_json().replace('"step"', '"\\u0073tep"')),
        ("metric-escaped", as_json(metric="m", mode="min").replace('"m"', '"\\u006d"')),
        ("metric-slash-escaped", as_json(metric="/", mode="min").replace('"/"', '"\\/"')),
        ("metric-half-a-pair", as_json(metric="m", mode="min").replace('"m"', '"\\ud800"')),
        ("score-more-digits", with_score("0.50")),
        ("score-exponent", with_score("5e-1")),
        ("score-plain", with_score("0.00001")),
        ("score-too-large", with_score("1e999")),
        ("step-exponent", as_json().replace('"step":2', '"step":2e0')),
        ("step-minus-zero", as_json().replace('"step":2', '"step":-0')),
        ("deep", as_json(parent=nested(100_000))),
        ("member-twice", as_json().replace('"step":2,', '"step":2,"step":2,')),
        ("member-missing", as_json().replace('"parent":null,', "")),
        ("member-missing-last", as_json().replace(',"epoch":null', "")),
        ("member-added", as_json()[:-1] + ',"note":null}'),
        ("member-in-capitals", as_json().replace('"step"', '"Step"')),
        ("members-swapped", as_json().replace('"sequence":2,"step":2', '"step":2,"sequence":2')),
    ):
        yield name, writer.summed(text)


def with_score(text):
    return as_json(score=0.5, metric="m", mode="min").replace("0.5", text)


def nested(levels):
    return "[" * levels + "]" * levels


def wrong():
    """Q4: values that a member cannot have."""
    for name, members in (
        ("sequence-0", {"sequence": 0}),
        ("sequence-negative", {"sequence": -1}),
        ("sequence-2-to-53", {"sequence": LARGEST + 1}),
        ("sequence-2-to-64", {"sequence": 1 << 64}),
        ("sequence-real", {"sequence": 2.0}),
        ("sequence-string", {"sequence": "2"}),
        ("sequence-null", {"sequence": None}),
        ("step-negative", {"step": -1}),
        ("step-2-to-53", {"step": LARGEST + 1}),
        ("step-null", {"step": None}),
        ("step-true", {"step": True}),
        ("score-integer", {"score": 1, "metric": "m", "mode": "min"}),
        ("score-string", {"score": "0.5", "metric": "m", "mode": "min"}),
        ("score-other-word", {"score": "-nan", "metric": "m", "mode": "min"}),
        ("score-in-capitals", {"score": "NaN", "metric": "m", "mode": "min"}),
        ("score-true", {"score": True, "metric": "m", "mode": "min"}),
        ("score-array", {"score": [0.5], "metric": "m", "mode": "min"}),
        ("score-without-metric", {"score": 0.5}),
        ("metric-empty", {"metric": "", "mode": "min"}),
        ("metric-of-257-bytes", {"metric": "\u00e9" * 128 + "m", "mode": "min"}),
        ("metric-number", {"metric": 1, "mode": "min"}),
        ("mode-without-metric", {"mode": "min"}),
        ("metric-without-mode", {"metric": "m"}),
        ("mode-in-capitals", {"metric": "m", "mode": "Min"}),
        ("mode-number", {"metric": "m", "mode": 0}),
        ("parent-empty", {"parent": ""}),
        ("parent-of-15-digits", {"parent": "0" * 15}),
        ("parent-of-17-digits", {"parent": "0" * 17}),
        ("parent-in-capitals", {"parent": "A" * 16}),
        ("parent-number", {"parent": 0}),
        ("saved-at-null", {"saved_at": None}),
        ("saved-at-real", {"saved_at": 0.5}),
        ("saved-at-2-to-53", {"saved_at": LARGEST + 1}),
        ("saved-at-minus-2-to-53", {"saved_at": -LARGEST - 1}),
        ("epoch-real", {"epoch": 3.0}),
        ("epoch-string", {"epoch": "3"}),
        ("epoch-2-to-53", {"epoch": LARGEST + 1}),
    ):
        yield name, writer.summed(as_json(**members))


def links():
    """Q1 and Q5: links do not count, and a set that has one is not whole."""
    file = Made("copy", "series/three/" + ONE)
    alone = expect({ONE: training(0.5)[0].members}, ONE, ONE)
    files = {
        ONE: file,
        TWO: Made("link", "../../series/three/" + TWO),
        "nothing.safetensors": Made("link", "nothing"),
        "loop.safetensors": Made("link", "loop.safetensors"),
        "fifo.safetensors": Made("fifo"),
        "folder": Made("link", "../../series/sets/step-1"),
        "folder-of-a-link": {"model.safetensors": Made("link", "../../../series/three/" + TWO)},
    }
    yield vector("made/series-links", "Q1", files, alone)
    first = sharded(sequence=1, step=1000, score=0.25, **VAL_LOSS)
    copied = {name: Made("copy", f"series/sets/step-1/{name}") for name in first.raw}
    linked = {name: Made("link", "../../../" + copy.source) for name, copy in copied.items()}
    shard_1, shard_2, index = first.raw
    files = {"set": Saved({**copied, shard_2: linked[shard_2]}, first.members)}
    found = expect(named(files), None, not_whole={"set": "shard_link_refused"})
    yield vector("made/series-set-of-a-link", "Q5", files, found)
    files = {ONE: file, "index": {**copied, index: linked[index]}, "first": {**copied, shard_1: linked[shard_1]}}
    del files["first"][shard_2]
    yield vector("made/series-links-in-sets", "Q1", files, alone)
