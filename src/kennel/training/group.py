"""The process group: what several hosts say to each other while they train one model.

One host alone is a group of one that talks to nobody. Every collective ends: a host that is gone
raises HostLost within the timeout, on all the others. Must not know about data or models.
"""

from __future__ import annotations

import datetime
import socket
from collections.abc import Iterable, Iterator, MutableMapping
from contextlib import contextmanager, suppress

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from kennel.contract import RENDEZVOUS_PORT
from kennel.training.hosts import HostLost, Hosts

_HINT = "The reason is in the log and the FailureReason of that host: an error, a signal, or too little memory."


class Group:
    """Rank `rank` of `world` hosts. The methods are collectives: every host calls each, in the same order."""

    def __init__(self, *, rank: int = 0, world: int = 1) -> None:
        self.rank = rank
        self.world = world

    def sum_(self, tensor: Tensor) -> Tensor:
        """Adds `tensor` up over all hosts, in place."""
        if self.world > 1:
            with _lost(self):
                dist.all_reduce(tensor)
        return tensor

    def gather(self, tensor: Tensor) -> Tensor:
        """(world, *shape): the tensor of every host, by rank."""
        if self.world == 1:
            return tensor[None]
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        with _lost(self):
            dist.all_gather(parts, tensor)
        return torch.stack(parts)

    def sum_gradients_(self, parameters: Iterable[Tensor]) -> None:
        """Adds the gradients up over all hosts, in one message."""
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self.sum_(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        offset = 0
        for gradient in gradients:
            gradient.copy_(flat[offset : offset + gradient.numel()].view_as(gradient))
            offset += gradient.numel()

    def copy_from_first_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites the tensors with those of rank 0."""
        if self.world > 1:
            for tensor in tensors:
                whole = tensor.detach().contiguous()
                with _lost(self):
                    dist.broadcast(whole, src=0)
                tensor.detach().copy_(whole)

    def bytes_from_first(self, content: bytes, *, device: torch.device) -> bytes:
        """The bytes that rank 0 gave, on every host; what the others gave does not matter."""
        if self.world == 1:
            return content
        length = torch.tensor([len(content)], device=device)
        self.copy_from_first_([length])
        whole = torch.empty(int(length), dtype=torch.uint8, device=device)
        if whole.numel():
            if self.rank == 0:
                whole.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
            self.copy_from_first_([whole])
        return whole.cpu().numpy().tobytes()

    def agree(self, digest: str, *, device: torch.device) -> bool:
        """Whether all hosts hold the same hexadecimal digest."""
        mine = torch.tensor(list(bytes.fromhex(digest)), dtype=torch.int32, device=device)
        return bool((self.gather(mine) == mine).all())


@contextmanager
def join(
    hosts: Hosts,
    *,
    device: torch.device,
    timeout: float,
    environ: MutableMapping[str, str],
    port: int = RENDEZVOUS_PORT,
) -> Iterator[Group]:
    """Meets the other hosts at `hosts.first`:`port` and leaves them at the end.

    gloo between CPUs, NCCL between GPUs. `timeout` in seconds bounds the meeting and every collective.
    Raises HostLost.
    """
    if hosts.world == 1:
        yield Group()
        return
    if hosts.interface:
        environ["GLOO_SOCKET_IFNAME"] = environ["NCCL_SOCKET_IFNAME"] = hosts.interface
    limit = datetime.timedelta(seconds=timeout)
    group = Group(rank=hosts.rank, world=hosts.world)
    listener = _listen(hosts.first, port) if hosts.rank == 0 else None
    try:
        store = TCPStore(
            hosts.first,
            port,
            world_size=hosts.world,
            is_master=hosts.rank == 0,
            timeout=limit,
            master_listen_fd=listener.detach() if listener else None,
        )
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=store,
            rank=hosts.rank,
            world_size=hosts.world,
            timeout=limit,
        )
    except (RuntimeError, OSError) as error:
        raise HostLost(
            f"{hosts.world} hosts did not meet at {hosts.first}:{port} within {timeout:g} s ({_line(error)})",
            where=hosts.current,
            hint="A host did not start, or failed before it could meet the others: see its log.",
        ) from error
    try:
        yield group
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()


def _listen(host: str, port: int) -> socket.socket:
    # torch's own listener takes every interface of the machine: two jobs side by side would collide,
    # and anybody could speak to it.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise HostLost(
            f"Cannot listen on port {port} ({error.strerror})",
            where=host,
            hint="Another process holds the port: end it, or give this training job hosts of its own.",
        ) from error
    return listener


@contextmanager
def _lost(group: Group) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise HostLost(
            f"Rank {group.rank} of {group.world} lost another host of this training job ({_line(error)})", hint=_HINT
        ) from error


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
