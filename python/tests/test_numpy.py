"""flatbed.numpy."""

import unittest

import flatbed
from states import FIXTURES, FolderTest
from support import expanded_pth

try:
    import numpy
except ImportError:
    numpy = None
else:
    from flatbed.numpy import load_file, save_file


@unittest.skipIf(numpy is None, "numpy is not installed")
class NumpyTest(FolderTest):
    def arrays(self):
        kinds = (
            "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 "
            "complex64"
        )
        made = {kind: numpy.arange(6).reshape(2, 3).astype(kind) for kind in kinds.split()}
        made["scalar"] = numpy.array(3.5)
        made["empty"] = numpy.zeros((0, 2), "f4")
        made["transposed"] = numpy.arange(6.0).reshape(2, 3).T
        made["big"] = numpy.arange(3, dtype=">i4")
        made["reversed"] = numpy.arange(5)[::-1]
        return made

    def check(self, a, b):
        self.assertEqual(set(a), set(b))
        for name in a:
            self.assertEqual(
                (a[name].dtype.newbyteorder("="), a[name].shape),
                (b[name].dtype.newbyteorder("="), b[name].shape),
                name,
            )
            self.assertTrue((a[name] == b[name]).all(), name)

    def test_arrays_come_back(self):
        save_file(self.arrays(), self.path(), {"note": "x"})
        ckpt = flatbed.open(self.path())
        self.assertEqual(
            (ckpt.seal, ckpt.metadata["format"], ckpt.metadata["note"]), ("sealed", "np", "x")
        )
        for mmap in (False, True):
            found = load_file(self.path(), mmap=mmap)
            self.check(self.arrays(), found)
            found["float32"][:] = 7
            self.check(self.arrays(), load_file(self.path()))

    def test_aliases_are_the_same_array(self):
        found = load_file(FIXTURES / "torch2" / "tied.pth")
        self.assertIs(found["embed.weight"], found["head.weight"])

    def test_dtypes_without_an_array_are_named(self):
        try:
            import ml_dtypes  # noqa: F401
        except ImportError:
            with self.assertRaisesRegex(flatbed.FormatError, "BF16|F8"):
                load_file(FIXTURES / "torch2" / "dtypes.pth")

    def test_what_cannot_be_saved_is_named(self):
        for bad in (
            numpy.array(["text"]),
            numpy.zeros(2, "c16"),
            numpy.array([object()]),
            numpy.zeros(2, [("a", "i4")]),
            numpy.zeros(2, "M8[s]"),
        ):
            with self.assertRaisesRegex(TypeError, "'bad'"):
                save_file({"bad": bad}, self.path())
        with self.assertRaisesRegex(TypeError, "str"):
            save_file({3: numpy.zeros(2)}, self.path())

    def test_a_path_with_a_nul_is_refused(self):
        with self.assertRaisesRegex(ValueError, "null byte"):
            save_file({"a": numpy.zeros(2)}, "a\0b")

    def test_far_more_than_the_file_has_is_loaded_where_it_is_allowed(self):
        with self.assertRaises(flatbed.Error) as raised:
            load_file(expanded_pth(1 << 44))
        self.assertEqual(raised.exception.name, "expansion_refused")
        found = load_file(expanded_pth(3), allow_expansion=True)
        self.assertEqual(found["w"].tolist(), [1.5] * 3)

    def test_overwrite_false(self):
        save_file({"a": numpy.zeros(2)}, self.path())
        with self.assertRaises(flatbed.FileError):
            save_file({"a": numpy.zeros(2)}, self.path(), overwrite=False)


if __name__ == "__main__":
    unittest.main()
