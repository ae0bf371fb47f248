"""mpirun flatbed-mpi convert --list: ranks that share the jobs of a list."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import unittest

import inputs
from tool import OK, SOME_FAILED, TIME_LIMIT, ToolTest, binary, wait_until

MPI_TOOL = pathlib.Path(binary()).with_name("flatbed-mpi")
MPIRUN = shutil.which("mpirun")


@unittest.skipUnless(MPIRUN and MPI_TOOL.exists(), "needs mpirun and a build with MPI")
class RanksTest(ToolTest):
    def start_ranks(self, count, *arguments, options=()):
        command = [MPIRUN, "--allow-run-as-root", "--oversubscribe", *options, "-np", str(count), MPI_TOOL, *arguments]
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"  # of MPI itself
        return subprocess.Popen(command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env={**os.environ, "ASAN_OPTIONS": sanitizer})

    def run_ranks(self, count, *arguments, expect=OK):
        process = self.start_ranks(count, *arguments)
        out, err = process.communicate(timeout=TIME_LIMIT)
        self.assertEqual(process.returncode, expect, (out, err))
        return out, err

    def write_jobs(self, *lines):
        self.path("jobs.jsonl").write_text("".join(line + "\n" for line in lines))

    def report(self):
        return [json.loads(line) for line in self.path("report.jsonl").read_text().splitlines()]

    def test_each_job_is_done_once_the_largest_first_and_one_rank_reports(self):
        for i in range(40):
            inputs.write_safetensors(self.path(f"{i}.safetensors"), {"w": ("U8", [100 * i], bytes(100 * i))})
        self.write_jobs(*(f'{{"in": "{i}.safetensors", "out": "{i}.pth"}}' for i in range(40)))
        out, err = self.run_ranks(3, "convert", "--list", "jobs.jsonl", "--report", "report.jsonl")
        self.assertEqual(err, "")
        self.assertEqual(out.count("STATUS"), 1)
        self.assertRegex(out, r"(?m)^converted +40 +40 ")
        lines = [line["line"] for line in self.report()]
        self.assertEqual(sorted(lines), list(range(1, 41)))
        self.assertGreater(min(lines[:10]), 20)

    def test_a_broken_line_is_named_and_the_rest_is_done(self):
        inputs.write_torch(self.path("a.pth"), {"w": inputs.Tensor([1], [1])})
        self.write_jobs("{", '{"in": "a.pth"}', '{"in": "b.pth", "out": "x.safetensors"}',
                        '{"in": "c.pth", "out": "x.safetensors"}')
        out, err = self.run_ranks(2, "convert", "--list", "jobs.jsonl", "--json", expect=SOME_FAILED)
        report = json.loads(out.splitlines()[0])
        self.assertEqual((report["converted"], report["failed"]), (1, 3))
        self.assertEqual(sorted(re.findall(r"(?m)^flatbed: jobs\.jsonl: line (\d)", err)), ["1", "3", "4"])
        self.assert_sealed("a.safetensors")

    def test_the_job_of_a_killed_rank_is_named_and_done_by_the_next_run(self):
        for i in range(4):
            inputs.write_sparse_safetensors(self.path(f"{i}.safetensors"), 256 << 20)
        self.write_jobs(*(f'{{"in": "{i}.safetensors", "out": "out{i}.safetensors"}}' for i in range(4)))
        arguments = ("convert", "--list", "jobs.jsonl", "--no-sync")
        # When a rank dies MPI ends the others, after a second by default, in which a busy machine may not run them. It
        # waits so long twice whenever a rank ends with another code than 0, even if all have ended by then.
        process = self.start_ranks(3, *arguments, options=("--mca", "odls_base_sigkill_timeout", "8"))
        self.kill_at_work(process.pid)
        _, err = process.communicate(timeout=TIME_LIMIT)
        self.assertNotEqual(process.returncode, 0)
        self.assertRegex(err, r"rank \d was converting line \d: ")
        out, _ = self.run_ranks(3, *arguments, "--json")
        report = json.loads(out)
        self.assertEqual((report["failed"], report["converted"] + report["up_to_date"]), (0, 4))
        self.assertEqual([name for name in self.names() if name.startswith(".")], [])

    def kill_at_work(self, mpirun):
        """Kills a rank other than the one that deals out the jobs, in the middle of one: it is stopped, to be looked
        at, and killed if its output is open still."""
        def kill_one():
            self.assertTrue(self.is_alive(mpirun), "mpirun has ended")
            for rank, pid in self.ranks_of(mpirun).items():
                if rank == 0 or not self.has_output(pid):
                    continue
                os.kill(pid, signal.SIGSTOP)
                wait_until(lambda pid=pid: self.is_stopped(pid), "the rank is stopped")
                if self.has_output(pid):
                    os.kill(pid, signal.SIGKILL)
                    return True
                os.kill(pid, signal.SIGCONT)
            return False

        wait_until(kill_one, "a rank writes an output")

    def state(self, pid):
        """The letter of /proc/PID/stat; Z also for a process that is gone."""
        try:
            return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "Z"

    def is_alive(self, pid):
        return self.state(pid) != "Z"

    def is_stopped(self, pid):
        """Or has ended, and will not be."""
        return self.state(pid) in "TZ"

    def has_output(self, pid):
        """Whether this process has an unfinished output open."""
        with contextlib.suppress(OSError):  # the process has ended
            for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):  # it has closed this one
                    if ".flatbed.tmp" in os.readlink(link):
                        return True
        return False

    def ranks_of(self, pid):
        """The processes that mpirun started, by rank."""
        found = {}
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", pathlib.Path(f"/proc/{child}/environ").read_bytes())
                if rank:
                    found[int(rank[1])] = int(child)
        return found

    def test_other_commands_are_refused(self):
        inputs.write_torch(self.path("a.pth"), {"w": inputs.Tensor([1], [1])})
        for arguments in (("ls", "a.pth"), ("convert", "a.pth"), ("convert", "--list", "jobs.jsonl", "-j", "2")):
            self.write_jobs('{"in": "a.pth"}')
            _, err = self.run_ranks(2, *arguments, expect=2)
            self.assertIn("[invalid_argument]", err)
            if "--list" not in arguments:
                self.assertEqual(err.count("[invalid_argument]"), 1)  # by one rank, for all
        self.assertEqual(self.names(), ["a.pth", "jobs.jsonl"])

    def test_one_rank_is_the_tool(self):
        inputs.write_torch(self.path("a.pth"), {"w": inputs.Tensor([1], [1])})
        out, _ = self.run_ranks(1, "ls", "a.pth", "--json")
        self.assertEqual(json.loads(out)["exit_code"], 0)
