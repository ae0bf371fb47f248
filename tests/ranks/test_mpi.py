"""Ranks that are processes of MPI, on this machine. Arguments: the program of mpi_ranks.cpp, and mpirun; then those of
unittest. FLATBED_KILLS sets how often a rank is killed."""

import os
import random
import re
import shlex
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = ""
MPIRUN = ""
KILLS = int(os.environ.get("FLATBED_KILLS", "8"))
DEADLINE_MS = 1000
HANGS_S = 600  # far above what anything takes on a busy machine
READS = 4  # that every rank of three makes at least


def command(ranks, *arguments, options=()):
    as_root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    return [MPIRUN, "-np", str(ranks), "--oversubscribe", *as_root, *options, PROGRAM, *arguments]


def mpirun(ranks, *arguments, timeout=HANGS_S):
    """The finished process of `ranks` ranks."""
    return subprocess.run(command(ranks, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=timeout, check=False)


def ranks_of(pid):
    """The processes that mpirun has started, by rank."""
    found = {}
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = file.read().split()
        for child in children:
            with open(f"/proc/{child}/environ", "rb") as file:
                rank = re.search(rb"OMPI_COMM_WORLD_RANK=(\d+)", file.read())
            if rank:
                found[int(rank[1])] = int(child)
    except OSError:
        pass
    return found


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Messages(unittest.TestCase):
    def test_every_number_of_ranks(self):
        for ranks in (1, 2, 4, 8):
            done = mpirun(ranks, "messages")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(sorted(done.stdout.split("\n"))[1:], [f"rank {rank} of {ranks}" for rank in range(ranks)])


class Load(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.model = os.path.join(cls.folder.name, "model.safetensors")
        made = mpirun(1, "make", cls.model, "16")
        assert made.returncode == 0, made.stderr
        cls.nbytes = 16 << 20

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_every_byte_is_read_once(self):
        for ranks in (1, 2, 3, 8):
            for cut in ("rows", "columns", "whole"):
                done = mpirun(ranks, "load", self.model, cut)
                self.assertEqual(done.returncode, 0, done.stderr)
                lines = [[int(number) for number in re.findall(r"\d+", line)] for line in done.stdout.split("\n")
                         if line.startswith("rank")]
                self.assertEqual(sorted(line[0] for line in lines), list(range(ranks)))
                _, wanted, read, sent, received, lent = (sum(column) for column in zip(*lines))
                self.assertLessEqual(read, 1.02 * self.nbytes)
                self.assertEqual(sent, received)
                self.assertGreaterEqual(lent, 0.9 * sent)
                self.assertEqual(wanted, self.nbytes * (ranks if cut == "whole" else 1))
                if cut == "whole":
                    self.assertEqual(sent, self.nbytes * (ranks - 1))

    def with_shared_memory_of(self, size, script):
        """What the script of a shell prints, on a /dev/shm of its own."""
        own = ["unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} none /dev/shm && exec "$@"', "sh"]
        if subprocess.run([*own, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest("needs a file system of its own")
        done = subprocess.run([*own, "sh", "-ec", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=HANGS_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def load_whole(self, ranks):
        return shlex.join(command(ranks, "load", self.model, "whole",
                                  options=("--mca", "btl", "self,tcp")))  # others take room there themselves

    def test_without_room_for_shared_memory_ranks_send(self):
        out = self.with_shared_memory_of("24m", self.load_whole(2))
        self.assertEqual(len(re.findall(r"(?m)^rank .* sent [1-9]\d* .* lent 0$", out)), 2, out)

    def test_ranks_send_while_another_job_makes_shared_memory_and_lend_afterwards(self):
        load = self.load_whole(2)
        out = self.with_shared_memory_of(
            "1g", f"exec 9</dev/shm\nflock 9\n{load} 9<&-\nflock -u 9\necho unlocked\n{load} 9<&-\n")
        locked, _, unlocked = out.partition("unlocked\n")
        self.assertEqual(len(re.findall(r"(?m)^rank .* sent [1-9]\d* .* lent 0$", locked)), 2, out)
        self.assertEqual(len(re.findall(r"(?m)^rank .* sent [1-9]\d* .* lent [1-9]\d*$", unlocked)), 2, out)

    def test_a_rank_that_is_killed_ends_all(self):
        # MPI ends all ranks when one dies, or, with recovery, leaves it to the deadline.
        dice = random.Random(1)
        for number in range(KILLS):
            options = ("--enable-recovery",) if number % 2 else ()
            victim, read = dice.randrange(3), dice.randint(1, READS)
            with self.subTest(number=number, victim=victim, read=read):
                self.kill_one(victim, read, options)

    def kill_one(self, victim, read, options):
        """That rank kills itself as it begins that read."""
        ranks = 3
        arguments = ("load", self.model, "columns", str(DEADLINE_MS), "1", str(victim), str(read))
        with subprocess.Popen(command(ranks, *arguments, options=options), stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True) as job:
            for _ in range(ranks):  # before that MPI itself may wait for ever
                self.assertEqual(job.stdout.readline(), "begin\n")
            found = ranks_of(job.pid)
            try:
                out, error = job.communicate(timeout=HANGS_S)
            except subprocess.TimeoutExpired:
                job.kill()
                self.fail("a rank hangs")
        self.assertEqual([line for line in out.split("\n") if line.startswith("rank")], [], error)
        end = time.monotonic() + HANGS_S
        while any(is_running(pid) for pid in found.values()) and time.monotonic() < end:
            time.sleep(0.01)
        self.assertFalse([pid for pid in found.values() if is_running(pid)], "a rank is left")


if __name__ == "__main__":
    PROGRAM, MPIRUN = sys.argv[1:3]
    if not os.path.exists(MPIRUN):
        print("there is no mpirun")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
