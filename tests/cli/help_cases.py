"""The command line itself: help, version, wrong usage."""

import re

from tool import OK, ROOT, USAGE, ToolTest


class HelpTest(ToolTest):
    def test_help_names_the_commands_and_every_exit_code(self):
        text = self.run_tool("--help").stdout
        for command in ("ls", "verify", "scan", "cat", "convert", "load", "bench"):
            self.assertRegex(text, rf"(?m)^  {command} ")
        for code in ("0", "1", "2", "3", "4", "5", "6", "7", "130"):
            self.assertRegex(text, rf"(?m)^  {code} ")

    def test_each_command_explains_itself_and_its_exit_codes(self):
        for command in ("ls", "verify", "scan", "cat", "convert", "load", "bench"):
            text = self.run_tool(command, "--help").stdout
            self.assertIn("Exit codes:", text, command)

    def test_version_is_the_librarys(self):
        header = (ROOT / "include/flatbed/version.hpp").read_text()
        version = ".".join(re.findall(r"define FLATBED_VERSION_\w+ (\d+)", header))
        self.assertEqual(self.run_tool("--version").stdout, f"flatbed {version}\n")

    def test_wrong_command_lines_exit_with_2(self):
        for arguments in (
            [],
            ["fly"],
            ["ls"],
            ["ls", "a", "--json", "--tree"],
            ["ls", "a", "--all"],
            ["verify"],
            ["scan"],
            ["cat", "a"],
            ["convert"],
            ["load"],
            ["bench"],
            ["convert", "a.pth", "--jobs", "0"],
        ):
            result = self.run_tool(*arguments, expect=USAGE)
            self.assert_error(result, "invalid_argument", "--help")
            self.assertEqual(result.stdout, "", arguments)

    def test_options_that_contradict_each_other(self):
        for other in (["--no-seal"], ["--select", "x"], ["--include", "*"], ["--out-dir", "d"], ["--expand-aliases"]):
            result = self.run_tool("convert", "a.safetensors", "--sidecar", *other, expect=USAGE)
            self.assert_error(result, "invalid_argument", "--sidecar")

    def test_names_that_begin_with_a_dash_follow_two_dashes(self):
        self.assert_error(self.run_tool("ls", "--", "-x", expect=1), "file_not_found", "-x")
