"""Ranks that are processes of MPI, on this machine. Arguments: the program of mpi_ranks.cpp, and mpirun."""

import os
import subprocess
import sys
import unittest

PROGRAM = ""
MPIRUN = ""


def mpirun(ranks, *arguments, timeout=120):
    """The finished process of `ranks` ranks."""
    env = dict(os.environ, OMPI_MCA_btl_base_warn_component_unused="0", OMPI_MCA_rmaps_base_oversubscribe="1")
    command = [MPIRUN, "-np", str(ranks), "--oversubscribe"]
    if os.getuid() == 0:
        command.append("--allow-run-as-root")
    return subprocess.run([*command, PROGRAM, *arguments], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=timeout, check=False)


class Messages(unittest.TestCase):
    def test_every_number_of_ranks(self):
        for ranks in (1, 2, 3, 4, 8):
            done = mpirun(ranks, "messages")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(sorted(done.stdout.split("\n"))[1:],
                             [f"rank {rank} of {ranks}" for rank in range(ranks)])


if __name__ == "__main__":
    PROGRAM, MPIRUN = sys.argv[1:3]
    if not os.path.exists(MPIRUN):
        print("there is no mpirun")
        sys.exit(77)
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
