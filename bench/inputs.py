#!/usr/bin/env python3
"""Makes the files that compare.py measures with; also useful for bench_open. Python's standard
library only.

Usage: inputs.py DIR [NAME...]        all of them, or those named; files that exist are kept

The .pth files lie as torch.save lays them out: stored zip entries, their bytes at multiples of 64.
compare.py has torch write them where there is one.
"""

import array
import json
import os
import pickle
import random
import struct
import sys
import zipfile

BLOCK = os.urandom(1 << 20)
WANTED = "wanted.weight"      # the tensor that is read out of the sparse files
WANTED_SHAPE = (512, 512)
ITEM_NBYTES = {"F32": 4, "BF16": 2}


class Tensor:
    """A float32 tensor of a .pth file; `transposed` is a view of a storage in column order."""

    def __init__(self, name, shape, transposed=False):
        self.name = name
        self.shape = shape
        self.transposed = transposed

    def count(self):
        count = 1
        for dimension in self.shape:
            count *= dimension
        return count

    def strides(self):
        if self.transposed:
            return (1, self.shape[0])
        strides = []
        step = 1
        for dimension in reversed(self.shape):
            strides.append(step)
            step *= dimension
        return tuple(reversed(strides))


def model_tensors():
    """1.1 GiB: 24 transformer layers of width 1024, 289 tensors."""
    width = 1024
    yield Tensor("wte.weight", (1000, width))
    for layer in range(24):
        for name, rows, columns in (("attn.c_attn", 3 * width, width), ("attn.c_proj", width, width),
                                    ("mlp.c_fc", 4 * width, width), ("mlp.c_proj", width, 4 * width)):
            yield Tensor(f"h.{layer}.{name}.weight", (rows, columns))
            yield Tensor(f"h.{layer}.{name}.bias", (rows,))
        for name in ("ln_1", "ln_2"):
            yield Tensor(f"h.{layer}.{name}.weight", (width,))
            yield Tensor(f"h.{layer}.{name}.bias", (width,))


def transposed_tensors():
    """One view of 1 GiB."""
    yield Tensor("weight", (16384, 16384), transposed=True)


def many_tensors(count=20000):
    """Small ones."""
    for i in range(count):
        yield Tensor(f"model.layers.{i // 100}.experts.{i % 100}.weight", (16,))


# ---- .safetensors ------------------------------------------------------------------------------

def write_header(path, entries, dtype="F32", block=None):
    """A .safetensors file as the reference writes it, its data a hole or repetitions of `block`: `entries`
    are (name, shape) of tensors of one dtype."""
    header = {}
    end = 0
    for name, shape in entries:
        begin = end
        count = 1
        for dimension in shape:
            count *= dimension
        end += ITEM_NBYTES[dtype] * count
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        if block is not None:
            file.writelines(repeated(block, end))
        file.truncate(8 + len(text) + end)


def write_model(path):
    """The model of model.pth."""
    write_header(path, ((tensor.name, tensor.shape) for tensor in model_tensors()), block=BLOCK)


def write_weights(path, seed):
    """A model of the same shapes, with values as weights have them."""
    values = random.Random(seed)
    block = array.array("f", (values.gauss(0, 0.02) for _ in range(len(BLOCK) // 4))).tobytes()
    write_header(path, ((tensor.name, tensor.shape) for tensor in model_tensors()), block=block)


def write_large_header(path):
    """100,000 tensors, 11.5 MB of header."""
    write_header(path, ((f"transformer.layers.{i // 1000:03}.experts.{i % 1000:03}.weight.qscales", (4, 4))
                        for i in range(100000)))


def write_llama(path):
    """0.5 GB with the shapes of a Llama of 1 billion parameters: the embedding and four layers."""
    width, inner, keys = 2048, 5632, 256
    entries = [("model.embed_tokens.weight", (32000, width)), ("model.norm.weight", (width,))]
    for layer in range(4):
        for name, shape in (("self_attn.q_proj", (width, width)), ("self_attn.k_proj", (keys, width)),
                            ("self_attn.v_proj", (keys, width)), ("self_attn.o_proj", (width, width)),
                            ("mlp.gate_proj", (inner, width)), ("mlp.up_proj", (inner, width)),
                            ("mlp.down_proj", (width, inner)), ("input_layernorm", (width,)),
                            ("post_attention_layernorm", (width,))):
            entries.append((f"model.layers.{layer}.{name}.weight", shape))
    write_header(path, entries, "BF16")


def write_wide(path):
    """0.5 GB: what is cut by columns of a layer of a Llama of 70 billion parameters in F32, a quarter of its rows."""
    write_header(path, [("model.layers.0.self_attn.o_proj.weight", (8192, 8192)),
                        ("model.layers.0.mlp.down_proj.weight", (2048, 28672))])


def write_experts(path):
    """0.6 GB: one layer of 64 experts of 768 x 2048."""
    write_header(path, [(f"model.layers.0.mlp.experts.{expert}.{name}.weight", shape) for expert in range(64)
                        for name, shape in (("gate_proj", (768, 2048)), ("up_proj", (768, 2048)),
                                            ("down_proj", (2048, 768)))], "BF16")


def write_sparse(path, gib_or_mib):
    """100 tensors; the last is 1 MiB in both files, the others make up the size."""
    wanted = 4 * WANTED_SHAPE[0] * WANTED_SHAPE[1]
    filler = (100 * gib_or_mib - wanted) // 99 // 4
    write_header(path, [(f"filler.{i}", (filler,)) for i in range(99)] + [(WANTED, WANTED_SHAPE)])


class Hole:
    """So many zero bytes, for the functions of spec/writer.py that ask for a length alone."""

    def __init__(self, nbytes):
        self.nbytes = nbytes

    def __len__(self):
        return self.nbytes


def write_sealed_sparse(path):
    """100 tensors of 1 GiB, all zeros and a hole, sealed: 6.6 MB of header."""
    sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "spec"))
    import reader  # noqa: PLC0415
    import writer  # noqa: PLC0415
    nbytes = 1 << 30
    tensors = [(f"layer.{i:02}.weight", "F32", [nbytes // 4], Hole(nbytes)) for i in range(100)]
    chunks = len(tensors) * (nbytes // writer.CHUNK)
    strings = {"format": "pt", "flatbed.digests": reader.digest(bytes(writer.CHUNK)) * chunks}
    shapes = {name: (dtype, shape) for name, dtype, shape, _ in tensors}
    content = reader.digest(reader.content_input(shapes, strings))
    head = writer.seal_header(writer.pad_header({**strings, "flatbed": writer.ZERO_SEAL[:19] + content}, tensors))
    with open(path, "wb") as file:
        file.write(head)
        file.truncate(len(head) + len(tensors) * nbytes)


def write_shards(folder, count, tensors):
    """A set of `count` shards with `tensors` small tensors each, as the Hub's library names them."""
    os.makedirs(folder)
    weight_map = {}
    for shard in range(count):
        file = f"model-{shard + 1:05}-of-{count:05}.safetensors"
        names = [f"model.layers.{shard:03}.experts.{i:03}.weight.qscales" for i in range(tensors)]
        write_header(os.path.join(folder, file), ((name, (4, 4)) for name in names))
        weight_map.update((name, file) for name in names)
    metadata = {"total_size": 64 * count * tensors}
    with open(os.path.join(folder, "model.safetensors.index.json"), "w", encoding="utf-8") as file:
        json.dump({"metadata": metadata, "weight_map": weight_map}, file, indent=2)


# ---- .pth --------------------------------------------------------------------------------------

def pickle_text(text):
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def pickle_integers(numbers):
    return b"(" + b"".join(b"J" + struct.pack("<i", number) for number in numbers) + b"t"


def pickle_tensor(tensor, key, legacy=False):
    """The call of torch._utils._rebuild_tensor_v2 that torch.save records, without its memo."""
    storage = (b"(" + pickle_text("storage") + b"ctorch\nFloatStorage\n" + pickle_text(str(key))
               + pickle_text("cpu") + b"J" + struct.pack("<i", tensor.count()) + b"N" * legacy + b"tQ")
    return (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + pickle_integers(tensor.shape)
            + pickle_integers(tensor.strides()) + b"\x89ccollections\nOrderedDict\n)RtR")


def write_entry(archive, name, chunks, nbytes):
    """A stored entry whose bytes begin at a multiple of 64: the gap is an extra field of the local
    header, `FB`, as torch fills it."""
    info = zipfile.ZipInfo("archive/" + name)
    info.file_size = nbytes
    begin = archive.fp.tell() + 30 + len(info.filename) + 4
    gap = -begin % 64
    info.extra = b"FB" + struct.pack("<H", gap) + b"Z" * gap
    with archive.open(info, "w") as entry:
        for chunk in chunks:
            entry.write(chunk)


def repeated(block, nbytes):
    while nbytes > 0:
        yield block[:nbytes]
        nbytes -= len(block)


def write_pth(path, tensors):
    tensors = list(tensors)
    data = [b"\x80\x02}("]
    for key, tensor in enumerate(tensors):
        data.append(pickle_text(tensor.name) + pickle_tensor(tensor, key))
    data.append(b"u.")
    with zipfile.ZipFile(path, "w") as archive:
        write_entry(archive, "data.pkl", data, sum(map(len, data)))
        write_entry(archive, "byteorder", [b"little"], 6)
        for key, tensor in enumerate(tensors):
            write_entry(archive, f"data/{key}", repeated(BLOCK, 4 * tensor.count()), 4 * tensor.count())
        write_entry(archive, "version", [b"3\n"], 2)


def write_legacy(path, tensors):
    """The format of torch.save before 1.6: four pickles, the keys, then each storage after its length."""
    tensors = list(tensors)
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with open(path, "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, machine):
            file.write(pickle.dumps(value, 2))
        file.write(b"\x80\x02}(")
        for key, tensor in enumerate(tensors):
            file.write(pickle_text(tensor.name) + pickle_tensor(tensor, key, legacy=True))
        file.write(b"u." + pickle.dumps([str(key) for key in range(len(tensors))], 2))
        for tensor in tensors:
            file.write(struct.pack("<q", tensor.count()))
            file.writelines(repeated(BLOCK, 4 * tensor.count()))


# ---- all ---------------------------------------------------------------------------------------

PTH_INPUTS = {
    "many.pth": many_tensors,
    "model.pth": model_tensors,
    "transposed.pth": transposed_tensors,
}
# These are always written here: torch takes minutes for a million tensors.
LARGE_PTH_INPUTS = {
    "many_20000.pth": lambda: many_tensors(20_000),
    "many_1000000.pth": lambda: many_tensors(1_000_000),
}
INPUTS = {
    "large_header.safetensors": write_large_header,
    "llama.safetensors": write_llama,
    "wide.safetensors": write_wide,
    "experts.safetensors": write_experts,
    "model.safetensors": write_model,
    "legacy.pth": lambda path: write_legacy(path, model_tensors()),
    "weights_a.safetensors": lambda path: write_weights(path, 1),
    "weights_b.safetensors": lambda path: write_weights(path, 2),
    "sealed_100_gib_a.safetensors": write_sealed_sparse,
    "sealed_100_gib_b.safetensors": write_sealed_sparse,
    "shards_100_1000": lambda path: write_shards(path, 100, 1000),
    "shards_1000_500": lambda path: write_shards(path, 1000, 500),
    "sparse_100_gib.safetensors": lambda path: write_sparse(path, 1 << 30),
    "sparse_100_mib.safetensors": lambda path: write_sparse(path, 1 << 20),
    **{name: lambda path, tensors=tensors: write_pth(path, tensors())
       for name, tensors in {**PTH_INPUTS, **LARGE_PTH_INPUTS}.items()},
}


def make(folder, names, write):
    """Calls write(name, path) for each file that is not there; none is left half written."""
    os.makedirs(folder, exist_ok=True)
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            write(name, path + ".part")
            os.replace(path + ".part", path)


def main():
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):  # --help is no folder for gigabytes
        sys.exit(__doc__)
    unknown = [name for name in sys.argv[2:] if name not in INPUTS]
    if unknown:
        sys.exit(f"inputs.py: {', '.join(unknown)}: the names are {', '.join(INPUTS)}")
    make(sys.argv[1], sys.argv[2:] or INPUTS, lambda name, path: INPUTS[name](path))


if __name__ == "__main__":
    main()
