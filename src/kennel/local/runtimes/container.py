"""One container to be run, as a value: what the docker runtime hands to its runner, and what the runner leaves.

Pure but for the two small files beside the log. Nothing here talks to the engine.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from docker import types

from kennel import contract
from kennel.local.processes import Cause

HOST_LABEL = "kennel.host"


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A folder of this machine in the container."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container to be run."""

    name: str
    host: str
    """Its name in its network."""

    image: str
    command: str
    """`train` or `serve`."""

    network: str
    environment: dict[str, str]
    labels: dict[str, str]
    mounts: list[Mount]
    user: str
    """`uid:gid`; empty for the image's own user."""

    cpus: float
    memory_bytes: int
    """0: no limit."""

    shm_bytes: int
    limit: str
    """What to say of the limit of memory when the container has reached it."""

    publish: bool
    """Whether the port of a serving container is published on loopback."""

    grace: int
    """Seconds between SIGTERM and SIGKILL."""

    @property
    def serving(self) -> bool:
        """Whether it is an instance of an endpoint, not a host of a job."""
        return self.command == "serve"

    def creation(self) -> dict[str, Any]:
        """Keyword arguments with which the SDK creates it."""
        kind = _SERVING if self.serving else _TRAINING
        memory = {"mem_limit": self.memory_bytes, "memswap_limit": self.memory_bytes} if self.memory_bytes else {}
        return {
            "image": self.image,
            "command": [self.command],
            "name": self.name,
            "hostname": self.host,
            "network": self.network,
            "environment": self.environment,
            "labels": {**self.labels, HOST_LABEL: self.host},
            # not as `volumes`, which a colon in a path would break
            "mounts": [types.Mount(m.target, m.source, type="bind", read_only=m.read_only) for m in self.mounts],
            "nano_cpus": round(self.cpus * 1e9),
            "shm_size": self.shm_bytes,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "log_config": {"Type": "json-file", "Config": {"max-size": "10m"}},  # for `docker logs`; the whole is ours
            **({"user": self.user} if self.user else {}),
            **({"ports": {f"{contract.SERVING_PORT}/tcp": ("127.0.0.1", None)}} if self.publish else {}),
            **memory,
            **kind,
        }

    def write(self, file: Path) -> None:
        """Write it to a file that nobody else may read: the environment may hold secrets."""
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(asdict(self), out)

    @classmethod
    def read(cls, file: Path) -> Container:
        """What `write` wrote."""
        values = json.loads(file.read_text())
        return cls(**values | {"mounts": [Mount(**mount) for mount in values["mounts"]]})


_TRAINING: dict[str, Any] = {"pids_limit": 4096}
"""Many, for the threads of data loaders on many cores, and yet an end to a script that forks and forks."""

_SERVING: dict[str, Any] = {"read_only": True, "pids_limit": 1024}
"""As the serving image promises to run; what works so works with less strictness, too."""


@dataclass(frozen=True, kw_only=True)
class Notes:
    """What a runner leaves beside the file of its container."""

    file: Path

    def leave_url(self, url: str) -> None:
        """Say where the container answers."""
        _write(self.file.with_suffix(".url"), url)

    def url(self) -> str:
        """Where the container answers; empty while that is not known."""
        return _read(self.file.with_suffix(".url"))

    def leave_cause(self, cause: Cause) -> None:
        """Say why the container ended."""
        _write(self.file.with_suffix(".cause"), json.dumps(asdict(cause)))

    def cause(self) -> Cause | None:
        """Why the container ended, where the runner knew more than the exit status."""
        left = _read(self.file.with_suffix(".cause"))
        return Cause(**json.loads(left)) if left else None


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text)
    partial.replace(file)


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""
