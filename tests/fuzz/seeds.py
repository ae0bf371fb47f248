#!/usr/bin/env python3
"""Makes the seeds of the fuzz targets, of fixtures, vectors and kept inputs.

Usage: seeds.py OUT_DIR [FOLDER...]    a folder of seeds per target; FOLDERs hold further checkpoints
"""
import pathlib
import re
import struct
import sys
import zipfile
import zlib

TESTS = pathlib.Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
MAX_SEED = 1 << 16
MAGIC = bytes.fromhex("80028a0a6cfc9c46f920")


def put(out, target, data):
    if len(data) > MAX_SEED:
        return
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{zlib.crc32(data):08x}").write_bytes(data)


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def from_zip(out, path):
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.file_size > MAX_SEED:
                    continue
                data = archive.read(info)
                if info.filename.endswith(".pkl"):
                    for target in ("pickle", "repickle", "torch_zip"):
                        put(out, target, data)
                if info.filename.endswith(".py"):
                    put(out, "script", data)
                if len(data) < 4096:
                    put(out, "inflate",
                        struct.pack("<HB", len(data), 7) + deflated(data))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError):
        pass  # a hostile vector: as a whole it is a seed


def from_safetensors(out, data):
    size = struct.unpack("<Q", data[:8])[0]
    if size > len(data) - 8:
        return
    text = data[8:8 + size]
    put(out, "header", text)
    # The tree stands in the header as a JSON string.
    for found in re.finditer(rb'"flatbed\.tree":"((?:[^"\\]|\\.)*)"', text):
        put(out, "tree", unescaped(found[1]))
    for found in re.finditer(rb'"flatbed\.series":"((?:[^"\\]|\\.)*)"', text):
        put(out, "series", data[:4096])
        put(out, "series", unescaped(found[1]).split(b"/", 2)[-1])


def unescaped(text):
    return text.replace(b'\\"', b'"').replace(b"\\\\", b"\\")


def from_file(out, path):
    data = path.read_bytes()
    if len(data) > 16 * MAX_SEED:
        return
    put(out, "file", data)
    put(out, "scan", data)
    if data.startswith(b"PK\3\4"):
        put(out, "zip", data)
        from_zip(out, path)
    elif data[257:262] == b"ustar":
        put(out, "tar", data)
    elif data.startswith(MAGIC):
        put(out, "legacy", data)
        put(out, "pickle", data.split(b".", 3)[-1])
    elif path.name.endswith(".index.json"):
        put(out, "index", data)
    elif data[:1] == b"\x80":
        for target in ("pickle", "repickle", "torch_zip"):
            put(out, target, data)
    elif path.suffix == ".safetensors" and len(data) >= 8:
        from_safetensors(out, data)
    elif path.suffix == ".json":
        put(out, "tree", data)


def main():
    out = pathlib.Path(sys.argv[1])
    folders = [TESTS / "fixtures", ROOT / "spec" / "vectors", *map(pathlib.Path, sys.argv[2:])]
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".py":
                from_file(out, path)
    for path in sorted((TESTS / "fuzz" / "kept").rglob("*")):
        if path.is_file():
            put(out, path.parent.name, path.read_bytes())
    put(out, "index", b'{"metadata":{"total_size":8},"weight_map":'
                      b'{"a":"a.safetensors","b":"b.safetensors"}}')
    for text in (b"# rules\nstrip-prefix module.\nh.*.attn.*=layers.{1}.{{2}}.{2}\nadd-prefix x.\n",
                 b'{"w": {"shape": [8, 5], "dtype": "F32"}, "module.b": {"shape": null}, "c": null}'):
        put(out, "names", text)
    for folder in sorted(out.iterdir()):
        print(folder.name, len(list(folder.iterdir())))


if __name__ == "__main__":
    main()
