"""torch's legacy streams (0.1.10 to 1.5): pickles one after the other, then the storages. Each part can lie."""

import assembler as asm

MAGIC = 0x1950A86A20F9469CFC6C
MACHINE = {"protocol_version": 1001, "little_endian": True,
           "type_sizes": {"short": 2, "int": 4, "long": 4}}


def storage(kind="FloatStorage", key="0", count=6, view=None, location="cpu", **more):
    """The persistent id of a legacy stream: it has a sixth item, the view."""
    return asm.storage(kind, key, location, count, more=(view,), **more)


def contents(count, data):
    return count.to_bytes(8, "little", signed=count < 0) + data


def stream(pickle, keys=("0",), stored=None, magic=None, protocol=1001, machine=None, end=b""):
    """A whole file. `pickle`, `magic`, `protocol`, `machine` and `keys` are values, or whole pickles as bytes.
    `stored`: what stands behind them, by default six floats."""
    parts = [MAGIC if magic is None else magic, protocol, MACHINE if machine is None else machine, pickle,
             list(keys) if isinstance(keys, tuple) else keys]
    head = b"".join(part if isinstance(part, bytes) else asm.pickled(part) for part in parts)
    return head + (contents(6, bytes(range(24))) if stored is None else stored) + end
