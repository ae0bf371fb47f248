"""P20: legacy streams: their head, the list of storages, the storages, views; and streams within a pickle."""

import assembler as asm
import streams
import torch_zip as t

MALFORMED = "legacy_malformed"
FLOATS = bytes(range(24))


def model(of=None):
    return {"w": asm.tensor(streams.storage() if of is None else of)}


class Streams:
    def __init__(self, corpus):
        self.corpus = corpus
        self.twin = corpus.twin("P20/legacy", streams.stream(model()), t.FLOAT_TENSOR)

    def bad(self, name, expect, *says, twin=None, pickle=None, **lies):
        self.corpus.hostile(f"P20/{name}", streams.stream(model() if pickle is None else pickle, **lies), expect, *says,
                            twin=twin or self.twin)


def heads(files):
    """The protocol and the machine."""
    for word, protocol in {"1000": 1000, "1002": 1002, "0": 0, "negative": -1001, "large": 2**62}.items():
        files.bad(f"protocol-{word}", "torch_version_unsupported",
                  f"unsupported protocol: found {protocol}, expected 1001",
                  protocol=protocol)
    for word, protocol in {"none": None, "float": 1001.0, "str": "1001", "tuple": (1001,), "bool": True, "dict": {},
                           "2-to-64": 2**64}.items():
        files.bad(f"protocol-{word}", MALFORMED, "the protocol is not an int", protocol=asm.pickled(protocol))
    for word, machine in {"none": None, "list": [], "int": 1, "str": "little", "tuple": (),
                          "object": asm.call(asm.name("sys", "flags"))}.items():
        files.bad(f"machine-{word}", MALFORMED, "the machine is not a dict", machine=asm.pickled(machine))
    files.corpus.twin("P20/machine-big-endian", streams.stream(model(), machine={"little_endian": False}),
                      t.FLOAT_TENSOR)
    bad = {"unknown-opcode": (b"\x80\2\xff.", "pickle_opcode_unknown", "opcode 0xff"),
           "underflow": (b"\x80\2\x85.", "pickle_stack_underflow", "TUPLE1: the stack is too short"),
           "persistent": (b"\x80\2NQ.", "persistent_id_malformed", "a persistent id in a plain pickle"),
           "extension": (b"\x80\2\x82\1.", "pickle_opcode_refused", "EXT1"),
           "literal": (b"\x80\2I1x\n.", "pickle_literal", "INT: '1x' is not an integer")}
    for word, (pickle, expect, says) in bad.items():
        files.bad(f"protocol-pickle-{word}", expect, "the protocol's pickle from byte 15: byte ", says, protocol=pickle)
        files.bad(f"machine-pickle-{word}", expect, "the machine's pickle from byte ", says, machine=pickle)
        files.bad(f"keys-pickle-{word}", expect, "the list of storages from byte ", says, keys=pickle)
    whole = streams.stream(model())
    ends = [len(asm.pickled(streams.MAGIC)), len(asm.pickled(1001)), len(asm.pickled(streams.MACHINE)),
            len(asm.pickled(model())), len(asm.pickled(["0"]))]
    names = ["the protocol's pickle", "the machine's pickle", "the pickle", "the list of storages"]
    at = ends[0]
    for name, size in zip(names, ends[1:]):
        for cut in (0, 1, size // 2, size - 1):
            files.corpus.hostile(f"P20/cut-{cut}-bytes-into-{name.replace(' ', '-')}", whole[:at + cut],
                                 "pickle_truncated", f"{name} from byte {at}", twin=files.twin)
        at += size
    for cut in (0, 1, 7):
        files.corpus.hostile(f"P20/cut-{cut}-bytes-into-the-count", whole[:at + cut], "legacy_truncated", "storage '0'",
                             f"cut off: found {cut} of 8 bytes", twin=files.twin)
    for left in (0, 1, 23):
        files.corpus.hostile(f"P20/cut-with-{left}-bytes-of-the-storage", whole[:at + 8 + left], "legacy_truncated",
                             "storage '0'", f"cut off: found {left} of 24 bytes", twin=files.twin)


def magics(files):
    """What does not begin with the magic number is a plain pickle, in which persistent ids mean nothing; a magic that a
    call makes (GHSA-97f8) is none."""
    plain = {"other": streams.MAGIC + 1, "negative": -streams.MAGIC, "str": "1950a86a20f9469cfc6c", "small": 0x1950A86A,
             "called": asm.call(asm.name("builtins", "int"), str(streams.MAGIC)), "in-a-tuple": (streams.MAGIC,),
             "float": float(streams.MAGIC)}
    for word, magic in plain.items():
        files.corpus.twin(f"P20/magic-{word}", streams.stream(model(), magic=asm.pickled(magic)), {})
    of_object = asm.pickled({"w": asm.tensor(streams.storage())})
    files.corpus.hostile("P20/without-head", of_object, "persistent_id_malformed",
                         "a persistent id in a plain pickle: only torch.save writes them", twin=files.twin)
    files.corpus.hostile("P20/without-head-zip-ids", asm.pickled({"w": asm.tensor()}),
                         "persistent_id_malformed", "in a plain pickle", twin=files.twin)
    for protocol in (0, 1, 3, 4, 5):
        number = b"L%dL\n." % streams.MAGIC if protocol < 2 else asm.pickled(streams.MAGIC, protocol)
        files.corpus.twin(f"P20/magic-of-protocol-{protocol}", streams.stream(model(), magic=number)
                          if protocol > 1 else streams.stream(model(), magic=b"\x80\2" + number), t.FLOAT_TENSOR)


def key_lists(files):
    """The list of storages."""
    for word, keys in {"none": None, "tuple": ("0",), "dict": {"0": 1}, "str": "0", "int": 0,
                       "set": asm.Set("0"), "object": asm.call(asm.name("a", "B"))}.items():
        files.bad(f"keys-{word}", MALFORMED, "the storages are not a list", keys=asm.pickled(keys))
    for word, key in {"int": 0, "none": None, "bytes": asm.Bytes(b"0"), "tuple": ("0",), "list": [],
                      "float": 0.0}.items():
        files.bad(f"key-{word}", MALFORMED, "a key of the list of storages is not a text", keys=[key])
        files.bad(f"key-{word}-second", MALFORMED, "a key of the list of storages is not a text", keys=["0", key],
                  stored=streams.contents(6, FLOATS) * 2)
    for word, key in {"other": "1", "empty": "", "00": "00", "blank": "0 ", "nul": "0\0", "long": "0" * 300}.items():
        files.bad(f"key-{word}", MALFORMED, "is listed, but the object does not use it", keys=[key])
        files.bad(f"key-{word}-second", MALFORMED, "is listed, but the object does not use it", keys=["0", key],
                  stored=streams.contents(6, FLOATS) * 2)
    files.bad("keys-twice", MALFORMED, "storage '0' is listed twice", keys=["0", "0"],
              stored=streams.contents(6, FLOATS) * 2)
    files.bad("keys-none-of-one", "storage_missing", "storage '0' is not in the list of storages", keys=[], stored=b"")
    two = {"a": asm.tensor(streams.storage()), "b": asm.tensor(streams.storage(key="7"))}
    both = streams.contents(6, FLOATS) * 2
    twin = files.corpus.twin("P20/two-storages", streams.stream(two, ("0", "7"), both),
                             {"a": ("F32", (2, 3), FLOATS), "b": ("F32", (2, 3), FLOATS)})
    for word, keys, missing in (("first", ["0"], "7"), ("second", ["7"], "0")):
        files.bad(f"keys-{word}-of-two", "storage_missing", f"storage '{missing}' is not in the list of storages",
                  pickle=two, twin=twin, keys=keys, stored=both)
    files.bad("keys-three-of-two", MALFORMED, "storage '7' is listed twice", pickle=two, twin=twin,
              keys=["0", "7", "7"],
              stored=both + both)


def sizes(files):
    """The number of elements before each storage's bytes."""
    for word, count in {"none": 0, "one": 1, "5": 5, "7": 7, "negative": -1, "minus-6": -6, "most": 2**63 - 1,
                        "least": -2**63, "bytes": 24, "2-to-32": 2**32 + 6, "2-to-62": 2**62 + 6}.items():
        files.bad(f"storage-of-{word}", "storage_size_mismatch",
                  f"storage '0': wrong number of elements: found {count}, expected 6",
                  stored=streams.contents(count, FLOATS))
    for kind, width in (("DoubleStorage", 8), ("HalfStorage", 2), ("ByteStorage", 1), ("ComplexDoubleStorage", 16)):
        data = bytes(4 * width)
        value = {"x": asm.tensor(streams.storage(kind, count=4), 0, (4,), (1,))}
        twin = files.corpus.twin(f"P20/{kind}", streams.stream(value, stored=streams.contents(4, data)))
        for word, count in {"bytes": 4 * width, "3": 3, "5": 5}.items():
            if count != 4:
                files.bad(f"{kind}-of-{word}", "storage_size_mismatch",
                          f"wrong number of elements: found {count}, expected 4",
                          pickle=value, twin=twin, stored=streams.contents(count, data))
        for left in (0, 4 * width - 1):
            files.bad(f"{kind}-with-{left}-bytes", "legacy_truncated", f"cut off: found {left} of {4 * width} bytes",
                      pickle=value, twin=twin, stored=streams.contents(4, data[:left]))
    huge = {"x": asm.tensor(streams.storage(count=2**60), 0, (1,), (1,))}
    files.bad("storage-of-2-to-62-bytes", "legacy_truncated", f"cut off: found 24 of {2**62} bytes", pickle=huge,
              stored=streams.contents(2**60, FLOATS))


def views(files):
    """Up to 0.3 a storage could be part of another one."""
    def value(view, tensor_sizes=(2,), kind="FloatStorage"):
        return {"w": asm.tensor(streams.storage(kind, view=view), 0, tensor_sizes, (1,) * len(tensor_sizes))}
    good = ("9", 2, 4)
    twin = files.corpus.twin("P20/view", streams.stream(value(good)), {"w": ("F32", (2,), FLOATS[8:16])})

    def bad(word, expect, says, view, **more):
        files.bad(f"view-{word}", expect, says, pickle=value(view, **more), twin=twin)
    shape = "its view is not a tuple (key, offset, count)"
    for word, view in {"int": 1, "str": "9", "list": list(good), "empty": (), "of-2": good[:2], "of-4": (*good, None),
                       "dict": {}}.items():
        bad(word, "persistent_id_malformed", shape, view)
    for number, parts in enumerate(((None, 2, 4), (9, 2, 4), ("", 2, 4), ("9", -1, 4), ("9", None, 4), ("9", 2.0, 4),
                                    (asm.Bytes(b"9"), 2, 4),
                                    ("9", 2, -1), ("9", 2, None), ("9", 2, "4"), ("9", True, 4), ("9", 2**63, 4))):
        bad(f"part-{number}", "persistent_id_malformed", "persistent id: ", parts)
    outside = {"by-one": ("9", 3, 4), "begins-behind": ("9", 7, 0), "offset-most": ("9", 2**63 - 1, 1),
               "count-most": ("9", 0, 2**63 - 1), "count-7": ("9", 0, 7), "wraps": ("9", 2**62, 2**62),
               "sum-wraps": ("9", 2**63 - 1, 2**63 - 1)}
    for word, view in outside.items():
        bad(word, "tensor_out_of_storage", "leaves storage '0', which has 6", view)
    for word, sizes_of in {"5": (5,), "4-by-2": (4, 2)}.items():
        bad(f"tensor-of-{word}", "tensor_out_of_storage", "which has 4", good, tensor_sizes=sizes_of)
    untyped = streams.storage("UntypedStorage", count=24, view=("9", 1, 8), module="torch.storage")
    code = asm.call(asm.name("torch._utils", "_rebuild_tensor_v3"), untyped, 0, (2,), (1,), False, asm.ORDERED_DICT,
                    asm.name("torch", "int32"))
    files.bad("view-of-bytes-misaligned", "rebuild_malformed", "a tensor of torch.int32 in a view at byte 1",
              pickle={"w": code}, twin=twin, stored=streams.contents(24, FLOATS))
    two = {"a": asm.tensor(streams.storage(view=good), 0, (2,), (1,)),
           "b": asm.tensor(streams.storage(view=("9", 0, 4)), 0, (2,), (1,))}
    files.bad("view-key-twice", "storage_conflict", "9", pickle=two, twin=twin)
    root = {"a": asm.tensor(streams.storage(view=("0", 2, 4)), 0, (2,), (1,))}
    files.bad("view-with-the-key-of-its-storage", "storage_conflict", "0", pickle=root, twin=twin)
    later = {"a": asm.tensor(streams.storage(view=good), 0, (2,), (1,)), "b": asm.tensor(streams.storage(key="9"))}
    files.bad("storage-with-the-key-of-a-view", "storage_conflict",
              "the key '9' is a storage here and was a view before", pickle=later, twin=twin)


def modules(files):
    """('module', class, file, source): the class of a whole module."""
    for word, kind in {"none": None, "str": "Linear", "int": 1, "object": asm.call(asm.name("a", "B")),
                       "tuple": ()}.items():
        pickle = {"m": asm.code(("module", kind, "f.py", "code")) + b"Q"}
        files.bad(f"module-class-{word}", "persistent_id_malformed", "persistent id: its class is not a global",
                  pickle=pickle)
    for size in (2, 3, 5):
        items = ("module", asm.name("m", "Net"), "f.py", "code", None)[:size]
        files.bad(f"module-of-{size}", "persistent_id_malformed", "expected a tuple",
                  pickle={"m": asm.code(items) + b"Q"})


def distributed(files):
    """The metadata of a distributed checkpoint hold no tensors: refused by name."""
    kind = asm.name("torch.distributed.checkpoint.metadata", "Metadata")
    for word, code in (("call", asm.call(kind)), ("new", kind + b")\x81"),
                       ("state", asm.build(kind + b")\x81", {"state_dict_metadata": {}}))):
        files.corpus.hostile(f"P20/distributed-{word}", asm.pickled(code), "unsupported_layout",
                             "a distributed checkpoint or a part of one", twin=files.twin)


def add(corpus):
    files = Streams(corpus)
    for part in (heads, magics, key_lists, sizes, views, modules, distributed):
        part(files)
