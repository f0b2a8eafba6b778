"""What is read out of a training job's log and its `output/failure`: metrics, and why it failed."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from kennel import contract
from kennel.local.processes import Cause
from kennel.local.sagemaker import opt_ml
from kennel.local.wire import ServiceError

LAST_LINES = 15
"""How many lines of a host's log stand for a reason that it did not leave."""

_FAILURE = "output/failure"


def compiled(regex: str, name: str) -> re.Pattern[str]:
    """The regex of MetricDefinition `name`. Raises ServiceError where it is none."""
    try:
        return re.compile(regex)
    except re.error as error:
        raise ServiceError(
            "ValidationException", f"MetricDefinition {name}: invalid regex {regex!r}: {error}"
        ) from error


def metrics(lines: Iterable[str], patterns: Mapping[str, re.Pattern[str]]) -> list[tuple[str, float]]:
    """Every (metric, value) that the lines hold, in their order; what matches but is no number is left out.

    The value is the first group, or the whole match where the regex has none.
    """
    found = []
    for line in lines:
        for name, pattern in patterns.items():
            if match := pattern.search(line):
                text = match.group(1) if match.re.groups else match.group()
                try:
                    found.append((name, float(text or "")))
                except ValueError:
                    continue
    return found


def failure_reason(base: Path, host: str, status: int, last_lines: Iterable[str], cause: Cause | None = None) -> str:
    """What a person needs to read: the cause and the reason that the script left, else the signal, else its last words.

    `base` is the host's /opt/ml. At most 1,024 characters, the exit code included.
    """
    left = _left(base)
    if cause is not None:  # an exit code that is not the script's own would mislead
        end = f", exit code: {status}" if cause.fault == "AlgorithmError" else ""
        reason = f"{host} {cause.what}" + (f"; it left: {left}" if left else "")
        return f"{cause.fault}: {reason}"[: contract.FAILURE_REASON_CHARACTERS - len(end)] + end
    reason = left
    if not reason and status > 128:
        reason = f"{host} was killed by signal {status - 128}" + (" (out of memory?)" if status == 137 else "")
    if not reason:
        reason = f"{host} left no reason; its last lines:\n" + "\n".join(last_lines)
    end = f", exit code: {status}"
    return f"AlgorithmError: {reason}"[: contract.FAILURE_REASON_CHARACTERS - len(end)] + end


def _left(base: Path) -> str:
    """The reason that the script left; what is no file of its own is none."""
    if not stat.S_ISREG(opt_ml.mode(base, _FAILURE)):
        return ""
    try:
        with (base / _FAILURE).open(encoding="utf-8", errors="replace") as text:
            return text.read(contract.FAILURE_REASON_CHARACTERS).strip()
    except OSError:  # the script may have closed it to us
        return ""
