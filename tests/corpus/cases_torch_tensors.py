"""P15, P16, P18: persistent ids and the arguments of torch's rebuild functions."""

import assembler as asm
import streams
import torch_zip as t

ID = "persistent_id_malformed"
CALL = "rebuild_malformed"


def model(of, **more):
    return asm.pickled({"w": asm.tensor(of, **more)})


class Zip:
    """Tensors in a torch zip with 24 bytes of storage 0."""
    name = "zip"
    view = ()

    def __init__(self, corpus):
        self.corpus = corpus
        self.twin = corpus.twin("P16/zip", self.file(model(asm.storage())), t.FLOAT_TENSOR)

    def file(self, pickle):
        return t.torch_zip(pickle, {"0": t.FLOATS})

    def storage(self, *arguments, **more):
        return asm.storage(*arguments, **more)

    def bad(self, name, pickle, expect, *says):
        self.corpus.hostile(f"{name}@{self.name}", self.file(pickle), expect, *says, twin=self.twin)


class Legacy(Zip):
    """The same in a legacy stream."""
    name = "legacy"
    view = (None,)

    def __init__(self, corpus):
        self.corpus = corpus
        self.twin = corpus.twin("P16/legacy", self.file(model(streams.storage())), t.FLOAT_TENSOR)

    def file(self, pickle):
        return streams.stream(pickle, ("0",))

    def storage(self, *arguments, **more):
        return streams.storage(*arguments, **more)


def ids(place):
    """P16: what a persistent id is made of."""
    kind = asm.name("torch", "FloatStorage")
    whole = ("storage", kind, "0", "cpu", 6, *place.view)
    shape = "expected a tuple ('storage', class, key, location, count"
    for word, value in {"none": None, "str": "storage", "int": 0, "list": list(whole), "dict": {}, "empty": (),
                        "bytes": asm.Bytes(b"storage")}.items():
        place.bad(f"P16/id-{word}", model(asm.code(value) + b"Q"), ID, "BINPERSID: ", shape)
    for size in (1, 2, 3, 4, 7, 8, 9, 10):
        items = (whole + (None,) * 5)[:size]
        place.bad(f"P16/id-of-{size}", model(asm.code(items) + b"Q"), ID, "BINPERSID: ", shape)
    wrong = whole[:5] if place.view else whole + (None,)
    place.bad("P16/id-of-the-other-layout", model(asm.code(wrong) + b"Q"), ID, "BINPERSID: ", shape)
    for word, first in {"other": "Storage", "longer": "storages", "empty": "", "int": 0, "none": None,
                        "module": "module",
                        "bytes": asm.Bytes(b"storage"), "tuple": ("storage",)}.items():
        place.bad(f"P16/first-{word}", model(place.storage(first=first)), ID, "its first item is not 'storage'")
    for word, value in {"none": asm.code(None), "str": asm.code("FloatStorage"), "int": asm.code(7),
                        "tuple": asm.code(()),
                        "object": asm.call(kind), "list": asm.code([])}.items():
        place.bad(f"P16/class-{word}", model(place.storage(value)), ID, "its class is not a storage class")
    for module, name in (("torch", "FloatTensor"), ("torch", "float32"), ("torch", "floatStorage"),
                         ("torch", "FloatStorage2"),
                         ("torch.cuda", "float32"), ("torch.nn", "FloatStorage"), ("os", "system"),
                         ("Torch", "FloatStorage"),
                         ("torch.storage", "FloatStorage"), ("torch", "Storage"), ("torch", "TypedStorage"),
                         ("builtins", "bytes"), ("torch.FloatStorage", "FloatStorage"),
                         ("torch", "torch.FloatStorage")):
        place.bad(f"P16/class-{module}.{name}", model(place.storage(asm.name(module, name))), ID,
                  f"'{module}.{name}' is not a storage class")
    for word, key in {"int": 0, "none": None, "bytes": asm.Bytes(b"0"), "tuple": ("0",), "empty": "", "slash": "0/1",
                      "parent": "../0", "absolute": "/0", "parent-inside": "0/../0", "slash-behind": "0/",
                      "float": 0.0}.items():
        place.bad(f"P16/key-{word}", model(place.storage(key=key)), ID, "its key is not a plain name")
    for word, location in {"none": None, "int": 0, "bytes": asm.Bytes(b"cpu"), "tuple": ("cpu",)}.items():
        place.bad(f"P16/location-{word}", model(place.storage(location=location)), ID, "its location is not a text")
    for word, count in {"negative": -1, "none": None, "float": 6.0, "half": 6.5, "bool": True, "str": "6",
                        "tuple": (6,),
                        "2-to-63": 2**63, "2-to-64": 2**64, "2-to-70": 2**70, "most-negative": -2**63}.items():
        place.bad(f"P16/count-{word}", model(place.storage(count=count)), ID, "its count is not a non-negative int")
    for count in (2**62, 2**63 - 1, 2**61 * 3):
        if count < 2**63:
            place.bad(f"P16/count-{count}", model(place.storage(count=count)), "size_overflow",
                      f"storage '0': {count} elem")
    other_keys(place)


def other_keys(place):
    """Keys that are plain, and name no record."""
    for word, key in {"00": "00", "nul": "0\0", "blank": " 0", "dot": ".", "dot-dot": "..", "backslash": "..\\0",
                      "long": "k" * 10_000, "percent": "%30", "upper": "A", "nine": "9", "negative": "-0"}.items():
        pickle = model(place.storage(key=key))
        if place.view:
            place.bad(f"P16/key-{word}", pickle, "legacy_malformed", "storage '0' is listed, but the object does not")
        else:
            place.bad(f"P16/key-{word}", pickle, "storage_missing", "no record 'model/data/")


def conflicts(place):
    """P16: one key with two meanings."""
    def two(first, second):
        return asm.pickled({"a": asm.tensor(first), "b": asm.tensor(second, sizes=(2,), strides=(1,))})
    first = place.storage()
    for count in (0, 5, 7, 2**40):
        place.bad(f"P16/again-with-{count}", two(first, place.storage(count=count)), "storage_conflict",
                  f"storage '0' has {4 * count} bytes here and had 24 before")
    for kind, count in (("IntStorage", 6), ("HalfStorage", 12), ("DoubleStorage", 3), ("ByteStorage", 24),
                        ("BFloat16Storage", 12), ("LongStorage", 3), ("QInt32Storage", 6), ("BoolStorage", 24)):
        place.bad(f"P16/again-as-{kind}", two(first, place.storage(kind, count=count)), "storage_conflict",
                  f"storage '0' is a torch.{kind} here and was a torch.FloatStorage before")
        other = asm.tensor(place.storage(kind, count=count), sizes=(2,), strides=(1,))
        if kind != "QInt32Storage":
            place.bad(f"P16/first-as-{kind}", asm.pickled({"a": other, "b": asm.tensor(first)}), "storage_conflict",
                      f"storage '0' is a torch.FloatStorage here and was a torch.{kind} before")


FUNCTIONS = {"v1": "_rebuild_tensor", "v2": "_rebuild_tensor_v2", "v3": "_rebuild_tensor_v3"}


def rebuilt(place, function, of=None, offset=0, sizes=(2, 3), strides=(3, 1), grad=False, hooks=None, more=()):
    """A call of one of the functions, with the arguments that it has."""
    of = place.storage() if of is None else of
    arguments = [of, offset, sizes, strides]
    if function != "v1":
        arguments += [grad, asm.ORDERED_DICT if hooks is None else hooks]
    if function == "v3":
        arguments += [asm.name("torch", "float32")]
    return asm.call(asm.name("torch._utils", FUNCTIONS[function]), *arguments, *more)


def views(place):
    """P18: where a tensor lies in its storage, told by each of the functions."""
    outside, overflow = "tensor_out_of_storage", "size_overflow"
    rows = {
        "offset-1": (dict(offset=1), outside, "reaches element 6 of storage '0', which has 6"),
        "offset-6": (dict(offset=6), outside, "reaches element 11"),
        "offset-2-to-62": (dict(offset=2**62), outside, f"reaches element {2**62 + 5}"),
        "offset-most": (dict(offset=2**63 - 1), outside, f"reaches element {2**63 + 4}"),
        "one-row-more": (dict(sizes=(3, 3)), outside, "[3,3] at offset 0 reaches element 8"),
        "one-column-more": (dict(sizes=(2, 4)), outside, "reaches element 6"),
        "stride-4": (dict(strides=(4, 1)), outside, "reaches element 6"),
        "stride-2": (dict(strides=(3, 2)), outside, "reaches element 7"),
        "stride-2-to-40": (dict(strides=(2**40, 1)), outside, f"reaches element {2**40 + 2}"),
        "stride-most": (dict(strides=(2**63 - 1, 1)), outside, f"reaches element {2**63 + 1}"),
        "scalar-behind": (dict(offset=6, sizes=(), strides=()), outside, "[] at offset 6 reaches element 6"),
        "one-behind": (dict(offset=6, sizes=(1, 1), strides=(1, 1)), outside, "reaches element 6"),
        "strides-overflow": (dict(sizes=(2, 3), strides=(3, 2**63 - 1)), overflow, "does not fit 64"),
        "strides-wrap-to-0": (dict(sizes=(5, 2), strides=(2**62, 1)), overflow, "does not fit 64"),
        "strides-add-to-2-to-64": (dict(offset=2**63 - 1, sizes=(2, 2, 2), strides=(2**63 - 1, 1, 1)), overflow,
                                   "not fit"),
        "sizes-wrap-to-0": (dict(sizes=(2**32, 2**32), strides=(0, 0)), overflow, "does not fit 64 bits"),
        "sizes-wrap-to-small": (dict(sizes=(4194305, 4194305, 211106198978564), strides=(0, 0, 0)), overflow,
                                "not fit"),
        "sizes-2-to-61": (dict(sizes=(2**61,), strides=(0,)), overflow, "does not fit 64 bits"),
        "sizes-2-to-63": (dict(sizes=(2**62, 2), strides=(0, 0)), overflow, "does not fit 64 bits"),
        "zero-behind-overflow": (dict(sizes=(2**62, 8, 0), strides=(0, 0, 0)), overflow, "does not fit 64 bits"),
        "zero-before-overflow": (dict(sizes=(0, 2**62, 8), strides=(0, 0, 0)), overflow, "does not fit 64 bits"),
    }
    for function in FUNCTIONS:
        for word, (arguments, expect, *says) in rows.items():
            for wrapped, make in (("", lambda code: code), ("-parameter", lambda code: asm.call(
                    asm.name("torch._utils", "_rebuild_parameter"), code, True, asm.ORDERED_DICT))):
                if wrapped and function != "v2":
                    continue
                place.bad(f"P18/{word}-{function}{wrapped}", asm.pickled({"w": make(rebuilt(place, function,
                                                                                            **arguments))}),
                          expect, f"torch._utils.{FUNCTIONS[function]}: a tensor ", *says)
    good = {"zero-size-anywhere": dict(offset=2**62, sizes=(0, 3), strides=(2**62, 2**62)),
            "expanded": dict(sizes=(2, 6), strides=(0, 1)), "transposed": dict(sizes=(3, 2), strides=(1, 3)),
            "overlapping": dict(sizes=(4, 3), strides=(1, 1)), "scalar": dict(offset=5, sizes=(), strides=()),
            "size-1-wild-stride": dict(sizes=(1, 6), strides=(2**62, 1))}
    for word, arguments in good.items():
        place.corpus.twin(f"P18/{word}@{place.name}", place.file(asm.pickled({"w": rebuilt(place, "v2", **arguments)})))


def arguments(place):
    """P15: the number and the kinds of a function's arguments."""
    wrong_counts = {"v1": (0, 1, 3, 5, 6), "v2": (0, 1, 4, 5, 8, 9), "v3": (0, 4, 6, 9, 10)}
    for function, counts in wrong_counts.items():
        values = (place.storage(), 0, (2, 3), (3, 1), False, asm.ORDERED_DICT, asm.name("torch", "float32"), None, None,
                  None)
        if function == "v2":
            values = values[:6] + (None,) * 4
        for count in counts:
            code = asm.call(asm.name("torch._utils", FUNCTIONS[function]), *values[:count])
            place.bad(f"P15/{function}-of-{count}", asm.pickled({"w": code}), CALL,
                      f"torch._utils.{FUNCTIONS[function]}: {count} arguments")
    for function in FUNCTIONS:
        def bad(word, says, function=function, **lie):
            place.bad(f"P15/{function}-{word}", asm.pickled({"w": rebuilt(place, function, **lie)}), CALL,
                      f"torch._utils.{FUNCTIONS[function]}: ", says)
        for word, of in {"none": asm.code(None), "bytes": asm.code(asm.Bytes(b"data")), "int": asm.code(0),
                         "tensor": rebuilt(place, "v2"), "class": asm.name("torch", "FloatStorage")}.items():
            bad(f"storage-{word}", "the first argument is not a storage", of=of)
        for word, offset in {"negative": -1, "none": None, "float": 0.0, "bool": False, "str": "0", "2-to-63": 2**63,
                             "2-to-64": 2**64}.items():
            bad(f"offset-{word}", "the offset is not a non-negative int", offset=offset)
        for what in ("sizes", "strides"):
            for word, value in {"none": None, "list": [2, 3], "int": 6, "dict": {}, "str": "23",
                                "size-of-two": asm.call(asm.name("torch", "Size"), 2, 3),
                                "size-of-list": asm.call(asm.name("torch", "Size"), [2, 3])}.items():
                bad(f"{what}-{word}", f"the {what} are not a tuple", **{what: value})
            for word, value in {"negative": (2, -3), "bool": (True, 3), "float": (2.0, 3.0), "none": (None, 3),
                                "str": ("2", "3"), "2-to-63": (2**63, 1), "nested": ((2,), (3,))}.items():
                bad(f"{what}-of-{word}", f"the {what} hold something other than non-negative ints", **{what: value})
            bad(f"65-{what}", "65 dimensions, torch allows 64", **{what: (1,) * 65})
        bad("more-sizes", "3 sizes and 2 strides", sizes=(1, 2, 3))
        bad("more-strides", "2 sizes and 3 strides", strides=(3, 1, 1))
        bad("no-strides", "2 sizes and 0 strides", strides=())
        if function == "v1":
            continue
        for word, grad in {"none": None, "int": 1, "str": "False"}.items():
            bad(f"grad-{word}", "requires_grad is not a bool", grad=asm.code(grad))
        for word, hooks in {"int": 1, "list": [], "tuple": (), "str": "hooks"}.items():
            bad(f"hooks-{word}", "the hooks are not a dict", hooks=asm.code(hooks))


def metadata(place):
    """The metadata of _v2 and _v3, and the dtype of _v3."""
    for function in ("v2", "v3"):
        def bad(word, expect, says, value, function=function, of=None):
            place.bad(f"P15/{function}-metadata-{word}", asm.pickled({"w": rebuilt(place, function, of,
                                                                                   more=(value,))}),
                      expect, f"torch._utils.{FUNCTIONS[function]}: ", says)
        for word, value in {"list": [], "int": 1, "str": "conj", "tuple": ()}.items():
            bad(word, CALL, "the metadata are not a dict", value)
        for word, key in {"other": "view", "empty": "", "int": 1, "case": "Conj"}.items():
            bad(f"key-{word}", "torch_unsupported", "tensor metadata '", {key: True})
        for word, value in {"int": 1, "none": None, "str": "yes"}.items():
            bad(f"conj-{word}", CALL, "conj is not a bool", {"conj": value})
            bad(f"neg-{word}", CALL, "neg is not a bool", {"neg": value})
        bad("conj-of-floats", CALL, "a conjugate tensor of torch.float32", {"conj": True})
    for kind, name, count in (("BoolStorage", "bool", 24), ("ByteStorage", None, 24)):
        if name:
            of = place.storage(kind, count=count)
            place.bad(f"P15/v2-neg-of-{name}", asm.pickled({"w": rebuilt(place, "v2", of, more=({"neg": True},))}),
                      CALL,
                      f"a negated tensor of torch.{name}")
    for word, dtype, expect, says in (
            ("str", "float32", CALL, "the dtype is not a global"), ("none", None, CALL, "the dtype is not a global"),
            ("int", 6, CALL, "the dtype is not a global"), ("object", asm.call(asm.name("torch", "float32")), CALL,
                                                         "not a global"),
            ("storage-class", asm.name("torch", "FloatStorage"), "torch_unsupported", "dtype 'torch.FloatStorage'"),
            ("unknown", asm.name("torch", "float33"), "torch_unsupported", "dtype 'torch.float33'"),
            ("numpy", asm.name("numpy", "float32"), "torch_unsupported", "dtype 'numpy.float32'"),
            ("quantized", asm.name("torch", "qint8"), "torch_unsupported", "torch.qint8 without a quantizer")):
        code = asm.call(asm.name("torch._utils", "_rebuild_tensor_v3"), place.storage(), 0, (2, 3), (3, 1), False,
                        asm.ORDERED_DICT, dtype)
        place.bad(f"P15/v3-dtype-{word}", asm.pickled({"w": code}), expect, "torch._utils._rebuild_tensor_v3: ", says)
    for name, width in (("float64", 8), ("complex64", 8), ("complex128", 16)):
        code = asm.call(asm.name("torch._utils", "_rebuild_tensor_v3"), place.storage(), 0, (2, 3), (3, 1), False,
                        asm.ORDERED_DICT, asm.name("torch", name))
        place.bad(f"P18/v3-as-{name}", asm.pickled({"w": code}), "tensor_out_of_storage", "reaches element 5",
                  f"which has {24 // width}")


def wrappers(place):
    """P15: Parameters and subclasses of what is not a tensor."""
    tensor = rebuilt(place, "v2")
    for name, good in (("_rebuild_parameter", 3), ("_rebuild_parameter_with_state", 4)):
        full = asm.name("torch._utils", name)
        values = (tensor, True, asm.ORDERED_DICT, {}, None)
        for count in (0, 1, 2, 3, 4, 5):
            if count != good:
                place.bad(f"P15/{name}-of-{count}", asm.pickled({"w": asm.call(full, *values[:count])}), CALL,
                          f"torch._utils.{name}: wrong number of arguments: found {count}, expected {good}")
        for word, data in {"none": None, "int": 1, "list": [1.0], "storage": place.storage(), "str": "w",
                           "dict": {}}.items():
            place.bad(f"P15/{name}-of-{word}", asm.pickled({"w": asm.call(full, data, *values[1:good])}), CALL,
                      f"torch._utils.{name}: the data is not a tensor")
        for word, grad in {"none": None, "int": 1, "str": ""}.items():
            place.bad(f"P15/{name}-grad-{word}", asm.pickled({"w": asm.call(full, tensor, grad, *values[2:good])}),
                      CALL,
                      f"torch._utils.{name}: requires_grad is not a bool")
        place.bad(f"P15/{name}-hooks-list", asm.pickled({"w": asm.call(full, tensor, True, [], *values[3:good])}), CALL,
                  f"torch._utils.{name}: the hooks are not a dict")
    v2 = asm.name("torch._utils", "_rebuild_tensor_v2")
    inner = (place.storage(), 0, (2, 3), (3, 1), False, asm.ORDERED_DICT)
    for module, name in (("torch._tensor", "_rebuild_from_type_v2"), ("torch._tensor", "_rebuild_from_type"),
                         ("torch.tensor", "_rebuild_from_type_v2")):
        full = asm.name(module, name)
        values = (v2, asm.name("torch", "Tensor"), inner, {}, None)
        for count in (0, 1, 3, 5):
            place.bad(f"P15/{module}.{name}-of-{count}", asm.pickled({"w": asm.call(full, *values[:count])}), CALL,
                      f"{module}.{name}: wrong number of arguments: found {count}, expected 4")
        for word, lie in {"inner-list": (v2, values[1], list(inner), {}), "inner-none": (v2, values[1], None, {}),
                          "class-none": (v2, None, inner, {}), "class-str": (v2, "Tensor", inner, {})}.items():
            place.bad(f"P15/{module}.{name}-{word}", asm.pickled({"w": asm.call(full, *lie)}), CALL,
                      f"{module}.{name}: expected (function, class, tuple, state)")
        outside = (place.storage(), 1, (2, 3), (3, 1), False, asm.ORDERED_DICT)
        place.bad(f"P18/{module}.{name}-outside", asm.pickled({"w": asm.call(full, v2, values[1], outside, {})}),
                  "tensor_out_of_storage", f"{module}.{name}: ", "reaches element 6")


def typed_classes(place):
    """torch.FloatTensor(storage, offset, sizes, strides), as torch wrote up to 0.3: by a call, and by its state."""
    for word, make in {"call": lambda kind, *of: asm.call(asm.name("torch", kind), *of),
                       "state": lambda kind, *of: asm.build(asm.call(asm.name("torch", kind)), of),
                       "new": lambda kind, *of: asm.build(asm.name("torch", kind) + b")\x81", of)}.items():
        of = place.storage()
        pickle = asm.pickled({"w": make("FloatTensor", of, 0, (2, 3), (3, 1))})
        place.corpus.twin(f"P15/typed-{word}@{place.name}", place.file(pickle), t.FLOAT_TENSOR)
        for name in ("IntTensor", "DoubleTensor", "HalfTensor"):
            place.bad(f"P15/{name}-{word}-of-floats", asm.pickled({"w": make(name, of, 0, (2, 3), (3, 1))}), CALL,
                      "with a storage of another dtype")
        place.bad(f"P15/FloatTensor-{word}-of-3", asm.pickled({"w": make("FloatTensor", of, 0, (2, 3))}), CALL,
                  "3 arguments")
        place.bad(f"P15/FloatTensor-{word}-of-none", asm.pickled({"w": make("FloatTensor", None, 0, (2, 3), (3, 1))}),
                  CALL,
                  "the first argument is not a storage")
        place.bad(f"P18/FloatTensor-{word}-outside", asm.pickled({"w": make("FloatTensor", of, 1, (2, 3), (3, 1))}),
                  "tensor_out_of_storage", "reaches element 6")
    for kind in ("Parameter", "Variable"):
        module = "torch.nn.parameter" if kind == "Parameter" else "torch.autograd.variable"
        target = asm.call(asm.name(module, kind))
        tensor = rebuilt(place, "v2")
        for word, data in {"none": None, "int": 5, "list": []}.items():
            place.bad(f"P15/{kind}-state-of-{word}", asm.pickled({"w": asm.build(target,
                                                                                 (data, None, None, True, False))}),
                      CALL, "expected (data, gradient, hooks, requires_grad, volatile)")
        place.bad(f"P15/{kind}-state-grad", asm.pickled({"w": asm.build(target, (tensor, None, None, 1, False))}), CALL,
                  "expected (data, gradient, hooks, requires_grad, volatile)")
        place.bad(f"P15/{kind}-state-hooks", asm.pickled({"w": asm.build(target, (tensor, None, [], True, False))}),
                  CALL,
                  "the hooks are not a dict")
    place.bad("P15/tensor-state-hooks", asm.pickled({"w": asm.build(rebuilt(place, "v2"), (True, False, []))}), CALL,
              "the hooks are not a dict")


def quantized(place):
    """P19: quantizers, and quantized storages in other tensors."""
    def file(of, quantizer, sizes=(2, 3), strides=(3, 1), grad=False, hooks=asm.ORDERED_DICT, more=()):
        return asm.pickled({"w": asm.call(asm.name("torch._utils", "_rebuild_qtensor"), of, 0, sizes, strides,
                                          quantizer,
                                          grad, hooks, *more)})
    of = place.storage("QInt32Storage")
    affine = asm.name("torch", "per_tensor_affine")
    channel = asm.name("torch", "per_channel_affine")
    scales = [0.5, 0.5]
    place.corpus.twin(f"P19/quantized@{place.name}", place.file(file(of, (affine, 0.5, 3))))
    place.corpus.twin(f"P19/per-channel@{place.name}", place.file(file(of, (channel, scales, [0, 0], 0))))
    no_scheme = "the quantizer has an unknown scheme or the wrong arguments"
    no_axis = "the quantizer's axis is not a dimension"
    no_numbers = "the quantizer is not (scheme, float, int)"
    no_lists = "the quantizer's scales or zero points are not a tensor"
    rows = {"none": (None, no_scheme), "empty": ((), no_scheme), "scheme-alone": (affine, no_scheme),
            "list": ([], no_scheme),
            "of-2": ((affine, 0.5), no_scheme), "of-4": ((affine, 0.5, 3, 0), no_scheme),
            "scheme-str": (("per_tensor_affine", 0.5, 3), no_scheme),
            "scheme-other": ((asm.name("numpy", "per_tensor_affine"), 0.5, 3), no_scheme),
            "scheme-unknown": ((asm.name("torch", "per_row_affine"), 0.5, 3), no_scheme),
            "scale-str": ((affine, "0.5", 3), no_numbers), "scale-none": ((affine, None, 3), no_numbers),
            "zero-float": ((affine, 0.5, 3.0), no_numbers), "zero-none": ((affine, 0.5, None), no_numbers),
            "channel-of-numpy": ((asm.name("numpy", "per_channel_affine"), scales, [0, 0], 0), no_scheme),
            "channel-of-3": ((channel, scales, [0, 0]), no_scheme), "channel-of-5": ((channel, scales, [0, 0], 0, 0),
                                                                                     no_scheme),
            "channel-scales-float": ((channel, 0.5, [0, 0], 0), no_lists),
            "channel-zeros-none": ((channel, scales, None, 0), no_lists),
            "channel-axis-2": ((channel, scales, [0, 0], 2), no_axis), "channel-axis-negative": ((channel, scales,
                                                                                                  [0, 0], -1),
                                                                                                 no_axis),
            "channel-axis-none": ((channel, scales, [0, 0], None), no_axis)}
    for word, (quantizer, says) in rows.items():
        place.bad(f"P19/quantizer-{word}", file(of, quantizer), CALL, "torch._utils._rebuild_qtensor: ", says)
    good = (affine, 0.5, 3)
    place.bad("P19/quantized-floats", file(place.storage(), good), CALL, "a quantized tensor of torch.float32")
    place.bad("P19/quantized-outside", file(of, good, (2, 4), (4, 1)), "tensor_out_of_storage", "reaches element 7")
    place.bad("P19/quantized-grad", file(of, good, grad=0), CALL, "requires_grad is not a bool")
    place.bad("P19/quantized-hooks", file(of, good, hooks=[]), CALL, "the hooks are not a dict")
    place.bad("P19/quantized-of-8", file(of, good, more=(None,)), CALL, "8 arguments")
    for kind, name in (("QInt8Storage", "qint8"), ("QUInt8Storage", "quint8"), ("QInt32Storage", "qint32"),
                       ("QUInt4x2Storage", "quint4x2"), ("QUInt2x4Storage", "quint2x4")):
        place.bad(f"P19/{name}-without-quantizer", asm.pickled({"w": rebuilt(place, "v2", place.storage(kind))}), CALL,
                  f"torch.{name} without a quantizer")
    for kind, in_byte in (("QUInt4x2Storage", 2), ("QUInt2x4Storage", 4)):
        packed = place.storage(kind, count=24)
        if place.view:
            packed = place.storage(kind, count=6)
        place.bad(f"P19/{kind}-outside", file(packed, good, (24, in_byte + 1), (in_byte + 1, 1)),
                  "tensor_out_of_storage",
                  "reaches element 47")
        place.bad(f"P19/{kind}-overflow", file(packed, good, (2**40, 2**40), (2**40, 1)), "size_overflow", "64 bits")
        place.bad(f"P19/{kind}-overflow-nothing", file(packed, good, (2**40, 2**40, 0), (2**40, 1, 1)), "size_overflow",
                  "does not fit 64 bits")


def big_endian(corpus):
    """Big-endian files: what nobody can say the byte order of."""
    def file(pickle):
        return t.torch_zip(pickle, {"0": t.FLOATS}, byteorder=b"big")
    swapped = b"".join(t.FLOATS[i:i + 4][::-1] for i in range(0, 24, 4))
    twin = corpus.twin("P17/big-endian", file(model(asm.storage())), {"w": ("F32", (2, 3), swapped)})
    untyped = asm.storage("UntypedStorage", count=24, module="torch.storage")
    for name in ("float32", "int16", "complex64", "uint32"):
        code = asm.call(asm.name("torch._utils", "_rebuild_tensor_v3"), untyped, 0, (2,), (1,), False, asm.ORDERED_DICT,
                        asm.name("torch", name))
        corpus.hostile(f"P17/big-endian-untyped-{name}", file(asm.pickled({"w": code})), "torch_unsupported",
                       f"torch.{name} in a big-endian file: its byte order is not recorded", twin=twin)
    for word, first, second in (("typed-first", asm.storage(), untyped), ("untyped-first", untyped, asm.storage())):
        pair = asm.pickled({"a": asm.tensor(first, sizes=(2,), strides=(1,)), "b": asm.tensor(second, sizes=(2,),
                                                                                              strides=(1,))})
        if word == "untyped-first":
            corpus.hostile(f"P17/big-endian-{word}", file(pair), "torch_unsupported",
                           "storage '0' of a big-endian file is used both untyped and as torch.FloatStorage", twin=twin)


def add(corpus):
    for place in (Zip(corpus), Legacy(corpus)):
        for part in (ids, conflicts, views, arguments, metadata, wrappers, typed_classes, quantized):
            part(place)
    big_endian(corpus)
