"""P03 to P05: opcodes that are none, cut off, refused, or without what they need on the stack."""

import struct

import assembler as asm
from carriers import Carried

HEAD = b"\x80\x04"  # PROTO 4
NONE = b"N"
GLOBAL = asm.name("builtins", "object")

# name: (the opcode with an operand, what it needs before it, how many values of that, whether above a mark)
OPS = {
    "POP": (b"0", [NONE, NONE], 1, False), "DUP": (b"2", [NONE], 1, False), "STOP": (b".", [NONE], 1, False),
    "POP_MARK": (b"1", [NONE], 0, True), "APPEND": (b"a", [b"]", NONE], 2, False),
    "SETITEM": (b"s", [b"}", asm.text("k"), NONE], 3, False), "TUPLE1": (b"\x85", [NONE], 1, False),
    "TUPLE2": (b"\x86", [NONE] * 2, 2, False), "TUPLE3": (b"\x87", [NONE] * 3, 3, False),
    "REDUCE": (b"R", [GLOBAL, b")"], 2, False), "BUILD": (b"b", [GLOBAL + b")\x81", b"}"], 2, False),
    "NEWOBJ": (b"\x81", [GLOBAL, b")"], 2, False), "NEWOBJ_EX": (b"\x92", [GLOBAL, b")", b"}"], 3, False),
    "STACK_GLOBAL": (b"\x93", [asm.text("builtins"), asm.text("object")], 2, False),
    "BINPUT": (b"q\0", [NONE], 1, False), "LONG_BINPUT": (b"r" + bytes(4), [NONE], 1, False),
    "PUT": (b"p0\n", [NONE], 1, False), "MEMOIZE": (b"\x94", [NONE], 1, False),
    "TUPLE": (b"t", [], 0, True), "LIST": (b"l", [], 0, True), "DICT": (b"d", [], 0, True),
    "FROZENSET": (b"\x91", [], 0, True), "APPENDS": (b"e", [b"]"], 1, True), "SETITEMS": (b"u", [b"}"], 1, True),
    "ADDITEMS": (b"\x90", [b"\x8f"], 1, True), "INST": (b"ibuiltins\nobject\n", [], 0, True),
    "OBJ": (b"o", [], 0, True),
}
PERSISTENT = asm.storage()[:-1]
ABOVE_MARK = {"OBJ": GLOBAL}  # what must stand above the mark

OPERANDS = {
    "BINBYTES": b"B\3\0\0\0abc", "SHORT_BINBYTES": b"C\3abc", "FLOAT": b"F1.5\n", "BINFLOAT": b"G" + bytes(8),
    "INT": b"I12\n", "BININT": b"J\1\2\3\0", "BININT1": b"K\1", "LONG": b"L12L\n", "BININT2": b"M\1\2",
    "STRING": b"S'ab'\n", "BINSTRING": b"T\3\0\0\0abc", "SHORT_BINSTRING": b"U\3abc", "UNICODE": b"Vab\n",
    "BINUNICODE": b"X\3\0\0\0abc", "GLOBAL": b"cbuiltins\nobject\n", "LONG1": b"\x8a\3abc",
    "LONG4": b"\x8b\3\0\0\0abc", "SHORT_BINUNICODE": b"\x8c\3abc", "BINUNICODE8": b"\x8d\3" + bytes(7) + b"abc",
    "BINBYTES8": b"\x8e\3" + bytes(7) + b"abc", "BYTEARRAY8": b"\x96\3" + bytes(7) + b"abc",
}
REFUSED = {"EXT1": b"\x82\1", "EXT2": b"\x83\1\0", "EXT4": b"\x84\1\0\0\0", "NEXT_BUFFER": b"\x97",
           "READONLY_BUFFER": b"\x98"}


def whole(name):
    """A valid pickle with this opcode, and what stands before the opcode."""
    opcode, setup, _, marked = OPS[name]
    before = HEAD + b"".join(setup) + (b"(" + ABOVE_MARK.get(name, b"") if marked else b"")
    return before + opcode + (b"" if name == "STOP" else b"."), before


def underflow(carried):
    """Too few values, and values that lie below a mark, which no opcode reaches."""
    for name, (opcode, _, needs, marked) in OPS.items():
        good, _ = whole(name)
        for count in range(0 if marked else needs):
            for word, before in (("bare", HEAD + NONE * count), ("marked", HEAD + NONE * 4 + b"(" + NONE * count)):
                if name == "POP" and word == "marked":
                    continue  # it takes the mark
                carried.bad(f"P05/{name}-of-{count}-{word}", before + opcode + NONE + b".", good,
                            ("pickle_stack_underflow", f"byte {len(before)}: {name}: the stack is too short: found ",
                             f"found {count}, expected {needs}"))


def persistent(carried):
    """The same of BINPERSID, of which a stream and a zip take other values."""
    good = HEAD + asm.code({"w": asm.tensor()}) + b"."
    for word, before in (("bare", HEAD), ("marked", HEAD + NONE * 4 + b"("), ("popped", HEAD + PERSISTENT + b"0")):
        carried.bad(f"P05/BINPERSID-{word}", before + b"Q.", good,
                    ("pickle_stack_underflow",
                     f"byte {len(before)}: BINPERSID: the stack is too short: found 0, expected 1"),
                    carriers=("zip",))


def marks(carried):
    for name, (opcode, setup, needs, marked) in OPS.items():
        if not marked:
            continue
        good, _ = whole(name)
        for count, before in enumerate((HEAD, HEAD + NONE, HEAD + b"".join(setup) + NONE * 3)):
            carried.bad(f"P05/{name}-without-mark-{count}", before + opcode + b".", good,
                        ("pickle_mark_missing", f"byte {len(before)}: {name}: no mark is set"))
        gone = HEAD + b"".join(setup) + b"(" + ABOVE_MARK.get(name, b"") + b"(1" + opcode
        assert needs in (0, 1) and gone
        for word, before in (("spent", HEAD + b"(t"), ("popped", HEAD + NONE + b"(0"),
                             ("pop-mark", HEAD + NONE + b"(N1")):
            carried.bad(f"P05/{name}-with-mark-{word}", before + opcode + b".", good,
                        ("pickle_mark_missing", f"byte {len(before)}: {name}: no mark is set"))
        if needs:
            for word, before in (("nothing", HEAD + b"("), ("another-mark", HEAD + b"](("), ("values", HEAD + b"(NN")):
                carried.bad(f"P05/{name}-on-{word}", before + opcode + b".", good,
                            ("pickle_stack_underflow", f"byte {len(before)}: {name}: the stack is too short: found "))
    good, _ = whole("OBJ")
    carried.bad("P05/OBJ-of-nothing", HEAD + b"(o.", good,
                ("pickle_stack_underflow", "byte 3: OBJ: the stack is too short"))


def unknown(carried):
    """P03: each byte that is no opcode, as the first one; some deep inside."""
    known = {opcode[0] for opcode, *_ in OPS.values()} | {code[0] for code in OPERANDS.values()}
    known |= {code[0] for code in REFUSED.values()}
    known |= set(b"()]}NgPQhj\x80\x88\x89\x8f\x95")
    for byte in sorted(set(range(256)) - known):
        carried.bad(f"P03/opcode-{byte:02x}", HEAD + bytes([byte]) + b".", HEAD + b"N.",
                    ("pickle_opcode_unknown", f"byte 2: opcode 0x{byte:x}", "not an opcode of protocols 0 to 5"),
                    carriers=("zip",) if byte % 8 or not byte else ("zip", "legacy", "alone"))
    for name, opcode in REFUSED.items():
        for word, before in (("first", HEAD), ("last", HEAD + b"]N"), ("dropped", HEAD + b"N(")):
            after = b"0." if word == "dropped" else b"a."
            carried.bad(f"P15/{name}-{word}", before + opcode + after, HEAD + b"]Na.",
                        ("pickle_opcode_refused", f"byte {len(before)}: {name}: needs a registry or buffers"),
                        carriers=("zip", "legacy", "alone"))


def cut(carried):
    """P04: cut within each opcode's operand, and before STOP."""
    for name, opcode in OPERANDS.items():
        good = HEAD + opcode + b"."
        for size in range(1, len(opcode)):
            carried.bad(f"P04/{name}-cut-to-{size}", HEAD + opcode[:size], good,
                        ("pickle_truncated", f"byte 2: {name}: "), carriers=("zip",))
        carried.bad(f"P04/{name}-without-STOP", HEAD + opcode, good,
                    ("pickle_truncated", f"byte {len(HEAD + opcode)}: cut off: found 0 of 1 byte"),
                    carriers=("zip",))
    for name, opcode in {"PERSID": b"P1\n", "GET": b"g0\n", "BINGET": b"h\0", "LONG_BINGET": b"j\0\0\0\0",
                         "PROTO": b"\x80\4", "FRAME": b"\x95\1" + bytes(7)}.items():
        for size in range(1, len(opcode)):
            carried.bad(f"P04/{name}-cut-to-{size}", HEAD + b"Nq\0" + opcode[:size], HEAD + b"Nq\0.",
                        ("pickle_truncated", f"byte 5: {name}: "), carriers=("zip",))
    # In a legacy stream what is cut off is the file's own end.
    for size in (2, 3, 9, 20):
        pickle = (HEAD + asm.code({"a": list(range(9))}))[:size]
        carried.bad(f"P04/first-{size}-bytes", pickle, HEAD + asm.code({"a": list(range(9))}) + b".",
                    ("pickle_truncated",), carriers=("zip",))
    carried.bad("P04/empty", b"", HEAD + b"N.", ("pickle_truncated", "byte 0: cut off: found 0 of 1 byte"),
                carriers=("zip",))


# Opcodes with a length, its width, and what a negative one is.
LENGTHS = {"BINUNICODE": (b"X", 4), "BINUNICODE8": (b"\x8d", 8), "SHORT_BINUNICODE": (b"\x8c", 1),
           "BINBYTES": (b"B", 4), "BINBYTES8": (b"\x8e", 8), "SHORT_BINBYTES": (b"C", 1), "BYTEARRAY8": (b"\x96", 8),
           "BINSTRING": (b"T", 4), "SHORT_BINSTRING": (b"U", 1), "LONG1": (b"\x8a", 1), "LONG4": (b"\x8b", 4)}
LARGE = {"5": 5, "most-of-7-bits": 127, "most-of-8-bits": 255, "most-of-31-bits": 2**31 - 1, "2-to-31": 2**31,
         "most-of-32-bits": 2**32 - 1,
         "2-to-32": 2**32, "2-to-40": 2**40, "2-to-62": 2**62, "2-to-63": 2**63, "most": 2**64 - 1,
         "most-but-2": 2**64 - 3}


def lengths(carried):
    """P07: lengths that leave the pickle, by one byte and by all there is. Nothing is made of them."""
    for name, (opcode, width) in LENGTHS.items():
        good = HEAD + opcode + (3).to_bytes(width, "little") + b"abc."
        for word, length in LARGE.items():
            if length >= 1 << 8 * width:
                continue
            pickle = HEAD + opcode + length.to_bytes(width, "little") + b"abc."
            error = ("pickle_truncated", f"byte 2: {name}: cut off: found 4 of {length} bytes")
            if name in ("BINSTRING", "LONG4") and length >= 2**31:
                error = ("pickle_literal", f"byte 2: {name}: a negative length")
            carried.bad(f"P07/{name}-{word}", pickle, good, error, carriers=("zip",))
            if error[0] == "pickle_literal":
                carried.bad(f"P07/{name}-{word}", pickle, good, error, carriers=("legacy", "alone"))


def frames(carried):
    """P12: frames that are too long, within each other, or end within an opcode."""
    def frame(length):
        return b"\x95" + struct.pack("<Q", length)
    body = asm.text("abcdef")
    good = HEAD + frame(len(body) + 1) + body + b"."
    for word, length in {"one-more": len(body) + 2, "2-to-31": 2**31, "2-to-63": 2**63, "most": 2**64 - 1,
                         "page": 4096}.items():
        carried.bad(f"P12/frame-{word}", HEAD + frame(length) + body + b".", good,
                    ("pickle_truncated", "byte 2: FRAME: cut off: found ", f" of {length} byte"), carriers=("zip",))
    for length in range(1, len(body)):
        carried.bad(f"P12/frame-ends-in-text-at-{length}", HEAD + frame(length) + body + b".", good,
                    ("pickle_truncated", "byte 11: BINUNICODE: its frame ends inside it, at byte"))
    inner = frame(2) + b"N."
    carried.bad("P12/frame-within-a-frame", HEAD + frame(len(inner)) + inner, good,
                ("pickle_truncated", "byte 11: FRAME: it begins inside a frame that ends at byte"))
    carried.bad("P12/frame-within-a-frame-ends-with-it", HEAD + frame(len(inner) - 1) + inner, good,
                ("pickle_truncated", "byte 11: FRAME: it begins inside a frame that ends at byte"))
    carried.bad("P12/frame-ends-in-frame", HEAD + frame(4) + frame(0) + b"N.", good,
                ("pickle_truncated", "byte 11: FRAME: it", "frame"))
    for name, opcode in (("BININT", b"J\1\0\0\0"), ("BINFLOAT", b"G" + bytes(8)), ("LONG", b"L12L\n"),
                         ("GLOBAL", GLOBAL), ("SHORT_BINBYTES", b"C\5abcde"), ("BINUNICODE8", b"\x8d\3" + bytes(7)
                                                                               + b"abc")):
        twin = HEAD + frame(len(opcode)) + opcode + b"."
        for length in (1, len(opcode) - 1):
            carried.bad(f"P12/frame-ends-in-{name}-at-{length}", HEAD + frame(length) + opcode + b".", twin,
                        ("pickle_truncated", f"byte 11: {name}: its frame ends inside it"))
    for word, pickle in {"zero": HEAD + frame(0) + body + b".", "of-protocol-2": b"\x80\2" + frame(1) + b"N.",
                         "two": HEAD + frame(1) + b"N" + frame(1) + b"."}.items():
        carried.twin(f"P12/frame-{word}", pickle, "zip", {})


def protocols(carried):
    """P13: protocols that do not exist; none, several, and what follows STOP is passed over."""
    for number in (6, 7, 10, 100, 127, 128, 255):
        for word, before in (("first", b""), ("second", b"\x80\2"), ("late", b"\x80\2N0")):
            carriers = ("zip",) if word == "first" else ("zip", "legacy", "alone")
            carried.bad(f"P13/protocol-{number}-{word}", before + bytes([0x80, number]) + b"N.",
                        before + b"\x80\4N.",
                        ("pickle_opcode_refused", f"byte {len(before)}: PROTO: unsupported protocol: found {number}, "
                                               "expected 0 to 5"), carriers=carriers)
    for word, pickle in {"none": b"N.", "twice": b"\x80\2\x80\3N.", "0": b"\x80\0N.", "5": b"\x80\5N.",
                         "two-pickles": HEAD + b"N." + HEAD + b"}.", "two-values": HEAD + b"NN.",
                         "open-mark": HEAD + b"(N."}.items():
        carried.twin(f"P13/protocol-{word}", pickle, "zip", {})


def add(corpus):
    carried = Carried(corpus)
    for part in (underflow, persistent, marks, unknown, cut, lengths, frames, protocols):
        part(carried)
