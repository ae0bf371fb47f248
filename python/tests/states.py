"""What the tests of states need: an equality that sees everything, and where fixtures are."""

from __future__ import annotations

import collections
import ctypes
import struct

import support

FIXTURES = support.ROOT / "tests" / "fixtures"


class FolderTest(support.FolderTest):
    """A test with a folder of its own, and paths in it as texts."""

    def path(self, name="state.safetensors"):
        return str(self.folder / name)


def assert_same(test, a, b, place="root", seen=None):
    """Types, values to the bit, order, and which objects are one."""
    import torch

    seen = {} if seen is None else seen
    test.assertIs(type(a), type(b), place)
    if isinstance(a, (dict, list, torch.Tensor)):
        if id(a) in seen:
            test.assertIs(seen[id(a)][1], b, place)
            return
        seen[id(a)] = a, b
    if isinstance(a, torch.Tensor):
        test.assertEqual(
            (a.dtype, a.shape, a.requires_grad, a.device),
            (b.dtype, b.shape, b.requires_grad, b.device),
            place,
        )
        test.assertEqual(tensor_bytes(a), tensor_bytes(b), place)
    elif isinstance(a, dict):
        test.assertEqual(list(map(repr, a)), list(map(repr, b)), place)
        for key in a:
            assert_same(test, a[key], b[key], f"{place}.{key}", seen)
    elif isinstance(a, (list, tuple)):
        test.assertEqual(len(a), len(b), place)
        for index, (x, y) in enumerate(zip(a, b)):
            assert_same(test, x, y, f"{place}.{index}", seen)
    elif isinstance(a, float):
        test.assertEqual(struct.pack("<d", a), struct.pack("<d", b), place)
    else:
        test.assertEqual(repr(a), repr(b), place)
    if isinstance(a, collections.OrderedDict):
        assert_same(test, vars(a), vars(b), f"{place}.__dict__", seen)


def tensor_bytes(tensor):
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    nbytes = plain.numel() * plain.element_size()
    return ctypes.string_at(plain.data_ptr(), nbytes) if nbytes else b""
