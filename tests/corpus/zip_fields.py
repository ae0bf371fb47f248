"""Zip files, field by field: every field of every header can lie.

A field is set by its name to a value, or to a function of the true value. Fields that are left alone are right; what
lies is written where the true value would stand, and moves nothing else.
"""

import dataclasses
import struct
import zlib

LOCAL = [("signature", 4), ("needed", 2), ("flags", 2), ("method", 2), ("time", 2), ("date", 2), ("crc", 4),
         ("stored", 4), ("nbytes", 4), ("name_nbytes", 2), ("extra_nbytes", 2)]
CENTRAL = [("signature", 4), ("made", 2), ("needed", 2), ("flags", 2), ("method", 2), ("time", 2), ("date", 2),
           ("crc", 4), ("stored", 4), ("nbytes", 4), ("name_nbytes", 2), ("extra_nbytes", 2), ("comment_nbytes", 2),
           ("disk", 2), ("internal", 2), ("external", 4), ("offset", 4)]
DESCRIPTOR = [("signature", 4), ("crc", 4), ("stored", 4), ("nbytes", 4)]
END = [("signature", 4), ("disk", 2), ("directory_disk", 2), ("here", 2), ("entries", 2), ("nbytes", 4),
       ("offset", 4), ("comment_nbytes", 2)]
END64 = [("signature", 4), ("rest", 8), ("made", 2), ("needed", 2), ("disk", 4), ("directory_disk", 4), ("here", 8),
         ("entries", 8), ("nbytes", 8), ("offset", 8)]
LOCATOR = [("signature", 4), ("disk", 4), ("offset", 8), ("disks", 4)]

WIDTHS = {"local": dict(LOCAL), "central": dict(CENTRAL), "descriptor": dict(DESCRIPTOR), "end": dict(END),
          "end64": dict(END64), "locator": dict(LOCATOR)}


def pack(fields, true, lies):
    """The bytes of a header. Values are taken modulo the field's width."""
    unknown = set(lies) - {name for name, _ in fields} - {"name", "extra", "comment"}
    assert not unknown, f"no such fields: {unknown}"
    out = b""
    for name, width in fields:
        value = true.get(name, 0)
        if name in lies:
            value = lies[name](value) if callable(lies[name]) else lies[name]
        out += (value % (1 << 8 * width)).to_bytes(width, "little")
    return out


@dataclasses.dataclass
class Item:
    """One file of an archive, and what its headers say that is not so."""
    name: bytes
    data: bytes
    flags: int = 0x0808
    method: int = 0
    needed: int = 0              # torch's
    stored: bytes = None         # as it lies in the file, when it is neither `data` nor that deflated
    zeros: bool = True           # local crc and sizes are 0, as torch writes them
    described: bool = True       # a data descriptor after the data
    described64: bool = False    # with sizes of 8 bytes
    padded: bool = True          # an extra field "FB" that takes the data to a multiple of 64
    listed: bool = True          # in the central directory
    local: dict = dataclasses.field(default_factory=dict)
    central: dict = dataclasses.field(default_factory=dict)
    descriptor: dict = dataclasses.field(default_factory=dict)

    def stored_bytes(self):
        if self.stored is not None:
            return self.stored
        return deflated(self.data) if self.method == 8 else self.data

    def sizes(self):
        stored = self.stored_bytes()
        return {"crc": zlib.crc32(self.data), "stored": len(stored), "nbytes": len(self.data)}


def deflated(data):
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


def extra_field(number, data):
    return struct.pack("<HH", number, len(data)) + data


def local_header(item, at):
    name = item.local.get("name", item.name)
    extra = item.local.get("extra", b"")
    if item.padded:
        padding = -(at + 30 + len(name) + len(extra) + 4) % 64
        extra += extra_field(0x4246, b"Z" * padding)
    true = {"signature": 0x04034B50, "needed": item.needed, "flags": item.flags, "method": item.method,
            "name_nbytes": len(name),
            "extra_nbytes": len(extra)}
    if not item.zeros:
        true.update(item.sizes())
    return pack(LOCAL, true, item.local) + name + extra


def central_header(item, at):
    name = item.central.get("name", item.name)
    extra = item.central.get("extra", b"")
    comment = item.central.get("comment", b"")
    true = {"signature": 0x02014B50, "needed": item.needed, "flags": item.flags, "method": item.method,
            "name_nbytes": len(name),
            "extra_nbytes": len(extra), "comment_nbytes": len(comment), "offset": at, **item.sizes()}
    return pack(CENTRAL, true, item.central) + name + extra + comment


def data_descriptor(item):
    true = {"signature": 0x08074B50, **item.sizes()}
    fields = [(name, 8 if item.described64 and name in ("stored", "nbytes") else width) for name, width in DESCRIPTOR]
    return pack(fields, true, item.descriptor)


@dataclasses.dataclass
class Ending:
    """The bytes after the last item. The byte strings go where their names say."""
    zip64: bool = True
    end: dict = dataclasses.field(default_factory=dict)
    end64: dict = dataclasses.field(default_factory=dict)
    locator: dict = dataclasses.field(default_factory=dict)
    comment: bytes = b""
    before_directory: bytes = b""
    after_directory: bytes = b""   # before the end records
    before_locator: bytes = b""
    before_end: bytes = b""
    after: bytes = b""
    reorder: object = None       # the central headers, as a list, to other ones


def build(items, ending=None, prefix=b""):
    """The archive. `prefix` stands before it and moves all offsets."""
    ending = ending or Ending()
    out = prefix
    headers = []
    for item in items:
        if item.listed:
            headers.append(central_header(item, len(out)))
        out += local_header(item, len(out)) + item.stored_bytes()
        if item.described:
            out += data_descriptor(item)
    out += ending.before_directory
    headers = ending.reorder(headers) if ending.reorder else headers
    directory = {"entries": len(headers), "here": len(headers), "nbytes": sum(map(len, headers)), "offset": len(out)}
    out += b"".join(headers) + ending.after_directory
    return out + end_records(len(out), directory, ending)


def end_records(at, directory, ending):
    out = b""
    if ending.zip64:
        out += pack(END64, {"signature": 0x06064B50, "rest": 44, "made": 0x031E, "needed": 45, **directory},
                    ending.end64)
        out += ending.before_locator
        out += pack(LOCATOR, {"signature": 0x07064B50, "offset": at, "disks": 1}, ending.locator)
    out += ending.before_end
    true = {"signature": 0x06054B50, "comment_nbytes": len(ending.comment), **directory}
    return out + pack(END, true, ending.end) + ending.comment + ending.after
