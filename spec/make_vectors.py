"""Makes the test vectors of FORMAT.md with their manifests, and checks them with reader.py and writer.py.

The vectors themselves are in vector_*.py, byte for byte the same on every run; vector_rules.py says which other rules
each one is about. vectors/README.md describes the folders and the columns of manifest.tsv. Every refused vector breaks
one rule only (but those of E1), and its twin is a valid neighbour.
"""

import io
import json
import math
import os
import re
import shutil
import tempfile

import reader
import vector_containers
import vector_rules
import vector_seals
import vector_series
import vector_sets
import vector_trees
import vector_writers
import writer
from reader import FormatError, digest
from vector_containers import Made

COLUMNS = ("path", "kind", "expect", "rule", "twin", "cause", "where", "also", "level", "options")
MADE_COLUMNS = ("path", "how", "source", "size")
# The level of conformance that a vector of each kind belongs to (section 1 of FORMAT.md).
LEVELS = {
    "container": "0", "seal": "1", "sidecar": "1", "tree": "2", "aliases": "2", "shards": "2",
    "series": "Q", "writer": "W", "names": "W",
}  # fmt: skip


def all_vectors():
    for module in (vector_containers, vector_seals, vector_trees, vector_sets, vector_series, vector_writers):
        yield from module.vectors()


def all_files():
    """path -> bytes of everything below vectors/ but the README."""
    vectors, files, made = list(all_vectors()), {}, []
    for vector in vectors:
        for path, raw in vector.files.items():
            assert path not in files, path
            if isinstance(raw, Made):
                made.append((path, *raw))
            else:
                files[path] = raw
        if vector.path.startswith("valid/"):
            text = json.dumps(describe(vector.files[vector.path]), indent=1, sort_keys=True)
            files[vector.path.replace(".safetensors", ".json")] = text.encode() + b"\n"
    rows = [row_of(vector) for vector in vectors]
    files["manifest.tsv"] = table(COLUMNS, [row.values() for row in rows])
    files["made.tsv"] = table(MADE_COLUMNS, made)
    by_path = {row.pop("path"): {key: text for key, text in row.items() if text != "-"} for row in rows}
    files["manifest.json"] = json.dumps(by_path, indent=1).encode() + b"\n"
    return files


def row_of(vector):
    """column -> text"""
    computed = {"also": ",".join(vector_rules.also(vector)) or "-", "level": LEVELS[vector.kind]}
    return {column: computed.get(column) or getattr(vector, column) for column in COLUMNS}


def table(columns, rows):
    return ("\n".join("\t".join(row) for row in (columns, *rows)) + "\n").encode()


def read_table(folder, name):
    """The rows of a table, each a dict by column."""
    with open(os.path.join(folder, name), encoding="utf-8") as stream:
        columns, *rows = (line.rstrip("\n").split("\t") for line in stream)
    return [dict(zip(columns, row)) for row in rows]


def describe(raw):
    """What a reader finds in a valid file: the .json beside it."""
    with reader.File(io.BytesIO(raw)) as file:
        tensors = {
            name: {
                "dtype": info.dtype,
                "shape": info.shape,
                "offset": file.header.data_start + info.begin,
                "nbytes": info.nbytes,
                "xxh3": digest(file.read(name)),
            }
            for name, info in file.tensors.items()
        }
        tree = file.strings.get("flatbed.tree")
        return {
            "state": file.state,
            "content": file.seal.content,
            "metadata": file.metadata,
            "tensors": tensors,
            "tree": None if tree is None else writer.compact(json.loads(tree)),
            "aliases": file.aliases(),
        }


def make(folder):
    """Writes all files below `folder`."""
    for path, raw in all_files().items():
        target = os.path.join(folder, path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as stream:
            stream.write(raw)
    return 0


def make_made(folder, target):
    """Makes the files of made.tsv below `target`, a folder that has everything else of `folder`."""
    for row in read_table(folder, "made.tsv"):
        path = os.path.join(target, row["path"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if row["how"] == "link":
            os.symlink(row["source"], path)
        elif row["how"] == "fifo":
            os.mkfifo(path)
        else:
            shutil.copyfile(os.path.join(target, row["source"]), path)
        if row["how"] == "fill":
            with open(path, "ab") as stream:
                stream.write(b" " * (int(row["size"]) - stream.tell()))


def outcome(folder, row):
    """(expect, cause, where) that reader.py and writer.py find for a vector: three columns of the manifest."""
    path, kind = os.path.join(folder, row["path"]), row["kind"]
    options = dict(option.split("=", 1) for option in row["options"].split(" ") if option != "-")
    try:
        if kind == "series":
            return judge_series(folder, path)
        if kind in ("seal", "sidecar"):
            return judge_state(path)
        if kind in ("writer", "names"):
            return judge_written(folder, path, kind, options), "-", "-"
        return judge(path, kind, options.get("links") != "forbid"), "-", "-"
    except FormatError as error:
        return ("invalid", error.code, "-") if kind in ("seal", "sidecar") else (error.code, "-", "-")


def judge(path, kind, follow_links):
    """Opens and reads everything."""
    with reader.open_path(path, "if_sealed", follow_links) as source:
        for name in (*source.tensors, *getattr(source, "missing", ())):
            source.read(name)
        if kind in ("tree", "shards"):
            source.tree()
        if kind in ("aliases", "shards"):
            source.aliases()
        absent = kind in ("tree", "aliases") and "flatbed." + kind not in source.strings
    return "absent" if absent else "ok"


def judge_series(folder, path):
    """Whether the .json of a series says what reader.py finds; then what the manifest says of it."""
    series = reader.Series(path)
    entries = [entry_of(series, entry) for entry in series.entries]
    found = {
        "entries": entries,
        "metric": series.metric,
        "mode": series.mode,
        "latest": chosen(series.latest),
        "best": chosen(series.best),
        "skipped": {name: error.code for name, error in series.skipped.items()},
        "noted": series.noted,
    }
    with open(os.path.join(folder, "series", os.path.basename(path) + ".json"), encoding="utf-8") as stream:
        if found != json.load(stream):
            return json.dumps(found), "-", "-"
    codes = {entry["verified"] for entry in entries} | set(found["skipped"].values())
    return "ok" if found["latest"] else "step_not_found", "|".join(sorted(codes - {"ok"})) or "-", "-"


def entry_of(series, entry):
    stated = entry.statement._asdict()
    if stated["score"] is not None and not math.isfinite(stated["score"]):
        stated["score"] = repr(stated["score"])
    error = series.error_of(entry)
    found = {"name": entry.name, **stated, "whole": error.code if error else "ok"}
    try:
        judge(os.path.join(series.folder, entry.name), "shards", False)
    except FormatError as damage:
        error = error or damage
    return {**found, "verified": error.code if error else "ok"}


def chosen(choose):
    """The name of what Series.latest() or best() gives, or None."""
    try:
        return choose().name
    except FormatError as error:
        assert error.code == "step_not_found"
        return None


def judge_state(path):
    with reader.File(path, "off") as file:
        if file.state == "broken":
            return "broken", file.seal.error.code, "-"
        return file.state, *first_bad_chunk(file)


def first_bad_chunk(file):
    """The code and place of the first chunk that does not match, or dashes."""
    for info in file.tensors.values():
        try:
            file.check_chunks(info, file.read(info.name))
        except FormatError as error:
            return error.code, error.where
    return "-", "-"


def judge_written(folder, path, kind, options):
    """Whether writer.py makes the same bytes of the input."""
    source = os.path.join(folder, options["from"])
    with reader.open_path(source) as opened:
        if "shard" in options:
            written = writer.rewrite_set(opened, int(options["shard"]))
            return "ok" if files_of(os.path.dirname(path)) == written else "other bytes"
        if kind == "writer":
            written = writer.rewrite(opened, options.get("only"))
    if kind == "names":
        tree, tensors, aliases = writer.encode(reader.load(source, backend="plain"))
        written = writer.build(tensors, tree=tree, aliases=aliases)
    with open(path, "rb") as stream:
        return "ok" if stream.read() == written else "other bytes"


def files_of(folder):
    """name -> bytes"""
    files = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as stream:
            files[name] = stream.read()
    return files


def is_expected(row, found):
    """Whether an outcome is what the manifest says. `expect` may list several errors (E1)."""
    expect, *rest = found
    return expect in row["expect"].split("|") and rest == [row["cause"], row["where"]]


def check(folder):
    """Compares every line of the manifest with what reader.py finds. Prints the differences; 1 if there are any."""
    passed = failed = 0
    rows = read_table(folder, "manifest.tsv")
    with tempfile.TemporaryDirectory() as scratch:
        copy = os.path.join(scratch, "vectors")
        shutil.copytree(folder, copy)
        make_made(folder, copy)
        for row in rows:
            found = outcome(copy, row)
            if is_expected(row, found):
                passed += 1
            else:
                failed += 1
                print(f"{row['path']}: found {found}, expected {row['expect'], row['cause'], row['where']}")
    for line in coverage_lines(rows):
        print(line)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def rules_of_the_text():
    """The rules that FORMAT.md defines, in its order, and the rows of the table of S6."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "FORMAT.md")
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    rules = re.findall(r"<a id=\"([A-Z][0-9]+)\"></a>", text)
    return [*dict.fromkeys(rules), *(f"S6.{row}" for row in range(1, 9))]


def coverage(rows):
    """rule -> (vectors that obey it, vectors that break it or are reported), for every rule of the text."""
    counts = {rule: [0, 0] for rule in rules_of_the_text()}
    for row in rows:
        good = row["expect"] in ("ok", "sealed", "unsealed", "annotated", "newer", "absent") and row["cause"] == "-"
        for rule in {row["rule"], row["rule"].split(".")[0], *row["also"].split(",")} - {"-"}:
            counts[rule][0 if good else 1] += 1
    return {rule: tuple(pair) for rule, pair in counts.items()}


def coverage_lines(rows):
    """The vectors of each rule in a few lines, for people."""
    counts = coverage(rows)
    cells = [f"{rule} {good}+{bad}" for rule, (good, bad) in counts.items()]
    covered = sum(good + bad > 0 for good, bad in counts.values())
    yield "vectors of each rule, as accepted + refused:"
    for at in range(0, len(cells), 10):
        yield "  " + "  ".join(f"{cell:<10}" for cell in cells[at : at + 10]).rstrip()
    yield f"{covered} of {len(counts)} rules have a vector"
