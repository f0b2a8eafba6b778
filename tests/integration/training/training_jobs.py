"""Lays out the container contract in a folder and starts real training jobs in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kennel import contract

TRAIN = Path(sys.executable).parent / "train"


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host of a running training job."""

    base: Path
    process: subprocess.Popen[bytes]

    def wait(self, seconds: float = 120) -> int:
        return self.process.wait(timeout=seconds)

    @property
    def log(self) -> str:
        return (self.base / "log").read_text()

    @property
    def failure(self) -> str:
        path = self.base / "output" / "failure"
        return path.read_text() if path.exists() else ""

    @property
    def model(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.base / "model").iterdir())}

    @property
    def checkpoints(self) -> list[str]:
        """Names of the finished ones, oldest first."""
        return sorted(path.name for path in (self.base / "checkpoints").glob("epoch-*.safetensors"))

    def series(self, metric: str) -> list[float]:
        return [float(value) for value in re.findall(contract.metric_regex(metric), self.log)]

    def wait_for(self, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)


def lay_out(
    base: Path, hyperparameters: Mapping[str, str], *, data: Path | None, hosts: Sequence[str], current: str
) -> None:
    """Writes what SageMaker would mount under /opt/ml."""
    config = base / "input" / "config"
    config.mkdir(parents=True)
    for folder in ("input/data", "model", "output"):
        (base / folder).mkdir(parents=True)
    if data is not None:
        (base / "input" / "data" / contract.TRAINING_CHANNEL).symlink_to(data)
    resources = {"current_host": current, "hosts": list(hosts), "network_interface_name": "lo"}
    (config / "hyperparameters.json").write_text(json.dumps(hyperparameters))
    (config / "resourceconfig.json").write_text(json.dumps(resources))
    (config / "inputdataconfig.json").write_text(json.dumps({contract.TRAINING_CHANNEL: {"TrainingInputMode": "File"}}))


def start(
    folder: Path,
    hyperparameters: Mapping[str, str],
    *,
    data: Path | None,
    hosts: Sequence[str] = ("127.0.0.1",),
    only: int | None = None,
    checkpoints: Path | None = None,
) -> list[Host]:
    """Starts a training job on all its hosts, or on host `only` alone; each finds what `checkpoints` holds."""
    started = []
    for rank, current in enumerate(hosts):
        if only is not None and rank != only:
            continue
        base = folder / f"algo-{rank + 1}"
        lay_out(base, hyperparameters, data=data, hosts=hosts, current=current)
        if checkpoints is not None:
            shutil.copytree(checkpoints, base / "checkpoints")
        environment = {
            **os.environ,
            **contract.TRAINING_IMAGE_ENV,
            contract.BASE_DIR_ENV: str(base),
            "OMP_NUM_THREADS": "1",
        }
        with (base / "log").open("wb") as log:
            process = subprocess.Popen([TRAIN], env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=base)
        started.append(Host(base=base, process=process))
    return started


def stop(hosts: Sequence[Host]) -> None:
    """Ends what a test left running."""
    for host in hosts:
        if host.process.poll() is None:
            host.process.kill()
        host.process.wait()
