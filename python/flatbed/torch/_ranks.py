"""Loads of several ranks, which talk by torch.distributed (gloo, on the CPU)."""

from __future__ import annotations

import ctypes
import datetime
import hashlib
import pathlib
import queue
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from .. import _flatbed
from .. import open as _open
from .._types import Opened, Progress
from ._storage import TORCH_NAMES, as_bytes

_HEADS = 0  # the tag of heads; bytes have a tag of their own each
_MOST_TAGS = 1 << 20
_NOTHING = 0  # a ticket that has ended
# gloo closes every connection of the group when one wait is longer than the group's timeout. A head
# is waited for as long as nobody loads anything, and the load has deadlines of its own.
_FOREVER = datetime.timedelta(days=3650)


def _machine() -> str:
    """A text that only processes of this machine have in common."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        return socket.gethostname()


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number


def _memory(address: int, nbytes: int) -> torch.Tensor:
    """The bytes at an address as a tensor, which borrows them."""
    return torch.frombuffer((ctypes.c_char * nbytes).from_address(address), dtype=torch.uint8)


class _Peer:
    """What goes to and comes from another rank. gloo tells nobody when a message is done, so each
    way has a thread that waits for it. A head is four numbers: tag, size, tag of the bytes, 0. The
    first head is instead the digest of the sender's machine.
    """

    def __init__(self, ranks: _Transport, rank: int) -> None:
        self.ranks, self.rank = ranks, rank
        self.heads_out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.bytes_out: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.bytes_in: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.sent = 0
        self.heads_out.put((ranks.machines[ranks.rank].clone(), _NOTHING))
        self.threads = [
            threading.Thread(target=work, daemon=True)
            for work in (self.send_heads, self.send_bytes, self.receive_heads, self.receive_bytes)
        ]
        for thread in self.threads:
            thread.start()

    def send(self, tag: int, bytes_: torch.Tensor | None, nbytes: int, ticket: int) -> None:
        number = 0
        if bytes_ is not None:
            self.sent += 1
            number = self.sent % _MOST_TAGS + 1
            self.bytes_out.put((bytes_, number, ticket))
        head = torch.tensor([_signed(tag), nbytes, number, 0], dtype=torch.int64)
        self.heads_out.put((head, _NOTHING if bytes_ is not None else ticket))

    def send_heads(self) -> None:
        while (item := self.heads_out.get()) is not None:
            head, ticket = item
            self.ranks.work(ticket, dist.isend, head, self.rank, _HEADS)

    def send_bytes(self) -> None:
        while (item := self.bytes_out.get()) is not None:
            bytes_, number, ticket = item
            self.ranks.work(ticket, dist.isend, bytes_, self.rank, number)

    def receive_heads(self) -> None:
        machine, head = torch.empty(4, dtype=torch.int64), torch.empty(4, dtype=torch.int64)
        if not self.ranks.work(_NOTHING, dist.irecv, machine, self.rank, _HEADS):
            return
        self.ranks.machines[self.rank] = machine
        while self.ranks.work(_NOTHING, dist.irecv, head, self.rank, _HEADS):
            tag, nbytes, number, closes = head.tolist()
            if closes:
                break
            self.ranks.announce(self.rank, tag % (1 << 64), nbytes, number)

    def receive_bytes(self) -> None:
        while (item := self.bytes_in.get()) is not None:
            bytes_, number, ticket = item
            self.ranks.work(ticket, dist.irecv, bytes_, self.rank, number)

    def close(self) -> None:
        self.heads_out.put((torch.tensor([0, 0, 0, 1], dtype=torch.int64), _NOTHING))
        for each in (self.heads_out, self.bytes_out, self.bytes_in):
            each.put(None)


class _Transport:
    """What the compiled module calls to send and receive."""

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        backend = dist.get_backend(group)
        if backend != "gloo":
            raise ValueError(f"the group's backend is {backend!r}, expected 'gloo'")
        self._group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        digest = hashlib.sha256(_machine().encode()).digest()
        # By rank; those of other ranks when they have come.
        self.machines = {self.rank: torch.frombuffer(bytearray(digest), dtype=torch.int64)}
        self._lock = threading.Lock()
        self._incoming: queue.SimpleQueue[tuple[int, int, int, int]] = queue.SimpleQueue()
        self._announced: dict[int, tuple[int, int]] = {}
        self._pending: dict[int, Any] = {}  # tickets, and what keeps their memory
        self._errors: dict[int, Exception] = {}
        self._last = 0
        # What gloo may still use after a load that failed: the threads keep it with themselves.
        self.keeps: list[Any] = []
        self._peers = {rank: _Peer(self, rank) for rank in range(self.size) if rank != self.rank}

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()
        threads = [thread for peer in self._peers.values() for thread in peer.threads]
        end = time.monotonic() + 10
        for thread in threads:
            thread.join(max(0, end - time.monotonic()))
        self._peers = {}
        if not any(thread.is_alive() for thread in threads):
            self.keeps.clear()

    # ---- called by the threads ----

    def work(self, ticket: int, call: Any, tensor: torch.Tensor, peer: int, tag: int) -> bool:
        """Sends or receives, and ends the ticket."""
        try:
            other = peer if self._group is None else dist.get_global_rank(self._group, peer)
            call(tensor, other, group=self._group, tag=tag).wait(_FOREVER)
        except Exception as error:  # noqa: BLE001: done() raises it
            with self._lock:
                if ticket in self._pending:
                    self._errors[ticket] = error
            return False
        with self._lock:
            self._pending.pop(ticket, None)
        return True

    def announce(self, rank: int, tag: int, nbytes: int, number: int) -> None:
        self._incoming.put((rank, tag, nbytes, number))

    # ---- called by the load ----

    def nodes(self) -> list[int]:
        """Of each rank, the lowest rank on the same machine. All ranks have sent a message."""
        machines = [self.machines[rank].tolist() for rank in range(self.size)]
        return [machines.index(machine) for machine in machines]

    def _ticket(self, keeps: Any) -> int:
        with self._lock:
            self._last += 1
            self._pending[self._last] = keeps
            return self._last

    def send(self, to: int, tag: int, address: int, nbytes: int) -> int:
        bytes_ = _memory(address, nbytes) if nbytes else None
        ticket = self._ticket(bytes_)
        self._peers[to].send(tag, bytes_, nbytes, ticket)
        return ticket

    def next(self) -> tuple[int, int, int, int] | None:
        try:
            rank, tag, nbytes, number = self._incoming.get_nowait()
        except queue.Empty:
            return None
        with self._lock:
            self._last += 1
            self._announced[self._last] = (rank, number)
            return rank, tag, nbytes, self._last

    def receive(self, message: int, address: int, nbytes: int) -> int:
        rank, number = self._announced.pop(message)
        if not nbytes:
            return _NOTHING
        bytes_ = _memory(address, nbytes)
        ticket = self._ticket(bytes_)
        self._peers[rank].bytes_in.put((bytes_, number, ticket))
        return ticket

    def done(self, ticket: int) -> bool:
        with self._lock:
            if ticket in self._errors:
                self._pending.pop(ticket, None)
                raise self._errors.pop(ticket)
            return ticket not in self._pending

    def forget(self, ticket: int) -> bool:
        with self._lock:
            return ticket not in self._pending


class Ranks:
    """The processes of a group of torch.distributed, for :func:`load_together`.

    Every process of the group makes one, and closes it after its last load. It sends and receives
    memory of the CPU, so the group's backend is gloo; beside another default group, make one with
    ``torch.distributed.new_group(backend="gloo")``.

    Making it waits for nobody: a load waits for the others, until its deadline. The processes tell
    each other which machine they are on: what is read for a machine is read on it where that is
    possible. Processes of one machine still send bytes to each other, because a group of
    torch.distributed has no memory that they share; MPI has (``flatbed::mpi``).

    Args:
        group: the process group; None: the default one.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._transport = _Transport(group)
        self.rank, self.size = self._transport.rank, self._transport.size
        self._collective: _flatbed.Collective | None = _flatbed.Collective(
            self._transport, self.rank, self.size
        )
        self._transport.keeps.append(self._collective)

    def close(self) -> None:
        """Ends the threads that wait for messages. Every process calls it."""
        self._transport.close()
        self._collective = None

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self.close()


def load_together(
    path: Opened,
    tensors: Mapping[str, torch.Tensor],
    ranks: Ranks,
    *,
    dims: Mapping[str, int] | None = None,
    deadline: float = 60.0,
    verify: bool = True,
    threads: int = 0,
    progress: Progress = None,
) -> list[dict[str, Any]]:
    """Loads tensors on all ranks of a job; every byte is read and verified by one of them.

    Every rank calls it, with what it wants itself. An error on one rank ends the load on all. After
    an error the contents of the tensors are unspecified, and bytes of a rank that was late may
    still arrive in them: do not use them for anything else.

    Args:
        path: what ``flatbed.open`` takes, or a ``flatbed.Checkpoint``.
        tensors: where the bytes go, by name: contiguous tensors on the CPU, of the stored dtype.
        ranks: the ranks that load together.
        dims: the dimension along which a tensor is cut, by name: each rank loads its part, as
            tensor parallelism divides it. Tensors without one are loaded whole.
        deadline: how many seconds another rank may be silent before the load fails.
        verify: compare the bytes with the digests of a sealed file.
        threads: how many read and hash; 0 chooses.
        progress: called with the bytes done and in total of this rank; True for a bar of tqdm.

    Returns:
        What each rank did, by rank: ``bytes_wanted``, ``bytes_read``, ``bytes_sent``,
        ``bytes_sent_across`` (of these, to other machines), ``bytes_received``, ``seconds`` and
        ``waited_seconds``.

    Raises:
        flatbed.Error: of this rank, or of another one, which the message names.
    """
    if ranks._collective is None:
        raise ValueError("the ranks are closed")
    try:
        checkpoint = path if isinstance(path, _flatbed.Checkpoint) else _open(path)
        targets = _targets(checkpoint, tensors, dims or {})
    except Exception:
        _flatbed.leave_load_together(ranks._collective, deadline)  # so that nobody waits
        raise
    try:
        return _flatbed.load_together(
            checkpoint, targets, ranks._collective, deadline, verify, threads, progress
        )
    except BaseException:
        ranks._transport.keeps += tensors.values()
        raise


def _targets(
    checkpoint: _flatbed.Checkpoint, tensors: Mapping[str, torch.Tensor], dims: Mapping[str, int]
) -> list[tuple[int, int, int, int | None]]:
    rows = {row[0]: (number, row[1]) for number, row in enumerate(_flatbed.tensor_rows(checkpoint))}
    targets = []
    for name, tensor in tensors.items():
        if tensor.device.type != "cpu" or not tensor.is_contiguous():
            raise ValueError(f"{name}: expected a contiguous tensor on the CPU")
        # A name that is not stored is another name of a shared tensor, or an error that says so.
        index, dtype = rows[name if name in rows else checkpoint[name].name]
        if (found := str(tensor.dtype).removeprefix("torch.")) != TORCH_NAMES.get(dtype):
            raise ValueError(f"{name}: the tensor is of {found}, the file has {dtype}")
        if tensor.numel():
            targets.append((index, *as_bytes(tensor), dims.get(name)))
    return targets
