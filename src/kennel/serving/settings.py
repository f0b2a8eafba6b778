"""How `serve` was asked to run: environment variables to one frozen record.

The only reader of the environment is `__main__`, which passes the mapping in. Nothing else may
decide a default.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kennel import contract, errors

WORKERS_ENV: Final = "KENNEL_SERVING_WORKERS"
"""Worker processes, each with the model loaded once; default one for each CPU that we may use."""

THREADS_ENV: Final = "KENNEL_SERVING_THREADS"
"""ONNX Runtime threads of one worker; default 1."""

START_SECONDS_ENV: Final = "KENNEL_SERVING_START_SECONDS"
"""Seconds until the first prediction must have succeeded; default 60."""

SILENCE_SECONDS_ENV: Final = "KENNEL_SERVING_SILENCE_SECONDS"
"""Seconds without one successful prediction after which `serve` ends, so that it is replaced; default 20."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that `serve` can be told from outside."""

    model_dir: Path
    host: str
    port: int
    """0 takes a free one; the first line on standard output says which."""
    workers: int
    threads: int
    start_seconds: float
    silence_seconds: float
    search_path: str
    """PATH, where `java` is looked for."""


def read(environment: Mapping[str, str], *, cpus: int) -> Settings:
    """Settings from environment variables; raises InvalidArguments with every problem at once."""
    problems: list[str] = []

    def number(name: str, default: float, low: float, high: float) -> float:
        text = environment.get(name, "").strip()
        if not text:
            return default
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            problems.append(f"{name}={text!r} is not a number from {low:g} to {high:g}")
            return default
        return value

    def whole(name: str, default: int, low: int, high: int) -> int:
        value = number(name, default, low, high)
        if value != int(value):
            problems.append(f"{name}={environment[name]!r} is not a whole number")
        return int(value)

    settings = Settings(
        model_dir=Path(environment.get(contract.MODEL_DIR_ENV) or contract.MODEL_DIR).absolute(),
        host=environment.get(contract.SERVING_HOST_ENV) or "127.0.0.1",
        port=whole(contract.SERVING_PORT_ENV, contract.SERVING_PORT, 0, 65_535),
        workers=whole(WORKERS_ENV, cpus, 1, 64),
        threads=whole(THREADS_ENV, 1, 1, 64),
        start_seconds=number(START_SECONDS_ENV, 60, 1, 3_600),
        silence_seconds=number(SILENCE_SECONDS_ENV, 20, 1, 3_600),
        search_path=environment.get("PATH", ""),
    )
    if problems:
        raise errors.InvalidArguments("the environment of `serve` is wrong", problems=tuple(problems))
    return settings


def usable_cpus(*, cgroup_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """CPUs that this process may use: its affinity, or its control group's quota if that is less."""
    try:
        quota = cgroup_max.read_text()
    except OSError:  # no cgroup v2 here
        quota = "max"
    return cpus_within(quota, affinity=len(os.sched_getaffinity(0)))


def cpus_within(quota: str, *, affinity: int) -> int:
    """CPUs under a cgroup v2 `cpu.max` line such as `150000 100000`; at least 1.

    >>> cpus_within("150000 100000", affinity=8), cpus_within("max 100000", affinity=8)
    (2, 8)
    """
    words = quota.split()
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]) > 0:
        return max(1, min(affinity, math.ceil(int(words[0]) / int(words[1]))))
    return max(1, affinity)
