"""Z05, Z07, Z11 to Z13: names of entries, entries that overlap, and deflated ones."""

import dataclasses
import zlib

import assembler as asm
import deflate_bits as bits
import torch_zip as t
import zip_fields as z

REFUSED = "zip_name_refused"
PART = "has an empty, '.' or '..' component"
CONTROL = "has a backslash or control character"


def with_entry(item, form="torch", at=None):
    """The model's archive and one item more, which torch would pass over."""
    items = t.items(item=t.torch_item if form == "torch" else t.plain_item)
    items.insert(len(items) if at is None else at, item)
    return z.build(items, z.Ending(zip64=form == "torch"))


def names(corpus):
    """Z05: names that others would take as paths, and such as cannot be shown."""
    bad = {"empty": (b"", "is empty"), "root": (b"/", PART), "absolute": (b"/model/x", PART),
           "double-slash": (b"model//x", PART), "triple-slash": (b"model///x", PART),
           "two-at-end": (b"model/x//", PART),
           "dot": (b".", PART), "dot-dot": (b"..", PART), "parent": (b"../x", PART), "dot-first": (b"./model/x", PART),
           "parent-inside": (b"model/../x", PART), "dot-inside": (b"model/./x", PART),
           "ends-in-dot": (b"model/.", PART),
           "ends-in-parent": (b"model/..", PART), "parent-folder": (b"model/../", PART), "unc": (b"//host/x", PART),
           "parent-of-parent": (b"model/../../x", PART), "parent-deep": (b"model/a/b/c/d/../x", PART),
           "backslash": (b"model\\x", CONTROL), "drive": (b"model/C:\\x", CONTROL),
           "backslash-first": (b"\\x", CONTROL),
           "backslash-last": (b"model/x\\", CONTROL), "parent-backslash": (b"model/..\\..\\x", CONTROL),
           "nul-first": (b"\0model/x", CONTROL), "nul-inside": (b"model/data.pkl\0.txt", CONTROL),
           "nul-last": (b"model/x\0", CONTROL)}
    bad |= {f"control-{c:02x}": (b"model/x" + bytes([c]), CONTROL) for c in (1, 7, 8, 9, 10, 13, 27, 31)}
    for form in ("torch", "plain"):
        item = t.torch_item if form == "torch" else t.plain_item
        for word, (name, says) in bad.items():
            good = b"model/" + b"n" * (max(len(name), 7) - 6)
            twin = corpus.twin(f"Z05/name-of-{len(good)}-bytes@{form}", with_entry(item(good, b"more"), form),
                               t.MODEL_TENSORS)
            corpus.hostile(f"Z05/{word}@{form}", with_entry(item(name, b"more"), form), REFUSED, says, twin=twin)
    accepted = {"dots": b"model/...", "dot-name": b"model/.data/x", "blank": b"model/ ", "colon": b"model/C:x",
                "utf-8": "model/é".encode(), "del": b"model/\x7f",

                "folder": b"model/folder/", "longest": b"model/" + b"n" * (0xFFFF - 6), "rtl": "model/\u202e".encode(),
                "percent": b"model/%2e%2e", "deep": b"model" + b"/d" * 2000, "second-pickle": b"model/sub/data.pkl"}
    for word, name in accepted.items():
        data = b"" if name.endswith(b"/") else b"more"
        corpus.twin(f"Z05/{word}", with_entry(t.torch_item(name, data)), t.MODEL_TENSORS)


def not_utf8(corpus):
    """Z05: names that are not UTF-8 although their flags call them so; without the flag they are of no known code."""
    for word, name in {"latin-1": b"model/caf\xe9", "overlong-slash": b"model/\xc0\xaf",
                       "surrogate": b"model/\xed\xa0\x80",
                       "continuation": b"model/\x80", "cut": b"model/\xe2\x82", "above": b"model/\xf4\x90\x80\x80",
                       "ff": b"model/\xff", "overlong-nul": b"model/x\xc0\x80",
                       "overlong-dots": b"model/\xc0\xae\xc0\xae/x"}.items():
        twin = corpus.twin(f"Z05/{word}-without-the-flag", with_entry(t.plain_item(name, b"more"), "plain"),
                           t.MODEL_TENSORS)
        corpus.hostile(f"Z05/{word}-called-utf-8", with_entry(t.plain_item(name, b"more", flags=0x0800), "plain"),
                       REFUSED,
                       "its flags say that the name is UTF-8, but it is not", twin=twin)
    # torch sets the flag whatever the encoding of its folder is.
    corpus.hostile("Z05/folder-called-utf-8",
                   with_entry(t.plain_item(b"model\xff/x", b"more", flags=0x0800), "plain"),
                   "zip_prefix_refused", "is outside the folder 'model'", twin="Z00/plain")


def twice(corpus):
    """Z05: one name twice, or twice but for its case: readers differ in which they take."""
    says = ("zip_duplicate_name", "duplicate name: the zip also has 'model/")
    for form in ("torch", "plain"):
        item = t.torch_item if form == "torch" else t.plain_item
        original = {entry.name: entry.data for entry in t.items()}
        for name, data in original.items():
            word = name.decode().replace("/", "-")
            twin = corpus.twin(f"Z05/{word}-and-another@{form}",
                               with_entry(item(b"model/" + b"2" * (len(name) - 6), data), form), t.MODEL_TENSORS)
            others = {"same": (name, data), "empty": (name, b""), "other": (name, bytes(len(data))),
                      "upper": (name.upper(), data), "upper-folder": (b"MODEL" + name[5:], data)}
            for kind, (second, contents) in others.items():
                for place, at in (("first", 0), ("last", None)):
                    corpus.hostile(f"Z05/{word}-twice-{kind}-{place}@{form}",
                                   with_entry(item(second, contents), form,
                                              at), says[0], "duplicate name: the zip also has '", twin=twin)


def folders(corpus):
    """Z05: records outside the folder of the first one, and folders with contents."""
    for form in ("torch", "plain"):
        item = t.torch_item if form == "torch" else t.plain_item
        twin = corpus.twin(f"Z05/inside@{form}", with_entry(item(b"model/x", b"more"), form), t.MODEL_TENSORS)
        for word, name in {"top": b"x", "other": b"other/x", "case": b"Model/x", "longer": b"models/x",
                           "shorter": b"mode/x", "the-folder-itself": b"model", "macosx": b"__MACOSX",
                           "pickle": b"other/data.pkl", "top-pickle": b"data.pkl", "storage": b"other/data/0"}.items():
            corpus.hostile(f"Z05/outside-{word}@{form}", with_entry(item(name, b"more"), form), "zip_prefix_refused",
                           "zip entry '", "is outside the folder 'model'", twin=twin)
            corpus.hostile(f"Z05/outside-{word}-first@{form}", with_entry(item(name, b"more"), form, 0),
                           "zip_prefix_refused", twin=twin, *first_folder(name))
        for word, name, data in (("one-byte", b"model/f/", b"x"), ("pickle", b"model/data.pkl/", t.model_pickle())):
            corpus.hostile(f"Z05/folder-with-{word}@{form}", with_entry(item(name, data), form),
                           "zip_directory_malformed", "wrong size of a folder", twin=twin)
        flat = [dataclasses.replace(entry, name=entry.name[6:]) for entry in t.items(item=item)]
        corpus.hostile(f"Z05/no-folder@{form}", z.build(flat, z.Ending(zip64=form == "torch")), "zip_prefix_refused",
                       "the pickle is not in the folder of the first zip entry", twin=twin)
    for form, item, zip64 in (("torch", t.torch_item, True), ("plain", t.plain_item, False)):
        unlisted = [dataclasses.replace(entry, listed=False) for entry in t.items(item=item)]
        corpus.hostile(f"Z15/nothing-listed@{form}", z.build(unlisted, z.Ending(zip64=zip64)), "unsupported_layout",
                       "the zip file is empty", twin=f"Z00/{form}")
    corpus.twin("Z05/macosx", with_entry(t.torch_item(b"__MACOSX/model/x", b"more")), t.MODEL_TENSORS)


def first_folder(name):
    if name in (b"other/data.pkl", b"model"):
        return (f"is outside the folder '{name.split(b'/')[0].decode()}'",)
    return ("the pickle is not in the folder of the first zip entry",)


def descriptors(corpus):
    """Z07: nothing in a .pth file's descriptors is used, so that all forms of them are read alike; and data that look
    like parts of a zip are data."""
    items = t.items()
    forms = {"without-signature": dict(described=False, stored=t.FLOATS + bytes(12)),
             "of-64-bits": dict(described64=True),
             "missing": dict(described=False)}
    for word, form in forms.items():
        changed = list(items)
        sizes = {"stored": len(t.FLOATS)} if "stored" in form else {}
        changed[2] = dataclasses.replace(items[2], **form, central=sizes)
        corpus.twin(f"Z07/{word}", z.build(changed), t.MODEL_TENSORS)
    whole = z.build(items)
    end = whole.rindex(b"PK\5\6")
    parts = {"local": whole[:60], "central": whole[whole.index(b"PK\1\2"):end][:80], "end": whole[end:],
             "descriptor": z.data_descriptor(items[0]), "archive": whole}
    for word, part in parts.items():
        data = (part + bytes(-len(part) % 4))
        pickle = asm.pickled({"x": asm.tensor(asm.storage("ByteStorage", count=len(data)), 0, (len(data),), (1,))})
        for form, item in (("torch", t.torch_item), ("plain", t.plain_item)):
            corpus.twin(f"Z07/data-like-{word}@{form}", t.torch_zip(pickle, {"0": data}, item=item),
                        {"x": ("U8", (len(data),), data)})


def overlaps(corpus):
    """Z11: entries that share bytes."""
    for form, item, zip64 in (("torch", t.torch_item, True), ("plain", t.plain_item, False)):
        items = t.items(item=item)
        twin = corpus.twin(f"Z00/{form}", z.build(items, z.Ending(zip64=zip64)), t.MODEL_TENSORS)
        for number in range(5):
            for word, more in (("by-one", 1), ("whole", 60), ("to-directory", 150)):
                room = 16 if form == "torch" else 0
                lie = (lambda n, more=more, room=room: n + room + more)
                local = {"stored": lie, "nbytes": lie} if form == "plain" else {}
                changed = list(items)
                changed[number] = dataclasses.replace(items[number], central={"stored": lie, "nbytes": lie},
                                                      local=local)
                corpus.hostile(f"Z11/entry-{number}-reaches-{word}@{form}", z.build(changed, z.Ending(zip64=zip64)),
                               "zip_overlap", "overlap what begins at byte", twin=twin)
        same_header(corpus, form, items, twin)
        nested(corpus, form, item, twin)


def same_header(corpus, form, items, twin):
    """Several entries of the directory for one local header."""
    ending = z.Ending(zip64=form == "torch")
    offset = z.build(items, ending).index(items[2].name) - 30
    second = dataclasses.replace(items[2], name=b"model/data/2", listed=True, central={"offset": offset})
    header = z.central_header(second, 0)
    for word, place, *error in (("before", 0, "zip_local_mismatch", "zip entry 'model/data/2'",
                                 "wrong name in the local header"),
                                ("behind", 5, "zip_overlap", "zip entry 'model/data/0'", "overlap what begins")):
        def reorder(headers, place=place):
            return headers[:place] + [header] + headers[place:]
        corpus.hostile(f"Z11/second-name-for-a-header-{word}@{form}",
                       z.build(items, dataclasses.replace(ending, reorder=reorder)), *error, twin=twin)
    for count in (100, 3000):
        headers = [z.central_header(dataclasses.replace(second, name=b"model/quoted/%d" % i), 0) for i in range(count)]
        corpus.hostile(f"Z11/{count}-names-for-a-header@{form}",
                       z.build(items, dataclasses.replace(ending, reorder=lambda all, h=headers: all + h)),
                       "zip_overlap", "zip entry 'model/data/0'", "overlap what begins at byte", twin=twin)


def nested(corpus, form, item, twin):
    """An entry within another one's data, and one within the central directory's own bytes."""
    ending = z.Ending(zip64=form == "torch")
    inner = dataclasses.replace(item(b"model/inner", b"hidden"), padded=False)
    within = z.local_header(inner, 0) + b"hidden"
    outer = item(b"model/outer", b"front" + within + b"back")
    items = t.items(item=item) + [outer]
    plain = z.build(items, ending)
    good = corpus.twin(f"Z11/data-with-a-header@{form}", plain, t.MODEL_TENSORS)
    inner.central["offset"] = plain.index(within)
    header = z.central_header(inner, 0)
    corpus.hostile(f"Z11/entry-within-an-entry@{form}",
                   z.build(items, dataclasses.replace(ending, reorder=lambda all: all + [header])), "zip_overlap",
                   "zip entry 'model/outer'", "overlap what begins at byte", twin=good)
    items = t.items(item=item)
    commented = dataclasses.replace(items[1], central={"comment": within})
    items[1] = commented
    good = corpus.twin(f"Z11/comment-with-a-header@{form}", z.build(items, ending), t.MODEL_TENSORS)
    inner.central["offset"] = z.build(items, ending).index(within)
    header = z.central_header(inner, 0)
    corpus.hostile(f"Z11/entry-within-the-directory@{form}",
                   z.build(items, dataclasses.replace(ending, reorder=lambda all: all + [header])), "zip_overlap",
                   "zip entry 'model/inner'", "overlap what begins at byte", twin=good)


def deflate_streams(data):
    """Z13: {what is wrong: (stream, what the message says)} of streams for `data`."""
    good = z.deflated(data)
    damaged = "the deflated record is damaged after"
    inside = "stored bytes end before the stream does"
    short = "the deflated record is too short: found"
    streams = {
        "reserved-block": (bits.Bits().number(1, 1).number(3, 2).bytes(data).data(), damaged),
        "stored-lengths-differ": (bits.stored(data, inverse=0), damaged),
        "stored-lengths-equal": (bits.stored(data, inverse=len(data) & 0xFFFF), damaged),
        "stored-longer": (bits.stored(data, length=len(data) + 1), inside),
        "stored-shorter": (bits.stored(data, length=len(data) - 1), short),
        "stored-not-last": (bits.stored(data, last=False), inside),
        "no-end": (bits.fixed(data[:-3], end=False)[:-1], inside),
        "distance-before-begin": (bits.fixed(b"", match=(0, 0, 0)), damaged),
        "distance-too-far": (bits.fixed(data[:2], match=(3, 0, 0)), damaged),
        "distance-code-30": (bits.fixed(data[:9], match=(30, 0, 0)), damaged),
        "too-many-lengths": (bits.dynamic({0: 1, 1: 1}, hlit=30, hdist=30), damaged),
        "lengths-over-subscribed": (bits.dynamic({s: 1 for s in range(3)}), damaged),
        "lengths-incomplete": (bits.dynamic({0: 2, 1: 2, 2: 2}), damaged),
        "lengths-none": (bits.dynamic({}, rest=[(0, 8)] * 60), damaged),
        "repeat-of-nothing": (bits.dynamic({16: 1, 0: 1}, rest=[(1, 1), (0, 2)] + [(0, 8)] * 20), damaged),
        "no-end-symbol": (bits.dynamic({0: 1, 1: 1}, rest=[(0, 8)] * 60), damaged),
        "cut": (good[:-1], inside), "half": (good[:len(good) // 2], inside), "nothing": (b"", inside),
        "one-byte-behind": (good + b"\0", "has unused bytes: its stream takes"), "page-behind": (good + bytes(100),
                                                                                    "has unused bytes"),
        "longer": (z.deflated(data + b"x"), "the deflated record is too long"), "shorter": (z.deflated(data[:-1]),
                                                                                            short),
        "much-longer": (z.deflated(data + bytes(9000)), "the deflated record is too long"),
        "zlib-header": (zlib.compress(data), damaged), "gzip-like": (b"\x1f\x8b\x08\0" + good, damaged)}
    return streams


def deflate(corpus):
    """Z13, Z12: streams that are none, of the pickle, of a storage, and of a small record."""
    for number, word in ((0, "pickle"), (1, "byteorder"), (2, "storage"), (4, "version")):
        items = t.items(item=t.plain_item)
        data = items[number].data

        def archive(stream, items=items, number=number):
            changed = list(items)
            changed[number] = dataclasses.replace(items[number], method=8, stored=stream)
            return z.build(changed, z.Ending(zip64=False))
        twin = corpus.twin(f"Z13/deflated-{word}", archive(z.deflated(data)), t.MODEL_TENSORS)
        corpus.twin(f"Z13/stored-block-{word}", archive(bits.stored(data)), t.MODEL_TENSORS)
        corpus.twin(f"Z13/fixed-block-{word}", archive(bits.fixed(data)), t.MODEL_TENSORS)
        for what, (stream, says) in deflate_streams(data).items():
            if word in ("pickle", "storage") or what in ("reserved-block", "cut", "longer", "shorter", "nothing"):
                corpus.hostile(f"Z13/{what}-{word}", archive(stream), "zip_deflate_malformed", says, twin=twin)


def bombs(corpus):
    """Z12: what claims to be far more than it is, or is far more than it claims."""
    items = t.items(item=t.plain_item)
    for number, word in ((0, "pickle"), (2, "storage")):
        for size in (1 << 20, 1 << 31, 0xFFFFFFFE):
            changed = list(items)
            changed[number] = dataclasses.replace(items[number], method=8, central={"nbytes": size},
                                                  local={"nbytes": size})
            corpus.hostile(f"Z12/{word}-claims-{size}", z.build(changed, z.Ending(zip64=False)),
                           "zip_deflate_malformed", "deflated bytes cannot inflate to", twin=f"Z13/deflated-{word}")
    for power in (40, 62, 63):
        extra = z.extra_field(1, (1 << power).to_bytes(8, "little"))
        lie = {"nbytes": 0xFFFFFFFF, "extra": extra}
        changed = list(items)
        changed[0] = dataclasses.replace(items[0], method=8, central=lie, local=lie)
        corpus.hostile(f"Z12/pickle-claims-2-to-{power}", z.build(changed, z.Ending(zip64=False)),
                       "zip_deflate_malformed", "deflated bytes cannot inflate to", twin="Z13/deflated-pickle")
    for mib, bad in ((15, False), (17, True), (64, True)):
        value = asm.pickled({"w": asm.tensor(), "x": asm.Bytes(bytes(mib << 20))}, 3)
        items = t.items(value, {"0": t.FLOATS}, item=t.plain_item)
        items[0] = dataclasses.replace(items[0], method=8)
        file = z.build(items, z.Ending(zip64=False))
        if bad:
            corpus.hostile(f"Z12/pickle-of-{mib}-mib", file, "limit_exceeded", "zip entry 'model/data.pkl'",
                           "bytes, the limit is", twin="Z12/pickle-of-15-mib")
        else:
            corpus.twin(f"Z12/pickle-of-{mib}-mib", file)
    for name, good in ((b"version", b"3\n"), (b"byteorder", b"little")):
        record = {name.decode(): good + bytes(100)}
        corpus.hostile(f"Z12/{name.decode()}-of-100-bytes", t.torch_zip(**record), "limit_exceeded", name.decode(),
                       "the limit is 64", twin="Z00/torch")


def add(corpus):
    names(corpus)
    not_utf8(corpus)
    twice(corpus)
    folders(corpus)
    descriptors(corpus)
    overlaps(corpus)
    deflate(corpus)
    bombs(corpus)
