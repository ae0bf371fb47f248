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
            bad(f"{name}-shape-{word}", make, f"{place}the shape is no tuple", shape=shape)
        for word, shape in {"negative": (2, -3), "both-negative": (-2, -3), "bool": (True, 6), "float": (2.0, 3),
                            "none": (None,),
                            "2-to-63": (2**63, 1), "nested": ((2,), 3), "str": ("2", "3")}.items():
            bad(f"{name}-shape-of-{word}", make, f"{place}the shape holds something other than ints from 0 on",
                shape=shape)
        bad(f"{name}-65-dimensions", make, f"{place}65 dimensions, numpy allows 64", shape=(1,) * 65)
        for word, shape, size in (("larger", (2, 4), 32), ("smaller", (5,), 20), ("scalar", (), 4),
                                  ("nothing", (0,), 0),
                                  ("much-larger", (2**40,), 2**42)):
            bad(f"{name}-{word}", make, f"{place}24 bytes of what has {size}", shape=shape)
        for word, shape in {"wraps-to-0": (2**32, 2**32), "wraps": (2**62, 2), "2-to-63": (2**61,),
                            "nothing": (2**62, 8, 0),
                            "nothing-first": (0, 2**62, 8)}.items():
            bad(f"{name}-overflow-{word}", make, f"{place}an array ", "size_overflow", shape=shape)
        bad(f"{name}-long-larger", make, f"{place}1200 bytes of an array that has 1204",
            good=dict(data=LONG, shape=(300,)),
            data=LONG, shape=(301,))
        big = dtype("f4", ">")
        bad(f"{name}-swapped-larger", make, f"{place}1200 bytes of what has 1204",
            good=dict(data=LONG, shape=(300,), kind=big),
            data=LONG, shape=(301,), kind=big)
        wide = dtype("f8")
        bad(f"{name}-wider", make, f"{place}24 bytes of what has 48", kind=wide)
    for word, order in {"A": "A", "K": "K", "empty": "", "lower": "c", "none": None, "int": 0, "CF": "CF"}.items():
        bad(f"frombuffer-order-{word}", from_buffer, "the order is neither 'C' nor 'F'", order=order)
    for data in (b"", b"abc", b"abcde", b"abcdefgh"):
        make = (lambda data=b"abcd": scalar(dtype(), data))
        bad(f"scalar-of-{len(data)}", make, f"numpy._core.multiarray.scalar: {len(data)} bytes of what has 4",
            data=data)
    for name, size in (("f8", 8), ("i2", 2), ("c16", 16), ("S5", 5), ("U3", 12), ("M8", 8)):
        order = "|" if name == "S5" else "<"
        for wrong in (size - 1, size + 1):
            kind = dtype(name, order)
            make = (lambda data=bytes(size), kind=kind: scalar(kind, data))
            bad(f"scalar-{name}-of-{wrong}", make, f"{wrong} bytes of what has {size}", data=bytes(wrong))


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
             "state-none": dtype(state=b"N"), "itemsize": dtype(size=8), "no-state": asm.call(asm.name("numpy",
                                                                                                       "dtype"), "f4")}
    for word, kind in kinds.items():
        for name, make in (("frombuffer", from_buffer), ("reconstruct", reconstructed)):
            carried.twin(f"P15/numpy-{name}-type-{word}", asm.pickled({"w": make(kind=kind)}, 3), "zip", {})


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
        bad(f"of-{word}", asm.call(load, value), CALL, place, "wanted one bytes object")
    bad("of-nothing", asm.call(load), CALL, place, "wanted one bytes object")
    bad("of-two", asm.call(load, asm.Bytes(stream()), asm.Bytes(b"")), CALL, place, "wanted one bytes object")
    bad("of-a-storage", asm.call(load, asm.storage()), CALL, place, "wanted one bytes object", carriers=("zip",))
    bad("of-a-bytearray", asm.call(load, b"\x96" + (4).to_bytes(8, "little") + b"data"), CALL, place,
        "wanted one bytes",
        carriers=("zip",))
    for word, data, expect, says in (
            ("empty", b"", "pickle_truncated", "1 bytes are wanted"), ("stop", b"\x80\2N.", "legacy_malformed",
                                                                       "do not begin as"),
            ("protocol", stream(protocol=1002), "torch_version_unsupported", "protocol 1002"),
            ("storage-size", stream(stored=streams.contents(5, FLOATS)), "storage_size_mismatch", "it has 5 elements"),
            ("cut", stream()[:-1], "legacy_truncated", "24 bytes are wanted, 23 are left"),
            ("keys", stream(keys=("1",)), "legacy_malformed", "is listed, but the object does not mention it"),
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
        bad(f"{depth}-deep", depths[depth - 1], "pickle_limit", "more than 4 streams within each other", twin=deepest)
    # The same bytes again and again: each time they would be read anew.
    inner = asm.code(asm.Bytes(streams.stream(list(range(400)), keys=(), stored=b"")))
    head = b"\x80\3" + inner + b"q\0" + b"0" + load + b"q\1" + b"0"
    for count in (3, 400, 4000):
        pickle = head + b"](" + b"h\1h\0\x85R" * count + b"e."
        if count > 10:
            carried.bad(f"P09/nested-{count}-times", pickle, head + b"](" + b"h\1h\0\x85R" * 3 + b"e.",
                        ("pickle_limit", "nested pickles of more than", "4 times what they are in"), ("zip", "alone"))


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
            carried.twin(f"P01/{name}-{word}", b"\x80\4" + code, "zip", {})


def add(corpus):
    carried = Carried(corpus)
    for part in (arrays, inert_arrays, nested, shared_copies, deep_and_wide, dangerous):
        part(carried)
