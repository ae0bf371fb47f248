"""P20: tar archives: headers, members that are missing or twice, and the tables within the members."""

import assembler as asm
import tar_fields as tar
import torch_zip as t

MALFORMED = "legacy_malformed"


class Tars:
    def __init__(self, corpus):
        self.corpus = corpus
        self.twin = corpus.twin("T/tar", tar.archive(tar.members()), t.FLOAT_TENSOR)

    def bad(self, name, expect, *says, twin=None, **lies):
        """A member's contents lie."""
        self.corpus.hostile(f"T/{name}", tar.archive(tar.members(**lies)), expect, *says, twin=twin or self.twin)

    def bad_header(self, name, number, expect, *says, size=None, **lies):
        """A member's block lies."""
        members = list(tar.members())
        member, data = members[number]
        lies = {**lies, **({} if size is None else {"nbytes": size})}
        members[number] = tar.header(member, len(data), **lies) + tar.padded(data)
        self.corpus.hostile(f"T/{name}-{number}", tar.archive(members), expect, *says, twin=self.twin)


def headers(files):
    bad = "tar_malformed"
    at = [0, 1024, 2048, 3072]
    for number in (0, 1, 3):
        place = f"tar header at byte {at[number]}: "
        for word, magic in {"none": b"", "upper": b"USTAR", "other": b"ustaR", "blank": b" ustar"}.items():
            if number:
                files.bad_header(f"magic-{word}", number, bad, place, "it lacks the mark 'ustar'", magic=magic)
        for word, value in {"plus-one": None, "none": b"", "text": b"checksum", "blank": b"       ",
                            "zero": b"000000\0 ",
                            "eights": b"8888888", "most": b"7777777\0", "minus": b"-01234\0 "}.items():
            if value is None:
                value = b"%06o\0 " % (int(tar.header(*header_of(number))[148:154], 8) + 1)
            files.bad_header(f"sum-{word}", number, bad, place, "wrong checksum: found ", sum=value)
        for word, size in {"empty": b"", "blank": b" " * 12, "text": b"size", "eights": b"00000000888",
                           "minus": b"-0000000001",
                           "hex": b"0x10", "inside": b"00 00", "base-256-large": b"\x80" + b"\xff" * 11,
                           "base-256-2-to-88": b"\x80\1" + bytes(10),
                           "base-256-2-to-63": b"\x80\0\0\0\x80" + bytes(7)}.items():
            files.bad_header(f"size-{word}", number, bad, place, "its size is not a number", size=size)
        for word, size in {"2-to-33": b"77777777777", "base-256": b"\x80" + (2**40).to_bytes(11, "big"),
                           "most": b"\x80" + (2**62).to_bytes(11, "big")}.items():
            files.bad_header(f"size-{word}", number, bad, place, "is cut off: found ", size=size)
        for word, kind in {"hard-link": b"1", "link": b"2", "device": b"3", "block-device": b"4", "fifo": b"6",
                           "reserved": b"7",
                           "gnu-long-name": b"L", "gnu-long-link": b"K", "gnu-sparse": b"S", "solaris": b"X",
                           "high": b"\xff",
                           "blank": b" "}.items():
            files.bad_header(f"kind-{word}", number, bad, place, "has an unsupported kind: found '",
                             "expected a file or folder", kind=kind)
    files.corpus.twin("T/kind-nul", tar.archive([tar.header(n, len(d), kind=b"\0") + tar.padded(d) for n,
                                                 d in tar.members()]),
                      t.FLOAT_TENSOR)
    files.corpus.twin("T/gnu", tar.archive([tar.header(n, len(d), magic=b"ustar  \0") + tar.padded(d)
                                            for n, d in tar.members()]), t.FLOAT_TENSOR)


def header_of(number):
    name, data = tar.members()[number]
    return name, len(data)


def archives(files):
    """Members that are missing or twice, other members, and where the archive ends."""
    bad, other = "tar_malformed", "unsupported_layout"
    members = tar.members()
    whole = tar.archive(members)
    for number, (name, data) in enumerate(members):
        text = name.decode()
        left = members[:number] + members[number + 1:]
        files.corpus.hostile(f"T/no-{text}", tar.archive(left), other, "a tar archive that torch.save did not write",
                             f"it has no '{text}'", twin=files.twin)
        for word, member in {"same": (name, data), "empty": (name, b""), "first": (name, b"x")}.items():
            again = [member, *members] if word == "first" else [*members, member]
            files.corpus.hostile(f"T/{text}-twice-{word}", tar.archive(again), bad, f"duplicate member '{text}'",
                                 twin=files.twin)
        for word, renamed in {"upper": name.upper(), "dot": b"./" + name, "folder": b"model/" + name, "blank": name
                              + b" "}.items():
            again = list(members)
            again[number] = (renamed, data)
            files.corpus.hostile(f"T/{text}-as-{word}", tar.archive(again), other, f"it has no '{text}'",
                                 twin=files.twin)
        again = list(members)
        again[number] = tar.header(name, len(data), prefix=b"folder") + tar.padded(data)
        files.corpus.hostile(f"T/{text}-with-prefix", tar.archive(again), other, f"it has no '{text}'", twin=files.twin)
        again[number] = tar.member(name, data, kind=b"5")
        files.corpus.hostile(f"T/{text}-a-folder", tar.archive(again), other, f"it has no '{text}'", twin=files.twin)
    for word, end in {"nothing": b"", "half": bytes(256), "511": bytes(511), "text": b"x" * 511}.items():
        files.corpus.hostile(f"T/ends-in-{word}", tar.archive(members, end=end), bad,
                             f"tar header at byte {len(whole) - 1024}: the file ends before the archive's final",
                             twin=files.twin)
    for word, end in {"text": b"x" * 512, "number": bytes(511) + b"\1"}.items():
        files.corpus.hostile(f"T/ends-in-block-of-{word}", tar.archive(members, end=end), bad,
                             "it lacks the mark 'ustar'",
                             twin=files.twin)
    files.corpus.hostile("T/last-padding-cut", whole[:-1024 - 100], bad, "is cut off: found ", twin=files.twin)
    files.corpus.twin("T/one-block-of-zeros", tar.archive(members, end=bytes(512)), t.FLOAT_TENSOR)
    files.corpus.twin("T/another-member", tar.archive([*members, (b"readme", b"text")]), t.FLOAT_TENSOR)
    for count in (61, 100):
        many = members + [(b"f%d" % i, b"") for i in range(count)]
        files.corpus.hostile(f"T/{count}-members-more", tar.archive(many), other,
                             "a tar archive with more members than torch.save writes",
                             twin=files.twin)
    folders = members + [tar.header(b"d%d/" % i, 0, kind=b"5") for i in range(256)]
    files.corpus.hostile("T/256-folders", tar.archive(folders), other,
                         "a tar archive with more members than torch.save writes", twin=files.twin)
    pax(files, members)


def pax(files, members):
    def record(text):
        data = text.encode()
        size = len(data) + 3
        size = len(data) + len(str(size)) + 2
        return b"%d %s\n" % (size, data)
    for kind in (b"x", b"g"):
        word = kind.decode()
        twin = files.corpus.twin(f"T/pax-{word}", tar.archive([tar.member(b"pax", record("mtime=12.5"), kind=kind),
                                                               *members]),
                                 t.FLOAT_TENSOR)
        for key in ("path=sys_info2", "size=9", "linkpath=x", "GNU.sparse.size=1", "GNU.sparse.name=x"):
            data = record("mtime=12.5") + record(key)
            files.corpus.hostile(f"T/pax-{word}-{key}", tar.archive([tar.member(b"pax", data, kind=kind), *members]),
                                 "tar_malformed", "unsupported pax record: " + key.split("=")[0].split(".s")[0],
                                 twin=twin)
        long = record("comment=" + "c" * 70_000)
        files.corpus.hostile(f"T/pax-{word}-of-70000-bytes", tar.archive([tar.member(b"pax", long, kind=kind),
                                                                          *members]),
                             "tar_malformed", "its pax records are too long", twin=twin)


def machines(files):
    for word, machine in {"none": asm.pickled(None), "list": [], "int": asm.pickled(1),
                          "str": asm.pickled("x")}.items():
        files.bad(f"sys_info-{word}", MALFORMED, "'sys_info' is not a dict", machine=machine)
    for word, machine in {"empty": asm.pickled({}), "other": {"protocol": 1000}, "bytes-key": asm.pickled(
            {asm.Bytes(b"protocol_version"): 1000}), "int-key": asm.pickled({1000: 1000})}.items():
        files.bad(f"sys_info-{word}-keys", MALFORMED, "'sys_info' has no protocol_version", machine=machine)
    for word, value in {"1001": 1001, "999": 999, "none": None, "str": "1000", "float": 1000.0,
                        "2-to-64": 2**64}.items():
        files.bad(f"sys_info-protocol-{word}", "torch_version_unsupported", "'sys_info' has an unsupported protocol",
                  machine={"protocol_version": value})
    files.bad("sys_info-cut", "pickle_truncated", "'sys_info'", machine=asm.pickled({"protocol_version": 1000})[:-1])
    files.bad("sys_info-nothing", "pickle_truncated", "'sys_info'", machine=b"")
    files.bad("sys_info-unknown-opcode", "pickle_opcode_unknown", "'sys_info'", machine=b"\x80\2\xff.")


def counts(files):
    """The numbers of rows of both tables."""
    says = "the count is not an int that fits the member"
    for number, member in enumerate(("storages", "tensors")):
        for word, count in {"negative": -1, "none": None, "str": "1", "float": 1.0, "bool": True, "tuple": (1,),
                            "page": 4096,
                            "2-to-62": 2**62, "2-to-64": 2**64, "least": -2**63}.items():
            lie = [1, 1]
            lie[number] = count
            files.bad(f"{member}-count-{word}", MALFORMED, f"'{member}': ", says, counts=lie)
        two = [1, 1]
        two[number] = 2
        error = (MALFORMED, "a row is not a tuple") if number == 0 else ("pickle_truncated", "a pickle from byte")
        files.bad(f"{member}-count-two-of-one", error[0], f"'{member}': ", *error[1:], counts=two)
    files.bad("storages-count-none-of-one", MALFORMED, "'storages': the parts of storages are not a list",
              counts=(0, 1))
    files.bad("tensors-count-none-of-one", "persistent_id_malformed", "1 is not a tensor or storage of the archive",
              counts=(1, 0))
    for word, contents in {"nothing": b"", "cut": asm.pickled(1)[:-1]}.items():
        files.bad(f"storages-{word}", "pickle_truncated", "'storages': ", storages=contents)
        files.bad(f"tensors-{word}", "pickle_truncated", "'tensors': ", tensors=contents)


ROWS = {"none": None, "list": [0, 0, 0], "of-2": (0, "cpu"), "of-4": (0, "cpu", asm.name("torch", "FloatStorage"), 1),
        "key-str": ("0", "cpu", asm.name("torch", "FloatStorage")), "key-none": (None, "cpu", None), "empty": (),
        "key-2-to-64": (2**64, "cpu", asm.name("torch", "FloatStorage")), "key-float": (0.0, "cpu", None)}


def storages(files):
    for word, row in ROWS.items():
        lie = asm.pickled(row) + tar.storage_row()[-32:]
        files.bad(f"storage-row-{word}", MALFORMED, "'storages': a row is not a tuple of a number and two values",
                  storages=[lie])
    kind = asm.name("torch", "FloatStorage")
    for word, row, says in (("class-none", (0, "cpu", None), "its class is not a storage class"),
                            ("class-other", (0, "cpu", asm.name("os", "system")), "'os.system' is not a storage class"),
                            ("class-tensor", (0, "cpu", asm.name("torch", "FloatTensor")), "is not a storage class"),
                            ("location-none", (0, None, kind), "its location is not a text"),
                            ("location-int", (0, 0, kind), "its location is not a text")):
        files.bad(f"storage-{word}", "persistent_id_malformed", "'storages': ", says,
                  storages=[tar.storage_row(row=row)])
    files.bad("storage-count-negative", "persistent_id_malformed", "its count is not a non-negative int",
              storages=[tar.storage_row(count=-1)])
    for word, count in {"7": 7, "page": 1024, "2-to-60": 2**60}.items():
        files.bad(f"storage-of-{word}", "legacy_truncated", "'storages': storage 0: ", "cut off: found ",
                  storages=asm.pickled(1) + tar.storage_row(count=count))
    files.bad("storage-of-2-to-62", "size_overflow", "storage '0'", storages=[tar.storage_row(count=2**62)])
    for cut in (1, 7, 8):
        row = asm.pickled((0, "cpu", kind)) + bytes(8 - cut)
        files.bad(f"storage-count-cut-by-{cut}", "legacy_truncated", "'storages': ",
                  f"cut off: found {8 - cut} of 8 bytes",
                  storages=asm.pickled(1) + row)
    files.bad("storage-twice", "storage_conflict", "'storages': storage 0 appears twice",
              storages=[tar.storage_row(), tar.storage_row()], counts=(2, 1))
    for word, value in {"none": None, "tuple": (), "dict": {}, "int": 0}.items():
        files.bad(f"views-{word}", MALFORMED, "'storages': the parts of storages are not a list",
                  storages=asm.pickled(1) + tar.storage_row() + asm.pickled(value))
    files.bad("views-missing", "pickle_truncated", "'storages': a pickle from byte", storages=asm.pickled(1)
              + tar.storage_row())


def views(files):
    """Parts of storages."""
    view = (9, 0, 2, 4)
    twin = files.corpus.twin("T/view", tar.archive(tar.members(views=[view], tensors=[tar.tensor_row(
        storage=9, sizes=(2,), strides=(1,))])), {"w": ("F32", (2,), t.FLOATS[8:16])})

    def bad(word, expect, *says, views_of=None, **more):
        files.bad(f"view-{word}", expect, *says, twin=twin, views=views_of,
                  **{"tensors": [tar.tensor_row(storage=9, sizes=(2,), strides=(1,))], **more})
    for word, row in {"none": None, "list": list(view), "of-3": view[:3], "of-5": (*view, 0), "key-str": ("9", 0, 2, 4),
                      "key-none": (None, 0, 2, 4)}.items():
        bad(word, MALFORMED, "a part of a storage is not a tuple of four numbers", views_of=[row])
    for word, root in {"other": 5, "itself": 9, "none": None, "str": "0", "2-to-63": 2**63 - 1}.items():
        bad(f"of-{word}", "storage_missing", "'storages': no storage ", views_of=[(9, root, 2, 4)])
    for word, part in {"by-one": (3, 4), "begins-behind": (7, 0), "count-most": (0, 2**63 - 1),
                       "wraps": (2**62, 2**62)}.items():
        bad(word, "tensor_out_of_storage", "leaves storage '0', which has 6", views_of=[(9, 0, *part)])
    for word, part in {"first-negative": (-1, 4), "count-negative": (2, -1), "first-none": (None, 4),
                       "count-str": (2, "4")}.items():
        bad(word, "persistent_id_malformed", "its view is not a tuple of a text and two non-negative ints",
            views_of=[(9, 0, *part)])
    bad("twice", "storage_conflict", "9", views_of=[view, (9, 0, 0, 4)])
    bad("twice-the-same", "storage_conflict", "storage 9 appears twice", views_of=[view, view])
    bad("key-of-its-storage", "storage_conflict", "0", views_of=[view, (0, 0, 2, 4)])


def tensors(files):
    for word, row in ROWS.items():
        lie = asm.pickled(row) + tar.tensor_row()[-48:]
        files.bad(f"tensor-row-{word}", MALFORMED, "'tensors': a row is not a tuple of a number and two values",
                  tensors=[lie])
    for word, storage in {"other": 7, "negative": -1, "none": None, "str": "0", "its-own-key": 1,
                          "tuple": (0,)}.items():
        files.bad(f"tensor-of-{word}", "storage_missing", "'tensors': no storage ",
                  tensors=[tar.tensor_row(storage=storage)])
    for word, rank in {"65": 65, "negative": -1, "least": -2**31, "most": 2**31 - 1}.items():
        files.bad(f"tensor-rank-{word}", MALFORMED, f"tensor 1 has {rank} dimensions, torch allows 64",
                  tensors=[tar.tensor_row(rank=rank)])
    files.bad("tensor-rank-3-of-2", "legacy_truncated", "'tensors': ", " of 8 byte",
              tensors=[tar.tensor_row(rank=3)])
    for cut in range(1, 48, 6):
        files.bad(f"tensor-cut-by-{cut}", "legacy_truncated", "'tensors': cut off: found ",
                  tensors=asm.pickled(1) + tar.tensor_row()[:-cut])
    rows = {"offset-1": dict(offset=1), "offset-most": dict(offset=2**63 - 1), "row-more": dict(sizes=(3, 3)),
            "stride-4": dict(strides=(4, 1)), "scalar-behind": dict(sizes=(), strides=(), offset=6)}
    for word, lie in rows.items():
        files.bad(f"tensor-{word}", "tensor_out_of_storage", "'tensors': tensor 1: ", "reaches element",
                  tensors=[tar.tensor_row(**lie)])
    for word, lie in {"sizes": dict(sizes=(2**32, 2**32), strides=(0, 0)),
                      "strides": dict(strides=(3, 2**63 - 1))}.items():
        files.bad(f"tensor-{word}-overflow", "size_overflow", "'tensors': tensor 1: ", tensors=[tar.tensor_row(**lie)])
    for word, lie, says in (("size", dict(sizes=(2, -3)), "the sizes hold"), ("stride", dict(strides=(-3, 1)),
                                                                              "the strides hold"),
                            ("offset", dict(offset=-1), "the offset is not a non-negative int")):
        files.bad(f"tensor-{word}-negative", "rebuild_malformed", "'tensors': tensor 1: ", says,
                  tensors=[tar.tensor_row(**lie)])
    files.bad("tensor-of-a-tensor", "storage_missing", "'tensors': no storage 1",
              tensors=[tar.tensor_row(), tar.tensor_row(key=2, storage=1)], counts=(1, 2))
    files.bad("tensor-twice", "storage_conflict", "tensor 1 appears twice", tensors=[tar.tensor_row()] * 2,
              counts=(1, 2))
    files.bad("tensor-with-the-key-of-a-storage", "storage_conflict", "tensor 0 appears twice",
              tensors=[tar.tensor_row(key=0)])


def pickles(files):
    """The object: its persistent ids are numbers of the tables, as texts."""
    shape = "expected the decimal number of a tensor or storage"
    for word, value in {"int": 1, "none": None, "float": 1.0, "bytes": asm.Bytes(b"1"), "empty": "", "text": "one",
                        "plus": "+1",
                        "blank": " 1", "suffix": "1L", "half": "1.0", "2-to-64": str(2**64), "list": ["1"],
                        "tuple-of-2": ("1", "2"), "nul": "1\0"}.items():
        files.bad(f"id-{word}", "persistent_id_malformed", shape, pickle={"w": asm.code(value) + b"Q"})
    for word, value in {"2": "2", "negative": "-1", "most": str(2**63 - 1)}.items():
        files.bad(f"id-{word}", "persistent_id_malformed", f"{value} is not a tensor or storage of the archive",
                  pickle={"w": asm.code(value) + b"Q"})
    files.bad("id-module-of-str", "persistent_id_malformed", "its class is not a global",
              pickle={"w": asm.code(("Net", "f.py", "code")) + b"Q"})
    files.bad("pickle-cut", "pickle_truncated", "'pickle' from byte", pickle=asm.pickled({"w": 1})[:-1])
    files.bad("pickle-nothing", "pickle_truncated", "'pickle' from byte", pickle=b"")
    files.bad("pickle-id-in-a-table", "persistent_id_malformed", "in a plain pickle",
              tensors=[tar.tensor_row(row=(1, asm.code("0") + b"Q", None))])


def add(corpus):
    files = Tars(corpus)
    for part in (headers, archives, machines, counts, storages, views, tensors, pickles):
        part(files)
