"""Test vectors of writers: what a file becomes when it is written again (L1 to L10, S2 to S5, T2 to T6), and the names
that tensors get from a tree (N1 to N6). Each has an input, NAME.in.safetensors, and what a writer makes of it.
"""

import io
import json
import struct

import reader
import vector_trees
import writer
from vector_containers import FOUR_FLOATS, Vector, container, entry, one
from vector_seals import SMALL, SMALL_TREE, newer_strings, rewritten, small
from vector_trees import floats, square, tree_file


def vectors():
    for name, rule, raw, *options in inputs():
        path = f"writer/{name}.safetensors"
        source = f"writer/{name}.in.safetensors"
        with reader.File(io.BytesIO(raw)) as file:
            files = {source: raw, path: writer.rewrite(file, *options)}
        options = " ".join([f"from={source}", *(f"only={option}" for option in options)])
        yield Vector(path, "writer", "ok", rule, "-", "-", "-", files, options)
    yield from of_a_set()
    yield from as_sets()
    for name, value in named_values():
        path, source = f"names/{name}.safetensors", f"names/{name}.in.safetensors"
        tree, tensors, aliases = writer.encode(value)
        names = {tensor[0]: f"t{i}" for i, tensor in enumerate(tensors)}
        neutral = [(names[old], *rest) for old, *rest in tensors]
        raw = writer.build(neutral, tree=writer.compact(renamed(json.loads(tree), names)))
        files = {source: raw, path: writer.build(tensors, tree=tree, aliases=aliases)}
        yield Vector(path, "names", "ok", "N1", "-", "-", "-", files, f"from={source}")


def of_a_set():
    """A set becomes one file."""
    path, source = "writer/set.safetensors", "shards/tree-across-shards/model.safetensors.index.json"
    first = ("h", "F32", [4], FOUR_FLOATS)
    second = ("w", "U8", [3], b"abc")
    raw = writer.build([first, second], tree=SMALL_TREE, aliases={"tied": "w"})
    yield Vector(path, "writer", "ok", "L5", "-", "-", "-", {path: raw}, f"from={source}")


def as_sets():
    """A file becomes a set (H6): one of three shards, of which the first is a large tensor, and one of one."""
    source = "writer/cut.in.safetensors"
    sizes = {"e": 0, "t0": 48, "big": 80, "t1": 16, "t2": 24, "t3": 3}
    tensors = [(name, "U8", [size], bytes(range(size))) for name, size in sizes.items()]
    tree = '["dict","t2",["id",0,["tensor","t2"]],"tied",["ref",0],"rest",["list",["tensor","big"],["tensor","e"]]]'
    raw = writer.build(tensors, tree=tree, metadata={"made_by": "a test"}, aliases={"tied": "t2"})
    for folder, shard_size, entry_point in (
        ("cut", 64, "model.safetensors.index.json"),
        ("cut-into-one", 171, "model.safetensors"),
    ):
        with reader.File(io.BytesIO(raw)) as file:
            written = writer.rewrite_set(file, shard_size)
        files = {f"writer/{folder}/{name}": data for name, data in written.items()}
        if folder == "cut":
            files[source] = raw
        path = f"writer/{folder}/{entry_point}"
        yield Vector(path, "writer", "ok", "H6", "-", "-", "-", files, f"from={source} shard={shard_size}")


def renamed(node, names):
    """A tree with other names of its tensors. No key of our trees is "tensor" or "array"."""
    if isinstance(node, dict):
        return {key: renamed(value, names) for key, value in node.items()}
    if not isinstance(node, list):
        return node
    if len(node) > 1 and node[0] in ("tensor", "array"):
        return [node[0], names[node[1]], *(renamed(part, names) for part in node[2:])]
    return [renamed(part, names) for part in node]


# Files to write again: (name, rule, bytes), then the one tensor to keep.


def inputs():
    yield "unsealed", "L1", one(entry("F32", [4], 0, 16))
    yield "no-tensors", "L7", container("{}", b"")
    yield "layout", "L4", of_many_sizes()
    yield "ties", "L5", of_equal_sizes()
    yield "names-and-strings", "L6", with_odd_strings()
    strings = '{"z":"1","format":"np","\U0001f600":"2","\uff5e":"3","Z":"4"}'
    yield "format", "L7", container('{"__metadata__":' + strings + "}", b"")
    yield "bool", "L8", one(entry("BOOL", [4], 0, 4), b"\0\1\2\xff")
    yield "one-of-two", "L9", small(), "h"
    yield "already-sealed", "S5", small()
    yield "annotated", "S5", rewritten(small())
    yield "two-chunks", "S3", container('{"k":' + entry("U8", [262_147], 0, 262_147) + "}", bytes(262_144) + b"end")
    yield "newer", "V4", newer_strings()
    yield "unknown-key", "V4", small(metadata={"flatbed.later": "anything"})
    yield "of-a-series", "V4", small(metadata={"flatbed.series": writer.statement()})
    yield "aliases", "A1", writer.build(SMALL, tree=shared_tree(), aliases={"tied": "h"})
    yield "floats", "L10", tree_file(of_floats())
    for name, rule, text in REWRITTEN_TREES:
        yield name, rule, tree_file(text)


def of_many_sizes():
    """Sizes of every alignment, in no order, with white space, and members in another order than their bytes."""
    sizes = (3, 4096, 0, 24, 8192, 12_288, 1, 4100, 64, 6, 2048)
    members, data = [], b""
    for i, size in enumerate(sizes):
        members.append(f'"t{i}" : ' + entry("U8", [size], len(data), len(data) + size))
        data += bytes([i]) * size
    return container("\n{" + " , ".join(reversed(members)) + " }\n", data)


def of_equal_sizes():
    """Tensors of one size, whose order is that of their bytes; empty ones, whose order is that of their names."""
    empty = [f'"{name}":' + entry("F16", [0], 16, 16) for name in ("\U0001f600", "\uff5e", "a", "B")]
    full = ['"z":' + entry("U8", [8], 0, 8), '"y":' + entry("U8", [8], 16, 24), '"x":' + entry("U8", [8], 8, 16)]
    return container("{" + ",".join((*empty, *full)) + "}", bytes(range(24)))


def with_odd_strings():
    names = [r"\u0000\u001f\b\t\n\f\r", r"\"\\\/", r"\u007f\u0061\u20ac", r"\ud83d\ude00\u2028", ""]
    members = [f'"{name}":' + entry("U8", [1], i, i + 1) for i, name in enumerate(names)]
    strings = ",".join(f'"{name}":"{name}"' for name in names)
    return container('{"__metadata__":{' + strings + "}," + ",".join(members) + "}", b"abcde")


def shared_tree():
    return '["dict","h",["id",0,["tensor","h"]],"tied",["ref",0],"w",["tensor","w"]]'


FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.1, 0.5, 1 / 3, 1e-3, 1e-4, 9.999999999999999e-05, 1e-5, 1.5e-5, 1e-7, 123456.789, 1e5, 1e6,
    1e15, 1e16, 9999999999999998.0, 12345678901234567.0, 1e17, 1e21, 1e22, 1e23, 1e100, 1e-100, 5e-324, 1.5e-323,
    2.2250738585072014e-308, 2.225073858507201e-308, 1.7976931348623157e308, 2.0**53, 2.0**53 + 2, 2.0**63, 3 * 5e-324,
    9007199254740993.0, 4.35, 0.3, 0.1 + 0.2, 299792458.0, 6.62607015e-34, 100.0, 100.0 + 1e-13, 65504.0,
    3.4028234663852886e38, 1.1754943508222875e-38, 2.0**-44, 2.0**-24,
)  # fmt: skip


def of_floats():
    """Each float by its bits, and some by literals that no writer writes."""
    bits = [f'["float","{struct.pack(">d", value).hex()}"]' for value in FLOATS]
    literals = ["1E5", "1e+5", "1e-04", "100e-6", "0.10", "1.50e1", "123456789012345678901234567890.0", "1e-999"]
    more = ("7ff0000000000000", "fff0000000000000", "7ff8000000000000", "fff8000000000001", "7ff0000000000001")
    return '["list",' + ",".join((*bits, *literals, *(f'["float","{text}"]' for text in more))) + "]"


REWRITTEN_TREES = (
    ("white-space", "L2", ' [ "list" ,\n 1 , [ "tuple" ] ] '),
    ("str", "L6", r'["dict",["str","61"],"\u0061\/\u00e9\u001f\ud83d\ude00\u007f",["str","eda080edb080"],'
     '["str","61eda080"]]'),
    ("ints", "T2", '["list",-0.0,9007199254740991,["int","20000000000000"],["int","-8000000000000000"]]'),
    ("unused-ids", "T3", '["list",["id",0,["list"]],["id",1,["tuple",1]],["ref",1],["id",2,["dict"]],["ref",2]]'),
    ("empty-tuples", "T3", '["list",["id",0,["tuple"]],["ref",0],["id",1,["list"]],["ref",1]]'),
    ("tensors-of-one-storage", "T3", '["list",["tensor","u"],["id",0,["tensor","u"]],["ref",0]]'),
    ("no-items", "T2", '["list",["object",["global","m","f"],["tuple"],[],[]],'
     '["object",["global","m","f"],["tuple"],[],[],null]]'),
    ("attributes", "T5", '["list",["tensor","u",{}],'
     '["tensor","a.b",{"state":1.0,"stride":[1,2],"device":"cuda:0","param":true,"grad":true}]]'),
)  # fmt: skip


# Values whose tensors get names.


def named_values():
    """name -> Python value."""
    for name, value in (*vector_trees.examples(), *vector_trees.more_values()):
        if writer.encode(value)[1]:
            yield name, value
    yield "keys", {
        1: square(),
        -1: square(2),
        None: square(4),
        "": square(5),
        "a.b": {"c": square(6)},
        "a": {"b.c": square(7)},
        "\ud800x": square(8),
        b"bytes": square(9),
        2**70: square(10),
        (0, "x"): [square(11), (square(12),)],
        1.5: square(13),
    }
    yield "not-metadata", {"__metadata__": square(), "__metadata__~1": square(5)}
    yield "three-of-one-name", {"a": {"b.c": square()}, "a.b": {"c": square(5)}, "a.b.c": square(9)}
    inner = {"inner": square(5)}
    yield "tensors-in-attributes", {"w": reader.Tensor("F32", [4], floats(1, 2, 3, 4), {"state": inner})}
    yield "bytes-of-1024-and-1025", {"t": square(), "hex": bytes(1024), "tensor": bytes(1025)}
    slots = vector_trees.module("Slots", {"w": square()}, cache=square(5))
    slots.state = (slots.state, {"x": square(9)})
    yield "module-in-a-tuple", {"m": slots}
    yield "worked-model", worked_model()
    shared = {"w": square()}
    yield "first-occurrence", [[shared], shared, {"again": shared, "b": reader.Tensor("F32", [2], floats(1, 2))}]


def worked_model():
    """The model of section 9, whose parent refers to a layer before it says what it consists of."""
    weight = square()
    layer = vector_trees.module("Linear", {"weight": weight, "bias": None}, cache=[square(5)])
    net = vector_trees.module("Net", {"scale": square(9)}, {"mean": square(13)}, {"layer": layer})
    for made in (layer, net):
        del made.state["training"]
        made.state["_buffers"] = dict(made.state["_buffers"])
    net.state = {"early": [layer], **net.state}
    return {"model": net, "tied": weight}
