"""Runs what the images run, as processes in this environment: `train` and `serve`, without Docker.

The process boundary, the base directory, the environment variables and the exit status are the
container contract's. What a process cannot have is its own file system, its own network and a limit on memory.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from kennel import contract
from kennel.local.processes import Supervised

TRAINING_GRACE_SECONDS = 120.0
SERVING_GRACE_SECONDS = 30.0
"""Between SIGTERM and SIGKILL, as SageMaker documents them."""


class ProcessRuntime:
    """Starts hosts of training jobs and instances of endpoints as processes."""

    name = "process"

    def __init__(self, *, random: Random, environment: Mapping[str, str], threads: int | None = None) -> None:
        self._random = random
        self._environment = {name: environment[name] for name in _PASSED_ON if name in environment}
        # two hosts or trials at a time is the common case: share the cores between them
        self._threads = threads or max(1, (os.cpu_count() or 2) // 2)

    def hosts(self, *, job: str, image: str, instance_type: str, count: int, isolated: bool) -> ProcessHosts:  # noqa: ARG002
        """Hosts named by loopback addresses of this job's own, so that jobs do not meet each other."""
        while True:
            network = f"127.{self._random.randrange(1, 255)}.{self._random.randrange(255)}"
            if _is_free(f"{network}.1", contract.RENDEZVOUS_PORT):
                return ProcessHosts(
                    names=[f"{network}.{host}" for host in range(1, count + 1)], start_train=self._train
                )

    def start_instance(
        self,
        *,
        endpoint: str,  # noqa: ARG002
        image: str,  # noqa: ARG002
        instance_type: str,  # noqa: ARG002
        isolated: bool,  # noqa: ARG002
        model_dir: Path,
        log: Path,
        environment: Mapping[str, str],
    ) -> tuple[Supervised, Callable[[], str]]:
        """Start `serve` for one instance of an endpoint, at a free port."""
        port = _free_port()
        process = self._start(
            "serve",
            {**environment, contract.MODEL_DIR_ENV: str(model_dir), contract.SERVING_PORT_ENV: str(port)},
            cwd=model_dir,
            log=log,
            grace=SERVING_GRACE_SECONDS,
        )
        return process, lambda: f"http://127.0.0.1:{port}"

    def _train(self, base_dir: Path, log: Path, environment: Mapping[str, str]) -> Supervised:
        return self._start(
            "train",
            {**contract.TRAINING_IMAGE_ENV, **environment, contract.BASE_DIR_ENV: str(base_dir)},
            cwd=base_dir,
            log=log,
            grace=TRAINING_GRACE_SECONDS,
        )

    def _start(self, command: str, environment: Mapping[str, str], *, cwd: Path, log: Path, grace: float) -> Supervised:
        scripts = Path(sys.executable).parent  # not resolved: the environment's own folder, not its base's
        merged = {
            **self._environment,
            "PATH": f"{scripts}{os.pathsep}{self._environment.get('PATH', os.defpath)}",
            "OMP_NUM_THREADS": str(self._threads),
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        return Supervised([str(scripts / command)], env=merged, cwd=cwd, log=log, grace=grace)


@dataclass(frozen=True, kw_only=True)
class ProcessHosts:
    """The hosts of one job, each a process on the loopback interface."""

    names: list[str]
    start_train: Callable[[Path, Path, Mapping[str, str]], Supervised]
    network_interface: str = "lo"

    def start(self, index: int, *, base_dir: Path, log: Path, environment: Mapping[str, str]) -> Supervised:  # noqa: ARG002
        """Start `train`; a host learns its name from its resourceconfig.json."""
        return self.start_train(base_dir, log, environment)

    def close(self) -> None:
        """Nothing is left: loopback addresses need no giving back."""


_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "JAVA_HOME", "CUDA_VISIBLE_DEVICES")
"""What a container would have from its image; credentials and everything else stay out."""


def _is_free(address: str, port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
