"""A process group whose hosts are threads of one process: the real collectives' meaning, without sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from kennel.training.group import Group

T = TypeVar("T")


class _Table:
    def __init__(self, world: int) -> None:
        self.barrier = threading.Barrier(world, timeout=60)
        self.slots: list[Tensor] = [torch.empty(0)] * world


class ThreadGroup(Group):
    """One host of several in this process."""

    def __init__(self, *, rank: int, world: int, table: _Table) -> None:
        super().__init__(rank=rank, world=world)
        self._table = table

    def sum_(self, tensor: Tensor) -> Tensor:
        return tensor.copy_(self.gather(tensor).sum(dim=0))

    def gather(self, tensor: Tensor) -> Tensor:
        self._table.slots[self.rank] = tensor.detach().clone()
        self._table.barrier.wait()
        parts = torch.stack(list(self._table.slots))
        self._table.barrier.wait()
        return parts

    def copy_from_first_(self, tensors: Sequence[Tensor]) -> None:
        for tensor in tensors:
            tensor.detach().copy_(self.gather(tensor)[0])


def on_hosts(world: int, job: Callable[[Group], T]) -> list[T]:
    """Runs `job` on `world` hosts at once; the results by rank."""
    table = _Table(world)
    with ThreadPoolExecutor(world) as pool:
        futures = [pool.submit(job, ThreadGroup(rank=rank, world=world, table=table)) for rank in range(world)]
        return [future.result() for future in futures]
