"""Writer for flatbed files: the layout, seal, tree, names and aliases of FORMAT.md. It makes the test vectors.

    import writer
    tree, tensors, aliases = writer.encode({"epoch": 3, "weight": weight})
    writer.write("out.safetensors", tensors, tree=tree, aliases=aliases)

A whole file is built in memory and the target is overwritten: for vectors and small files, not for safe saves.
Section marks such as (L4) or (N3) are the numbered rules of FORMAT.md.
"""

import contextlib
import io
import itertools
import json
import math
import re
import struct
from collections import OrderedDict

import reader
from reader import (
    ARRAY_DTYPES,
    CHUNK,
    SEAL_PREFIX,
    TORCH_NAMES,
    Array,
    Builder,
    Global,
    Object,
    PlainBackend,
    Scalar,
    Statement,
    Tensor,
    TensorInfo,
    TreeCheck,
    check_tree,
    content_input,
    digest,
    in_name_order,
    is_ours,
)

BLOCK = 4096  # L1, L4
MAX_HEX_BYTES = 1024  # T2: longer bytes become a tensor
ZERO_SEAL = "0" * 16 + "/1/" + "0" * 16


# ---------------------------------------------------------------------------------------------------------------------
# The file.


def write(path, tensors, tree=None, metadata=None, aliases=None, seal=True):
    with open(path, "wb") as stream:
        stream.write(build(tensors, tree, metadata, aliases, seal))


def build(tensors, tree=None, metadata=None, aliases=None, seal=True):
    """The bytes of a file. tensors: (name, dtype, shape, bytes) in source order (L5); tree: JSON; aliases: a dict."""
    strings = dict(metadata or {})
    strings.setdefault("format", "pt")  # L7
    if tree is not None:
        strings["flatbed.tree"] = tree
    if aliases:
        strings["flatbed.aliases"] = compact(aliases)
    if not seal:
        if any(is_ours(key) for key in strings):
            raise ValueError("a tree and aliases are only kept in a sealed file")
        return b"".join([pad_header(strings, in_layout_order(tensors)), *(t[3] for t in in_layout_order(tensors))])
    strings["flatbed.digests"] = chunk_digests(tensors)
    return sealed(strings, in_layout_order(tensors))


def sealed(strings, tensors):
    """A sealed file with exactly these strings, whatever they say, and these tensors in this order."""
    shapes = {name: (dtype, shape) for name, dtype, shape, _ in tensors}
    content = digest(content_input(shapes, strings))
    header = pad_header({**strings, "flatbed": ZERO_SEAL[:19] + content}, tensors)
    return seal_header(header) + b"".join(tensor[3] for tensor in tensors)


def seal_header(header):
    """Puts the header digest in its place (S2). header: bytes 0..7+N."""
    zeroed = header[:36] + b"0" * 16 + header[52:]
    return zeroed[:36] + digest(zeroed).encode() + zeroed[52:]


def sidecar(raw):
    """The sidecar (C1) of a file of these bytes."""
    header = reader.read_container(io.BytesIO(raw))
    tensors = [
        (info.name, info.dtype, info.shape, raw[header.data_start + info.begin : header.data_start + info.end])
        for info in header.tensors.values()
    ]
    shapes = {name: (dtype, shape) for name, dtype, shape, _ in tensors}
    pairs = {"flatbed.digests": chunk_digests(tensors)}
    content = digest(content_input(shapes, pairs))
    return compact({"flatbed": f"{digest(header.raw)}/1/{content}", **pairs}).encode("utf-8")


def in_layout_order(tensors):
    """L4: by the power of two that divides the size, descending; otherwise in source order."""
    return sorted(tensors, key=lambda tensor: -alignment(len(tensor[3])))


def alignment(nbytes):
    return BLOCK if nbytes == 0 else min(BLOCK, nbytes & -nbytes)


def chunk_digests(tensors):
    data = {name: raw for name, _, _, raw in tensors}
    return "".join(
        digest(data[name][at : at + CHUNK]) for name in in_name_order(data) for at in range(0, len(data[name]), CHUNK)
    )


def pad_header(strings, tensors):
    """Bytes 0..7+N (L1, L2, L3)."""
    first = [key for key in ("flatbed", "flatbed.series") if key in strings]
    keys = first + [key for key in in_name_order(strings) if key not in first]
    members = [quote("__metadata__") + ":" + compact({key: strings[key] for key in keys})] if keys else []
    at = 0
    for name, dtype, shape, raw in tensors:
        entry = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        members.append(quote(name) + ":" + compact(entry))
        at += len(raw)
    text = ("{" + ",".join(members) + "}").encode("utf-8")
    text += b" " * (-(8 + len(text)) % BLOCK)
    assert "flatbed" not in strings or text.startswith(SEAL_PREFIX)
    return struct.pack("<Q", len(text)) + text


def statement(**members):
    """The value of flatbed.series (Q3, Q4): of a first checkpoint without a score, but for these members."""
    stated = Statement(1, 0, None, None, None, None, 0, None)._replace(**members)._asdict()
    if stated["score"] is not None and not math.isfinite(stated["score"]):
        stated["score"] = repr(stated["score"])
    return summed(compact(stated))


def summed(text):
    """A value of flatbed.series of this JSON, whatever it says."""
    return f"1/{digest(text.encode('utf-8'))}/{text}"


def compact(value):
    """JSON without white space; Python escapes exactly what L6 says."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def quote(text):
    return compact(text)


def rewrite(source, only=None):
    """The bytes of one file that holds what a File or a ShardedSet holds, under the same names.

    only: the name of the one tensor to keep, without tree, aliases and metadata (L9).
    """
    tensors = [(i.name, i.dtype, i.shape, bytes(source.read(i.name))) for i in in_source_order(source)]
    if only is not None:
        return build([tensor for tensor in tensors if tensor[0] == only], None, format_of(source.metadata))
    metadata = {key: text for key, text in source.metadata.items() if not is_ours(key)}
    tree = source.tree()
    return build(tensors, None if tree is None else rewrite_tree(source, tree), metadata, source.aliases())


def rewrite_set(source, shard_size):
    """The same as a set (H6): file name -> bytes."""
    tensors = [(i.name, i.dtype, i.shape, bytes(source.read(i.name))) for i in in_source_order(source)]
    metadata = {key: text for key, text in source.metadata.items() if not is_ours(key)}
    tree = source.tree()
    text = None if tree is None else rewrite_tree(source, tree)
    shards = cut(tensors, shard_size)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        return {"model.safetensors": build(tensors, text, metadata, source.aliases())}
    first = build(shards[0], text, metadata, source.aliases())
    others = [build(shard, None, format_of(metadata)) for shard in shards[1:]]
    files = dict(zip(names, (first, *others)))
    return {**files, "model.safetensors.index.json": index_of(dict(zip(names, shards)), files)}


def cut(tensors, shard_size):
    """The shards of H6, each a list of tensors."""
    shards, opened, nbytes = [], [], 0
    for tensor in tensors:
        size = len(tensor[3])
        if size > shard_size:
            shards.append([tensor])
            continue
        if nbytes + size > shard_size:
            shards.append(opened)
            opened, nbytes = [], 0
        opened.append(tensor)
        nbytes += size
    return shards + [opened] if opened or not shards else shards


def index_of(shards, files):
    """shards: file name -> tensors; files: file name -> bytes, sealed."""
    tensors = [tensor for shard in shards.values() for tensor in shard]
    described = {
        "total_parameters": sum(math.prod(shape) for _, _, shape, _ in tensors),
        "total_size": sum(len(raw) for *_, raw in tensors),
    }
    if len(shards) <= reader.MAX_SEALED_SHARDS:
        described = {"flatbed.shards": "1/" + "".join(files[name][55:71].decode() for name in shards), **described}
    weights = {tensor[0]: name for name, shard in shards.items() for tensor in shard}
    index = {"metadata": described, "weight_map": weights}
    return json.dumps(index, ensure_ascii=False, indent=2).encode() + b"\n"


def in_source_order(source):
    """L5, of what was read from safetensors files."""
    for file in source.files.values() if isinstance(source, reader.ShardedSet) else (source,):
        for info in sorted(file.tensors.values(), key=lambda i: (i.begin, i.end, i.name.encode("utf-8"))):
            if source.tensors.get(info.name) is info:
                yield info


def format_of(metadata):
    return {key: text for key, text in metadata.items() if key == "format"}


def rewrite_tree(source, tree):
    """The text that a writer gives a tree, whose tensors keep their names."""
    builder = Builder(source, PlainBackend(), {})
    value = builder.build(tree)
    encoder = Encoder({id(storage.raw): name for name, storage in builder.storages.items()})
    return compact(encoder.render(encoder.node(value, ())))


# ---------------------------------------------------------------------------------------------------------------------
# The tree.


def encode(value):
    """(tree, tensors, aliases) of a Python object: what write() takes.

    Knows Python's own types, tensors and arrays of torch and numpy, and the classes of reader.py; every other object
    is written in its reduce form.
    """
    encoder = Encoder()
    tree = compact(encoder.render(encoder.node(value, ())))
    stored = {name: TensorInfo(name, dtype, tuple(shape), 0, 0) for name, dtype, shape, _ in encoder.tensors}
    check_tree(tree, stored)  # refuses what a tree cannot hold, such as a tuple that contains itself
    return tree, encoder.tensors, encoder.aliases


NOT_ATOM = object()


class Node:
    """An object that can be shared: its JSON parts, how often it was reached, and its number once it is written."""

    def __init__(self):
        self.parts, self.uses, self.number = [], 1, None
        self.tensor = None  # the name of the tensor, of a tensor node


class Encoder:
    """Turns objects into nodes in text order, which is the order that names and aliases are given in (N1, A1)."""

    def __init__(self, names=None):
        self.names = names  # id of the bytes of a tensor -> its name, where names are kept and not given by N1 to N6
        self.tensors, self.aliases = [], {}
        self.taken = {"__metadata__"}  # N3
        self.nodes = {}  # id(object) -> Node
        self.stored = {}  # identity of stored bytes -> name
        self.alive = []  # so that no id is used twice
        self.ids = 0
        self.stated = set()  # ids of modules whose state is named (N5)
        self.attributes = set()  # ids of dicts that are the attributes of modules
        self.early = set()  # ids of dicts that N5 walked before their turn in the text
        self.silent = set()  # ids of tuples whose indices are no components (N2, N6)
        self.local = set()  # ids of dicts that are the state of a tensor's subclass (N6)

    # Text: what is reached twice becomes id and ref (T3), numbered in text order.

    def render(self, part):
        if isinstance(part, Node):
            if part.number is not None:
                return ["ref", part.number]
            if part.uses == 1:
                return self.render(part.parts)
            part.number, self.ids = self.ids, self.ids + 1
            return ["id", part.number, self.render(part.parts)]
        if isinstance(part, list):
            return [self.render(item) for item in part]
        if isinstance(part, dict):
            return {key: self.render(item) for key, item in part.items()}
        return part

    # Names.

    def name(self, path):
        """N1, N3: the name of what is at this path, now taken."""
        wanted = ".".join(path) if path else "tensor"
        name, suffix = wanted, 0
        while name in self.taken:
            suffix += 1
            name = f"{wanted}~{suffix}"
        self.taken.add(name)
        return name

    def component(self, key, index):
        """N2."""
        key = key_value(key)
        if isinstance(key, str):
            return re.sub("[\ud800-\udfff]", "\ufffd", key)
        return repr(key) if key is None or type(key) in (bool, int, float) else str(index)

    # Nodes.

    def node(self, value, path):
        atom = self.atom(value, path)
        if atom is not NOT_ATOM:
            return atom
        known = self.nodes.get(id(value))
        if id(value) in self.early:
            self.early.remove(id(value))
            return known
        if known is not None:
            known.uses += 1
            if known.tensor is not None and self.names is None:
                self.aliases[self.name(path)] = known.tensor
            return known
        node = self.nodes[id(value)] = Node()
        self.alive.append(value)
        self.fill(node, value, path)
        return node

    def atom(self, value, path):
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is int:
            return value if abs(value) < 1 << 53 else ["int", ("-" if value < 0 else "") + format(abs(value), "x")]
        if kind is float:
            return value if math.isfinite(value) else ["float", struct.pack(">d", value).hex()]
        if kind is str:
            lone = re.search("[\ud800-\udfff]", value)
            return ["str", value.encode("utf-8", "surrogatepass").hex()] if lone else value
        if kind is bytes:
            if len(value) <= MAX_HEX_BYTES:
                return ["bytes", value.hex()]
            return ["bytes", ["tensor", self.store((id(value),), path, "U8", (len(value),), value)]]
        if kind is tuple and not value:
            return ["tuple"]
        if isinstance(value, Scalar):
            return ["scalar", value.typestr, value.raw.hex()]
        if isinstance(value, Global):
            return ["global", value.module, value.qualname]
        if isinstance(value, type):
            return ["global", value.__module__, value.__qualname__]
        if kind.__module__ == "torch" and kind.__name__ in ("dtype", "layout", "qscheme", "memory_format"):
            return ["global", "torch", str(value).split(".")[-1]]
        if kind.__module__ == "numpy" and hasattr(value, "tobytes") and not hasattr(value, "__array_finalize__"):
            return ["scalar", value.dtype.str, value.tobytes().hex()]
        return NOT_ATOM

    def fill(self, node, value, path):
        kind, parts = type(value), node.parts
        if kind in (list, tuple):
            parts.append(kind.__name__)
            self.fill_items(parts, value, path, silent=id(value) in self.silent)
        elif kind is dict:
            parts.append("dict")
            silent = MODULE_PARTS if id(value) in self.attributes else ()
            silent = (*silent, "_local_tensor") if id(value) in self.local else silent
            self.fill_pairs(parts, value.items(), path, silent)
        elif isinstance(value, Tensor):
            self.fill_tensor(node, value, path, id(value.data.obj))
        elif kind.__module__ == "numpy" and kind.__name__ == "ndarray":
            plain, storage = describe_numpy(value)
            self.fill_tensor(node, plain, path, storage)
        elif is_dense_torch(value):
            plain, storage = describe_torch(value)
            self.fill_tensor(node, plain, path, storage)
        else:
            self.fill_object(parts, value, path)

    def fill_tensor(self, node, plain, path, storage):
        name = self.store_tensor(node, plain, path, storage)
        if isinstance(plain, Array):
            node.parts += ["array", name, plain.typestr]
            return
        node.parts += ["tensor", name]
        if plain.attributes:
            nodes = ("quant", "state")
            order = list(TreeCheck.ATTRIBUTES)  # T5
            attributes = sorted(plain.attributes.items(), key=lambda item: order.index(item[0]))
            node.parts.append({key: self.node(x, path) if key in nodes else x for key, x in attributes})

    def fill_items(self, parts, values, path, first="0", silent=False):
        for i, item in enumerate(values):
            component = str(i) if i else first
            adds_none = silent or id(item) in self.attributes
            parts.append(self.node(item, path if adds_none else (*path, component)))

    def fill_pairs(self, parts, pairs, path, silent=()):
        for i, (key, value) in enumerate(pairs):
            parts.append(self.node(key, (*path, str(i), "key")))
            parts.append(self.node(value, path if key in silent else (*path, self.component(key, i))))

    def fill_object(self, parts, value, path):
        function, args, items, pairs, state = reduce_form(value)
        self.alive.append((function, args, items, pairs, state))
        self.name_state(value, (function, args, state), path)
        arguments = ["tuple"]
        parts += ["object", self.node(function, path), arguments]
        wrapper = wrapper_of(function, args)
        if wrapper is not None:
            self.mark_wrapper(wrapper, args)
        first = "0" if wrapped_module(function, args, state) is None else "_orig_mod"
        self.fill_items(arguments, args, path, first, wrapper is not None)
        has_state = state is not None or getattr(value, "has_state", False)
        if items or pairs or has_state:
            parts += [[], []]
            self.fill_items(parts[3], items, path)
            self.fill_pairs(parts[4], pairs, path)
        if has_state:
            self.mark_state(state)
            parts.append(self.node(state, path))

    def mark_state(self, state):
        """N2: the indices of a tuple of attributes and slots add nothing. What was walked before keeps its names."""
        slots = type(state) is tuple and len(state) == 2 and all(x is None or type(x) is dict for x in state)
        if slots and id(state) not in self.nodes:
            self.silent.add(id(state))

    def mark_wrapper(self, wrapper, args):
        """N6."""
        if len(args) == 4:
            self.mark_state(args[3])
            if type(args[3]) is dict and id(args[3]) not in self.nodes:
                self.local.add(id(args[3]))
        if wrapper == "subclass" and type(args[2]) is tuple and len(args[2]) == 1 and id(args[2]) not in self.nodes:
            self.silent.add(id(args[2]))

    def name_state(self, value, form, path):
        """N5, of what may be a module."""
        inside = wrapped_module(*form)
        if inside is not None and id(value) not in self.stated:
            self.stated.add(id(value))
            self.alive.append(value)
            function, args, _, _, state = reduce_form(inside)
            self.name_state(inside, (function, args, state), (*path, "_orig_mod"))
        attributes = module_attributes(value, *form)
        if attributes is None or id(value) in self.stated:
            return
        self.stated.add(id(value))
        self.attributes.add(id(attributes))
        self.alive.append((value, attributes))
        for part in (attributes["_parameters"], attributes["_buffers"]):
            if id(part) not in self.nodes:
                self.node(part, path)
                self.early.add(id(part))
        for i, (key, child) in enumerate(mapping(attributes["_modules"]).items()):
            if isinstance(child, Object) or hasattr(child, "_modules"):
                function, args, _, _, state = reduce_form(child)
                self.name_state(child, (function, args, state), (*path, self.component(key, i)))

    # Tensors.

    def store_tensor(self, node, plain, path, storage):
        """The name of a tensor: a new one, or that of the same tensor stored before (T3). storage: what it lies in."""
        values = tuple(str(plain.attributes.get(key)) for key in ("stride", "dtype", "shape", "quant"))
        identity = (storage, plain.dtype, plain.shape, values)
        self.alive.append(plain)
        node.tensor = self.store(identity, path, plain.dtype, plain.shape, bytes(plain.data))
        return node.tensor

    def store(self, identity, path, dtype, shape, raw):
        if self.names is not None:
            return self.names[identity[0]]
        name = self.name(path)
        if raw and identity in self.stored:
            self.aliases[name] = self.stored[identity]
            return self.stored[identity]
        self.stored[identity] = name
        self.tensors.append((name, dtype, shape, raw))
        return name


MODULE_PARTS = ("_parameters", "_buffers", "_modules")
SUBCLASS = [
    Global(f"torch.{module}", name)
    for module in ("_tensor", "tensor")
    for name in ("_rebuild_from_type_v2", "_rebuild_from_type")
]
PARAMETER = {
    3: Global("torch._utils", "_rebuild_parameter"),
    4: Global("torch._utils", "_rebuild_parameter_with_state"),
}


# numpy's type of a scalar -> that of struct, where Python has the value.
SCALAR_CODES = {
    "b1": "?", "i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q",
    "f2": "e", "f4": "f", "f8": "d",
}  # fmt: skip


def wrapper_of(function, args):
    """What N6 says of such an object: "subclass", "parameter" or None."""
    if len(args) == 4 and function in SUBCLASS:
        return "subclass"
    return "parameter" if len(args) in PARAMETER and function == PARAMETER[len(args)] else None


def key_value(key):
    """The Python value that a key equals, where its name shows it (N2)."""
    if isinstance(key, Scalar):
        order, kind, code = key.typestr[0], key.typestr[1], SCALAR_CODES.get(key.typestr[1:])
        if kind == "U":
            key = key.raw.decode("utf-32-be" if order == ">" else "utf-32-le", "surrogatepass").rstrip("\0")
        elif kind == "S":
            key = key.raw.rstrip(b"\0")
        elif code is not None:
            key = struct.unpack(order.replace("|", "=") + code, key.raw)[0]
    elif type(key).__module__ == "numpy" and hasattr(key, "item"):
        key = key.item()
    if isinstance(key, bytes) and len(key) <= MAX_HEX_BYTES:
        with contextlib.suppress(UnicodeDecodeError):
            return key.decode()
    return key


def mapping(value):
    """The pairs of a dict or an OrderedDict; None: it is neither."""
    if isinstance(value, dict) and type(value) in (dict, OrderedDict):
        return value
    known = isinstance(value, Object) and isinstance(value.function, Global)
    return dict(value.pairs) if known and value.function == Global("collections", "OrderedDict") else None


def wrapped_module(function, args, state):
    """What torch.compile made a module of (N5); None: it is no such module."""
    compiled = function == Global("torch._dynamo.eval_frame", "OptimizedModule") and state is None
    return args[0] if compiled and args and isinstance(args[0], Object) else None


def module_attributes(value, function, args, state):
    """The dict of a module's attributes; None: it is no module (N5)."""
    if mapping(value) is not None:
        return None
    found = state[0] if type(state) is tuple and len(state) == 2 else state
    if state is None and function == Global("torch.fx.graph_module", "reduce_graph_module"):
        found = args[0] if args else None
    if type(found) is not dict:
        return None
    first = dict(itertools.islice(found.items(), 256))
    return found if all(part in first and mapping(first[part]) is not None for part in MODULE_PARTS) else None


def reduce_form(value):
    """(function, args, items, pairs, state) of an object."""
    if isinstance(value, Object):
        return value.function, value.args, value.items, value.pairs, value.state
    kind = type(value)
    if kind in (set, frozenset):
        return kind, (list(value),), (), (), None
    if kind is complex:
        return kind, (value.real, value.imag), (), (), None
    if kind is bytearray:
        return kind, (bytes(value),), (), (), None
    if kind.__module__ == "torch" and kind.__name__ == "Size":
        return kind, (tuple(value),), (), (), None
    if kind.__module__ == "torch" and kind.__name__ == "device":
        return (kind, (value.type,) if value.index is None else (value.type, value.index), (), (), None)
    if hasattr(value, "__module__") and hasattr(value, "__qualname__"):
        raise TypeError(f"a function cannot be called: {value!r}")
    function, args, state, items, pairs = (*value.__reduce_ex__(2), None, None, None)[:5]
    if function.__name__ == "__newobj__":
        function = Global("copyreg", "__newobj__")
    elif not isinstance(function, type):
        function = Global(function.__module__, function.__qualname__)
    return function, args, list(items or ()), list(pairs or ()), state


# torch's name of a dtype -> how it is stored, where the stored type is another (T6), and the type to view it as.
TORCH_STORED_AS = {"complex128": ("F64", "float64"), "complex32": ("F16", "float16")}


def is_dense_torch(value):
    return hasattr(value, "data_ptr") and str(value.layout) == "torch.strided" and not value.is_quantized


def describe_torch(value):
    """(plain Tensor, where its storage lies) of a dense torch tensor."""
    import torch

    dtype, attributes = str(value.dtype).split(".")[-1], {}
    if value.requires_grad:
        attributes["grad"] = True
    if isinstance(value, torch.nn.Parameter):
        attributes["param"] = True
    if value.device.type != "cpu":
        attributes["device"] = str(value.device)
    if not value.is_contiguous():
        attributes["stride"] = list(value.stride())
    dense, shape = value.detach().resolve_conj().resolve_neg().cpu().contiguous(), list(value.shape)
    if dtype in TORCH_STORED_AS:
        attributes["dtype"] = dtype
        shape.append(2)
    if vars(value):
        attributes["state"] = dict(vars(value))
    raw = dense.reshape(-1).view(torch.uint8).numpy().tobytes() if dense.numel() else b""
    names = {torch_name: name for name, torch_name in TORCH_NAMES.items()}
    stored = TORCH_STORED_AS[dtype][0] if dtype in TORCH_STORED_AS else names[dtype]
    return Tensor(stored, shape, raw, attributes), value.data_ptr()


def describe_numpy(value):
    """(plain Array, where its storage lies) of a numpy array."""
    kind, order = value.dtype.str[1:], value.dtype.str[0]
    stored, shape = ARRAY_DTYPES.get(kind), list(value.shape)
    little = value.astype("<" + kind) if stored and order == ">" else value
    if stored is None:
        shape.append(value.dtype.itemsize)
    elif kind == "c16":
        shape.append(2)
    return (Array(value.dtype.str, stored or "U8", shape, little.tobytes()), value.__array_interface__["data"][0])
