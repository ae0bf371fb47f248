"""P06, P08, P14: memo entries, literals, and opcodes applied to values of the wrong kind."""

import struct

import assembler as asm
from carriers import Carried

HEAD = b"\x80\x04"
OBJECT = asm.name("builtins", "object") + b")R"
DTYPE = asm.build(asm.call(asm.name("numpy", "dtype"), "u1", False, True), (3, "|", None, None, None, -1, -1, 0))
ARRAY = asm.call(asm.name("numpy._core.numeric", "_frombuffer"), asm.Bytes(b"abcd"), DTYPE, (4,), "C")
SCALAR = asm.call(asm.name("numpy._core.multiarray", "scalar"), DTYPE, asm.Bytes(b"a"))

# Code that pushes a value of each kind, and how flatbed calls it.
VALUES = {
    "none": (b"N", "None"), "bool": (b"\x88", "a bool"), "int": (b"K\7", "an int"),
    "big-int": (b"\x8a\x09" + bytes(8) + b"\1", "an int"), "float": (b"G" + bytes(8), "a float"),
    "str": (asm.text("text"), "a str"), "bytes": (b"C\4data", "bytes"), "list": (b"]", "a list"),
    "tuple": (b"K\1\x85", "a tuple"), "dict": (b"}", "a dict"), "global": (asm.name("some", "name"), "a global"),
    "object": (OBJECT, "an object"), "set": (b"\x8f", "an object"), "frozenset": (b"(\x91", "an object"),
    "bytearray": (b"\x96" + (4).to_bytes(8, "little") + b"data", "an object"),
    "tensor": (asm.tensor(), "a tensor"), "storage": (asm.storage(), "bytes"), "array": (ARRAY, "an array"),
    "scalar": (SCALAR, "a scalar"),
}
TORCH = {"tensor", "storage"}
OBJECTS = {"object", "set", "frozenset", "bytearray"}


def carriers_of(*kinds):
    """A zip and, but for storages, which streams call otherwise, a legacy stream."""
    return ("zip",) if TORCH & set(kinds) else ("zip", "legacy")


def confusion(carried):
    """P14: each opcode that changes or uses a value, on each kind of value."""
    rows = [("APPEND", b"", b"Na", {"list"} | OBJECTS, "the target", "a list"),
            ("APPENDS", b"", b"(NNe", {"list"} | OBJECTS, "the target", "a list"),
            ("SETITEM", b"", asm.text("k") + b"Ns", {"dict"} | OBJECTS, "the target", "a dict"),
            ("SETITEMS", b"", b"(" + asm.text("k") + b"Nu", {"dict"} | OBJECTS, "the target", "a dict"),
            ("ADDITEMS", b"", b"(N\x90", {"set"}, "the target", "a set of EMPTY_SET"),
            ("NEWOBJ", b"", b")\x81", {"global"} | OBJECTS, "the class", "a global or object"),
            ("NEWOBJ", asm.name("a", "B"), b"\x81", {"tuple"}, "the arguments", "a tuple"),
            ("NEWOBJ_EX", b"", b")}\x92", {"global"} | OBJECTS, "the class", "a global or object"),
            ("NEWOBJ_EX", asm.name("a", "B"), b"}\x92", {"tuple"}, "the arguments", "a tuple"),
            ("NEWOBJ_EX", asm.name("a", "B") + b")", b"\x92", {"dict"}, "the keyword arguments", "a dict"),
            ("STACK_GLOBAL", b"", asm.text("n") + b"\x93", {"str"}, "the module", "a str"),
            ("STACK_GLOBAL", asm.text("m"), b"\x93", {"str"}, "the name", "a str"),
            ("BUILD", b"", b"}b", OBJECTS, "the target", "an object")]
    for number, (name, before, after, fits, what, wanted) in enumerate(rows):
        good_kind = sorted(fits)[-1]
        good = HEAD + before + VALUES[good_kind][0] + after + b"."
        for kind, (value, called) in VALUES.items():
            if kind in fits:
                carried.twin(f"P14/{name}-{number}-on-{kind}", HEAD + before + value + after + b".", "zip")
                continue
            place = HEAD + before + value + after
            carried.bad(f"P14/{name}-{number}-on-{kind}", place + b".", good,
                        ("pickle_type", f"byte {len(place) - 1}: {name}: {what} is {called}, expected {wanted}"),
                        carriers=carriers_of(kind))


def calls(carried):
    """P14, P15: what is called, and with what; also with the result dropped."""
    good = HEAD + asm.name("a", "B") + b")R."
    for kind, (value, _) in VALUES.items():
        for word, end in (("", b"."), ("-dropped", b"0N.")):
            if kind not in {"global"} | OBJECTS:
                place = HEAD + value + b")"
                carried.bad(f"P15/REDUCE-of-{kind}{word}", place + b"R" + end, good,
                            ("pickle_type", f"byte {len(place)}: REDUCE: what is called is neither a global nor an "
                             "object"), carriers=carriers_of(kind))
                place = HEAD + b"(" + value
                carried.bad(f"P15/OBJ-of-{kind}{word}", place + b"o" + end, good,
                            ("pickle_type", f"byte {len(place)}: OBJ: what is called is neither"),
                            carriers=carriers_of(kind))
            if kind != "tuple":
                place = HEAD + asm.name("a", "B") + value
                carried.bad(f"P15/REDUCE-with-{kind}{word}", place + b"R" + end, good,
                            ("pickle_type", f"byte {len(place)}: REDUCE: the arguments of a call are not a tuple"),
                            carriers=carriers_of(kind))
    for word, code in {"state-twice": OBJECT + b"}b}b", "state-twice-none": OBJECT + b"NbNb"}.items():
        carried.bad(f"P14/{word}", HEAD + code + b".", HEAD + OBJECT + b"}b.",
                    ("pickle_type", f"byte {len(HEAD + code) - 1}: BUILD: the object already has a state"))


UNHASHABLE = {"list": "a list", "dict": "a dict", "array": "an array"}


def keys(carried):
    """P14: dict keys that cannot be hashed, odd numbers of items, and the same key twice."""
    makers = {"SETITEM": (b"}", b"Ns"), "SETITEMS": (b"}(", b"Nu"), "DICT": (b"(", b"Nd"),
              "SETITEMS-2": (b"}(" + asm.text("k") + b"N", b"Nu"),
              "SETITEMS-of-object": (OBJECT + b"(", b"Nu"), "SETITEM-of-object": (OBJECT, b"Ns")}
    for maker, (before, after) in makers.items():
        good = HEAD + before + asm.text("key") + after + b"."
        for kind, called in UNHASHABLE.items():
            place = HEAD + before + VALUES[kind][0] + after
            carried.bad(f"P14/key-{kind}-{maker}", place + b".", good,
                        ("pickle_type", f"byte {len(place) - 1}: {maker.split('-')[0]}: a key is {called}, expected "
                         "something hashable"))
    for word, code in {"SETITEMS": b"}(NNNu", "SETITEMS-one": b"}(Nu", "DICT": b"(Nd", "DICT-five": b"(NNNNNd",
                       "SETITEMS-of-object": OBJECT + b"(NNNu"}.items():
        count = code[code.index(b"("):].count(b"N") if word != "SETITEMS-of-object" else 3
        carried.bad(f"P14/odd-{word}", HEAD + code + b".", HEAD + b"}(NNu.",
                    ("pickle_type",
                     f"byte {len(HEAD + code) - 1}: {word.split('-')[0]}: {count} values do not form pairs"))


# Keys that are equal in Python, in pairs.
SAME = {"str": ("a", "a", "'a'"), "empty-str": ("", "", "''"), "int": (1, 1, "1"), "int-float": (1, 1.0, "number"),
        "float-int": (2.0, 2, "2"), "bool-int": (True, 1, "1"), "int-bool": (0, False, "number"),
        "zero-float": (0, -0.0, "number"), "none": (None, None, "None"), "float": (1.5, 1.5, "number"),
        "bytes": (asm.Bytes(b"x"), asm.Bytes(b"x"), "bytes"), "big": (2**70, 2**70, "number"),
        "negative": (-5, -5, "-5"), "negative-float": (-5, -5.0, "number"), "inf": (float("inf"), float("inf"),
                                                                                    "number"),
        "large-float": (2**62, float(2**62), "number"), "two-to-63": (2**63, float(2**63), "number"),
        "two-to-70": (2**70, float(2**70), "number"), "least": (-2**63, -float(2**63), "number"),
        "two-spellings": (b"K\1", b"J\1\0\0\0", "1"),
        "text-forms": (asm.text("é"), b"V\xe9\n", "'é'"), "short-str": (asm.text("b"), b"\x8c\1b", "'b'")}
DIFFER = {"nan": (float("nan"), float("nan")), "str-bytes": ("a", asm.Bytes(b"a")), "int-str": (1, "1"),
          "large": (2**53 + 1, float(2**53)), "above": (2**63, float(2**63) * 1.5), "case": ("a", "A"),
          "tuples": ((1,), (2,)), "nfc-nfd": ("é", "e\u0301"), "below": (-2**63, -2**64),
          "most": (2**63 - 1, float(2**63))}


def same_keys(carried):
    """P14: two equal keys: readers keep the first or the last, so that neither is right."""
    for word, (first, second, says) in SAME.items():
        for size in (2, 3, 17, 40):  # few keys are compared with each other, many are sorted
            others = [(f"other{i}", None) for i in range(size - 2)]
            for place in ("ends", "middle"):
                if size == 2 and place == "middle":
                    continue
                pairs = [(first, 1)] + others + [(second, 2)]
                if place == "middle":
                    pairs = others[:1] + [(first, 1), (second, 2)] + others[1:]
                good = [*pairs]
                good[[i for i, pair in enumerate(pairs) if pair[1] == 2][0]] = ("else", 2)
                make = (lambda all: HEAD + b"}(" + b"".join(asm.code(k) + asm.code(v) for k, v in all) + b"u.")
                if size in (2, 40) or word in ("str", "int-float", "none", "float"):
                    # Of many keys either spelling may be the one that is named.
                    named = says if size < 17 or first == second and type(first) is type(second) else ""
                    carried.bad(f"P14/same-keys-{word}-{size}-{place}", make(pairs), make(good),
                                ("pickle_duplicate_key", "a dict has the key ", named, "twice"),
                                carriers=("zip", "legacy") if size == 2 else ("zip",))
    for word, (first, second) in DIFFER.items():
        carried.twin(f"P14/other-keys-{word}", HEAD + asm.code({0: 0}) + b"0" + b"}(" + asm.code(first) + b"N"
                     + asm.code(second) + b"Nu.", "zip", {})
    long = asm.code(asm.Bytes(bytes(2000)))
    carried.twin("P14/other-keys-long-bytes", HEAD + b"}(" + long + b"N" + long + b"Nu.", "zip")
    for word, before, after in (("OrderedDict", asm.ORDERED_DICT, b""), ("object", OBJECT, b""),
                                ("within-list", b"](}", b"e"), ("as-state", OBJECT + b"}", b"b"),
                                ("as-key-of-tuple", b"}((}", b"tNu"), ("in-set", b"\x8f((}", b"t\x90")):
        pairs = b"(" + asm.code("a") + b"N" + asm.code("a") + b"Nu"
        other = b"(" + asm.code("a") + b"N" + asm.code("b") + b"Nu"
        carried.bad(f"P14/same-keys-{word}", HEAD + before + pairs + after + b".", HEAD + before + other + after + b".",
                    ("pickle_duplicate_key", "a dict has the key 'a' twice"))
    pairs = asm.call(asm.name("collections", "OrderedDict"), [["a", 1], ["a", 2]])
    other = asm.call(asm.name("collections", "OrderedDict"), [["a", 1], ["b", 2]])
    carried.bad("P14/same-keys-of-python-2", HEAD + pairs + b".", HEAD + other + b".",
                ("pickle_duplicate_key", "a dict has the key 'a' twice"))
    place = HEAD + b"}(" + asm.code("a") + b"Nu" + asm.code("a") + b"Ns"
    carried.bad("P14/same-key-set-later", place + b".", HEAD + b"}(" + asm.code("a") + b"Nu" + asm.code("b") + b"Ns.",
                ("pickle_duplicate_key", "a dict has the key 'a' twice"))


def late_keys(carried):
    """A key that was a call when it was set, and became an array by its state."""
    target = asm.call(asm.name("numpy._core.multiarray", "_reconstruct"), asm.name("numpy", "ndarray"), (0,),
                      asm.Bytes(b"b"))
    state = (1, (4,), DTYPE, False, asm.Bytes(b"abcd"))
    for word, dict_code in (("dict", b"}"), ("object", OBJECT)):
        for count in (0, 20):
            more = b"".join(asm.code(f"k{i}") + b"N" for i in range(count))
            head = HEAD + target + b"q\0" + dict_code + b"q\1"
            filled = b"(h\0N" + more + b"u0h\0" + asm.code(state) + b"b0h\1."
            other = b"(" + asm.code("key") + b"N" + more + b"u0h\0" + asm.code(state) + b"b0h\1."
            carried.bad(f"P14/array-as-key-of-{word}-{count}", head + filled, head + other,
                        ("pickle_type", "a key is a numpy array, expected something hashable"))


def memo(carried):
    """P06: entries that were never written, indices that picklers do not write, and such as are none."""
    good = HEAD + b"Nq\0h\0\x86."
    for name, opcode, index in (("BINGET", b"h\0", 0), ("BINGET", b"h\xff", 255), ("LONG_BINGET", b"j\0\0\0\0", 0),
                                ("LONG_BINGET", b"j\xff\xff\xff\xff", 2**32 - 1), ("GET", b"g0\n", 0),
                                ("GET", b"g99999\n", 99999), ("GET", b"g9223372036854775807\n", 2**63 - 1)):
        for word, before in (("nothing", HEAD), ("another", HEAD + b"Nq\1"), ("later", HEAD + b"Nr\2\0\0\0")):
            carried.bad(f"P06/{name}-{index}-after-{word}", before + opcode + b".", good,
                        ("pickle_memo_missing", f"byte {len(before)}: {name}: memo entry {index} was never written"))
    for index in (4, 5, 255, 2**16, 2**20, 2**31 - 1, 2**31, 2**32 - 1):
        pickle = HEAD + b"Nr" + struct.pack("<I", index) + b"."
        carried.bad(f"P06/LONG_BINPUT-{index}", pickle, HEAD + b"Nr\3\0\0\0.",
                    ("pickle_limit", f"byte 3: LONG_BINPUT: memo index {index} after 3 opcodes"))
    for index in (4, 2**33, 2**63 - 1):
        carried.bad(f"P06/PUT-{index}", HEAD + b"Np%d\n." % index, HEAD + b"Np3\n.",
                    ("pickle_limit", f"byte 3: PUT: memo index {index} after 3 opcodes"))
    carried.bad("P06/BINPUT-200", HEAD + b"Nq\xc8.", HEAD + b"Nq\3.", ("pickle_limit",
                                                                       "byte 3: BINPUT: memo index 200"))
    texts = {"negative": "-1", "underscore": "1_0", "blank": " 1", "blank-behind": "1 ", "plus": "+1", "word": "abc",
             "empty": "", "hex": "0x1", "float": "1.0", "minus": "-", "two-to-63": str(2**63), "large": "9" * 24,
             "minus-large": "-" + "9" * 24, "carriage-return": "1\r", "nul": "1\0", "digit-of-others": "\u0661"}
    for word, text in texts.items():
        large = word in ("two-to-63", "large", "minus-large", "negative")
        for name, opcode in (("PUT", b"p"), ("GET", b"g")):
            says = "is not a memo index" if large else "is not an integer"
            carried.bad(f"P06/{name}-{word}", HEAD + b"Np0\n" + opcode + text.encode() + b"\n.", good,
                        ("pickle_literal", f"byte 6: {name}: '", says))
    for name, opcode in (("PUT", b"p"), ("GET", b"g")):
        carried.bad(f"P06/{name}-5000-digits", HEAD + b"Np0\n" + opcode + b"1" * 5000 + b"\n.", good,
                    ("pickle_limit",
                     f"byte 6: {name}: the integer is too long: found 5000 decimal digits, the limit is 4300"))
    for word, pickle in {"memoize": HEAD + b"N\x94h\0\x86.", "overwritten": HEAD + b"Nq\0]q\0h\0\x86.",
                         "sparse": HEAD + b"NNNNr\5\0\0\0h\5.", "leading-zeros": HEAD + b"Np00\ng0\n."}.items():
        carried.twin(f"P06/{word}", pickle, "zip", {})


def literals(carried):
    """P08: texts that stand for no number and no string."""
    rows = {
        "INT": (b"I", b"12", "is not an integer", ["", "-", "+1", " 1", "1 ", "1_0", "0x1", "1L", "1.0", "1e3", "--1",
                                               "abc",
                                               "1\r", "1\0", "00x", "True", "\u0661"]),
        "LONG": (b"L", b"12L", "is not an integer", ["L", "-L", "+1L", " 1L", "1 L", "1_0L", "0x1L", "1LL", "1.0L",
                                                 "1\0L"]),
        "FLOAT": (b"F", b"1.5", "is not a float", ["", "1,5", " 1", "1 ", "+1", "0x1p3", "1_0", "1e", "e5", ".", "-",
                                                "1e400",
                                                "-1e400", "infinity", "INF", "NaN", "nan(1)", "inf ", "1.5f", "1\0",
                                                "1e1e1", "--1", "1.5.5"]),
        "STRING": (b"S", b"'ab'", "is not a quoted string", ["", "'", "ab", "'ab", "ab'", "'ab\"", "\"ab'", "'a'b'",
                                                          "'a\\'",
                                                          "'\\q'", "'\\x'", "'\\x1'", "'\\xgg'", "'\\8'", " 'a'",
                                                          "'a' ",
                                                          "\"a\"b\"", "'\\", "\"\\x1\""]),
        "UNICODE": (b"V", b"ab", "is not a unicode string",
                    ["\\u", "\\u12", "\\u123", "\\ug000", "\\U0001", "\\U00110000",
                                                         "\\Uffffffff", "\\u-123", "\\u 123", "ab\\u00",
                                                         "\\U0000000g"])}
    for name, (opcode, good, says, texts) in rows.items():
        for number, text in enumerate(texts):
            carried.bad(f"P08/{name}-{number}", HEAD + opcode + text.encode() + b"\n.", HEAD + opcode + good + b"\n.",
                        ("pickle_literal", f"byte 2: {name}: '", says))
    for number, text in enumerate(("12", "", "12l", "L1", "12L ", "-")):
        carried.bad(f"P08/LONG-without-L-{number}", HEAD + b"L" + text.encode() + b"\n.", HEAD + b"L12L\n.",
                    ("pickle_literal", "byte 2: LONG: '", "does not end in L"))
    for name, opcode, end in (("INT", b"I", b""), ("LONG", b"L", b"L")):
        good = HEAD + opcode + b"1" * 4300 + end + b"\n."
        for digits in (4301, 100_000):
            for sign in (b"", b"-"):
                carried.bad(f"P08/{name}-{sign.decode()}{digits}-digits", HEAD + opcode + sign + b"1" * digits + end +
                            b"\n.", good, ("pickle_limit",
                                           f"byte 2: {name}: the integer is too long: found {digits} decimal digits"))
    good = HEAD + b"\x8b" + struct.pack("<i", 1 << 20) + b"\1" * (1 << 20) + b"."
    for nbytes in ((1 << 20) + 1, 4 << 20):
        carried.bad(f"P08/LONG4-{nbytes}-bytes", HEAD + b"\x8b" + struct.pack("<i", nbytes) + b"\1" * nbytes + b".",
                    good,
                    ("pickle_limit",
                     f"byte 2: LONG4: the integer is too long: found {nbytes} bytes, the limit is 1048576"))
    for nbytes in (0, 1, 8, 9, 255):
        for last in (0x7F, 0x80, 0xFF):
            carried.twin(f"P08/LONG1-{nbytes}-bytes-{last:x}", HEAD + b"\x8a" + bytes([nbytes])
                         + (b"\0" * (nbytes - 1) + bytes([last]))[:nbytes] + b".", "zip", {})


NOT_UTF8 = {"continuation": b"\x80", "lead-alone": b"\xc3", "overlong-2": b"\xc0\xaf", "overlong-3": b"\xe0\x80\xaf",
            "overlong-4": b"\xf0\x80\x80\xaf", "above": b"\xf4\x90\x80\x80", "five": b"\xf8\x88\x80\x80\x80",
            "fe": b"\xfe",
            "ff": b"\xff", "cut": b"\xe2\x82", "latin-1": b"caf\xe9"}


def without_quotes(carried):
    """P08: texts whose ends are alike, and no quotes."""
    for number, text in enumerate((b"aba", b"11", b"\\a\\", b"  ", b"`a`")):
        carried.bad(f"P08/STRING-without-quotes-{number}", HEAD + b"S" + text + b"\n.", HEAD + b"S'ab'\n.",
                    ("pickle_literal", "byte 2: STRING: '", "is not a quoted string"))


def texts(carried):
    """Texts that are not UTF-8; and names of globals that are none."""
    for word, data in NOT_UTF8.items():
        for name, opcode in (("BINUNICODE", b"X" + struct.pack("<I", len(data))),
                             ("SHORT_BINUNICODE", b"\x8c" + bytes([len(data)])),
                             ("BINUNICODE8", b"\x8d" + struct.pack("<Q", len(data)))):
            good = HEAD + opcode + b"t" * len(data) + b"."
            carried.bad(f"P08/{name}-{word}", HEAD + opcode + data + b".", good,
                        ("pickle_not_utf8", f"byte 2: {name}: the text ", "is not UTF-8"))
        for number, (module, name) in enumerate(((data, b"n"), (b"m", data))):
            carried.bad(f"P02/GLOBAL-{word}-{number}", HEAD + b"c" + module + b"\n" + name + b"\n.", HEAD + b"cm\nn\n.",
                        ("pickle_not_utf8", "byte 2: GLOBAL: the name ", "is not UTF-8"))
    says = "is not a valid name of a module, class or function"
    bad = {"empty": "", "nul": "a\0", "carriage-return": "a\r", "escape": "\x1b[2J", "tab": "a\tb", "del": "a\x7f"}
    for word, name in bad.items():
        for number, (module, qualname) in enumerate(((name, "n"), ("m", name))):
            carried.bad(f"P02/GLOBAL-{word}-{number}", HEAD + b"c" + module.encode() + b"\n" + qualname.encode()
                        + b"\n.",
                        HEAD + b"cm\nn\n.", ("pickle_literal", "byte 2: GLOBAL: '", says))
            place = HEAD + asm.text(module) + asm.text(qualname)
            carried.bad(f"P02/STACK_GLOBAL-{word}-{number}", place + b"\x93.", HEAD + asm.text("m") + asm.text("n") +
                        b"\x93.", ("pickle_literal", f"byte {len(place)}: STACK_GLOBAL: '", says))
            carried.bad(f"P02/INST-{word}-{number}", HEAD + b"(i" + module.encode() + b"\n" + qualname.encode()
                        + b"\n.",
                        HEAD + b"(im\nn\n.", ("pickle_literal", "byte 3: INST: '", says))
    place = HEAD + asm.text("a\nb") + asm.text("n")
    carried.bad("P02/STACK_GLOBAL-line-break", place + b"\x93.", HEAD + asm.text("m") + asm.text("n") + b"\x93.",
                ("pickle_literal", f"byte {len(place)}: STACK_GLOBAL: 'a\\", says))


def add(corpus):
    carried = Carried(corpus)
    for part in (confusion, calls, keys, same_keys, late_keys, memo, literals, without_quotes,
                 texts):
        part(carried)
