"""Test vectors of the tree and the aliases: T1 to T7, N1 to N6, A1 and A2 of FORMAT.md."""

import json
import struct
from collections import OrderedDict

import writer
from reader import COMPLEX, STORED_AS, Array, Global, Object, Scalar, Tensor, kind_and_size
from vector_containers import Vector
from vector_seals import SMALL, unpadded, with_strings


def floats(*values):
    return bytearray(struct.pack(f"<{len(values)}f", *values))


def square(first=1.0):
    return Tensor("F32", [2, 2], floats(first, first + 1, first + 2, first + 3))


def examples():
    """name -> Python value: the thirteen examples of section 9."""
    tied, on_one_storage = square(), floats(1, 2, 3, 4)
    shared, cycle = {"a": 1}, [1]
    cycle.append(cycle)
    state_dict = OrderedDict(weight=square(), bias=Tensor("F32", [2], floats(5, 6)))
    state_dict._metadata = OrderedDict({"": {"version": 1}})
    momentum = {0: {"momentum_buffer": square()}}
    group = {"lr": 0.1, "nesterov": False, "foreach": None, "params": [0]}
    namespace = Object(Global("copyreg", "__newobj__"), (Global("argparse", "Namespace"),))
    namespace.state = {"lr": 1e-3}
    yield "example-01-values", {
        "epoch": 3,
        "lr": 1e-3,
        "one": 1.0,
        "neg0": -0.0,
        "best": float("inf"),
        "n": None,
        "amp": True,
    }
    yield "example-02-other-values", [2**64, -(2**53), float("nan"), "a\ud800", b"\0\xff", ""]
    yield "example-03-keys", {1: "a", "1": "b", (0, "x"): "c", None: "d"}
    yield "example-04-empties", {"state": {}, "l": [], "t": ()}
    size, device = Object(Global("torch", "Size"), ((2, 3),)), Object(Global("torch", "device"), ("cuda", 1))
    yield "example-05-known-objects", ({3}, size, device, Global("torch", "bfloat16"), 1 - 2j)
    yield "example-06-names", {"a": {"b": square()}, "a.b": square(5), "__metadata__": square(9)}
    yield "example-07-one-tensor-twice", {"embed": tied, "head": tied}
    two = [Tensor("F32", [2, 2], on_one_storage), Tensor("F32", [2, 2], on_one_storage)]
    yield "example-07-two-on-one-storage", {"embed": two[0], "head": two[1]}
    yield "example-08-shared-and-cycle", {"x": shared, "y": shared, "c": cycle}
    transposed = Tensor("F32", [3, 2], floats(0, 3, 1, 4, 2, 5), {"stride": [1, 3]})
    ones = Tensor("F64", [2, 2], struct.pack("<4d", 1, 0, 1, 0), {"dtype": "complex128"})
    parameter = Tensor("F32", [2, 2], floats(1, 2, 3, 4), {"grad": True, "param": True})
    yield "example-09-attributes", {"p": parameter, "t": transposed, "z": ones}
    yield "example-10-state-dict", state_dict
    yield "example-11-optimizer", {"state": momentum, "param_groups": [group]}
    array = Array(">i4", "I32", [3], struct.pack("<3i", 0, 1, 2))
    yield "example-12-numpy", {"m": Scalar("<f8", struct.pack("<d", 0.5)), "r": array}
    when = Object(Global("datetime", "date"), (b"\x07\xea\x01\x02",))
    yield "example-13-inert", {"args": namespace, "when": when}


def module(name, parameters=(), buffers=(), children=(), **others):
    """A pickled torch module: others are attributes that stand before and after those of N5."""
    made = Object(Global("copyreg", "__newobj__"), (Global("m", name),))
    parts = {"_parameters": dict(parameters), "_buffers": OrderedDict(buffers), "_modules": dict(children)}
    made.state = {"training": True, **parts, **others}
    return made


def whole_model():
    """A model in a checkpoint, with lists, a parent and an optimizer that refer to its tensors and modules."""
    weight, mean, bias = square(), square(5), square(9)
    first = module("Linear", {"weight": weight, "bias": None}, {"mean": mean})
    second = module("Linear", {"weight": weight}, other=[bias])
    model = module("Net", {"bias": bias}, {}, {"a.b": first, "none": None, "1": second, "again": first})
    model.state = {"early": [first, mean], **model.state, "_flat": [weight, square(13)]}
    slots = module("Slots", {"w": square(17)})
    slots.state = (slots.state, {"x": square(21)})
    traced = module("Traced", {"w": square(25)}, _code="pass").state
    graph = Object(Global("torch.fx.graph_module", "reduce_graph_module"), (traced, None))
    first.state["parent"] = model
    return {"model": model, "optimizer": [weight, bias], "slots": slots, "graph": graph}


def compiled_model():
    """A model that torch.compile was called on, a part of it too, and calls that only look like it."""

    def call(*arguments, name="OptimizedModule"):
        return Object(Global("torch._dynamo.eval_frame", name), arguments)

    part = call(call(module("Linear", {"weight": square()}, cache=[square(5)])), square(9))
    model = module("Net", {"bias": square(13)}, {}, {"1": part, "again": part})
    model.state = {"early": [part], **model.state}
    return {
        "model": call(model, None),
        "object": call(Object(Global("m", "Other"), (square(17),))),
        "other": call(module("Net", {"w": square(21)}), name="Other"),
        "list": call([square(25)]),
    }


def named_by_keys():
    """Keys of every kind, which no pair's index can stand for (N2)."""
    return {
        Scalar("<i8", struct.pack("<q", 2)): square(),
        Scalar("<i8", struct.pack("<q", 0)): square(5),
        1: square(9),
        Scalar("<U2", "é".encode("utf-32-le") + bytes(4)): square(13),
        Scalar(">u2", b"\x01\x00"): square(17),
        Scalar("<f4", struct.pack("<f", 0.1)): square(21),
        Scalar("|S3", b"ab\0"): square(25),
        Scalar("|b1", b"\1"): square(29),
        Scalar("<M8[D]", bytes(8)): square(33),
        0.5: square(37),
        -2.0: square(41),
        float("inf"): square(45),
        b"bytes": square(49),
        b"\xff": square(53),
        (1, "x"): square(57),
        frozenset([1]): square(61),
        Global("torch", "float32"): square(65),
    }


def named_by_slots():
    """Objects with slots: the tuple of attributes and slots adds nothing; other tuples do (N2)."""

    def made(state):
        value = Object(Global("copyreg", "__newobj__"), (Global("m", "Point"),))
        value.state = state
        return value

    seen = (None, {"w": square(21)})
    return {
        "slots": made((None, {"w": square()})),
        "both": made(({"a": square(5)}, {"b": square(9)})),
        "pair": made((1, {"w": square(13)})),
        "triple": made((None, None, {"w": square(17)})),
        "plain": seen,
        "again": made(seen),
    }


def named_by_wrappers():
    """Subclasses of tensors, Parameters of them, and what only looks like one (N6)."""
    from_type, of_class = Global("torch._tensor", "_rebuild_from_type_v2"), Global("m", "Tensor")
    v2, inner = Global("torch._utils", "_rebuild_tensor_v2"), Global("torch._utils", "_rebuild_wrapper_subclass")

    with_state = Global("torch._utils", "_rebuild_parameter_with_state")

    def subclass(arguments, state, function=from_type):
        return Object(function, (v2 if len(arguments) == 1 else inner, of_class, arguments, state))

    local = {"_local_tensor": square(13), "_spec": {"mesh": square(17)}}
    return {
        "plain": subclass((square(),), {"extra": square(5)}),
        "old": subclass((square(9),), None, Global("torch.tensor", "_rebuild_from_type")),
        "distributed": subclass((of_class, 1), local),
        "quantized": subclass((of_class, 2), {"qdata": square(21), "scale": square(25)}),
        "slots": subclass((of_class, 3), (None, {"a": square(29)})),
        "shards": subclass((of_class, 4), ([square(33), square(37)], None, None)),
        "parameter": Object(Global("torch._utils", "_rebuild_parameter"), (subclass((square(41),), None), True, {})),
        "other": Object(Global("m", "_rebuild_parameter"), (square(45), True, {})),
        "short": Object(from_type, (v2, of_class, (square(49),))),
        "crossed": subclass((square(53),), {"a": square(57)}, Global("torch._tensor", "_rebuild_from_type")),
        "older": subclass((square(61),), {"a": square(65)}, Global("torch.tensor", "_rebuild_from_type_v2")),
        "stated": Object(with_state, (square(69), True, {}, {"_local_tensor": square(73), "z": square(77)})),
        "slotted": Object(with_state, (square(81), True, {}, (None, {"a": square(85)}))),
        "three": Object(with_state, (square(89), True, {"a": square(93)})),
    }


def more_values():
    """name -> Python value, beyond the examples."""
    yield "module", whole_model()
    yield "module-compiled", compiled_model()
    parent = Object(Global("copyreg", "__newobj__"), (Global("m", "Node"),))
    parent.state = {"children": [parent]}
    yield "tensor-at-the-root", square()
    yield "long-bytes", {"b": bytes(range(256)) * 5, "s": bytes(4)}
    yield "object-cycle", parent
    yield "tensor-in-a-key", {(1, square()): "x", "0": {"key": {"1": square(5)}}}
    yield "names-of-keys", named_by_keys()
    yield "names-of-slots", named_by_slots()
    yield "names-of-wrappers", named_by_wrappers()
    yield "name-collisions", {
        "a": [square(), square(5)],
        "a.0": square(9),
        "a.0~1": square(13),
        1: square(2),
        "1": square(3),
    }
    yield "attributes", {
        "device": Tensor("F16", [1], b"\0\x3c", {"device": "cuda:0"}),
        "quantized": Tensor(
            "I8", [2], b"\1\2", {"dtype": "qint8", "quant": (Global("torch", "per_tensor_affine"), 0.5, 0)}
        ),
        "packed": Tensor("U8", [2], b"\x21\x43", {"dtype": "quint4x2", "shape": [2, 2]}),
        "state": Tensor("U8", [1], b"\1", {"state": {"note": "kept"}}),
        "half": Tensor("F16", [1, 2], b"\0\x3c\0\0", {"dtype": "complex32"}),
    }
    yield "arrays", [
        Array("|b1", "BOOL", [2], b"\0\1"),
        Array("<f8", "F64", [], struct.pack("<d", 2.5)),
        Array("<c16", "F64", [1, 2], struct.pack("<2d", 1, -1)),
        Array("|S2", "U8", [2, 2], b"abc\0"),
        Array("<U1", "U8", [1, 4], "é".encode("utf-32-le")),
        Array("<M8[ns]", "U8", [1, 8], bytes(8)),
        Scalar("|b1", b"\1"),
        Scalar("<M8[D]", bytes(8)),
    ]


def doubling(levels):
    """A tree that would have 2^levels lists if each ref were copied (T8)."""
    parts = ['["id",0,["list"]]']
    parts += [f'["id",{i},["list",["ref",{i - 1}],["ref",{i - 1}]]]' for i in range(1, levels)]
    return '["list",' + ",".join(parts) + "]"


# A tree by its text: what an encoder would not write, and the valid neighbours of malformed ones.
TREE_TENSORS = [
    ("a.b", "F32", [2, 2], bytes(floats(1, 2, 3, 4))), ("z", "F64", [2, 2], bytes(32)), ("r", "I32", [3], bytes(12)),
    ("u2", "U8", [2, 2], b"abcd"), ("u", "U8", [4], b"abcd"),
]  # fmt: skip
VALID_TEXTS = {
    "number": "3",
    "white-space": ' [ "list" ,\n 1 ] ',
    "list": '["list",1]',
    "dict": '["dict","a",1,"b",["list"]]',
    "dict-keys": '["dict",1,0,1.5,0,"1",0,true,0,["int","20000000000000"],0,["str","eda080"],0,["tuple"],0]',
    "dict-keys-alike": '["dict",true,0,true,1,1,2,1.0,3,1.0,4,null,5,null,6,"1",7,["bytes","31"],8,["bytes","31"],9]',
    "int": '["list",9007199254740991,-9007199254740991,["int","20000000000000"],["int","-20000000000000"]]',
    "float": '["list",1.0,1e3,-0.0,5e-324,["float","fff0000000000000"],["float","3ff0000000000000"]]',
    "str": r'["list","\u0000\ud83d\ude00",["str","61eda080"],["str","eda0bdedb880"],["str","61"]]',
    "bytes": '["list",["bytes",""],["bytes","00ff"],["bytes",["tensor","u"]]]',
    "global": '["global","torch","nn.Module"]',
    "object": '["object",["global","m","f"],["tuple"]]',
    "object-items-pairs": '["object",["global","m","f"],["tuple",1],[2,3],["k",4]]',
    "object-state-null": '["object",["global","m","f"],["tuple"],[],[],null]',
    "object-cycle-in-state": '["id",0,["object",["global","m","f"],["tuple"],[],[],["dict","me",["ref",0]]]]',
    "tensor": '["tensor","a.b"]',
    "tensor-attributes": '["tensor","a.b",{"grad":true,"param":true,"device":"cpu","stride":[1,2],"state":["list"]}]',
    "tensor-no-attributes": '["tensor","a.b",{}]',
    "tensor-unknown-dtype": '["tensor","a.b",{"dtype":"float32x","shape":[4],"stride":[1]}]',
    "tensor-complex": '["tensor","z",{"dtype":"complex128","stride":[1]}]',
    "tensor-packed": '["tensor","u",{"dtype":"quint4x2","shape":[2,4],"stride":[4,1],"quant":["tuple"]}]',
    "array": '["array","r",">i4"]',
    "scalar": '["scalar","<f8","000000000000e03f"]',
    "shared": '["list",["id",0,["tuple",1]],["ref",0],["id",1,["tensor","u"]],["ref",1]]',
    "cycle": '["id",0,["list",["tuple",["ref",0]],["id",1,["dict","up",["ref",0],"me",["ref",1]]]]]',
    "array-shared": '["list",["id",0,["array","r",">i4"]],["ref",0],["id",1,["object",["global","m","f"],["tuple"]]]]',
    "surrogates": r'["dict",["str","eda080edb080"],1,"\ud800\udc00",2]',
    "int-minus-2-to-63": '["list",["int","-8000000000000000"],["int","ffffffffffffffff"]]',
    "refs-that-double": doubling(100),
    "attributes-of-one-storage": '["list",["tensor","u"],["tensor","u",{"param":true}]]',
    "list-open-in-arguments": '["id",0,["list",["object",["global","m","f"],["tuple",["ref",0]]]]]',
    "depth-512": '["list",' * 511 + '["list"]' + "]" * 511,
}
INVALID_TEXTS = (
    # code, name, text, valid twin
    ("tree_not_json", "empty", "", "number"),
    ("tree_not_json", "cut", '["list",1', "list"),
    ("tree_not_json", "two-values", '["list"]["list"]', "list"),
    ("tree_not_json", "nan", '["list",NaN]', "float"),
    ("tree_not_json", "half-pair", r'["list","\ud800"]', "str"),
    ("tree_malformed_number", "above-binary64", '["list",1e999]', "float"),
    ("tree_malformed_number", "above-64-bits", '["list",18446744073709551616]', "int"),
    ("tree_not_json", "leading-zero", '["list",01]', "list"),
    ("tree_not_json", "plus-sign", '["list",+1]', "list"),
    ("tree_not_json", "leading-point", '["list",.5]', "list"),
    ("tree_not_json", "byte-order-mark", '\ufeff["list",1]', "list"),
    ("tree_duplicate_member", "grad", '["tensor","a.b",{"grad":true,"grad":true}]', "tensor-attributes"),
    ("tree_duplicate_member", "escaped", r'["tensor","a.b",{"grad":true,"gr\u0061d":true}]', "tensor-attributes"),
    ("tree_unexpected_object", "root", '{"a":1}', "dict"),
    ("tree_unexpected_object", "item", '["list",{}]', "list"),
    ("tree_unexpected_object", "value", '["dict","a",{"b":1}]', "dict"),
    ("tree_unexpected_object", "key", '["dict",{},1]', "dict"),
    ("tree_unknown_tag", "odict", '["odict"]', "dict"),
    ("tree_unknown_tag", "capital", '["List"]', "list"),
    ("tree_unknown_tag", "empty", '[""]', "list"),
    ("tree_unknown_tag", "item", '["list",["set",1]]', "list"),
    ("tree_unknown_attribute", "unknown", '["tensor","a.b",{"x":1}]', "tensor-attributes"),
    ("tree_unknown_attribute", "grad-false", '["tensor","a.b",{"grad":false}]', "tensor-attributes"),
    ("tree_unknown_attribute", "param-number", '["tensor","a.b",{"param":1}]', "tensor-attributes"),
    ("tree_unknown_attribute", "param-false", '["tensor","a.b",{"param":false}]', "tensor-attributes"),
    ("tree_unknown_attribute", "device-number", '["tensor","a.b",{"device":0}]', "tensor-attributes"),
    ("tree_unknown_attribute", "stride-rank", '["tensor","a.b",{"stride":[1]}]', "tensor-attributes"),
    ("tree_unknown_attribute", "stride-negative", '["tensor","a.b",{"stride":[1,-2]}]', "tensor-attributes"),
    ("tree_unknown_attribute", "stride-fraction", '["tensor","a.b",{"stride":[1.0,2]}]', "tensor-attributes"),
    ("tree_unknown_attribute", "dtype-stored-otherwise", '["tensor","a.b",{"dtype":"complex128"}]', "tensor-complex"),
    ("tree_unknown_attribute", "dtype-not-pairs", '["tensor","r",{"dtype":"complex128"}]', "tensor-complex"),
    ("tree_unknown_attribute", "shape-alone", '["tensor","u",{"shape":[4]}]', "tensor-packed"),
    ("tree_unknown_attribute", "shape-missing", '["tensor","u",{"dtype":"quint4x2"}]', "tensor-packed"),
    ("tree_malformed_node", "empty-array", "[]", "list"),
    ("tree_malformed_node", "number-tag", "[1]", "list"),
    ("tree_malformed_node", "array-tag", '[["list"]]', "list"),
    ("tree_malformed_node", "dict-odd", '["dict","a"]', "dict"),
    ("tree_malformed_node", "int-empty", '["int"]', "int"),
    ("tree_malformed_node", "int-number", '["int",5]', "int"),
    ("tree_malformed_node", "float-two", '["float","7ff8000000000000","7ff8000000000000"]', "float"),
    ("tree_malformed_number", "str-odd", '["str","61eda08"]', "str"),
    ("tree_malformed_number", "str-capitals", '["str","61EDA080"]', "str"),
    ("tree_malformed_number", "str-overlong", '["str","c081"]', "surrogates"),
    ("tree_malformed_number", "str-above-unicode", '["str","f4908080"]', "surrogates"),
    ("tree_malformed_number", "str-half-surrogate", '["str","eda0"]', "surrogates"),
    ("tree_malformed_number", "str-not-utf8", '["str","ff"]', "str"),
    ("tree_malformed_number", "bytes-odd", '["bytes","0"]', "bytes"),
    ("tree_malformed_number", "bytes-capitals", '["bytes","FF"]', "bytes"),
    ("tree_malformed_node", "bytes-attributes", '["bytes",["tensor","u",{}]]', "bytes"),
    ("tree_malformed_node", "bytes-array", '["bytes",["array","u","|u1"]]', "bytes"),
    ("tree_malformed_node", "bytes-array-alone", '["bytes",["array","u"]]', "bytes"),
    ("tree_malformed_node", "bytes-number", '["bytes",0]', "bytes"),
    ("tree_malformed_node", "bytes-list", '["bytes",["list"]]', "bytes"),
    ("tree_malformed_node", "bytes-dtype", '["bytes",["tensor","r"]]', "bytes"),
    ("tree_malformed_node", "bytes-rank", '["bytes",["tensor","u2"]]', "bytes"),
    ("tree_malformed_node", "global-one", '["global","torch"]', "global"),
    ("tree_malformed_node", "global-empty", '["global","","f"]', "global"),
    ("tree_malformed_node", "global-number", '["global","m",1]', "global"),
    ("tree_malformed_node", "object-one-part", '["object",["global","m","f"]]', "object"),
    ("tree_malformed_node", "object-three-parts", '["object",["global","m","f"],["tuple"],[]]', "object-items-pairs"),
    ("tree_malformed_node", "object-list-arguments", '["object",["global","m","f"],["list"]]', "object"),
    ("tree_malformed_node", "object-id-arguments", '["object",["global","m","f"],["id",0,["tuple"]]]', "object"),
    ("tree_malformed_node", "items-null", '["object",["global","m","f"],["tuple"],null,[]]', "object-items-pairs"),
    ("tree_malformed_node", "pairs-odd", '["object",["global","m","f"],["tuple"],[],["k"]]', "object-items-pairs"),
    ("tree_malformed_node", "tensor-empty", '["tensor"]', "tensor"),
    ("tree_malformed_node", "tensor-number", '["tensor",0]', "tensor"),
    ("tree_malformed_node", "tensor-array", '["tensor","a.b",["list"]]', "tensor-attributes"),
    ("tree_malformed_node", "tensor-three", '["tensor","a.b",{"grad":true},1]', "tensor-attributes"),
    ("tree_malformed_node", "array-one", '["array","r"]', "array"),
    ("tree_malformed_node", "array-type-unknown", '["array","r","int32"]', "array"),
    ("tree_malformed_node", "array-type-other", '["array","r","<f4"]', "array"),
    ("tree_malformed_node", "array-item-size", '["array","u2","|S3"]', "array"),
    ("tree_malformed_node", "scalar-one", '["scalar","<f8"]', "scalar"),
    ("tree_malformed_node", "scalar-short", '["scalar","<f8","000000000000e0"]', "scalar"),
    ("tree_malformed_node", "scalar-long", '["scalar","<f8","000000000000e03f00"]', "scalar"),
    ("tree_malformed_node", "scalar-size-zero", '["scalar","|S0",""]', "scalar"),
    ("tree_malformed_node", "scalar-size-zero-first", '["scalar","<f08","000000000000e03f"]', "scalar"),
    ("tree_malformed_number", "scalar-capitals", '["scalar","<f8","000000000000E03F"]', "scalar"),
    ("tree_malformed_id", "text", '["id","0",["list"]]', "shared"),
    ("tree_malformed_node", "id-alone", '["id",0]', "shared"),
    ("tree_malformed_node", "ref-empty", '["ref"]', "shared"),
    ("tree_malformed_node", "ref-fraction", '["list",["id",0,["list"]],["ref",0.0]]', "shared"),
    ("tree_malformed_number", "minus-zero", '["list",-0]', "float"),
    ("tree_malformed_number", "two-to-53", '["list",9007199254740992]', "int"),
    ("tree_malformed_number", "minus-two-to-53", '["list",-9007199254740992]', "int"),
    ("tree_malformed_number", "minus-two-to-63", '["list",-9223372036854775808]', "int-minus-2-to-63"),
    ("tree_malformed_number", "two-to-64-less-1", '["list",18446744073709551615]', "int-minus-2-to-63"),
    ("tree_malformed_number", "minus-two-to-63-less-1", '["list",-9223372036854775809]', "int-minus-2-to-63"),
    ("tree_malformed_number", "int-prefix", '["int","0x1f"]', "int"),
    ("tree_malformed_number", "int-fits", '["int","1f"]', "int"),
    ("tree_malformed_number", "int-fits-just", '["int","1fffffffffffff"]', "int"),
    ("tree_malformed_number", "int-leading-zero", '["int","020000000000000"]', "int"),
    ("tree_malformed_number", "int-capitals", '["int","2000000000000A"]', "int"),
    ("tree_malformed_number", "int-minus-zero", '["int","-0"]', "int"),
    ("tree_malformed_number", "float-short", '["float","7ff8"]', "float"),
    ("tree_malformed_number", "float-capitals", '["float","7FF8000000000000"]', "float"),
    ("tree_too_deep", "depth-513", '["list",' * 512 + '["list"]' + "]" * 512, "depth-512"),
    ("tree_too_deep", "depth-20000", "[" * 10_000 + "]" * 10_000, "depth-512"),
    ("tree_unknown_tensor", "tensor", '["tensor","nope"]', "tensor"),
    ("tree_unknown_tensor", "capitals", '["tensor","A.B"]', "tensor"),
    ("tree_unknown_tensor", "array", '["array","nope",">i4"]', "array"),
    ("tree_unknown_tensor", "bytes", '["bytes",["tensor","nope"]]', "bytes"),
    ("tree_malformed_id", "begins-at-1", '["id",1,["list"]]', "shared"),
    ("tree_malformed_id", "twice", '["list",["id",0,["list"]],["id",0,["list"]]]', "shared"),
    ("tree_malformed_id", "skips", '["list",["id",0,["list"]],["id",2,["list"]]]', "shared"),
    ("tree_malformed_id", "negative", '["id",-1,["list"]]', "shared"),
    ("tree_malformed_id", "inner-first", '["id",1,["list",["id",0,["list"]]]]', "cycle"),
    ("tree_malformed_id", "number", '["tuple",["id",0,3]]', "shared"),
    ("tree_malformed_id", "string", '["id",0,"x"]', "shared"),
    ("tree_malformed_id", "global", '["id",0,["global","m","f"]]', "shared"),
    ("tree_malformed_id", "bytes", '["id",0,["bytes","00"]]', "array-shared"),
    ("tree_malformed_id", "scalar", '["id",0,["scalar","|b1","00"]]', "array-shared"),
    ("tree_malformed_id", "int", '["id",0,["int","20000000000000"]]', "array-shared"),
    ("tree_malformed_id", "of-id", '["id",0,["id",1,["list"]]]', "shared"),
    ("tree_malformed_id", "of-ref", '["list",["id",0,["list"]],["id",1,["ref",0]]]', "shared"),
    ("tree_malformed_ref", "none", '["ref",0]', "shared"),
    ("tree_malformed_ref", "later", '["list",["ref",0],["id",0,["list"]]]', "shared"),
    ("tree_malformed_node", "ref-negative", '["list",["id",0,["list"]],["ref",-1]]', "shared"),
    ("tree_malformed_ref", "open-tuple", '["id",0,["tuple",["ref",0]]]', "cycle"),
    ("tree_malformed_ref", "open-tuple-through-list", '["id",0,["tuple",["list",["ref",0]]]]', "cycle"),
    ("tree_malformed_ref", "open-in-arguments", '["id",0,["object",["global","m","f"],["tuple",["ref",0]]]]',
     "object-cycle-in-state"),
    ("tree_malformed_ref", "open-deep-in-arguments",
     '["id",0,["object",["global","m","f"],["tuple",["object",["global","m","g"],["tuple"],[],[],["ref",0]]]]]',
     "object-cycle-in-state"),
    ("tree_malformed_ref", "open-in-function", '["id",0,["object",["ref",0],["tuple"]]]', "object-cycle-in-state"),
    ("tree_malformed_ref", "open-tensor", '["id",0,["tensor","a.b",{"state":["ref",0]}]]', "tensor-attributes"),
    ("tree_malformed_key", "list", '["dict",["list"],1]', "dict-keys"),
    ("tree_malformed_key", "dict", '["dict",["dict"],1]', "dict-keys"),
    ("tree_malformed_key", "array", '["dict",["array","r",">i4"],1]', "dict-keys"),
    ("tree_malformed_key", "id", '["dict",["id",0,["list"]],1]', "dict-keys"),
    ("tree_malformed_key", "ref", '["list",["id",0,["list"]],["dict",["ref",0],1]]', "dict-keys"),
    ("tree_malformed_key", "pairs", '["object",["global","m","f"],["tuple"],[],[["list"],1]]', "object-items-pairs"),
    ("tree_duplicate_key", "str", '["dict","a",1,"a",2]', "dict-keys"),
    ("tree_duplicate_key", "str-escaped", r'["dict","a",1,"\u0061",2]', "dict-keys"),
    ("tree_duplicate_key", "str-by-hex", '["dict","a",1,["str","61"],2]', "dict-keys"),
    ("tree_duplicate_key", "int", '["dict",1,1,1,2]', "dict-keys"),
    ("tree_duplicate_key", "large-int", '["dict",["int","20000000000000"],1,["int","20000000000000"],2]', "dict-keys"),
    ("tree_duplicate_key", "str-beyond-the-bmp", r'["dict","\ud800\udc00",1,["str","f0908080"],2]', "surrogates"),
    ("tree_duplicate_key", "surrogate-pairs", '["dict",["str","eda080edb080"],1,["str","eda080edb080"],2]',
     "surrogates"),
    ("tree_duplicate_key", "surrogates", '["dict",["str","eda080"],1,["str","eda080"],2]', "dict-keys"),
    ("tree_duplicate_key", "pairs", '["object",["global","m","f"],["tuple"],[],["k",1,"k",2]]', "object-items-pairs"),
)  # fmt: skip
# Each type of T6: torch's name, what it is stored as; then attributes beside `dtype`.
STORED = (
    *((name, "F64", [3, 2], "") for name in ("complex128",)),
    ("complex32", "F16", [3, 2], ""), ("bcomplex32", "BF16", [3, 2], ""),
    *((name, "I8", [3], "") for name in ("qint8", *(f"int{n}" for n in range(1, 8)))),
    *((name, "U8", [3], "") for name in ("quint8", *(f"uint{n}" for n in range(1, 8)))),
    *((name, "U8", [3], "") for name in ("bits8", "bits1x8", "bits2x4", "bits4x2")),
    ("qint32", "I32", [3], ""), ("bits16", "U16", [3], ""),
    ("quint4x2", "U8", [9], ',"shape":[3,5]'), ("quint2x4", "U8", [6], ',"shape":[3,5]'),
    ("float4_e2m1fn_x2", "U8", [], ""),
)  # fmt: skip
PACKED_SHAPES = (
    # dtype, shape, bytes that it takes
    ("quint4x2", [], 1), ("quint4x2", [1], 1), ("quint4x2", [4], 2), ("quint4x2", [5, 1], 5), ("quint4x2", [0, 3], 0),
    ("quint2x4", [], 1), ("quint2x4", [4], 1), ("quint2x4", [5], 2), ("quint2x4", [2, 2, 2], 4),
    ("quint4x2", [4503599627370496, 4503599627370496, 0], 0),
)  # fmt: skip
# Each row of numpy's types: TYPE, the stored tensor.
ARRAYS = (
    ("|b1", "BOOL", [3]), ("|i1", "I8", [3]), ("|u1", "U8", [3]),
    *((f"{order}i{n}", f"I{8 * n}", [3]) for order in "<>" for n in (2, 4, 8)),
    *((f"{order}u{n}", f"U{8 * n}", [3]) for order in "<>" for n in (2, 4, 8)),
    *((f"{order}f{n}", f"F{8 * n}", [3]) for order in "<>" for n in (2, 4, 8)),
    *((f"{order}c8", "C64", [3]) for order in "<>"), *((f"{order}c16", "F64", [3, 2]) for order in "<>"),
    *((f"<{kind}", "U8", [3, int(kind[1:])]) for kind in ("f12", "f16", "c24", "c32")),
    ("|S5", "U8", [3, 5]), (">U5", "U8", [3, 20]), ("|V5", "U8", [3, 5]),
    *((f"{kind}999999999", "U8", [0, 999999999 * size]) for kind, size in (("|S", 1), ("<U", 4), ("|V", 1))),
    *((f"<M8{unit}", "U8", [3, 8]) for unit in ("", "[Y]", "[M]", "[W]", "[D]", "[h]", "[m]", "[s]", "[ms]", "[us]")),
    *((f">m8{unit}", "U8", [3, 8]) for unit in ("[ns]", "[ps]", "[fs]", "[as]", "[25s]", "[999999999as]")),
)  # fmt: skip
# TYPE that is none, of a scalar with as many bytes as could be meant.
NOT_TYPES = (
    ("size-3", "<i3", 3), ("order-equal", "=f8", 8), ("order-none", "f8", 8), ("order-pipe", "|f8", 8),
    ("order-of-a-byte", "<i1", 1), ("order-of-bytes", "<S3", 3), ("order-of-raw", ">V3", 3),
    ("order-of-text", "|U1", 4),
    ("bool-of-2", "|b2", 2), ("float-of-1", "<f1", 1), ("float-of-10", "<f10", 10), ("complex-of-4", "<c4", 4),
    ("date-of-4", "<M4[s]", 4), ("ten-digits", "|S1000000000", 1), ("size-sign", "|S+1", 1), ("size-empty", "|S", 0),
    ("unit-of-a-float", "<f8[ns]", 8), ("unit-0", "<M8[0s]", 8), ("unit-1", "<M8[1s]", 8), ("unit-01", "<M8[02s]", 8),
    ("unit-ten-digits", "<M8[1000000000s]", 8), ("unit-unknown", "<M8[B]", 8), ("unit-word", "<M8[days]", 8),
    ("unit-empty", "<M8[]", 8), ("unit-open", "<M8[s", 8), ("unit-twice", "<M8[s][s]", 8),
    ("unit-generic", "<M8[generic]", 8), ("object", "|O8", 8), ("kind-unknown", "<x8", 8), ("capital", "<F8", 8),
    ("space", "<f8 ", 8), ("fullwidth", "<f\uff18", 8),
)  # fmt: skip
SIZE = {"BOOL": 1, "F8_E8M0": 1, "BF16": 2}


def stored(*types):
    """Tensors t0, t1, ... of these (dtype, shape), all zeros."""
    for i, (dtype, shape) in enumerate(types):
        count = SIZE.get(dtype) or int(dtype[1:]) // 8
        for size in shape:
            count *= size
        yield f"t{i}", dtype, shape, bytes(count)


def with_dtype(number, name, more=""):
    return f'["tensor","t{number}",{{"dtype":"{name}"{more}}}]'


def valid_types():
    """(name, tree, tensors): each row of T6 once."""
    nodes = [with_dtype(i, name, more) for i, (name, _, _, more) in enumerate(STORED)]
    yield "dtypes", ["list", *nodes], [row[1:3] for row in STORED]
    nodes = [with_dtype(i, name, f',"shape":{json.dumps(shape)}') for i, (name, shape, _) in enumerate(PACKED_SHAPES)]
    yield "packed-shapes", ["list", *nodes], [("U8", [nbytes]) for _, _, nbytes in PACKED_SHAPES]
    nodes = [f'["array","t{i}","{typestr}"]' for i, (typestr, _, _) in enumerate(ARRAYS)]
    yield "array-types", ["list", *nodes], [row[1:] for row in ARRAYS]
    small = [typestr for typestr, _, shape in ARRAYS if shape[0]]
    nodes = [f'["scalar","{typestr}","{"00" * scalar_size(typestr)}"]' for typestr in small]
    yield "scalar-types", ["list", *nodes], []
    yield "stride-2-to-53-less-1", ["list", '["tensor","t0",{"stride":[9007199254740991]}]'], [("U8", [1])]


def scalar_size(typestr):
    kind, size = kind_and_size(typestr)
    return 4 * size if kind == "U" else size


def invalid_types():
    """(code, name, tree, tensors, valid twin)."""
    wrong = "tree_unknown_attribute"
    for name, dtype, shape, more in STORED:
        other = "I8" if dtype == "U8" else "U8"
        yield wrong, f"{name}-in-{other.lower()}", with_dtype(0, name, more), [(other, shape)], "dtypes"
    for name in COMPLEX:
        dtype = STORED_AS[name]
        yield wrong, f"{name}-of-3", with_dtype(0, name), [(dtype, [2, 3])], "dtypes"
        yield wrong, f"{name}-rank-0", with_dtype(0, name), [(dtype, [])], "dtypes"
        stride = ',"stride":[2,1]'
        yield wrong, f"{name}-stride-of-the-stored", with_dtype(0, name, stride), [(dtype, [3, 2])], "dtypes"
    for name, shape, nbytes in PACKED_SHAPES[:-1]:
        own = f',"shape":{json.dumps(shape)}'
        short = f"{name}-shape-{'x'.join(map(str, shape)) or 'none'}-of-{nbytes + 1}"
        yield wrong, short, with_dtype(0, name, own), [("U8", [nbytes + 1])], "packed-shapes"
    yield wrong, "packed-rank-2", with_dtype(0, "quint4x2", ',"shape":[3,5]'), [("U8", [9, 1])], "packed-shapes"
    large = with_dtype(0, "quint4x2", ',"shape":[0,9007199254740992]')
    yield wrong, "packed-shape-2-to-53", large, [("U8", [0])], "packed-shapes"
    yield wrong, "shape-of-a-known-type", with_dtype(0, "qint8", ',"shape":[3]'), [("I8", [3])], "dtypes"
    yield wrong, "float4-of-rank-1", with_dtype(0, "float4_e2m1fn_x2"), [("U8", [3])], "dtypes"
    for name, dtype in (("float32", "F32"), ("float32", "I32"), ("float8_e8m0fnu", "F8_E8M0"), ("uint8", "U8")):
        yield wrong, f"implied-{name}-of-{dtype.lower()}", with_dtype(0, name), [(dtype, [3])], "dtypes"
    large = '["tensor","t0",{"stride":[9007199254740992]}]'
    yield wrong, "stride-2-to-53", large, [("U8", [1])], "stride-2-to-53-less-1"
    wrong = "tree_malformed_node"
    for typestr, dtype, shape in ARRAYS:
        # Stored as another dtype of its size, or as items of another size.
        other = {"BOOL": "U8", "I8": "BOOL", "U8": "I8", "C64": "F64"}.get(dtype)
        other = other or ("F" if dtype[0] in "IU" else "I") + dtype[1:]
        raw = dtype == "U8" and typestr != "|u1"
        tensor = ("U8", [shape[0], shape[-1] + 1]) if raw else (other, shape)
        yield wrong, "array-" + spelled(typestr), f'["array","t0","{typestr}"]', [tensor], "array-types"
    yield wrong, "array-c16-of-3", '["array","t0","<c16"]', [("F64", [2, 3])], "array-types"
    for kind, size in (("|S", 1), ("<U", 4), ("|V", 1)):
        text = f'["array","t0","{kind}1000000000"]'
        yield wrong, "array-ten-digits-" + kind[1], text, [("U8", [0, 1000000000 * size])], "array-types"
    yield wrong, "array-raw-of-rank-0", '["array","t0","|S1"]', [("U8", [])], "array-types"
    for name, typestr, nbytes in NOT_TYPES:
        yield wrong, "type-" + name, f'["scalar","{typestr}","{"00" * nbytes}"]', [], "scalar-types"


def spelled(typestr):
    """A TYPE as part of a file's name."""
    return typestr.translate(str.maketrans({"<": "little-", ">": "big-", "|": "", "[": "-", "]": ""}))


# The rule that each code belongs to.
RULES = {
    "tree_not_json": "T1", "tree_malformed_number": "T2", "tree_malformed_node": "T2", "tree_unknown_tag": "T2",
    "tree_malformed_key": "T2", "tree_duplicate_key": "T2", "tree_malformed_id": "T2", "tree_malformed_ref": "T2",
    "tree_unknown_attribute": "T5", "tree_duplicate_member": "T5", "tree_unexpected_object": "T2",
    "tree_too_deep": "T7", "tree_unknown_tensor": "T2",
}  # fmt: skip


def tree_file(text, tensors=TREE_TENSORS):
    """A sealed file around a tree of this text."""
    return unpadded(writer.build(tensors, tree=text))


def vectors():
    for name, value in (*examples(), *more_values()):
        tree, tensors, aliases = writer.encode(value)
        yield valid(name, "tree", "T2", writer.build(tensors, tree=tree, aliases=aliases))
    for name, text in VALID_TEXTS.items():
        yield valid("text-" + name, "tree", "T2", tree_file(text))
    for code, name, text, twin in INVALID_TEXTS:
        rule, short = RULES[code], code[len("tree_") :].replace("_", "-")
        path = f"invalid/{rule}-{short}-{name}.safetensors"
        twin = f"valid/tree-text-{twin}.safetensors"
        yield Vector(path, "tree", code, rule, twin, "-", "-", {path: tree_file(text)})
    for name, parts, types in valid_types():
        text = '["' + parts[0] + '",' + ",".join(parts[1:]) + "]"
        yield valid("text-" + name, "tree", "T6", tree_file(text, list(stored(*types))))
    for code, name, text, types, twin in invalid_types():
        path, twin = f"invalid/T6-{name}.safetensors", f"valid/tree-text-{twin}.safetensors"
        yield Vector(path, "tree", code, "T6", twin, "-", "-", {path: tree_file(text, list(stored(*types)))})
    for name, codes, text in SEVERAL_RULES:
        path, twin = f"invalid/E1-tree-{name}.safetensors", "valid/tree-text-list.safetensors"
        yield Vector(path, "tree", "|".join(codes), "E1", twin, "-", "-", {path: tree_file(text)})
    for name, text in VALID_ALIASES.items():
        path = f"valid/aliases-{name}.safetensors"
        yield Vector(path, "aliases", "ok", "A1", "-", "-", "-", {path: aliases_file(text)})
    for name, text in INVALID_ALIASES.items():
        path, twin = f"invalid/A2-aliases-{name}.safetensors", "valid/aliases-two.safetensors"
        yield Vector(path, "aliases", "aliases_malformed", "A2", twin, "-", "-", {path: aliases_file(text)})


def valid(name, kind, rule, raw):
    path = f"valid/tree-{name}.safetensors"
    return Vector(path, kind, "ok", rule, "-", "-", "-", {path: raw})


# Texts that break several rules: any of these errors is right.
SEVERAL_RULES = (
    ("tag-and-tensor", ("tree_unknown_tag", "tree_unknown_tensor"), '["list",["odict"],["tensor","nope"]]'),
    ("tag-and-json", ("tree_unknown_tag", "tree_not_json"), '["list",["odict"],01]'),
    ("depth-and-json", ("tree_too_deep", "tree_not_json"), "[" * 1000),
    ("pairs", ("tree_malformed_node", "tree_duplicate_key", "tree_malformed_key"), '["dict",1,2,1,3,["list"]]'),
    ("attributes", ("tree_unknown_attribute", "tree_duplicate_member"),
     '["tensor","u",{"x":1,"grad":true,"grad":true}]'),
)  # fmt: skip

# Aliases of the tensors h and w.
VALID_ALIASES = {"two": '{"x":"h","y":"h"}', "none": "{}", "odd-names": r'{"":"w","__metadata__":"h","\u0000":"h"}'}
INVALID_ALIASES = {
    "not-json": "{",
    "depth-9": '{"x":' + "[" * 8 + "]" * 8 + "}",
    "depth-100000": '{"x":' + "[" * 99_999 + "]" * 99_999 + "}",
    "byte-order-mark": '\ufeff{"x":"h","y":"h"}',
    "array": '["x","h"]',
    "key-twice": '{"x":"h","x":"h"}',
    "key-twice-escaped": r'{"x":"h","\u0078":"w"}',
    "key-is-a-tensor": '{"w":"h"}',
    "key-is-its-own-tensor": '{"w":"w"}',
    "no-such-tensor": '{"x":"nope"}',
    "chain": '{"x":"h","y":"x"}',
    "number": '{"x":1}',
    "two-targets": '{"x":["h","w"]}',
}


def aliases_file(text):
    return unpadded(with_strings({"flatbed.digests": writer.chunk_digests(SMALL), "flatbed.aliases": text}))
