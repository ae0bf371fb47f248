"""The tree of a flatbed file as Python objects: what reader.load() returns.

Nothing named in a file is ever imported or called, but for the closed list of constructors below (T4) and the classes
that the caller passes in. Everything else becomes an inert Object or Global that keeps what the file says.
"""

import contextlib
import struct
from collections import OrderedDict, namedtuple

from strict_json import FormatError
from tree import ARRAY_DTYPES, COMPLEX, PACKED, TYPESTR, room_for_depth

# ---------------------------------------------------------------------------------------------------------------------
# What load() returns where torch and numpy are missing or do not know a thing.


class Tensor:
    """A tensor as plain bytes, little-endian, in C order. dtype, shape: as stored; attributes: those of T5."""

    def __init__(self, dtype, shape, data, attributes=None):
        self.dtype, self.shape, self.data, self.attributes = (dtype, tuple(shape), memoryview(data), attributes or {})

    def __repr__(self):
        return f"Tensor({self.dtype!r}, {list(self.shape)}, {len(self.data)} bytes)"


class Array(Tensor):
    """A numpy array as plain bytes. typestr: its dtype.str."""

    def __init__(self, typestr, dtype, shape, data):
        super().__init__(dtype, shape, data)
        self.typestr = typestr


class Scalar(namedtuple("Scalar", "typestr raw")):
    """A numpy scalar: its dtype.str and bytes."""


class Global(namedtuple("Global", "module qualname")):
    """A class or function that is named and never looked up."""


class Object:
    """The result of a call that is not made: function(*args), then items appended, pairs set, a state given."""

    def __init__(self, function, args):
        self.function, self.args, self.items, self.pairs, self.state = function, args, [], [], None

    def __repr__(self):
        return f"Object({self.function!r}, {self.args!r})"


# The constructors that every reader knows (T4), each with exactly the arguments that pickle gives it.


def _ordered_dict(pairs=()):
    return OrderedDict(pairs)


def _one_list(kind):
    def build(items=()):
        if type(items) is not list and items != ():
            raise TypeError("no list")
        return kind(items)

    return build


def _complex(real, imaginary):
    if type(real) is not float or type(imaginary) is not float:
        raise TypeError("no floats")
    return complex(real, imaginary)


def _bytearray(text=b"", encoding=None):
    if encoding is not None:
        if encoding != "latin-1":
            raise TypeError("no latin-1")
        text = text.encode(encoding)
    if type(text) is not bytes:
        raise TypeError("no bytes")
    return bytearray(text)


CONSTRUCTORS = {
    ("collections", "OrderedDict"): _ordered_dict,
    ("builtins", "set"): _one_list(set),
    ("builtins", "frozenset"): _one_list(frozenset),
    ("builtins", "complex"): _complex,
    ("builtins", "bytearray"): _bytearray,
}
CLASSES = {
    ("collections", "OrderedDict"): OrderedDict,
    **{("builtins", kind.__name__): kind for kind in (set, frozenset, complex, bytearray)},
}


def set_state(value, state):
    """What pickle's BUILD does, for an object whose class the caller knows."""
    if hasattr(type(value), "__setstate__"):
        value.__setstate__(state)
    else:
        set_attributes(value, state)


def set_attributes(value, state):
    if type(state) is not dict or not all(isinstance(key, str) for key in state):
        raise TypeError("a state that is no dict of names")
    vars(value).update(state)


class Storage:
    """The bytes that all tensors of one name share. flat: torch's view of them, made on first use."""

    def __init__(self, raw):
        self.raw, self.flat = raw, None


class PlainBackend:
    """Tensors as Tensor, arrays as Array, scalars as Scalar. The other backends fall back to it."""

    constructors = {}  # (module, qualname) -> function, beyond CONSTRUCTORS

    def tensor(self, info, storage, attributes):
        return Tensor(info.dtype, info.shape, storage.raw, attributes)

    def array(self, info, storage, typestr):
        return Array(typestr, info.dtype, info.shape, storage.raw)

    def scalar(self, typestr, raw):
        return Scalar(typestr, raw)

    def constant(self, module, qualname):
        """What a global stands for where it is no class (a dtype, a layout), or None."""
        return None


class NumpyBackend(PlainBackend):
    """Arrays and scalars of numpy; tensors too, but for the types that numpy lacks."""

    TYPES = {dtype: "<" + kind for kind, dtype in ARRAY_DTYPES.items() if kind != "c16"}

    def __init__(self):
        import numpy

        self.numpy = numpy

    def tensor(self, info, storage, attributes):
        if info.dtype not in self.TYPES or "dtype" in attributes or "quant" in attributes:
            return super().tensor(info, storage, attributes)
        return self._view(storage.raw, self.TYPES[info.dtype], info.shape)

    def array(self, info, storage, typestr):
        kind = "".join(TYPESTR.fullmatch(typestr).group(1, 2))
        if kind not in ARRAY_DTYPES:
            return self._view(storage.raw, typestr, info.shape[:-1])
        shape = info.shape[:-1] if kind == "c16" else info.shape
        array = self._view(storage.raw, "<" + kind, shape)  # stored little-endian, whatever the array was
        return array.astype(typestr) if typestr[0] == ">" else array

    def scalar(self, typestr, raw):
        return self._view(bytearray(raw), typestr, (1,))[0]

    def _view(self, raw, typestr, shape):
        dtype = self.numpy.dtype(typestr)
        if not raw:
            return self.numpy.zeros(shape, dtype)
        return self.numpy.frombuffer(raw, dtype).reshape(shape)


class TorchBackend(PlainBackend):
    """Tensors, dtypes, layouts, sizes and devices of torch. Every tensor is on the CPU, wherever it was."""

    NAMES = {
        "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
        "U16": "uint16", "U32": "uint32", "U64": "uint64", "F16": "float16", "BF16": "bfloat16", "F32": "float32",
        "F64": "float64", "C64": "complex64", "F4": "float4_e2m1fn_x2", "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu", "F8_E4M3FNUZ": "float8_e4m3fnuz",
        "F8_E5M2FNUZ": "float8_e5m2fnuz",
    }  # fmt: skip
    QUANTIZED = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
    STORAGES = {
        "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
        "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
        "ComplexDouble": "complex128", "QInt8": "qint8", "QUInt8": "quint8", "QInt32": "qint32",
        "QUInt4x2": "quint4x2", "QUInt2x4": "quint2x4",
    }  # fmt: skip

    def __init__(self):
        import torch

        self.torch = torch
        try:
            self.numpy = NumpyBackend()
        except ImportError:
            self.numpy = PlainBackend()
        self.array, self.scalar = self.numpy.array, self.numpy.scalar
        self.constructors = {("torch", "Size"): torch.Size, ("torch", "device"): torch.device}
        self._add_tensor_makers()

    def _add_tensor_makers(self):
        """Torch's own functions for tensors that are not one block, and its storages."""
        for name in ("_rebuild_sparse_tensor", "_rebuild_nested_tensor", "_rebuild_meta_tensor_no_storage",
                     "_rebuild_parameter", "_rebuild_parameter_with_state"):  # fmt: skip
            if hasattr(self.torch._utils, name):
                self.constructors[("torch._utils", name)] = getattr(self.torch._utils, name)
        # torch 1.9 to 1.13 had a function of its own for CSR
        sparse = self.torch._utils._rebuild_sparse_tensor
        self.constructors[("torch._utils", "_rebuild_sparse_csr_tensor")] = sparse
        if hasattr(self.torch.Tensor, "untyped_storage"):
            self.constructors[("torch.storage", "UntypedStorage")] = lambda tensor: tensor.untyped_storage()
            for name, dtype in self.STORAGES.items():
                self.constructors[("torch", name + "Storage")] = self._typed_storage(getattr(self.torch, dtype))

    def _typed_storage(self, dtype):
        make = self.torch.storage.TypedStorage
        return lambda tensor: make(wrap_storage=tensor.untyped_storage(), dtype=dtype, _internal=True)

    def constant(self, module, qualname):
        value = getattr(self.torch, qualname, None) if module == "torch" else None
        kinds = (self.torch.dtype, self.torch.layout, self.torch.memory_format, self.torch.qscheme)
        return value if isinstance(value, kinds) else None

    def tensor(self, info, storage, attributes):
        name = attributes.get("dtype") or self.NAMES.get(info.dtype, "")
        dtype = getattr(self.torch, self.QUANTIZED.get(name, name), None)
        quantizer = attributes.get("quant", ())
        if name in PACKED and len(quantizer) == 4 and isinstance(dtype, self.torch.dtype):
            return self._packed(storage, dtype, attributes["shape"], quantizer)
        if not isinstance(dtype, self.torch.dtype) or name in PACKED or (name in self.QUANTIZED) != bool(quantizer):
            return super().tensor(info, storage, attributes)  # a type that this torch does not have
        shape = info.shape[:-1] if name in COMPLEX else info.shape
        if info.dtype == "F4":
            shape = (*shape[:-1], shape[-1] // 2)
        tensor = self._strided(self._flat(storage).view(dtype).view(shape), attributes.get("stride"))
        if quantizer:
            tensor = self._quantized(tensor, *quantizer)
        if "param" in attributes:
            tensor = self.torch.nn.Parameter(tensor, requires_grad="grad" in attributes)
        elif "grad" in attributes:
            tensor.requires_grad_(True)
        if "state" in attributes:
            set_attributes(tensor, attributes["state"])
        return tensor

    def _flat(self, storage):
        if storage.flat is None:
            uint8 = self.torch.uint8
            empty = self.torch.empty(0, dtype=uint8)
            storage.flat = self.torch.frombuffer(storage.raw, dtype=uint8) if storage.raw else empty
        return storage.flat

    def _strided(self, tensor, stride):
        """The same values with the strides of the source, where those are a permutation of dense ones."""
        if stride is None or tensor.numel() == 0:
            return tensor
        expected = 1
        for step, size in sorted(zip(stride, tensor.shape)):
            if size != 1 and step != expected:
                return tensor
            expected *= size
        return self.torch.empty_strided(tensor.shape, stride, dtype=tensor.dtype).copy_(tensor)

    def _packed(self, storage, dtype, shape, quantizer):
        """Several elements in a byte. Torch makes such tensors for each channel only."""
        _, scales, zero_points, axis = quantizer
        make = self.torch._empty_per_channel_affine_quantized
        tensor = make(shape, scales=scales, zero_points=zero_points, axis=axis, dtype=dtype)
        tensor.untyped_storage().copy_(self._flat(storage).untyped_storage())
        return tensor

    def _quantized(self, integers, scheme, scale, zero_point, axis=None):
        if axis is None:
            return self.torch._make_per_tensor_quantized_tensor(integers, scale, zero_point)
        return self.torch._make_per_channel_quantized_tensor(integers, scale, zero_point, axis)


BACKENDS = {"torch": TorchBackend, "numpy": NumpyBackend, "plain": PlainBackend}


def make_backend(name):
    """The backend of this name; None: the richest that can be imported."""
    if name is not None:
        return BACKENDS[name]()
    for backend in BACKENDS.values():
        with contextlib.suppress(ImportError):
            return backend()


# ---------------------------------------------------------------------------------------------------------------------
# load(): the tree as Python objects.


class Builder:
    """Builds the objects of a checked tree. Nothing is looked up by name but the tables above and `classes`."""

    def __init__(self, source, backend, classes):
        self.source, self.backend, self.classes = source, backend, classes
        self.constructors = {**CONSTRUCTORS, **backend.constructors, **classes}
        self.storages, self.objects = {}, {}  # by tensor name; by id

    def storage(self, name):
        if name not in self.storages:
            self.storages[name] = Storage(self.source.read(name))
        return self.storages[name]

    def tensor(self, name, attributes):
        return self.backend.tensor(self.source.tensors[name], self.storage(name), attributes)

    def build(self, tree):
        with room_for_depth():
            return self.node(tree)

    def node(self, value, own=None):
        if type(value) is not list:
            return value
        tag, parts = value[0], value[1:]
        if tag == "id":
            return self.node(parts[1], parts[0])
        if tag == "ref":
            return self.objects[parts[0]]
        result = self.BUILD[tag](self, parts, own)
        if own is not None:
            self.objects[own] = result
        return result

    def begin(self, result, own):
        """An object that is complete enough to be referred to from within."""
        if own is not None:
            self.objects[own] = result
        return result

    def nodes(self, values):
        return [self.node(value) for value in values]

    def set_pairs(self, target, values):
        for i in range(0, len(values), 2):
            key = self.node(values[i])
            try:
                target[key] = self.node(values[i + 1])
            except TypeError as error:
                raise FormatError("tree_malformed_key", f"a key cannot be used: {error}") from None

    def build_bytes(self, parts, own):
        return bytes.fromhex(parts[0]) if isinstance(parts[0], str) else bytes(self.storage(parts[0][1]).raw)

    def build_list(self, parts, own):
        result = self.begin([], own)
        for value in parts:
            result.append(self.node(value))
        return result

    def build_dict(self, parts, own):
        result = self.begin({}, own)
        self.set_pairs(result, parts)
        return result

    def build_global(self, parts, own):
        name = tuple(parts)
        known = self.backend.constant(*name) or self.classes.get(name) or CLASSES.get(name)
        return Global(*name) if known is None else known

    def build_object(self, parts, own):
        args = tuple(self.nodes(parts[1][1:]))
        make = self.constructor(parts[0], args)
        if make is None:
            return self.inert(parts, args, own)
        try:
            result = self.begin(make(), own)
            for value in parts[2] if len(parts) > 2 else ():
                result.append(self.node(value))
            self.set_pairs(result, parts[3] if len(parts) > 3 else ())
            state = self.node(parts[4]) if len(parts) > 4 else None
            if state is not None:
                set_state(result, state)
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise FormatError("tree_malformed_node", f"{parts[0]} does not accept its arguments: {error}") from None
        return result

    def constructor(self, function, args):
        """A call that makes the object, or None where its class is not known."""
        if type(function) is not list or function[0] != "global":
            return None
        name = tuple(function[1:])
        if name == ("copyreg", "__newobj__"):
            known = bool(args) and any(args[0] is known for known in self.classes.values())
            return (lambda: args[0].__new__(*args)) if known else None
        build = self.constructors.get(name)
        if name in self.backend.constructors and any(isinstance(arg, (Object, Tensor)) for arg in args):
            return None  # made of parts that are not known themselves
        return None if build is None else lambda: build(*args)

    def inert(self, parts, args, own):
        result = self.begin(Object(self.node(parts[0]), args), own)
        if len(parts) > 2:
            result.items = self.nodes(parts[2])
            result.pairs = [tuple(self.nodes(parts[3][i : i + 2])) for i in range(0, len(parts[3]), 2)]
        if len(parts) > 4:
            result.state = self.node(parts[4])
        return result

    def build_tensor(self, parts, own):
        attributes = dict(parts[1]) if len(parts) > 1 else {}
        for key in ("quant", "state"):
            if key in attributes:
                attributes[key] = self.node(attributes[key])
        try:
            return self.tensor(parts[0], attributes)
        except (TypeError, ValueError, RuntimeError) as error:
            raise FormatError("tree_unknown_attribute", f"{parts[0]!r}: {error}") from None

    def build_array(self, parts, own):
        info = self.source.tensors[parts[0]]
        return self.backend.array(info, self.storage(info.name), parts[1])

    BUILD = {
        "int": lambda self, parts, own: int(parts[0], 16),
        "float": lambda self, parts, own: struct.unpack(">d", bytes.fromhex(parts[0]))[0],
        "str": lambda self, parts, own: bytes.fromhex(parts[0]).decode("utf-8", "surrogatepass"),
        "bytes": build_bytes,
        "list": build_list,
        "tuple": lambda self, parts, own: tuple(self.nodes(parts)),
        "dict": build_dict,
        "global": build_global,
        "object": build_object,
        "tensor": build_tensor,
        "array": build_array,
        "scalar": lambda self, parts, own: self.backend.scalar(parts[0], bytes.fromhex(parts[1])),
    }
