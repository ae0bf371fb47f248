"""P01, P09 to P11, P15: what calls make of numpy arrays and of streams within a pickle; pickles that are deep, or large
when they are unfolded; and globals that would do harm elsewhere, which are inert here.
"""

import assembler as asm
import streams
import torch_zip as t
from carriers import Carried

FLOATS = bytes(range(24))
CALL = "rebuild_malformed"


def dtype(name="f4", order="<", state=None, size=-1, more=()):
    values = (3, order, None, None, None, size, size, 0, *more) if state is None else state
    return asm.build(asm.call(asm.name("numpy", "dtype"), name, False, True), values)


def from_buffer(data=FLOATS, kind=None, shape=(2, 3), order="C", module="numpy._core.numeric"):
    data = asm.code(asm.Bytes(data)) if isinstance(data, bytes) else asm.code(data)
    return asm.call(asm.name(module, "_frombuffer"), data, dtype() if kind is None else kind, shape, order)


def reconstructed(data=FLOATS, kind=None, shape=(2, 3), fortran=False, module="numpy._core.multiarray"):
    target = asm.call(asm.name(module, "_reconstruct"), asm.name("numpy", "ndarray"), (0,), asm.Bytes(b"b"))
    return asm.build(target, (1, shape, dtype() if kind is None else kind, fortran,
                              asm.Bytes(data) if isinstance(data, bytes) else data[0]))


def scalar(kind, data, module="numpy._core.multiarray"):
    return asm.call(asm.name(module, "scalar"), kind, asm.Bytes(data))


LONG = bytes(i % 251 for i in range(1200))  # a bytes object that becomes a tensor


def arrays(carried):
    """numpy arrays: shapes that are none, and data of another length."""
    def bad(word, make, says, expect=CALL, good=None, **lie):
        twin = asm.pickled({"w": make(**(good or {}))}, 3)
        carried.bad(f"P15/numpy-{word}", asm.pickled({"w": make(**lie)}, 3), twin, (expect, says))
    for name, make, place in (("frombuffer", from_buffer, "numpy._core.numeric._frombuffer: "),
                              ("reconstruct", reconstructed, "a numpy array: ")):
        for word, shape in {"none": None, "list": [2, 3], "int": 6, "str": "23", "dict": {}}.items():
            bad(f"{name}-shape-{word}", make, f"{place}the shape is not a tuple", shape=shape)
        for word, shape in {"negative": (2, -3), "both-negative": (-2, -3), "bool": (True, 6), "float": (2.0, 3),
                            "none": (None,),
                            "2-to-63": (2**63, 1), "nested": ((2,), 3), "str": ("2", "3")}.items():
            bad(f"{name}-shape-of-{word}", make, f"{place}the shape holds something other than non-negative ints",
                shape=shape)
        bad(f"{name}-65-dimensions", make, f"{place}65 dimensions, numpy allows 64", shape=(1,) * 65)
        for word, shape, size in (("larger", (2, 4), 32), ("smaller", (5,), 20), ("scalar", (), 4),
                                  ("nothing", (0,), 0),
                                  ("much-larger", (2**40,), 2**42)):
            bad(f"{name}-{word}", make, f"{place}wrong number of bytes: found 24, expected {size}", shape=shape)
        for word, shape in {"wraps-to-0": (2**32, 2**32), "wraps": (2**62, 2), "2-to-63": (2**61,),
                            "nothing": (2**62, 8, 0),
                            "nothing-first": (0, 2**62, 8)}.items():
            bad(f"{name}-overflow-{word}", make, f"{place}an array ", "size_overflow", shape=shape)
        bad(f"{name}-long-larger", make, f"{place}wrong size of the array's bytes: found 1200, expected 1204",
            good=dict(data=LONG, shape=(300,)),
            data=LONG, shape=(301,))
        big = dtype("f4", ">")
        bad(f"{name}-swapped-larger", make, f"{place}wrong number of bytes: found 1200, expected 1204",
            good=dict(data=LONG, shape=(300,), kind=big),
            data=LONG, shape=(301,), kind=big)
        wide = dtype("f8")
        bad(f"{name}-wider", make, f"{place}wrong number of bytes: found 24, expected 48", kind=wide)
    for word, order in {"A": "A", "K": "K", "empty": "", "lower": "c", "none": None, "int": 0, "CF": "CF"}.items():
        bad(f"frombuffer-order-{word}", from_buffer, "the order is neither 'C' nor 'F'", order=order)
    for data in (b"", b"abc", b"abcde", b"abcdefgh"):
        make = (lambda data=b"abcd": scalar(dtype(), data))
        bad(f"scalar-of-{len(data)}", make,
            f"numpy._core.multiarray.scalar: wrong number of bytes: found {len(data)}, expected 4",
            data=data)
    for name, size in (("f8", 8), ("i2", 2), ("c16", 16), ("S5", 5), ("U3", 12), ("M8", 8)):
        order = "|" if name == "S5" else "<"
        for wrong in (size - 1, size + 1):
            kind = dtype(name, order)
            make = (lambda data=bytes(size), kind=kind: scalar(kind, data))
            bad(f"scalar-{name}-of-{wrong}", make, f"wrong number of bytes: found {wrong}, expected {size}",
                data=bytes(wrong))


def inert_arrays(carried):
    """Types that are none make a call of what would be an array, and no array."""
    kinds = {"name-empty": dtype(""), "name-unknown": dtype("q4"), "size-0": dtype("f0"),
             "size-leading-0": dtype("f04"),
             "size-large": dtype("S9999999999", "|"), "c-odd": dtype("c15"), "order-other": dtype("f4", "="),
             "order-none": dtype("f4", None), "order-bar": dtype("f4", "|"), "version-2": dtype(state=(2, "<", None,
                                                                                                       None, None,
                                                                                                       -1, -1, 0)),
             "fields": dtype(state=(3, "<", None, ("a",), {"a": 1}, -1, -1, 0)), "state-7": dtype(state=(3, "<", None,
                                                                                                         None, None,
                                                                                                         -1, -1)),
             "state-none": dtype(state=b"N"),
             "empty-digits": dtype("f"), "not-digits": dtype("fx"), "digits-and-more": dtype("f4x"),
             "none": asm.code(None),
             "int": asm.code(4), "state-list": dtype(state=[3, "<", None, None, None, -1, -1, 0]),
             "state-10": dtype(more=({}, None)), "size-none": dtype(size=None), "metadata": dtype(more=(({},
                                                                                                         ("s", 1)),)),
             "other-class": asm.build(asm.call(asm.name("numpy", "dtypes"), "f4", False, True),
                                      (3, "<", None, None, None, -1, -1, 0)),
             "no-arguments": asm.build(asm.call(asm.name("numpy", "dtype")), (3, "<", None, None, None, -1, -1, 0)),
             "argument-bytes": asm.build(asm.call(asm.name("numpy", "dtype"), asm.Bytes(b"f4")),
                                         (3, "<", None, None, None, -1, -1, 0)),
             "argument-int": asm.build(asm.call(asm.name("numpy", "dtype"), 4), (3, "<", None, None, None, -1, -1, 0)),
             "itemsize": dtype(size=8), "no-state": asm.call(asm.name("numpy",
                                                                                                       "dtype"), "f4")}
    for word, kind in kinds.items():
        for name, make in (("frombuffer", from_buffer), ("reconstruct", reconstructed)):
            carried.twin(f"P15/numpy-{name}-type-{word}", asm.pickled({"w": make(kind=kind)}, 3), "zip", {})


def dates(carried):
    """Units of dates that are none."""
    def date(unit):
        return dtype("M8", more=(unit,))
    good = ({}, (asm.Bytes(b"s"), 1, 1, 1))
    rows = {"none-of-2": (good[0],), "list": list(good), "of-3": (*good, None), "head": (1, good[1]),
            "parts-none": ({}, None),
            "parts-list": ({}, [asm.Bytes(b"s"), 1, 1, 1]), "parts-of-1": ({}, (asm.Bytes(b"s"),)),
            "name-int": ({}, (7, 1, 1, 1)), "name-global": ({}, (asm.name("s", "x"), 1, 1, 1)),
            "name-list": ({}, ([], 1, 1, 1)), "name-empty": ({},
                                                                                             (asm.Bytes(b""), 1, 1, 1)),
            "name-digits": ({}, (asm.Bytes(b"s1"), 1, 1, 1)), "count-none": ({}, (asm.Bytes(b"s"), None, 1, 1)),
            "count-0": ({}, (asm.Bytes(b"s"), 0, 1, 1)), "count-negative": ({}, (asm.Bytes(b"s"), -1, 1, 1)),
            "denominator-2": ({}, (asm.Bytes(b"s"), 1, 2, 1)), "event-2": ({}, (asm.Bytes(b"s"), 1, 1, 2))}
    for name, make in (("frombuffer", from_buffer), ("reconstruct", reconstructed)):
        carried.twin(f"P15/numpy-{name}-date", asm.pickled({"w": make(kind=date(good), shape=(3,))}, 3), "zip",
                     {"w": ("U8", (3, 8), FLOATS)})
        for word, unit in rows.items():
            carried.twin(f"P15/numpy-{name}-date-{word}", asm.pickled({"w": make(kind=date(unit), shape=(3,))}, 3),
                         "zip",
                         {})


def spellings(carried):
    """Calls that spell Python values get one form; what is nearly one stays the call that it is."""
    ordered, encode = asm.name("collections", "OrderedDict"), asm.name("_codecs", "encode")
    layout = asm.name("torch.serialization", "_get_layout")
    variable = asm.name("torch.autograd.variable", "Variable")
    kinds = {"set": asm.name("builtins", "set"), "bytearray": asm.name("builtins", "bytearray")}
    rows = {
        "ordered": (asm.call(ordered, [["a", 1], ("b", 2)]), "collections.OrderedDict(){'a': 1, 'b': 2}"),
        "ordered-of-int": (asm.call(ordered, 5), "collections.OrderedDict(5)"),
        "ordered-of-two": (asm.call(ordered, [], []), "collections.OrderedDict([], [])"),
        "ordered-of-items": (asm.call(ordered, [5]), "collections.OrderedDict([5])"),
        "ordered-of-dict": (asm.call(ordered, [{1: 2, 3: 4}]), "collections.OrderedDict([{1: 2, 3: 4}])"),
        "ordered-of-3": (asm.call(ordered, [[1, 2, 3]]), "collections.OrderedDict([[1, 2, 3]])"),
        "set": (asm.call(kinds["set"], (1, 2)), "builtins.set([1, 2])"),
        "set-of-int": (asm.call(kinds["set"], 5), "builtins.set(5)"),
        "set-of-two": (asm.call(kinds["set"], (1,), (2,)), "builtins.set((1), (2))"),
        "bytearray": (asm.call(kinds["bytearray"], "ab", "latin-1"), "builtins.bytearray(b'ab')"),
        "bytearray-of-int": (asm.call(kinds["bytearray"], 5), "builtins.bytearray(5)"),
        "encode": (asm.call(encode, "é", "latin1"), r"b'\xe9'"),
        "encode-utf-8": (asm.call(encode, "é", "utf-8"), "b'é'"),
        "encode-other": (asm.call(encode, "é", "utf-16"), "_codecs.encode('é', 'utf-16')"),
        "encode-wide": (asm.call(encode, "€", "latin1"), "_codecs.encode('€', 'latin1')"),
        "encode-surrogate": (asm.call(encode, "\ud800", "utf-8"), r"_codecs.encode('\xed\xa0\x80', 'utf-8')"),
        "encode-one": (asm.call(encode, "a"), "_codecs.encode('a')"),
        "encode-three": (asm.call(encode, "a", "latin1", "strict"), "_codecs.encode('a', 'latin1', 'strict')"),
        "encode-bytes": (asm.call(encode, asm.Bytes(b"a"), "latin1"), "_codecs.encode(b'a', 'latin1')"),
        "encode-bytes-codec": (asm.call(encode, "a", asm.Bytes(b"latin1")), "_codecs.encode('a', b'latin1')"),
        "layout": (asm.call(layout, "torch.strided"), "torch.strided"),
        "layout-two": (asm.call(layout, "torch.strided", 1), "torch.serialization._get_layout('torch.strided', 1)"),
        "layout-bytes": (asm.call(layout, asm.Bytes(b"torch.strided")),
                         "torch.serialization._get_layout(b'torch.strided')"),
        "layout-prefix": (asm.call(layout, "other.strided"), "torch.serialization._get_layout('other.strided')"),
        "layout-other": (asm.call(layout, "os.system"), "torch.serialization._get_layout('os.system')"),
        "variable-of-4": (asm.call(variable, asm.tensor(), True, False, None),
                          "torch.autograd.variable.Variable(T0, True, False, None)"),
    }
    for word, (code, tree) in rows.items():
        carried.twin(f"P15/spelling-{word}", asm.pickled(code, 3), "zip", None, tree)


def decoded(carried):
    """P09: one text that is decoded again and again: the first times are, then it stays a call."""
    text = asm.text("a" * (1 << 20))
    head = b"\x80\3" + text + b"q\0" + b"0" + asm.name("_codecs", "encode") + b"q\1" + b"0"
    head += asm.text("latin1") + b"q\2" + b"0"
    carried.twin("P09/one-text-decoded-6000-times", head + b"](" + b"h\1h\0h\2\x86R" * 6000 + b"e.", "zip")


def repeated(carried):
    """P09: what is remembered once and copied each time it is used."""
    name = b"\x80\4" + asm.text("n" * 20_000) + b"q\0" + b"0"
    carried.bad("P09/one-long-name-2000-times", name + b"](" + b"h\0h\0\x93" * 2000 + b"e.",
                name + b"](" + b"h\0h\0\x93" * 3 + b"e.", ("pickle_limit", "the names of all globals"), ("zip",))
    items = b"\x80\2(" + b"N" * 20_000 + b"tq\0" + b"0" + asm.name("a", "B") + b"q\1" + b"0"
    carried.bad("P09/one-long-tuple-made-objects-of-2000-times", items + b"](" + b"h\1h\0\x81" * 2000 + b"e.",
                items + b"](" + b"h\1h\0\x81e.", ("pickle_limit", "the arguments of all objects"), ("zip",))
    # Calls that are not spelled otherwise any more, and stay calls.
    pairs = b"\x80\2](" + b")N\x86" * 20_000 + b"eq\0" + b"0" + asm.name("collections", "OrderedDict") + b"q\1" + b"0"
    carried.twin("P09/one-long-list-made-dicts-of-2000-times", pairs + b"](" + b"h\1h\0\x85R" * 2000 + b"e.", "zip", {})
    items = b"\x80\2(" + b"N" * 20_000 + b"tq\0" + b"0" + asm.name("__builtin__", "set") + b"q\1" + b"0"
    carried.twin("P09/one-long-tuple-made-sets-of-20000-times", items + b"](" + b"h\1h\0\x85R" * 20_000 + b"e.", "zip",
                 {})


def nested(carried):
    """_load_from_bytes: a stream within the pickle, and within that."""
    load = asm.name("torch.storage", "_load_from_bytes")

    def loaded(data):
        return asm.call(load, asm.Bytes(data))

    def stream(**more):
        return streams.stream(more.pop("pickle", {"w": asm.tensor(streams.storage())}), **more)
    good = asm.pickled({"m": loaded(stream())}, 3)
    for carrier in ("zip", "legacy", "alone"):
        carried.twin("P15/nested", good, carrier, {"m.w": ("F32", (2, 3), FLOATS)})

    def bad(word, code, expect, *says, carriers=("zip", "legacy", "alone"), twin=good):
        carried.bad(f"P15/nested-{word}", asm.pickled({"m": code}, 3), twin, (expect, *says), carriers)
    place = "torch.storage._load_from_bytes: "
    for word, value in {"none": None, "str": "stream", "int": 1, "list": [], "tuple": ()}.items():
        bad(f"of-{word}", asm.call(load, value), CALL, place, "expected one bytes object")
    bad("of-nothing", asm.call(load), CALL, place, "expected one bytes object")
    bad("of-two", asm.call(load, asm.Bytes(stream()), asm.Bytes(b"")), CALL, place, "expected one bytes object")
    bad("of-a-storage", asm.call(load, asm.storage()), CALL, place, "expected one bytes object", carriers=("zip",))
    bad("of-a-bytearray", asm.call(load, b"\x96" + (4).to_bytes(8, "little") + b"data"), CALL, place,
        "expected one bytes",
        carriers=("zip",))
    for word, data, expect, says in (
            ("empty", b"", "pickle_truncated", " of 1 byte"), ("stop", b"\x80\2N.", "legacy_malformed",
                                                                       "do not begin like"),
            ("protocol", stream(protocol=1002), "torch_version_unsupported", "unsupported protocol: found 1002"),
            ("storage-size", stream(stored=streams.contents(5, FLOATS)), "storage_size_mismatch",
             "wrong number of elements: found 5"),
            ("cut", stream()[:-1], "legacy_truncated", "cut off: found 23 of 24 bytes"),
            ("keys", stream(keys=("1",)), "legacy_malformed", "is listed, but the object does not use it"),
            ("outside", stream(pickle={"w": asm.tensor(streams.storage(), 1)}), "tensor_out_of_storage",
             "reaches element 6"),
            ("opcode", stream(pickle=b"\x80\2\xff."), "pickle_opcode_unknown", "opcode 0xff")):
        bad(word, loaded(data), expect, place, says)
        if word not in ("cut", "empty"):  # bytes objects of this length become tensors
            carried.bad(f"P15/nested-long-{word}", asm.pickled({"m": loaded(data + bytes(2000))}, 3),
                        asm.pickled({"m": loaded(stream() + bytes(2000))}, 3), (expect, place, says), ("zip", "alone"))
    code = asm.tensor(streams.storage())
    depths = []
    for depth in range(1, 8):
        code = loaded(streams.stream({"x": code}, keys=("0",) if depth == 1 else (), stored=None
                                     if depth == 1 else b""))
        depths.append(code)
    deepest = asm.pickled({"m": depths[3]}, 3)
    for depth in (5, 6, 7):
        bad(f"{depth}-deep", depths[depth - 1], "pickle_limit", "streams are nested too deeply: the limit is 4 levels",
            twin=deepest)
    # The same bytes again and again: they would be read again each time.
    inner = asm.code(asm.Bytes(streams.stream(list(range(400)), keys=(), stored=b"")))
    head = b"\x80\3" + inner + b"q\0" + b"0" + load + b"q\1" + b"0"
    for count in (3, 400, 4000):
        pickle = head + b"](" + b"h\1h\0\x85R" * count + b"e."
        if count > 10:
            carried.bad(f"P09/nested-{count}-times", pickle, head + b"](" + b"h\1h\0\x85R" * 3 + b"e.",
                        ("pickle_limit", "nested pickles are too large together",
                         "4 times the size of the outer pickle"), ("zip", "alone"))


def shared_copies(carried):
    """P09: one bytes object under many arrays that must each be copied."""
    size = 4 << 20
    head = (b"\x80\3" + asm.code(asm.Bytes(bytes(size))) + b"q\0" + b"0" + asm.name("numpy._core.numeric",
                                                                                    "_frombuffer")
            + b"q\1" + b"0" + dtype("f4", ">") + b"q\2" + b"0")
    one = b"(h\0h\2" + asm.code((size // 4,)) + asm.code("C") + b"t"

    def pickle(count):
        return head + b"](" + (b"h\1" + one + b"R") * count + b"e."
    for count in (40, 100):
        carried.bad(f"P09/{count}-arrays-of-4-mib", pickle(count), pickle(2), ("pickle_limit",
                                                                               "bytes that several arrays share"),
                    ("zip",))


def deep_and_wide(carried):
    """P09 to P11: all of them are read in time and memory that the file's size bounds."""
    head = b"\x80\2"
    laughs = {f"tuples-{n}": head + b"N" + b"\x32\x86" * n + b"." for n in (20, 40, 64, 1000)}
    laughs |= {f"lists-{n}": head + b"]" + b"".join(b"q" + bytes([i % 200]) + b"0](" + (b"h" + bytes([i % 200])) * 10
                                                    + b"e"
                                                    for i in range(n)) + b"." for n in (9, 60)}
    laughs["dropped"] = head + b"N" + b"\x32\x86" * 64 + b"0}."
    for word, pickle in laughs.items():
        carried.twin(f"P09/{word}", pickle, "zip", {})
    deep = {"lists": (b"]", b"a"), "tuples": (b"", b"\x85"), "dicts": (b"}K\1", b"s")}
    for word, (before, after) in deep.items():
        for depth in (1000, 100_000):
            carried.twin(f"P10/{depth}-{word}", head + before * depth + b"N" + after * depth + b".", "zip", {})
    carried.twin("P10/1000000-lists", head + b"]" * 1_000_000 + b"a" * 999_999 + b".", "zip", {})
    calls = asm.name("a", "B") + b"q\0"
    for depth in (1000, 100_000):
        carried.twin(f"P10/{depth}-calls", head + calls + b"h\0" * depth + b")R" + b"\x85R" * depth + b".", "zip", {})
        carried.twin(f"P10/{depth}-states", head + calls + b"h\0)R" * depth + b"b" * (depth - 1) + b".", "zip", {})
    cycles = {"list": b"]q\0h\0a.", "dict": b"}q\0K\1h\0s.", "tuple": b"]q\0h\0\x85a.", "object": calls + b")Rq\1h\1b.",
              "ordered": asm.ORDERED_DICT + b"q\0K\1h\0s.", "key": b"}q\0(h\0\x85Ku.".replace(b"Ku", b"Nu")}
    for word, code in cycles.items():
        carried.twin(f"P10/cycle-{word}", head + code, "zip", {})
    many = {"none": b"(" + b"N" * 1_000_000 + b"t.", "marks": b"(" * 1_000_000 + b"N.",
            "pops": b"N" + b"(0" * 500_000 + b".",
            "dups": b"N" + b"2" * 1_000_000 + b".", "dicts": b"(" + b"}" * 300_000 + b"t.",
            "memoize": b"N" + b"\x94" * 500_000 + b".",
            "globals": b"(" + asm.name("torch", "float32") * 20_000 + b"t.",
            "other-globals": b"(" + b"".join(b"cm\nn%d\n" % i for i in range(20_000)) + b"t.",
            "keys": b"}(" + b"".join(b"M" + i.to_bytes(2, "little") + b"N" for i in range(60_000)) + b"u."}
    for word, code in many.items():
        carried.twin(f"P11/{word}", head + code, "zip", {})


DANGEROUS = """
builtins.eval builtins.exec builtins.compile builtins.getattr builtins.setattr builtins.__import__
builtins.open os.system os.popen os.execv os.spawnl posix.system nt.system subprocess.Popen
subprocess.call subprocess.check_output runpy._run_code runpy.run_path importlib.import_module
pty.spawn shutil.rmtree socket.socket ctypes.CDLL pickle.loads pickle._loads marshal.loads
types.CodeType types.FunctionType operator.attrgetter operator.methodcaller functools.partial
functools.reduce webbrowser.open code.interact pdb.run timeit.timeit cProfile.run bdb.Bdb.run
asyncio.create_subprocess_shell multiprocessing.Process ssl.get_server_certificate
urllib.request.urlopen requests.get http.client.HTTPSConnection torch.load torch.hub.load
torch.ops.load_library torch.jit.load torch._dynamo.guards.GuardBuilder.get
torch.utils.cpp_extension.load numpy.testing._private.utils.runstring numpy.load pip.main
pydoc.pipepager sys.setprofile linecache.getline tempfile.mktemp logging.config.listen
distutils.file_util.write_file idlelib.run.Executive.runcode builtins.object.__reduce__
copyreg._reconstructor site.main venv.create ensurepip._run_pip doctest.debug_script
""".split()


def dangerous(carried):
    """P01: nothing is imported or called: what would do harm elsewhere is an object that does nothing here. These are
    valid files, and not counted as hostile."""
    for name in DANGEROUS:
        module, qualname = name.rsplit(".", 1)
        forms = {"global": asm.name(module, qualname) + b"X\2\0\0\0id\x85R.",
                 "stack": asm.text(module) + asm.text(qualname) + b"\x93X\2\0\0\0id\x85R.",
                 "inst": b"(X\2\0\0\0idi" + module.encode() + b"\n" + qualname.encode() + b"\n."}
        for word, code in forms.items():
            carried.twin(f"P01/{name}-{word}", b"\x80\4" + code, "zip", {}, f"{module}.{qualname}('id')")


def add(corpus):
    carried = Carried(corpus)
    for part in (arrays, inert_arrays, dates, spellings, decoded, repeated, nested, shared_copies,
                 deep_and_wide, dangerous):
        part(carried)
