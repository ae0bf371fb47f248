"""flatbed.open() and flatbed.Checkpoint."""

import pathlib
import unittest

import flatbed

FIXTURES = pathlib.Path(__file__).resolve().parents[2] / "tests" / "fixtures"


class OpenTest(unittest.TestCase):
    def test_a_checkpoint_is_a_mapping_of_names(self):
        ckpt = flatbed.open(FIXTURES / "torch2" / "checkpoint.pth")
        self.assertEqual(len(ckpt), len(list(ckpt)))


if __name__ == "__main__":
    unittest.main()
