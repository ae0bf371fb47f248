"""Ranks of torch.distributed (gloo) that load together, as processes of this machine."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import unittest

from support import needs_torch

RANKS = 3
HANGS_S = 600  # far above what anything takes on a busy machine
PROGRAM = """
import datetime, os, pathlib, sys, time
import torch, torch.distributed as dist
import flatbed, flatbed.torch as ft

folder, what = pathlib.Path(sys.argv[1]), sys.argv[4]
rank, size = int(sys.argv[2]), int(sys.argv[3])
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size,
                        timeout=datetime.timedelta(seconds=600))
model = folder / "model.safetensors"
state = {"w": torch.arange(6 * 900 * 400, dtype=torch.float32).view(900, 2400),
         "b": torch.arange(70_000, dtype=torch.int32)}
if rank == 0:
    ft.save(state, model)
dist.barrier()
path = model
if what == "other" and rank == 1:
    (folder / "b").mkdir()
    path = folder / "b" / "model.safetensors"
    ft.save({"w": state["w"] + 1, "b": state["b"]}, path)
if what == "nodes":  # rank 0 alone, and ranks 1 and 2
    ft._ranks._machine = lambda: "one" if rank == 0 else "another"
if what == "missing" and rank == 1:
    path = folder / "missing.safetensors"
waits = datetime.timedelta(seconds=5)
idle = what in ("idle", "late")
group = dist.new_group(backend="gloo", timeout=waits) if idle else None
if what == "late" and rank == 1:
    time.sleep(waits.seconds + 1)
# Longer than the test waits, but where a rank is not heard from any more.
deadline = 3 if what in ("dies", "absent") else 3600
if what == "absent" and rank == 1:  # until the others have given up
    while len(list(folder.glob("ended*"))) < size - 1:
        time.sleep(0.01)
    os._exit(0)
with ft.Ranks(group) as ranks:
    for number in range(2):
        if what == "idle" and number == 1:
            time.sleep(waits.seconds + 1)
        if what == "missing" and number == 1:
            path = model
        into = {"w": torch.zeros(900, 2400 // size), "b": torch.zeros(70_000, dtype=torch.int32)}
        if what == "misspelt" and rank == 1 and number == 0:
            into["bb"] = into.pop("b")
        try:
            if what == "dies" and rank == 1:
                os._exit(9)
            reports = ft.load_together(path, into, ranks, dims={"w": 1}, deadline=deadline)
        except flatbed.Error as error:
            print(rank, error.name, error, flush=True)
            if what in ("dies", "absent"):
                (folder / f"ended{rank}").touch()
                os._exit(3)
            continue
        part = 2400 // size
        assert torch.equal(into["w"], state["w"][:, rank * part:(rank + 1) * part])
        assert torch.equal(into["b"], state["b"])
        assert sum(each["bytes_read"] for each in reports) == 900 * 2400 * 4 + 280_000, reports
        sent, across = (sum(each[name] for each in reports)
                        for name in ("bytes_sent", "bytes_sent_across"))
        assert 0 < across < sent if what == "nodes" else across == 0, reports
        print(rank, "loaded", flush=True)
"""


@needs_torch
class LoadTogether(unittest.TestCase):
    def run_ranks(self, what: str) -> list[str]:
        import torch.distributed

        if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
            self.skipTest("torch has no gloo")
        with tempfile.TemporaryDirectory() as name:
            command = [sys.executable, "-c", PROGRAM, name]
            jobs = [
                subprocess.Popen([*command, str(rank), str(RANKS), what], stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True)
                for rank in range(RANKS)
            ]
            try:
                out = [job.communicate(timeout=HANGS_S)[0] for job in jobs]
            finally:
                for job in jobs:
                    job.kill()
        return out

    def test_every_byte_is_read_once(self) -> None:
        out = self.run_ranks("load")
        for rank in range(RANKS):
            self.assertEqual(out[rank], f"{rank} loaded\n" * 2)

    def test_ranks_know_which_are_on_their_machine(self) -> None:
        out = self.run_ranks("nodes")
        for rank in range(RANKS):
            self.assertEqual(out[rank], f"{rank} loaded\n" * 2)

    def test_other_contents_are_refused_on_all(self) -> None:
        out = self.run_ranks("other")
        for rank in range(RANKS):
            self.assertEqual(out[rank].count("collective_mismatch"), 2, out[rank])

    def test_a_rank_without_the_file_ends_all(self) -> None:
        out = self.run_ranks("missing")
        self.assertRegex(out[1], r"\A1 file_not_found .*\n1 loaded\n\Z")
        for rank in (0, 2):
            self.assertRegex(out[rank], rf"\A{rank} collective_ended rank 1 .*\n{rank} loaded\n\Z")

    def test_a_name_that_is_not_in_the_file_ends_all(self) -> None:
        out = self.run_ranks("misspelt")
        self.assertRegex(out[1], r"\A1 tensor_not_found .*'bb'.*\n1 loaded\n\Z")
        for rank in (0, 2):
            self.assertRegex(out[rank], rf"\A{rank} collective_ended rank 1 .*\n{rank} loaded\n\Z")

    def test_ranks_may_be_idle_for_longer_than_the_group_waits(self) -> None:
        out = self.run_ranks("idle")
        for rank in range(RANKS):
            self.assertEqual(out[rank], f"{rank} loaded\n" * 2)

    def test_a_rank_may_come_later_than_the_group_waits(self) -> None:
        out = self.run_ranks("late")
        for rank in range(RANKS):
            self.assertEqual(out[rank], f"{rank} loaded\n" * 2)

    def test_a_rank_that_never_comes_ends_the_others(self) -> None:
        out = self.run_ranks("absent")
        for rank in (0, 2):
            self.assertRegex(out[rank], "collective_(timeout|ended|failed)")
            self.assertNotIn("loaded", out[rank])

    def test_a_rank_that_dies_ends_the_others(self) -> None:
        out = self.run_ranks("dies")
        for rank in (0, 2):
            self.assertRegex(out[rank], "collective_(timeout|ended|failed)")
            self.assertNotIn("loaded", out[rank])


if __name__ == "__main__":
    unittest.main()
