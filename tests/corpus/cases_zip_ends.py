"""Z09, Z10: the end records of a zip, what is before, between and after them, and several of them."""

import torch_zip as t
from corpus import Sparse
import zip_fields as z

SEVERAL = ("zip_directory_malformed", "the archive spans several disks")
APART = ("zip_directory_malformed", "does not follow the central directory that it describes")
NOWHERE = ("zip_directory_malformed", "does not point to a central directory")
MISSING = ("zip_end_missing", "no zip end record in the last")
CUT_OFF = ("zip_end_missing", "the file is cut off inside the zip end record")
DIFFER = ("zip64_malformed", "it disagrees with the end record")
APART64 = ("zip64_malformed", "does not follow the central directory")
ELSEWHERE64 = ("zip64_malformed", "does not end where its locator begins")

PLUS, MINUS = (lambda n: n + 1), (lambda n: n - 1)
NUMBERS = {"plus-one": PLUS, "minus-one": MINUS, "none": 0, "most-31": 0x7FFFFFFF, "high-bit-32": 1 << 31,
           "wraps-32": lambda n: n + (1 << 32), "most-63": (1 << 63) - 1, "high-bit": 1 << 63, "most": (1 << 64) - 1,
           "most-but-100": (1 << 64) - 100}


class Ends:
    """The model's archive, followed by the given end records."""

    def __init__(self, corpus, form):
        self.corpus, self.form = corpus, form
        self.items = t.items(item=t.torch_item if form == "torch" else t.plain_item)
        self.twin = corpus.twin(f"Z00/{form}", self.build(), t.MODEL_TENSORS)

    def build(self, prefix=b"", **ending):
        return z.build(self.items, z.Ending(**{"zip64": self.form == "torch", **ending}), prefix)

    def bad(self, name, error, twin=None, prefix=b"", **ending):
        self.corpus.hostile(f"{name}@{self.form}", self.build(prefix, **ending), *error, twin=twin or self.twin)


def end_record(ends):
    """The 22 bytes at the end, without zip64 records before them."""
    for field in ("disk", "directory_disk"):
        for value in (1, 0x7FFF, 0xFFFF):
            ends.bad(f"Z09/end-{field}-{value}", SEVERAL, end={field: value})
    for word in ("plus-one", "minus-one", "none"):
        ends.bad(f"Z09/end-here-{word}", SEVERAL, end={"here": NUMBERS[word]})
    counts = {"plus-one": "entry 5: the directory ends before it", "minus-one": "its 4 entries take",
              "none": "its 0 entries take 0", "most-16": "too many zip entries", "most-15": "too many zip entries"}
    numbers = {**NUMBERS, "most-16": 0xFFFF, "most-15": 0x7FFF}
    for word, says in counts.items():
        ends.bad(f"Z09/end-entries-{word}", ("zip_directory_malformed", says),
                 end={"entries": numbers[word], "here": numbers[word]})
    for field in ("nbytes", "offset"):
        for word in ("plus-one", "minus-one", "none", "most-31", "high-bit-32", "most"):
            ends.bad(f"Z09/end-{field}-{word}", APART, end={field: NUMBERS[word]})
    for shift in (-46, -1, 1, 46):
        ends.bad(f"Z09/end-directory-shifted-{shift}", NOWHERE,
                 end={"offset": lambda n, shift=shift: n + shift, "nbytes": lambda n, shift=shift: n - shift})
    ends.bad("Z09/end-directory-of-3-bytes", ("zip_directory_malformed", "describes an empty central directory"),
             end={"offset": lambda n: n + sum_of_directory(ends) - 3, "nbytes": 3})


def sum_of_directory(ends):
    return sum(len(z.central_header(item, 0)) for item in ends.items)


def end_record64(ends):
    """The zip64 end record, with an end record that says the same or points to it."""
    see_there = {"entries": 0xFFFF, "here": 0xFFFF, "nbytes": 0xFFFFFFFF, "offset": 0xFFFFFFFF}
    twin = ends.corpus.twin("Z00/torch-see-zip64", ends.build(end=see_there), t.MODEL_TENSORS)
    for word in ("plus-one", "minus-one", "none", "most", "high-bit"):
        ends.bad(f"Z09/end64-rest-{word}", ("zip64_malformed", "wrong length: found "),
                 end64={"rest": NUMBERS[word]})
        ends.bad(f"Z09/end64-here-{word}", ("zip64_malformed", "counts entries on another disk"),
                 end64={"here": NUMBERS[word]})
    for field in ("disk", "directory_disk"):
        for value in (1, 1 << 31):
            ends.bad(f"Z09/end64-{field}-{value}", ("zip64_malformed", "names another disk"), end64={field: value})
    for word in ("none", "end", "central"):
        signature = {"none": 0, "end": 0x06054B51, "central": 0x02014B50}[word]
        ends.bad(f"Z09/end64-signature-{word}", ("zip64_malformed", "wrong signature"),
                 end64={"signature": signature})
    for word, lie in NUMBERS.items():
        ends.bad(f"Z09/end64-entries-{word}", DIFFER, end64={"entries": lie, "here": lie})
        ends.bad(f"Z09/end64-nbytes-{word}", DIFFER, end64={"nbytes": lie})
        ends.bad(f"Z09/end64-offset-{word}", DIFFER, end64={"offset": lie})
        ends.bad(f"Z09/end64-nbytes-{word}-alone", APART64, twin=twin, end=see_there, end64={"nbytes": lie})
        ends.bad(f"Z09/end64-offset-{word}-alone", APART64, twin=twin, end=see_there, end64={"offset": lie})
        says = {"plus-one": "entry 5: the directory ends before it", "minus-one": "its 4 entries take",
                "none": "its 0 entries take 0"}.get(word, "too many zip entries")
        ends.bad(f"Z09/end64-entries-{word}-alone", ("zip_directory_malformed", says), twin=twin, end=see_there,
                 end64={"entries": lie, "here": lie})
    for shift in (-46, -1, 1, 46):
        ends.bad(f"Z09/end64-directory-shifted-{shift}", NOWHERE, twin=twin, end=see_there,
                 end64={"offset": lambda n, shift=shift: n + shift, "nbytes": lambda n, shift=shift: n - shift})


def short_and_wrapping(ends):
    """Differences that are negative, and an archive that has no room for what its locator points to."""
    see_there = {"entries": 0xFFFF, "here": 0xFFFF, "nbytes": 0xFFFFFFFF, "offset": 0xFFFFFFFF}
    for shift in (46, 56):
        whole = ends.build()
        at = len(whole) - 22 - 20 - 56
        ends.bad(f"Z09/end64-directory-behind-it-by-{shift}", APART64, twin="Z00/torch-see-zip64", end=see_there,
                 end64={"offset": at + shift, "nbytes": -shift})
    for size in (4, 30, 55):
        head = b"PK\3\4" + bytes(size - 4)
        lie = {"signature": 0x07064B50, "offset": size - 56, "disks": 1}
        file = head + z.pack(z.LOCATOR, lie, {}) + z.pack(z.END, {"signature": 0x06054B50}, {})
        ends.corpus.hostile(f"Z09/locator-at-byte-{size}", file, *ELSEWHERE64, twin=ends.twin)


def large_directory(ends):
    """A directory above the limit of 1 GiB, of which nothing is read."""
    size = (1 << 30) + 1
    file = z.local_header(z.Item(b"model/x", b""), 0)
    at = len(file)
    directory = {"entries": 1, "here": 1, "nbytes": size, "offset": at}
    end = z.pack(z.END, {"signature": 0x06054B50, **directory}, {})
    ends.corpus.hostile("Z09/directory-of-1-gib", Sparse({0: file + b"PK\1\2", at + size: end}), "limit_exceeded",
                        f"the zip's central directory is too large: found {size} bytes, the limit is {1 << 30}",
                        twin=ends.twin)


def end_record_beside64(ends):
    """The end record where the zip64 one is true."""
    for field in ("disk", "directory_disk"):
        for value in (1, 0xFFFF):
            ends.bad(f"Z09/end-{field}-{value}", SEVERAL, end={field: value})
    ends.bad("Z09/end-here-plus-one", SEVERAL, end={"here": PLUS})
    for word in ("plus-one", "minus-one", "none", "most-31"):
        lie = NUMBERS[word]
        if word != "most-31":  # in 16 bits this says "see there"
            ends.bad(f"Z09/end-entries-{word}", DIFFER, end={"entries": lie, "here": lie})
        ends.bad(f"Z09/end-nbytes-{word}", DIFFER, end={"nbytes": lie})
        ends.bad(f"Z09/end-offset-{word}", DIFFER, end={"offset": lie})


def locator(ends):
    for value in (1, 1 << 31):
        ends.bad(f"Z09/locator-disk-{value}", ("zip64_malformed", "is on another disk"), locator={"disk": value})
    for value in (2, 0xFFFFFFFF):
        ends.bad(f"Z09/locator-disks-{value}", ("zip64_malformed", "is on another disk"), locator={"disks": value})
    for word, lie in NUMBERS.items():
        ends.bad(f"Z09/locator-offset-{word}", ELSEWHERE64, locator={"offset": lie})
    for signature in (0, 0x07064B51, 0x06064B50):
        ends.bad(f"Z09/locator-signature-{signature:x}", APART, locator={"signature": signature})
    for nbytes in (1, 8, 4096):
        ends.bad(f"Z09/end64-with-{nbytes}-bytes-more", ELSEWHERE64, end64={"rest": 44 + nbytes},
                 before_locator=b"x" * nbytes)
        ends.bad(f"Z09/locator-{nbytes}-bytes-behind", ELSEWHERE64, before_locator=b"x" * nbytes)
        ends.bad(f"Z09/end-{nbytes}-bytes-behind-locator", APART, before_end=b"x" * nbytes)
        ends.bad(f"Z09/end64-{nbytes}-bytes-behind", APART64, after_directory=b"x" * nbytes)
    second = z.pack(z.LOCATOR, {"signature": 0x07064B50, "offset": 0, "disks": 1}, {})
    ends.bad("Z09/locator-twice", ELSEWHERE64, before_end=second)


def comments(ends):
    """What the comment says about its length, and end records within it."""
    for nbytes in (1, 2, 22, 0xFFFF):
        ends.bad(f"Z09/comment-{nbytes}-bytes-of-none", CUT_OFF, end={"comment_nbytes": nbytes})
    twin = ends.corpus.twin(f"Z00/comment@{ends.form}", ends.build(comment=b"made by hand"), t.MODEL_TENSORS)
    ends.bad("Z09/comment-one-byte-short", CUT_OFF, twin=twin, comment=b"made by hand", end={"comment_nbytes": PLUS})
    whole = ends.build()
    for word, cut in {"in-end": 1, "before-comment-nbytes": 2, "in-the-middle": 11, "after-signature": 18}.items():
        ends.corpus.hostile(f"Z09/cut-{word}@{ends.form}", whole[:-cut], *CUT_OFF, twin=ends.twin)
    for word, signature in {"none": 0, "one-bit": 0x06054B51, "turned": 0x504B0506, "end64": 0x06064B50}.items():
        ends.bad(f"Z09/end-signature-{word}", MISSING, end={"signature": signature})
    longest = ends.corpus.twin(f"Z00/longest-comment@{ends.form}", ends.build(comment=b"c" * 0xFFFF),
                               t.MODEL_TENSORS)
    ends.bad("Z10/far-from-the-end", MISSING, twin=longest, comment=b"c" * 0xFFFF, after=b"x")
    ends.bad("Z10/70000-bytes-behind", MISSING, after=b"x" * 70_000)


def two_ends(ends):
    """Two end records that fit: readers take the first, the last, or the one whose comment ends the file."""
    whole = ends.build()
    offset = whole.index(b"PK\1\2")
    for word, gap, more in (("next-to-it", b"", b""), ("after-a-gap", b"gap", b""), ("before-junk", b"", b"junk"),
                            ("far-behind", b"x" * 60_000, b"")):
        at = len(whole) + len(gap)
        second = z.pack(z.END, {"signature": 0x06054B50, "here": 5, "entries": 5, "nbytes": at - offset,
                                "offset": offset}, {})
        comment = gap + second + more
        file = whole[:-2] + len(comment).to_bytes(2, "little") + comment
        ends.corpus.hostile(f"Z09/two-ends-{word}@{ends.form}", file, "zip_end_ambiguous",
                            "ambiguous zip: found end records",
                            twin=ends.twin)
        # The same, but the first one's comment ends before the second.
        file = whole + comment
        ends.corpus.hostile(f"Z09/two-ends-{word}-behind@{ends.form}", file, "zip_end_ambiguous",
                            "ambiguous zip: found end records", twin=ends.twin)
    # The last one fits nothing; that of the archive itself stands before it.
    broken = z.pack(z.END, {"signature": 0x06054B50, "disk": 1}, {})
    ends.corpus.hostile(f"Z09/last-end-broken@{ends.form}", whole + broken, "zip_end_ambiguous",
                        "ambiguous zip: found end records", twin=ends.twin)


def before(ends):
    """Z10: something before the archive, which only an archive's first bytes can hide."""
    head = z.local_header(z.Item(b"hidden", b"payload"), 0) + b"payload"
    for word, prefix in {"local-header": head, "two": head + head, "signature": b"PK\3\4",
                         "block": b"PK\3\4" + bytes(508), "page": b"PK\3\4" + b"x" * 4092}.items():
        ends.bad(f"Z10/prefix-{word}", ("zip_directory_malformed", "data before the first zip entry: found it at byte"),
                 prefix=prefix)
        moved = ends.build()
        error = APART64 if ends.form == "torch" else APART
        error = ELSEWHERE64 if ends.form == "torch" else error
        ends.corpus.hostile(f"Z10/prefix-{word}-unadjusted@{ends.form}", prefix + moved, *error, twin=ends.twin)
    first, second = ends.build(), ends.build(prefix=ends.build())
    ends.corpus.hostile(f"Z10/archive-before-archive@{ends.form}", second, "zip_end_ambiguous",
                        "ambiguous zip: found end records", twin=ends.twin)
    assert second.startswith(first)


def add(corpus):
    torch, plain = Ends(corpus, "torch"), Ends(corpus, "plain")
    end_record(plain)
    end_record64(torch)
    short_and_wrapping(torch)
    large_directory(torch)
    end_record_beside64(torch)
    locator(torch)
    for ends in (torch, plain):
        comments(ends)
        two_ends(ends)
        before(ends)
    for nbytes in (1, 46):
        plain.bad(f"Z09/end-{nbytes}-bytes-behind", APART, after_directory=b"x" * nbytes)
