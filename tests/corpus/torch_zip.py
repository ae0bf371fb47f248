"""The zip files of torch.save, and a small model in them that most hostile files lie about."""

import assembler as asm
import zip_fields as z

FLOATS = bytes(range(24))
LONGS = bytes(range(100, 124))
MODEL_TENSORS = {"w": ("F32", (2, 3), FLOATS), "b": ("I64", (3,), LONGS)}
FLOAT_TENSOR = {"w": ("F32", (2, 3), FLOATS)}


def model_pickle():
    """{'w': 2 x 3 floats in storage 0, 'b': 3 longs in storage 1}"""
    return asm.pickled({"w": asm.tensor(),
                        "b": asm.tensor(asm.storage("LongStorage", "1", count=3), sizes=(3,), strides=(1,))})


def torch_item(name, data, **more):
    """As torch writes it: an empty record has no descriptor."""
    if not data:
        more = {"flags": 0x0800, "described": False, **more}
    return z.Item(name, data, **more)


def plain_item(name, data, **more):
    """As other writers do: sizes in the local header."""
    return z.Item(name, data, **{"flags": 0, "zeros": False, "described": False, "padded": False, "needed": 20, **more})


def items(pickle=None, storages=None, version=b"3\n", byteorder=b"little", folder=b"model", item=torch_item):
    """The records of a file, in torch's order. None leaves a record out."""
    records = [(b"data.pkl", model_pickle() if pickle is None else pickle), (b"byteorder", byteorder)]
    storages = {"0": FLOATS, "1": LONGS} if storages is None else storages
    records += [(b"data/" + key.encode(), data) for key, data in storages.items()]
    records += [(b"version", version)]
    return [item(folder + b"/" + name, data) for name, data in records if data is not None]


def torch_zip(pickle=None, storages=None, ending=None, **more):
    return z.build(items(pickle, storages, **more), ending)


def of_pickle(value, storages=None, protocol=2, **more):
    """A file of one value, by default with the 24 bytes of storage 0."""
    return torch_zip(asm.pickled(value, protocol), {"0": FLOATS} if storages is None else storages, **more)
