"""Z15, P17: the records of a torch zip: which there are, what the small ones say, how long the storages are."""

import assembler as asm
import torch_zip as t
import zip_fields as z

ADVICE = "makes a file that flatbed reads"


def torch(corpus):
    return corpus.twin("Z00/torch", t.torch_zip(), t.MODEL_TENSORS)


def missing(corpus):
    twin = torch(corpus)
    bad = corpus.hostile
    bad("Z15/no-version", t.torch_zip(version=None), "zip_record_missing", "no record 'model/version'", twin=twin)
    corpus.twin("Z15/no-byteorder", t.torch_zip(byteorder=None), t.MODEL_TENSORS)
    for key, left in (("0", {"1": t.LONGS}), ("1", {"0": t.FLOATS})):
        bad(f"Z15/no-storage-{key}", t.torch_zip(storages=left), "storage_missing", f"no record 'model/data/{key}'",
            twin=twin)
        for word, name in {"case": f"DATA/{key}", "folder": f"data/{key}/", "zero": f"data/0{key}",
                           "blank": f"data/{key} ",
                           "elsewhere": f"data/x/{key}", "top": key, "suffix": f"data/{key}.bin"}.items():
            storages = dict(left)
            items = t.items(storages=storages)
            data = b"" if name.endswith("/") else {"0": t.FLOATS, "1": t.LONGS}[key]
            items.insert(2, t.torch_item(b"model/" + name.encode(), data))
            bad(f"Z15/storage-{key}-as-{word}", z.build(items), "storage_missing", f"no record 'model/data/{key}'",
                twin=twin)
    items = t.items()
    corpus.twin("Z15/record-99", z.build(items + [t.torch_item(b"model/data/99", b"unused")]), t.MODEL_TENSORS)
    empty = asm.pickled({"x": asm.tensor(asm.storage(count=0), 0, (0, 3), (3, 1))})
    corpus.twin("Z15/no-record-of-an-empty-storage", t.torch_zip(empty, {}), {"x": ("F32", (0, 3), b"")})


def small_records(corpus):
    """version and byteorder."""
    twin = torch(corpus)
    for word, text in {"0": b"0\n", "11": b"11\n", "99": b"99\n", "negative": b"-3\n", "plus": b"+3\n",
                       "text": b"three\n",
                       "empty": b"", "line": b"\n", "float": b"3.0\n", "blank": b" 3\n", "two-lines": b"3\n\n",
                       "carriage-return": b"3\r\n", "hex": b"0x3\n", "two": b"3 4\n", "nul": b"3\0",
                       "large": b"1" + b"0" * 30,
                       "2-to-31": b"2147483648", "wraps": b"4294967299", "digit-of-others": "٣".encode()}.items():
        corpus.hostile(f"Z15/version-{word}", t.torch_zip(version=text), "torch_version_unsupported",
                       "'model/version': found '", "expected 1 to 10", twin=twin)
    for text in (b"1\n", b"2", b"10\n", b"03\n"):
        corpus.twin(f"Z15/version-{text.strip().decode()}-ok", t.torch_zip(version=text), t.MODEL_TENSORS)
    for word, text in {"empty": b"", "upper": b"LITTLE", "line": b"little\n", "blank": b" little", "middle": b"middle",
                       "nul": b"little\0", "both": b"littlebig", "half": b"lit", "sign": b"<",
                       "utf-16": b"l\0i\0t\0t\0l\0e\0",
                       "big-line": b"big\n", "bigger": b"bigger"}.items():
        corpus.hostile(f"Z15/byteorder-{word}", t.torch_zip(byteorder=text), "byteorder_unknown",
                       "'model/byteorder': found '", "expected 'little' or 'big'", twin=twin)
    items = t.items(version=None) + [t.torch_item(b"model/.data/version", b"3\n")]
    twin = corpus.twin("Z15/version-in-data", z.build(items), t.MODEL_TENSORS)
    items[-1] = t.torch_item(b"model/.data/version", b"77\n")
    corpus.hostile("Z15/version-in-data-77", z.build(items), "torch_version_unsupported",
                   "'model/.data/version': found '77",
                   twin=twin)
    both = t.items(version=b"77\n") + [t.torch_item(b"model/.data/version", b"3\n")]
    corpus.twin("Z15/version-in-data-goes-first", z.build(both), t.MODEL_TENSORS)


def other_archives(corpus):
    """Zips that torch.save did not write are refused by name."""
    twin = torch(corpus)
    kinds = {"torchscript": ([b"constants.pkl"], "a TorchScript archive"),
             "package": ([b".data/extern_modules"], "a torch.package archive"),
             "package-old": ([b"extern_modules"], "a torch.package archive"),
             "export": ([b"archive_format"], "a torch.export archive"),
             "unknown": ([b"something"], "a zip file that torch.save did not write (it has no data.pkl)")}
    for word, (names, says) in kinds.items():
        records = [t.torch_item(b"model/" + name, b"contents") for name in names]
        for order, items in (("alone", records), ("with-version", records + [t.torch_item(b"model/version", b"3\n")])):
            corpus.hostile(f"Z15/{word}-{order}", z.build(items), "unsupported_layout", says, twin=twin)
    corpus.hostile("Z15/torchscript-constants", z.build(t.items() + [t.torch_item(b"model/constants.pkl", b")\n")]),
                   "pickle_opcode_unknown", "'model/constants.pkl': byte 1", twin=twin)
    corpus.hostile("Z15/export-on-top", z.build([t.torch_item(b"archive_format", b"pt2")]), "unsupported_layout",
                   "a torch.export archive", twin=twin)
    for word, names in {"one": [b"arr_0.npy"], "two": [b"a.npy", b"b.npy"]}.items():
        corpus.hostile(f"Z15/npz-{word}", z.build([t.plain_item(name, b"\x93NUMPY") for name in names]),
                       "unsupported_layout", "a NumPy .npz archive", twin=twin)
    for word, name in {"upper": b"model/DATA.PKL", "pickle": b"model/data.pickle", "suffix": b"model/data.pkl.bak",
                       "folder": b"model/data.pkl/"}.items():
        items = t.items()
        items[0] = t.torch_item(name, b"" if name.endswith(b"/") else items[0].data)
        corpus.hostile(f"Z15/no-pickle-but-{word}", z.build(items), "unsupported_layout", "it has no data.pkl",
                       twin=twin)


def storage_sizes(corpus):
    """P17: a storage's record is not as long as the pickle says."""
    for kind, dtype, width in (("FloatStorage", "F32", 4), ("ByteStorage", "U8", 1), ("DoubleStorage", "F64", 8),
                               ("HalfStorage", "F16", 2), ("BoolStorage", "BOOL", 1),
                               ("ComplexFloatStorage", "C64", 8)):
        pickle = asm.pickled({"x": asm.tensor(asm.storage(kind, count=4), 0, (4,), (1,))})
        data = bytes(4 * width)
        twin = corpus.twin(f"P17/{kind}", t.torch_zip(pickle, {"0": data}), {"x": (dtype, (4,), data)})
        for word, size in {"none": 0, "one-byte": 1, "byte-short": -1, "byte-long": 1, "element-short": -width,
                           "element-long": width, "twice": 4 * width, "page-long": 4096}.items():
            other = b"" if word == "none" else b"x" if word == "one-byte" else bytes(4 * width + size)
            if len(other) == len(data):
                continue
            corpus.hostile(f"P17/{kind}-record-{word}", t.torch_zip(pickle, {"0": other}), "storage_size_mismatch",
                           f"record 'model/data/0': wrong size: found {len(other)} bytes, expected {4 * width}",
                           twin=twin)
        for count in (0, 3, 5, 2**31, 2**32 + 4, 2**60):
            size = count * width
            view = asm.pickled({"x": asm.tensor(asm.storage(kind, count=count), 0, (0,), (1,))})
            corpus.hostile(f"P17/{kind}-of-{count}", t.torch_zip(view, {"0": data}),
                           *(("storage_size_mismatch",
                              f"wrong size: found {len(data)} bytes, expected {size}") if size < 2**64
                             else ("size_overflow", "storage '0'")), twin=twin)
    data = bytes(16)
    for module, name in (("torch.storage", "UntypedStorage"), ("torch.storage", "_UntypedStorage"),
                         ("torch", "UntypedStorage")):
        def pickle(count, module=module, name=name):
            of = asm.storage(name, count=count, module=module)
            return asm.pickled({"x": asm.tensor(of, 0, (4,), (1,), function="_rebuild_tensor_v3",
                                                more=(asm.name("torch", "int32"),))})
        word = f"{module}.{name}"
        twin = corpus.twin(f"P17/{word}", t.torch_zip(pickle(16), {"0": data}), {"x": ("I32", (4,), data)})
        for count in (17, 64, 2**40):
            corpus.hostile(f"P17/{word}-of-{count}", t.torch_zip(pickle(count), {"0": data}), "storage_size_mismatch",
                           f"wrong size: found 16 bytes, expected {count}", twin=twin)


def add(corpus):
    for part in (missing, small_records, other_archives, storage_sizes):
        part(corpus)
