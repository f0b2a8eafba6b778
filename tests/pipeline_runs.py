"""Runs `statemachine/run.py` as a user does: as a process, with a small data set and a configuration of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import configurations

ROOT = Path(__file__).parents[1]
AWS_CLI = Path(sys.executable).with_name("aws")


def configuration(path: Path, *, data: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """Write config/local.toml, made small, to `path`; `changes` are values by dotted key path."""
    small: dict[str, Any] = {
        "data.source": str(data),
        "tuning.max_jobs": 2,
        "tuning.ranges.batch_size.values": ["8", "12"],
        "training.hyperparameters": {"backbone": "mobilenet_v3_small", "image_size": "32", "epochs": "2"},
        "quality.minimum_validation_accuracy": 0.0,
    }
    changed = dict(changes or {})
    if "name" in changed:  # the images of this source are named after it
        small |= {f"images.{part}": f"{changed['name']}-{part}" for part in ("training", "serving")}
    path.write_text(configurations.text(small | changed))
    return path


class Run:
    """One `run.py` process, and the processes that it left."""

    def __init__(self, *arguments: str | Path, home: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "80"}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "statemachine" / "run.py"), *map(str, arguments), "--home", str(home)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=home.parent,
        )

    def end(self, timeout: float = 120) -> tuple[int, str, str]:
        """Wait for it: exit status, standard output, standard error."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err


def run(*arguments: str | Path, home: Path) -> tuple[int, str, str]:
    """Run to the end."""
    return Run(*arguments, home=home).end()


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What a run with --keep left: its home, its configuration, its result, and where its AWS is."""

    home: Path
    config: Path
    result: dict[str, Any]
    said: str
    endpoint_url: str
    image: Path

    def aws(self, *arguments: str) -> Any:
        """Call the AWS CLI; the JSON that it prints."""
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        done = subprocess.run(
            [AWS_CLI, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    @property
    def folder(self) -> Path:
        return self.home / "runs" / self.result["execution"]


def left_behind(text: str, *, seconds: float = 40.0) -> list[str]:
    """Command lines of other processes with `text` in a word of theirs, after giving them `seconds` to end.

    What a run starts has the run's home, and what a job starts its execution, in its command or environment.
    """
    deadline = time.monotonic() + seconds
    while (found := list(_living(text))) and time.monotonic() < deadline:
        time.sleep(0.1)
    return [" ".join(process.cmdline()) for process in found if process.is_running()]


def started_by(text: str, *, command: str, seconds: float = 60.0) -> list[psutil.Process]:
    """Processes with `text` in a word of theirs that run `command`, as soon as there are any."""
    return until(
        lambda: [process for process in _living(text) if any(w.endswith(f"/{command}") for w in process.cmdline())],
        seconds=seconds,
    )


def until(look: Callable[[], list[Any]], *, seconds: float = 60.0) -> list[Any]:
    """What `look` finds, as soon as it finds anything."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing was found within {seconds} s")


def _living(text: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if any(text in word for word in [*process.cmdline(), *process.environ().values()]):
                yield process
