"""Deflate streams bit by bit (RFC 1951), for those that no compressor writes."""

# Code lengths of the code lengths stand in this order.
ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


class Bits:
    """Bits in the order of the stream: numbers least significant bit first, codes most significant bit first."""

    def __init__(self):
        self.bits = []

    def number(self, value, width):
        self.bits += [value >> i & 1 for i in range(width)]
        return self

    def code(self, value, width):
        self.bits += [value >> i & 1 for i in reversed(range(width))]
        return self

    def to_byte(self):
        self.bits += [0] * (-len(self.bits) % 8)
        return self

    def bytes(self, data):
        self.to_byte()
        for byte in data:
            self.number(byte, 8)
        return self

    def data(self):
        bits = self.bits + [0] * (-len(self.bits) % 8)
        return bytes(sum(bit << i for i, bit in enumerate(bits[at:at + 8])) for at in range(0, len(bits), 8))


def stored(data, last=True, length=None, inverse=None):
    """Stored blocks; the lengths of the (last) one may lie."""
    out = Bits()
    for at in range(0, max(len(data), 1), 0xFFFF):
        part = data[at:at + 0xFFFF]
        end = at + 0xFFFF >= len(data)
        n = len(part) if length is None or not end else length
        out.number(1 if last and end else 0, 1).number(0, 2)
        out.bytes(n.to_bytes(2, "little") + ((n ^ 0xFFFF) if inverse is None or not end else inverse).to_bytes(
            2, "little") + part)
    return out.data()


def literal(out, byte):
    """In the fixed code."""
    return out.code(0x30 + byte, 8) if byte < 144 else out.code(0x190 + byte - 144, 9)


def fixed(data, end=True, match=None):
    """One block of the fixed code: literals, perhaps a match of length 3 at a (distance code, extra bits, value)."""
    out = Bits().number(1, 1).number(1, 2)
    for byte in data:
        literal(out, byte)
    if match is not None:
        distance, width, extra = match
        out.code(1, 7).code(distance, 5).number(extra, width)
    if end:
        out.code(0, 7)
    return out.data()


def dynamic(lengths, hlit=0, hdist=0, rest=()):
    """The head of a dynamic block: {symbol of the code length code: its length}, and (value, width) after it."""
    out = Bits().number(1, 1).number(2, 2).number(hlit, 5).number(hdist, 5).number(len(ORDER) - 4, 4)
    for symbol in ORDER:
        out.number(lengths.get(symbol, 0), 3)
    for value, width in rest:
        out.number(value, width)
    return out.data()
