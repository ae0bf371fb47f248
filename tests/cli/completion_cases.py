"""Completions of shells and the manual page: the same commands and options as --help."""

import re
import shutil
import subprocess

from tool import OK, USAGE, ToolTest

COMMANDS = (
    "ls", "verify", "diff", "scan", "cat", "convert", "match", "map", "series", "load", "bench", "completion",
)  # fmt: skip


class CompletionTest(ToolTest):
    def options(self, command):
        """The long options that --help of a command names."""
        text = self.run_tool(command, "--help").stdout.split("\nOptions:\n", 1)[1].split("\n\n", 1)[0]
        return re.findall(r"(?m)^  (?:-\w, )?(--[\w-]+)", text)

    def write(self, form):
        self.path(form).write_text(self.run_tool("completion", form).stdout)
        return self.path(form)

    def complete(self, *words):
        """What bash offers for the last of the words."""
        script = f"source {self.write('bash')}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
        script += '_flatbed; printf "%s\\n" "${COMPREPLY[@]}"'
        run = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        return run.stdout.split()

    def test_bash_completes_commands_options_and_values(self):
        self.assertEqual(self.complete("flatbed", "ve"), ["verify"])
        self.assertEqual(self.complete("flatbed", "convert", "--dry"), ["--dry-run"])
        self.assertEqual(self.complete("flatbed", "ls", "--sort", "s"), ["size"])
        self.assertEqual(self.complete("flatbed", "completion", "z"), ["zsh"])
        self.assertEqual(self.complete("flatbed", "series", "run", "la"), ["latest"])
        self.assertEqual(self.complete("flatbed", "series", "ru"), [])
        self.assertEqual(self.complete("flatbed", "ls", "a"), [])  # files, by the shell itself
        for command in COMMANDS:
            offered = self.complete("flatbed", command, "--")
            self.assertEqual(sorted(offered), sorted(self.options(command)), command)

    def test_zsh_and_fish_have_every_option(self):
        zsh, fish = self.write("zsh").read_text(), self.write("fish").read_text()
        for command in COMMANDS:
            part = zsh.split(f"\n    {command})\n", 1)[1].split(";;", 1)[0]
            for option in self.options(command):
                self.assertIn(option, part)
                seen = f"complete -c flatbed -n '__fish_seen_subcommand_from {command}'"
                self.assertRegex(fish, rf"(?m)^{seen}.* -l {option[2:]} ")
        for shell in ("zsh", "fish"):
            if shutil.which(shell):
                subprocess.run([shell, "-n", self.path(shell)], check=True)

    def test_the_manual_page_has_every_command_and_option(self):
        page = self.write("man").read_text()
        self.assertTrue(page.startswith(".TH FLATBED 1 "))
        for command in COMMANDS:
            part = page.split(f"\n.SS flatbed {command} ", 1)[1].split("\n.SS ", 1)[0]
            for option in self.options(command):
                self.assertIn(option.replace("-", "\\-"), part)
        if shutil.which("groff"):
            command = ["groff", "-man", "-Tutf8", "-ww", "-z", self.path("man")]
            run = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual((run.returncode, run.stderr), (OK, ""))

    def test_other_forms_are_refused(self):
        result = self.run_tool("completion", "tcsh", expect=USAGE)
        self.assert_error(result, "invalid_argument", "bash, zsh, fish or man")
