"""Carries log files to CloudWatch Logs while they grow, line by line, and hands each line to whoever asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

_PERIOD_SECONDS = 0.25
_BATCH = 500


class LogWriter:
    """Writes lines to CloudWatch Logs; `logs` is a boto3 client."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs
        self._known: set[tuple[str, str]] = set()

    def write(self, group: str, stream: str, lines: Iterable[str]) -> None:
        """Append `lines` to the stream, which is made if it does not exist."""
        events = [{"timestamp": int(time.time() * 1000), "message": line or " "} for line in lines]
        if (group, stream) not in self._known:
            for create in (
                lambda: self._logs.create_log_group(logGroupName=group),
                lambda: self._logs.create_log_stream(logGroupName=group, logStreamName=stream),
            ):
                try:
                    create()
                except ClientError as error:
                    if error.response["Error"]["Code"] != "ResourceAlreadyExistsException":
                        raise
            self._known.add((group, stream))
        for start in range(0, len(events), _BATCH):
            batch = events[start : start + _BATCH]
            self._logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)


class Tail:
    """Follows one log file in a thread until `finish`; every complete line goes to `on_lines`."""

    def __init__(self, path: Path, on_lines: Callable[[list[str]], None]) -> None:
        self._path = path
        self._on_lines = on_lines
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"tail {path.name}", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Read what is left, hand it on, and end."""
        self._ended.set()
        self._thread.join()

    def _follow(self) -> None:
        rest = b""
        with self._path.open("rb") as file:
            while True:
                last = self._ended.wait(_PERIOD_SECONDS)
                *complete, rest = (rest + file.read()).split(b"\n")
                if last and rest:
                    complete, rest = [*complete, rest], b""
                if complete:
                    self._on_lines([line.decode("utf-8", "replace").rstrip("\r") for line in complete])
                if last:
                    return
