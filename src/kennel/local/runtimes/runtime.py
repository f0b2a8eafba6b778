"""What training jobs and endpoints ask of whatever runs containers for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from kennel.local.processes import Cause


class Process(Protocol):
    """A running `train` or `serve`, with all that it started. It ends with this process, however that ends."""

    def poll(self) -> int | None:
        """Exit status, or None while it runs; 128 + N if signal N ended it."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Exit status, once it has ended. Raises TimeoutError after `timeout` seconds."""
        ...

    def ask_to_stop(self) -> None:
        """Begin to stop it (SIGTERM, the grace of its kind, SIGKILL) and return at once."""
        ...

    def stop(self) -> int:
        """Stop it and everything below it; return its exit status."""
        ...

    def cause(self) -> Cause | None:
        """Of one that has ended: what is known beyond its exit status."""
        ...


class Hosts(Protocol):
    """The hosts of one training job, which reach one another by their names and no other job's."""

    @property
    def names(self) -> Sequence[str]:
        """One name for each host; each resolves on all of them."""
        ...

    @property
    def network_interface(self) -> str:
        """Name of the interface through which they reach one another."""
        ...

    def start(self, index: int, *, base_dir: Path, log: Path, environment: Mapping[str, str]) -> Process:
        """Start `train` on the host `names[index]`, with its /opt/ml at `base_dir`."""
        ...

    def close(self) -> None:
        """Give up what the hosts had in common, once all of them have ended."""
        ...


class Runtime(Protocol):
    """Starts hosts of training jobs and instances of endpoints."""

    @property
    def name(self) -> str:
        """`process` or `docker`."""
        ...

    def hosts(self, *, job: str, image: str, instance_type: str, count: int, isolated: bool) -> Hosts:
        """The hosts of one job, none started yet; `isolated` ones reach nothing but one another."""
        ...

    def start_instance(
        self,
        *,
        endpoint: str,
        image: str,
        instance_type: str,
        isolated: bool,
        model_dir: Path,
        log: Path,
        environment: Mapping[str, str],
    ) -> tuple[Process, Callable[[], str]]:
        """Start `serve`; return it, and what tells the URL at which it will answer (empty: not known yet)."""
        ...
