"""The command line itself: help, version, wrong usage."""

import re

from tool import OK, ROOT, USAGE, ToolTest

COMMANDS = (
    "ls", "verify", "diff", "scan", "cat", "convert", "match", "map", "series", "load", "bench", "completion",
)  # fmt: skip


class HelpTest(ToolTest):
    def test_help_names_the_commands_and_every_exit_code(self):
        text = self.run_tool("--help").stdout
        for command in COMMANDS:
            self.assertRegex(text, rf"(?m)^  {command} ")
        for code in ("0", "1", "2", "3", "4", "5", "6", "7", "8", "130"):
            self.assertRegex(text, rf"(?m)^  {code} ")

    def test_each_command_explains_itself_and_its_exit_codes(self):
        for command in COMMANDS:
            text = self.run_tool(command, "--help").stdout
            self.assertIn("Exit codes:", text, command)

    def test_the_layout_of_help_is_the_tools_own(self):
        self.assertEqual(
            self.run_tool("cat", "--help").stdout,
            """\
Write the bytes of one tensor, contiguous and little-endian, to standard output
Usage: flatbed cat [OPTIONS] FILE NAME

Positionals:
  FILE                      A checkpoint, as for ls
  NAME                      The tensor's name, or an alias

Options:
  -h, --help                Print this help and exit
  --select PATH             Look for NAME below this dotted path, as ls does
  --no-verify               Do not check the bytes against the seal
  --ignore-seal             Read the file as if it were not sealed, if it was changed after sealing
  -f, --force               Write to a terminal too
  --cache DIR               Keep what is read of URLs in this folder, which processes may share
  --cache-size SIZE         The most that --cache keeps, such as 500MB (default 20.0 GiB)
  --ca-file FILE            Certificates (PEM) to trust besides the system's, for https:// URLs

Bytes are checked before they are written; those of a bad chunk are never written.

Exit codes: 0 done, 1 failed, 2 the command line is wrong.
""",
        )

    def test_help_states_ranges_and_defaults_and_where_several_files_may_stand(self):
        text = self.run_tool("convert", "--help").stdout
        self.assertIn("\nUsage: flatbed convert [OPTIONS] [IN...]\n", text)
        self.assertIn("\n  -j, --jobs N              Files that are converted at the same time (1 to 64, default", text)

    def test_help_of_the_tool_lists_its_options_and_commands(self):
        text = self.run_tool("--help").stdout
        begin = """\
flatbed: model checkpoints as safetensors files that can be checked
Usage: flatbed [OPTIONS] SUBCOMMAND

Options:
  -h, --help                Print this help and exit
  --version                 Print the version and exit

Subcommands:
  ls                        List the tensors of checkpoints: names, dtypes, shapes, sizes, and their
                            seals
"""
        self.assertEqual(text[: len(begin)], begin)

    def test_no_line_of_help_is_longer_than_100_columns(self):
        for command in ("", *COMMANDS):
            for line in self.run_tool(*command.split(), "--help").stdout.splitlines():
                self.assertLessEqual(len(line), 100, line)

    def test_no_line_of_help_ends_or_begins_within_a_word(self):
        words = set((ROOT / "tools/read_command_line.cpp").read_text().replace('"\n      "', "").split())
        for line in self.run_tool("ls", "--help").stdout.split("Exit codes:", 1)[1].splitlines():
            for word in line.split()[:1] + line.split()[-1:]:
                self.assertTrue(any(word in known for known in words), word)

    def test_short_options_are_those_that_people_expect(self):
        for command, options in {
            "convert": ("-f, --force", "-j, --jobs", "-n, --dry-run", "-q, --quiet"),
            "verify": ("-j, --threads", "-q, --quiet"),
            "scan": ("-q, --quiet",),
            "load": ("-j, --threads", "-q, --quiet"),
            "bench": ("-q, --quiet",),
        }.items():
            text = self.run_tool(command, "--help").stdout
            for option in options:
                self.assertIn(f"\n  {option}", text)

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
            ["match", "a"],
            ["map", "a"],
            ["series"],
            ["bench"],
            ["convert", "a.pth", "--jobs", "0"],
            ["convert", "a.pth", "-j", "65"],
        ):
            result = self.run_tool(*arguments, expect=USAGE)
            self.assert_error(result, "invalid_argument", "--help")
            if "--json" not in arguments:
                self.assertEqual(result.stdout, "", arguments)

    def test_mistyped_commands_and_options_are_suggested(self):
        for arguments, words in (
            (["conver", "a.pth"], "unknown command 'conver'; did you mean convert?"),
            (["verfiy"], "unknown command 'verfiy'; did you mean verify?"),
            (["fly"], "unknown command 'fly'; --help"),
            (["convert", "a.pth", "--forc"], "unknown option '--forc'; did you mean --force?"),
            (["convert", "a.pth", "--outdir=x"], "unknown option '--outdir'; did you mean --out-dir?"),
            (["ls", "a.pth", "--zzzzzzzz"], "unknown option '--zzzzzzzz'; --help"),
        ):
            self.assert_error(self.run_tool(*arguments, expect=USAGE), "invalid_argument", words)

    def test_a_mistyped_command_is_suggested_after_an_option_too(self):
        result = self.run_tool("--json", "conver", expect=USAGE)
        self.assert_error(result, "invalid_argument", "did you mean convert?")

    def test_names_after_two_dashes_are_shown_as_they_are(self):
        result = self.run_tool("cat", "a.safetensors", "w", "--", "-extra", expect=USAGE)
        self.assert_error(result, "invalid_argument", "-extra")
        self.assertNotIn("\\", result.stderr)
        self.assertNotIn("\x1f", result.stderr)

    def test_options_that_contradict_each_other(self):
        for other in (["--no-seal"], ["--select", "x"], ["--include", "*"], ["--out-dir", "d"], ["--expand-aliases"]):
            result = self.run_tool("convert", "a.safetensors", "--sidecar", *other, expect=USAGE)
            self.assert_error(result, "invalid_argument", "--sidecar")

    def test_names_that_begin_with_a_dash_follow_two_dashes(self):
        self.assert_error(self.run_tool("ls", "--", "-x", expect=1), "file_not_found", "-x")
        for command in (["verify"], ["scan"], ["convert", "--out-dir", "d"]):
            result = self.run_tool(*command, "x.pth", "--", "--quiet", "y.pth", expect=None)
            self.assertIn("--quiet", result.stderr, command)
            self.assertNotIn("invalid_argument", result.stderr, command)
