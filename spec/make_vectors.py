"""Makes the test vectors of FORMAT.md with their manifests, and checks them with reader.py.

The vectors themselves are in vector_*.py, byte for byte the same on every run. vectors/README.md describes the folders
and the columns of manifest.tsv. Every refused vector breaks one rule only, and its twin is a valid neighbour.
"""

import io
import json
import os

import reader
import vector_containers
import vector_seals
import vector_sets
import vector_trees
import writer
from reader import FormatError, digest

COLUMNS = ("path", "kind", "expect", "rule", "twin", "cause", "where")


def all_vectors():
    for module in (vector_containers, vector_seals, vector_trees, vector_sets):
        yield from module.vectors()


def all_files():
    """path -> bytes of everything below vectors/ but the README."""
    vectors, files = list(all_vectors()), {}
    for vector in vectors:
        for path, raw in vector.files.items():
            assert path not in files, path
            files[path] = raw
        if vector.path.startswith("valid/"):
            text = json.dumps(describe(vector.files[vector.path]), indent=1, sort_keys=True)
            files[vector.path.replace(".safetensors", ".json")] = text.encode() + b"\n"
    rows = [{column: getattr(vector, column) for column in COLUMNS} for vector in vectors]
    lines = ["\t".join(COLUMNS)] + ["\t".join(row.values()) for row in rows]
    files["manifest.tsv"] = ("\n".join(lines) + "\n").encode()
    by_path = {row.pop("path"): {key: text for key, text in row.items() if text != "-"} for row in rows}
    files["manifest.json"] = json.dumps(by_path, indent=1).encode() + b"\n"
    return files


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


def outcome(folder, path, kind):
    """(expect, cause, where) that reader.py finds for a vector: three columns of the manifest."""
    path = os.path.join(folder, path)
    try:
        return judge_state(path) if kind in ("seal", "sidecar") else (judge(path, kind), "-", "-")
    except FormatError as error:
        return ("invalid", error.code, "-") if kind in ("seal", "sidecar") else (error.code, "-", "-")


def judge(path, kind):
    """Opens and reads everything."""
    with reader.open_path(path) as source:
        for name in (*source.tensors, *getattr(source, "missing", ())):
            source.read(name)
        if kind in ("tree", "shards"):
            source.tree()
        if kind in ("aliases", "shards"):
            source.aliases()
    return "ok"


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


def check(folder):
    """Compares every line of the manifest with what reader.py finds. Prints the differences; 1 if there are any."""
    passed = failed = 0
    with open(os.path.join(folder, "manifest.tsv"), encoding="utf-8") as stream:
        rows = [dict(zip(COLUMNS, line.rstrip("\n").split("\t"))) for line in stream][1:]
    for row in rows:
        wanted = (row["expect"], row["cause"], row["where"])
        found = outcome(folder, row["path"], row["kind"])
        if found == wanted:
            passed += 1
        else:
            failed += 1
            print(f"{row['path']}: found {found}, wanted {wanted}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0
