"""Z02 to Z06: what the two headers of a zip entry say, about each other and about the entry.

Each lie is told about the pickle, a storage and the last record, in files as torch writes them, as other writers do
(sizes in the local header), deflated, and with sizes both before and behind the data.
"""

import dataclasses

import torch_zip as t
import zip_fields as z

PICKLE, STORAGE, LAST = 0, 2, 4  # of torch_zip.items()
ROLES = {"pickle": PICKLE, "storage": STORAGE, "last": LAST}

STORED_FLAGS = {3, 11}       # bits that an entry may have: sizes after the data, UTF-8
DEFLATED_FLAGS = STORED_FLAGS | {1, 2}


def deflated_item(name, data):
    return t.plain_item(name, data, method=8)


def doubled_item(name, data):
    """Sizes before the data and after it."""
    return z.Item(name, data, zeros=False)


FORMS = {"torch": (t.torch_item, True), "plain": (t.plain_item, False), "deflated": (deflated_item, False),
         "doubled": (doubled_item, True)}


class Form:
    """One of the ways to write the model, and its valid file."""

    def __init__(self, corpus, name):
        self.name = name
        self.item, self.zip64 = FORMS[name]
        self.corpus = corpus
        self.twin = corpus.twin(f"Z00/{name}", z.build(self.items(), self.ending()), t.MODEL_TENSORS)

    def items(self):
        return t.items(item=self.item)

    def ending(self, **more):
        return z.Ending(zip64=self.zip64, **more)

    def lie(self, name, role, expect, *says, **lies):
        """A file in which one entry's headers say something else. `lies`: attributes of Item."""
        items = self.items()
        items[ROLES[role]] = dataclasses.replace(items[ROLES[role]], **lies)
        self.corpus.hostile(f"{name}@{self.name}-{role}", z.build(items, self.ending()), expect, *says,
                            twin=self.twin)


def flags(form, role):
    """Z02: each bit alone, in one header and in both."""
    allowed = DEFLATED_FLAGS if form.name == "deflated" else STORED_FLAGS
    for bit in range(16):
        def flip(value, bit=bit):
            return value ^ 1 << bit
        form.lie(f"Z02/local-bit-{bit}", role, "zip_local_mismatch", "zip entry 'model/",
                 "wrong flags in the local header: found 0x",
                 local={"flags": flip})
        if bit in allowed:
            form.lie(f"Z02/central-bit-{bit}", role, "zip_local_mismatch", "zip entry 'model/",
                     "wrong flags in the local header: found 0x", central={"flags": flip})
            continue
        form.lie(f"Z02/central-bit-{bit}", role, "zip_flags_refused", "zip entry 'model/",
                 "unsupported flags: found 0x", "expected only bits of",
                 central={"flags": flip})
        encrypted = ["(encrypted)"] if bit in (0, 6, 13) else []
        form.lie(f"Z02/both-bit-{bit}", role, "zip_flags_refused", "zip entry 'model/", "unsupported flags: found 0x",
                 *encrypted,
                 local={"flags": flip}, central={"flags": flip})


METHODS = {1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz", 99: "aes",
           256: "two-bytes", 0x8000: "high-bit", 0xFFFF: "all-bits"}


def methods(form, role):
    """Z03: what is neither stored nor deflated, and each of these for the other."""
    for method, word in METHODS.items():
        form.lie(f"Z03/local-{word}", role, "zip_local_mismatch", "zip entry 'model/",
                 f"wrong method in the local header: found {method}, ",
                 local={"method": method})
        form.lie(f"Z03/central-{word}", role, "zip_method_refused", "zip entry 'model/",
                 f"unsupported compression method: found {method}, expected 0",
                 central={"method": method})
        form.lie(f"Z03/both-{word}", role, "zip_method_refused",
                 f"unsupported compression method: found {method}, expected 0",
                 local={"method": method}, central={"method": method})
    other = 0 if form.name == "deflated" else 8
    form.lie("Z03/local-other", role, "zip_local_mismatch", f"wrong method in the local header: found {other}",
             local={"method": other})
    if form.name == "deflated":
        says = ("zip_directory_malformed", "wrong size of a stored entry")
    else:
        says = ("zip_local_mismatch", "wrong method in the local header: found 0, expected 8")
    form.lie("Z03/central-other", role, *says, central={"method": other})
    if form.name != "deflated":
        form.lie("Z03/both-other", role, "zip_deflate_malformed", "deflated record", local={"method": 8},
                 central={"method": 8})


def names(form, role):
    """Z04: another name in the local header than in the directory."""
    true = form.items()[ROLES[role]].name
    others = {"other": true[:-1] + b"~", "case": true.swapcase(), "nul": true + b"\0", "longer": true + b"x",
              "shorter": true[:-1], "slash": true + b"/", "empty": b"", "other-folder": b"M" + true[1:],
              "parent": b"../" + true[3:], "absolute": b"/" + true[1:], "backslash": true.replace(b"/", b"\\"),
              "dots": true.replace(b"/", b"/./"), "blank": true + b" "}
    for word, name in others.items():
        form.lie(f"Z04/local-{word}", role, "zip_local_mismatch", "zip entry 'model/", "wrong name in the local header",
                 local={"name": name})
    for word, lie in {"longer": lambda n: n + 1, "shorter": lambda n: n - 1, "none": 0}.items():
        form.lie(f"Z04/local-name-nbytes-{word}", role, "zip_local_mismatch", "wrong name in the local header",
                 local={"name_nbytes": lie})


def signatures(form, role):
    for word, signature in {"none": 0, "central": 0x02014B50, "descriptor": 0x08074B50, "end": 0x06054B50,
                            "turned": 0x504B0304, "one-bit": 0x04034B51, "text": 0x4B504B50}.items():
        if role == "pickle":
            break  # the first bytes of the file: it would be no zip
        form.lie(f"Z04/local-signature-{word}", role, "zip_local_mismatch", "no local header at byte",
                 local={"signature": signature})
    for word, signature in {"none": 0, "local": 0x04034B50, "one-bit": 0x02014B51}.items():
        says = "does not point to a central directory" if role == "pickle" else f"entry {ROLES[role]}: wrong signature"
        form.lie(f"Z04/central-signature-{word}", role, "zip_directory_malformed", says,
                 central={"signature": signature})


def crcs(form, role):
    """Z08: the two headers differ. A stored one that is wrong in both is left to verify()."""
    for word, lie in {"plus-one": lambda c: c + 1, "turned": lambda c: c ^ 0xFFFFFFFF}.items():
        form.lie(f"Z08/local-crc-{word}", role, "zip_local_mismatch", "wrong CRC in the local header",
                 local={"crc": (lambda c, lie=lie: lie(c) or 7)})
        if form.name != "torch":
            form.lie(f"Z08/central-crc-{word}", role, "zip_local_mismatch", "wrong CRC in the local header",
                     central={"crc": lie})
    if form.name in ("plain", "deflated"):
        form.lie("Z08/local-crc-zero", role, "zip_local_mismatch", "wrong CRC in the local header",
                 local={"crc": 0})


SIZES = {"plus-one": lambda n: n + 1, "minus-one": lambda n: n - 1, "half": lambda n: n // 2, "twice": lambda n: 2 * n
         + 1,
         "high-bit": lambda n: n | 1 << 31, "most": 0xFFFFFFFE}


def local_sizes(form, role):
    """Z06: sizes in the local header that are not the directory's."""
    for field in ("stored", "nbytes"):
        lies = dict(SIZES)
        if form.name == "torch":  # its true value is 0
            lies = {"one": 1, "high-bit": 1 << 31, "most": 0xFFFFFFFE}
        if form.name in ("plain", "deflated"):
            lies["none"] = 0
        for word, lie in lies.items():
            form.lie(f"Z06/local-{field}-{word}", role, "zip_local_mismatch", "wrong sizes in the local header",
                     local={field: lie})
        form.lie(f"Z06/local-{field}-marked", role, "zip64_malformed",
                 "the local header's zip64 extra field is missing or too short", local={field: 0xFFFFFFFF})


def local_zip64(form, role):
    """Z06: the zip64 extra field of a local header, where sizes are marked."""
    sizes = form.items()[ROLES[role]].sizes()
    marked = {"stored": 0xFFFFFFFF, "nbytes": 0xFFFFFFFF}
    for length in (0, 4, 7, 8, 12, 15):
        extra = z.extra_field(1, (sizes["nbytes"].to_bytes(8, "little") + bytes(8))[:length])
        form.lie(f"Z06/local-zip64-{length}-bytes", role, "zip64_malformed",
                 "the local header's zip64 extra field is missing or too short", local={**marked, "extra": extra})
    lies = {"nbytes": (1, 0), "stored": (0, 1), "both": (1, 1), "wraps": (1 << 32, 1 << 32), "huge": (1 << 63, 1 << 63)}
    for word, (nbytes, stored) in lies.items():
        data = (sizes["nbytes"] + nbytes).to_bytes(8, "little") + (sizes["stored"] + stored).to_bytes(8, "little")
        form.lie(f"Z06/local-zip64-lies-{word}", role, "zip_local_mismatch", "wrong sizes in the local header",
                 local={**marked, "extra": z.extra_field(1, data)})


def central_sizes(form, role):
    """Z06: sizes in the directory that are not the entry's."""
    for field in ("stored", "nbytes"):
        for word, lie in SIZES.items():
            form.lie(f"Z06/central-{field}-{word}", role, *central_size_error(form, field, word),
                     central={field: lie})
        form.lie(f"Z06/central-{field}-marked", role, "zip64_malformed", "wrong size of its zip64 extra field: found 0",
                 central={field: 0xFFFFFFFF})


def central_size_error(form, field, word):
    if form.name != "deflated":
        return "zip_directory_malformed", "wrong size of a stored entry"
    if field == "nbytes" and word in ("high-bit", "most"):
        return "zip_deflate_malformed", "deflated bytes cannot inflate to"
    if field == "stored" and word in ("high-bit", "most"):
        return "zip_out_of_bounds", "extend past the end of the file of"
    return "zip_local_mismatch", "wrong sizes in the local header"


def central_zip64(form, role):
    """Z06: the zip64 extra field of the directory: of each length, with and without marks, and twice."""
    sizes = form.items()[ROLES[role]].sizes()
    values = sizes["nbytes"].to_bytes(8, "little") + sizes["stored"].to_bytes(8, "little") + bytes(16)
    for length in (4, 7, 8, 12, 16, 20, 24, 28, 32):
        form.lie(f"Z06/central-zip64-unmarked-{length}-bytes", role, "zip64_malformed",
                 f"wrong size of its zip64 extra field: found {length} bytes, expected 0",
                 central={"extra": z.extra_field(1, values[:length])})
        if length != 16:
            form.lie(f"Z06/central-zip64-marked-{length}-bytes", role, "zip64_malformed",
                     f"wrong size of its zip64 extra field: found {length} bytes, expected 16",
                     central={"stored": 0xFFFFFFFF, "nbytes": 0xFFFFFFFF,
                              "extra": z.extra_field(1, values[:length])})
    form.lie("Z06/central-zip64-empty", role, "zip64_malformed", "wrong size of its zip64 extra field: found 0",
             central={"extra": z.extra_field(1, b"")})
    twice = z.extra_field(1, values[:8])
    form.lie("Z06/central-zip64-twice", role, "zip_directory_malformed", "extra field 0x1 appears twice",
             central={"nbytes": 0xFFFFFFFF, "extra": twice + twice})
    form.lie("Z06/local-zip64-twice", role, "zip_directory_malformed", "extra field 0x1 appears twice",
             local={"extra": twice + twice})


def extras(form, role):
    """Z04, Z06: lists of extra fields that do not fill their bytes, and a second name in one of them."""
    path = b"\1" + bytes(4) + b"model/other"
    lists = {"one-byte": b"\1", "three-bytes": b"\1\0\0", "too-long": b"\x42\x46\5\0ZZZZ",
             "longest": b"\x42\x46\xff\xff",
             "second-too-long": z.extra_field(0x4246, b"Z") + b"\x42\x46\1\0", "rest": z.extra_field(0x4246,
                                                                                                     b"Z") + b"Z"}
    for word, extra in lists.items():
        if form.item is t.plain_item or form.name == "deflated":  # torch's padding would follow
            form.lie(f"Z06/local-extra-{word}", role, "zip_directory_malformed",
                     "the extra fields do not fill their length", local={"extra": extra})
        form.lie(f"Z06/central-extra-{word}", role, "zip_directory_malformed",
                 "the extra fields do not fill their length", central={"extra": extra})
    for word, data in {"other": path, "bad-crc": b"\1\xff\xff\xff\xffmodel/other", "version-2": b"\2" + path[1:],
                       "empty": b""}.items():
        form.lie(f"Z04/unicode-path-{word}", role, "zip_name_refused", "extra field 0x7075 gives it a second name",
                 central={"extra": z.extra_field(0x7075, data)})
    form.lie("Z04/unicode-path-twice", role, "zip_directory_malformed", "extra field 0x7075 appears twice",
             central={"extra": z.extra_field(0x7075, path) * 2})


def places(form, role):
    """Z11, Z09: where the directory says that entries lie."""
    for disk in (1, 255, 0xFFFF):
        form.lie(f"Z09/central-disk-{disk}", role, "zip_directory_malformed", f"wrong disk number: found {disk}",
                 central={"disk": disk})
    form.lie("Z06/central-offset-marked", role, "zip64_malformed", "wrong size of its zip64 extra field: found 0",
             central={"offset": 0xFFFFFFFF})
    for word, lie in {"plus-one": lambda n: n + 1, "minus-one": lambda n: n - 1, "high-bit": lambda n: n | 1 << 31,
                      "most": 0xFFFFFFFE}.items():
        if role == "pickle" and word != "minus-one":
            says = ("zip_directory_malformed", "data before the first zip entry: found it at byte")
        elif word == "minus-one" and role != "pickle" and not form.item(b"", b"x").described:
            says = ("zip_overlap", "overlap what begins at byte")
        elif word in ("plus-one", "minus-one") and role != "pickle":
            says = ("zip_local_mismatch", "no local header at byte")
        elif role == "pickle":
            says = None  # the same as "most"
        else:
            says = ("zip_out_of_bounds", "its local header at byte")
        if says:
            form.lie(f"Z11/offset-{word}", role, *says, central={"offset": lie})


def lengths(form, role):
    """Z04: lengths in the directory by which its entries are found."""
    if role == "last":
        for field in ("name_nbytes", "extra_nbytes", "comment_nbytes"):
            for word, lie in {"plus-one": lambda n: n + 1, "page": 4096, "most": 0xFFFF}.items():
                form.lie(f"Z04/central-{field}-{word}", role, "zip_directory_malformed",
                         f"entry {LAST}: the directory ends inside it", central={field: lie})
        return
    for word, lie in {"plus-one": lambda n: n + 1, "minus-one": lambda n: n - 1}.items():
        folder = role == "storage" and word == "minus-one"  # the name is "model/data/" then
        form.lie(f"Z04/central-name_nbytes-{word}", role, "zip_directory_malformed",
                 "wrong size of a folder" if folder else f"entry {ROLES[role] + 1}: wrong signature",
                 central={"name_nbytes": lie})
    form.lie("Z04/central-comment_nbytes-plus-one", role, "zip_directory_malformed",
             f"entry {ROLES[role] + 1}: wrong signature", central={"comment_nbytes": lambda n: n + 1})
    form.lie("Z04/central-extra_nbytes-plus-one", role, "zip_directory_malformed",
             "the extra fields do not fill their length", central={"extra_nbytes": lambda n: n + 1})


LIES = [lengths, signatures, names, local_sizes, local_zip64, central_sizes, crcs, places, flags, methods,
        central_zip64, extras]


def add(corpus):
    torch, *others = [Form(corpus, name) for name in FORMS]
    for number, lie in enumerate(LIES):
        for role in ROLES:
            if role != "last" or lie not in (flags, methods, extras):
                lie(torch, role)
        # In each of the other forms about one of the entries.
        for turn, form in enumerate(others):
            lie(form, list(ROLES)[(number + turn) % len(ROLES)])
