"""What depends on a terminal: the width of lines, and whether progress is drawn."""

import fcntl
import os
import struct
import termios
import time

import inputs
from tool import OK, TIME_LIMIT, ToolTest


class TerminalTest(ToolTest):
    def drawn(self, columns, *arguments, stream="stdout", terminal="xterm"):
        """What the tool prints on a terminal of this width."""
        primary, secondary = os.openpty()
        fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("4H", 24, columns, 0, 0))
        environment = {**os.environ, "TERM": terminal}
        process = self.start(*arguments, **{stream: secondary}, env=environment)
        os.close(secondary)
        text = b""
        with open(primary, "rb", buffering=0) as screen:
            try:
                while part := screen.read(65536):
                    text += part
            except OSError:
                pass  # the last writer has closed
        process.communicate(timeout=TIME_LIMIT)
        self.assertEqual(process.returncode, OK)
        return text.decode().replace("\r\n", "\n")

    def test_names_are_cut_in_their_middle_on_a_terminal_only(self):
        name = "model." + "x" * 100 + ".weight"
        inputs.write_safetensors(self.path("n.safetensors"), {name: ("U8", [1], b"x")})
        self.assertIn(f"  {name}  U8 ", self.run_tool("ls", "n.safetensors").stdout)
        row = self.drawn(80, "ls", "n.safetensors").splitlines()[4]
        self.assertLessEqual(len(row), 80)
        self.assertRegex(row, r"^  model\.x+…x+\.weight  U8 ")

    def test_only_the_width_depends_on_the_terminal(self):
        inputs.write_safetensors(self.path("n.safetensors"), {"w": ("U8", [1], b"x")})
        self.assertEqual(self.drawn(80, "ls", "n.safetensors"), self.run_tool("ls", "n.safetensors").stdout)

    def test_wide_and_combining_characters_are_aligned(self):
        tensors = {name: ("U8", [1], b"x") for name in ("重み", "e\u0301a", "abcd")}
        inputs.write_safetensors(self.path("w.safetensors"), tensors)
        rows = self.run_tool("ls", "w.safetensors").stdout.splitlines()[4:7]
        self.assertEqual(rows[0][: 2 + 2 + 2], "  重み  ")
        self.assertEqual(rows[1][: 2 + 3 + 4], "  e\u0301a    ")
        self.assertEqual(rows[2][: 2 + 4 + 2], "  abcd  ")

    def loaded(self, nbytes, columns=80, terminal="xterm"):
        """The progress that load draws for a file of this size."""
        inputs.write_sparse_safetensors(self.path("big.safetensors"), nbytes)
        return self.drawn(columns, "load", "big.safetensors", stream="stderr", terminal=terminal)

    def test_progress_fits_on_one_line_of_any_width(self):
        whole = self.loaded(64 << 20)
        self.assertRegex(whole, r"loading \d[^,]* of 64\.0 MiB, [^,]*/s, \d+:\d\d left")
        for columns in (60, 40, 20, 8, 1):
            for line in self.loaded(64 << 20, columns).split("\r\x1b[K"):
                self.assertLess(len(line), columns)

    def test_progress_is_not_drawn_for_small_work(self):
        """Which it is after a second, and the machine may be as slow."""
        began = time.monotonic()
        drawn = self.loaded(1 << 20)
        if time.monotonic() - began < 1:
            self.assertEqual(drawn, "")

    def test_progress_is_not_drawn_where_lines_cannot_be_erased(self):
        self.assertEqual(self.loaded(64 << 20, terminal="dumb"), "")
        self.assertEqual(self.loaded(64 << 20, terminal=""), "")
