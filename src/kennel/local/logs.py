"""Carries log files to CloudWatch Logs while they grow, line by line, and hands each line to whoever asks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

LOG = logging.getLogger(__name__)
_PERIOD_SECONDS = 0.25
_CHUNK = 1 << 16
_BATCH = 500
_LONGEST_LINE = 60_000
"""In characters; CloudWatch Logs takes events of at most 256 KiB. What is longer is cut into lines."""


class LogWriter:
    """Writes lines to CloudWatch Logs; `logs` is a boto3 client. A refusal never ends whose log it is."""

    def __init__(self, logs: Any) -> None:
        self._logs = logs
        self._known: set[tuple[str, str]] = set()

    def write(self, group: str, stream: str, lines: Iterable[str]) -> None:
        """Append `lines` to the stream, which is made if it does not exist."""
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": piece} for line in lines for piece in _pieces(line)]
        try:
            if (group, stream) not in self._known:
                self._create(group, stream)
            for start in range(0, len(events), _BATCH):
                batch = events[start : start + _BATCH]
                self._logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=batch)
        except (ClientError, BotoCoreError) as error:
            LOG.warning("%d lines for %s %s are lost: %s", len(events), group, stream, error)

    def _create(self, group: str, stream: str) -> None:
        """Make the stream, and the group only where there is none: a role may write to a group and make none."""
        if not self._made("ResourceNotFoundException", logGroupName=group, logStreamName=stream):
            self._made("ResourceAlreadyExistsException", logGroupName=group)  # another may have been faster
            self._made("", logGroupName=group, logStreamName=stream)
        self._known.add((group, stream))

    def _made(self, unless: str, **names: str) -> bool:
        """Make a stream or a group; False if the answer is the error `unless`."""
        create = self._logs.create_log_stream if "logStreamName" in names else self._logs.create_log_group
        try:
            create(**names)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == unless:
                return False
            if code != "ResourceAlreadyExistsException":
                raise
        return True


def _pieces(line: str) -> list[str]:
    """The line as CloudWatch Logs takes it: never empty, never too long."""
    return [line[start : start + _LONGEST_LINE] for start in range(0, len(line), _LONGEST_LINE)] or [" "]


class Tail:
    """Follows one log file in a thread until `finish`; every complete line goes to `on_lines`.

    A carriage return ends a line, too: progress bars write nothing else.
    """

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
                while read := file.read(_CHUNK):
                    *complete, rest = (rest + read).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
                    if len(rest) > _CHUNK:
                        complete, rest = [*complete, rest], b""
                    self._hand_on(complete)
                if last:
                    self._hand_on([rest] if rest else [])
                    return

    def _hand_on(self, lines: list[bytes]) -> None:
        if not lines:
            return
        try:
            self._on_lines([line.decode("utf-8", "replace") for line in lines])
        except Exception:  # the next lines may fare better, and whoever waits for us must not wait for ever
            LOG.exception("%d lines of %s are lost", len(lines), self._path)
