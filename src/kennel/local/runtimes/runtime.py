"""What training jobs and endpoints ask of whatever runs containers for them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from kennel.local.processes import Supervised


class Runtime(Protocol):
    """Starts hosts of training jobs and instances of endpoints. Both must end with this process."""

    network_interface: str

    def addresses(self, count: int) -> list[str]:
        """Names for the `count` hosts of one job, which resolve on each of them."""
        ...

    def start_host(self, *, base_dir: Path, log: Path, environment: Mapping[str, str]) -> Supervised:
        """Start `train` for one host of a training job, with its /opt/ml at `base_dir`."""
        ...

    def start_instance(self, *, model_dir: Path, log: Path, environment: Mapping[str, str]) -> tuple[Supervised, str]:
        """Start `serve` for one instance of an endpoint; return it and the URL at which it will answer."""
        ...
