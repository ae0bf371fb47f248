"""flatbed cat: the bytes of one tensor."""


import inputs
import writer
from tool import FAILURE, OK, TIME_LIMIT, ToolTest

CHUNK = inputs.CHUNK


class CatTest(ToolTest):
    def test_writes_exactly_the_bytes(self):
        raw = bytes(range(256)) * 4096 * 5 + b"tail"
        inputs.write_safetensors(self.path("a.safetensors"), {"x": ("U8", [1], b"!"), "w": ("U8", [len(raw)], raw)})
        self.assertEqual(self.run_raw("cat", "a.safetensors", "w").stdout, raw)
        self.assertEqual(self.run_raw("cat", "a.safetensors", "x").stdout, b"!")

    def test_an_empty_tensor_is_no_bytes(self):
        inputs.write_safetensors(self.path("a.safetensors"), {"e": ("F32", [0], b"")})
        self.assertEqual(self.run_raw("cat", "a.safetensors", "e").stdout, b"")

    def test_a_strided_tensor_of_a_pytorch_file_comes_contiguous(self):
        transposed = inputs.Tensor([3, 2], [1, 2, 3, 4, 5, 6], stride=(1, 3))
        inputs.write_torch(self.path("a.pth"), {"t": transposed})
        self.assertEqual(self.run_raw("cat", "a.pth", "t").stdout, inputs.floats(1, 4, 2, 5, 3, 6))

    def test_an_alias_is_a_name(self):
        writer.write(self.path("s.safetensors"), [("w", "U8", [3], b"abc")], aliases={"head": "w"})
        self.assertEqual(self.run_raw("cat", "s.safetensors", "head").stdout, b"abc")

    def test_an_unknown_name_is_an_error(self):
        inputs.write_safetensors(self.path("a.safetensors"), {"weight": ("U8", [1], b"!")})
        result = self.run_tool("cat", "a.safetensors", "weigth", expect=FAILURE)
        self.assert_error(result, "tensor_not_found", "weigth")
        self.assertEqual(result.stdout, "")

    def damaged(self):
        raw = bytes(CHUNK + 3)
        writer.write(self.path("s.safetensors"), [("w", "U8", [len(raw)], raw)])
        content = bytearray(self.path("s.safetensors").read_bytes())
        content[-1] ^= 1
        self.path("s.safetensors").write_bytes(content)
        return bytes(content[-len(raw) :])

    def test_damaged_bytes_are_not_written_unless_asked_for(self):
        raw = self.damaged()
        result = self.run_tool("cat", "s.safetensors", "w", expect=FAILURE)
        self.assert_error(result, "chunk_corrupt", "'w'", str(CHUNK))
        self.assertEqual(result.stdout, "")
        self.assertEqual(self.run_raw("cat", "s.safetensors", "w", "--no-verify").stdout, raw)

    def test_refuses_a_terminal_unless_forced(self):
        inputs.write_safetensors(self.path("a.safetensors"), {"w": ("U8", [3], b"abc")})
        result = self.run_on_terminal("cat", "a.safetensors", "w", stream="stdout", expect=FAILURE)
        self.assertEqual(result.stdout, "")
        self.assert_error(result, "invalid_argument", "terminal", "--force")
        result = self.run_on_terminal("cat", "a.safetensors", "w", "--force", stream="stdout")
        self.assertEqual(result.stdout, "abc")

    def test_a_full_disk_is_an_error(self):
        inputs.write_safetensors(self.path("a.safetensors"), {"w": ("U8", [1 << 20], bytes(1 << 20))})
        with open("/dev/full", "w") as full:
            result = self.run_tool("cat", "a.safetensors", "w", expect=FAILURE, stdout=full)
        self.assert_error(result, "no_space", "standard output")

    def test_a_reader_that_leaves_stops_it_quietly(self):
        inputs.write_sparse_safetensors(self.path("a.safetensors"), 1 << 40)
        process = self.start("cat", "a.safetensors", "big")
        self.assertEqual(process.stdout.read(4), bytes(4))
        process.stdout.close()
        self.assertEqual(process.wait(timeout=TIME_LIMIT), OK)
        self.assertEqual(process.stderr.read(), b"")
        process.stderr.close()
