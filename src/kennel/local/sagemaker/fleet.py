"""The running copies of one model behind one variant, and how a request finds one of them.

An instance is one `serve` process (or container). A dead one is replaced, for as long as it takes; a
request goes to the one with the fewest requests outstanding.
"""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from kennel import contract, errors
from kennel.local.logs import Tail
from kennel.local.runtimes.runtime import Process

_PING_SECONDS = 2.0
"""A container must answer /ping within 2 s (SageMaker's contract)."""

_INVOCATION_SECONDS = 60.0
"""A container must answer /invocations within 60 s (SageMaker's contract)."""

_DRAIN_SECONDS = 30.0
_WATCH_SECONDS = 0.5
_UNHEALTHY = "did not pass the ping health check"
_MOST_BACKOFF_SECONDS = 30.0
"""Longest wait between attempts to replace an instance that does not start."""

_DIRECT = build_opener(ProxyHandler({}))
"""Instances are on this machine: whatever proxy the environment names is not for them."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a container said."""

    status: int
    content_type: str
    body: bytes


@dataclass
class _Instance:
    number: int
    process: Process
    where: Callable[[], str]
    tail: Tail
    url: str = ""
    """Where it answers; empty while that is not known, which is before it is in service."""

    outstanding: int = 0

    def healthy(self) -> bool:
        """Whether it answers /ping."""
        self.url = self.url or self.where()
        return bool(self.url) and _healthy(self.url)


class StartFailed(Exception):
    """An instance did not come into service; says how and why, to go on after the name of its container."""


class Fleet:
    """Instances of one variant.

    `begin(log)` starts one and returns it with what tells its URL (empty: not known yet);
    `on_lines(number, lines)` takes what instance `number` prints; a start ends when `give_up` is set.
    """

    def __init__(
        self,
        *,
        begin: Callable[[Path], tuple[Process, Callable[[], str]]],
        log_dir: Path,
        on_lines: Callable[[int, list[str]], None],
        start_seconds: float,
        give_up: threading.Event,
    ) -> None:
        self._start_one = begin
        self._log_dir = log_dir
        self._on_lines = on_lines
        self._start_seconds = start_seconds
        self._instances: list[_Instance] = []
        self._give_up = give_up
        self._started = 0
        self._count = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name=f"fleet {log_dir.name}", daemon=True)

    @property
    def urls(self) -> list[str]:
        """Where the instances in service answer."""
        with self._lock:
            return [instance.url for instance in self._instances]

    def start(self, count: int) -> None:
        """Start `count` instances, wait until all answer, then keep that many. Raises StartFailed."""
        begun: list[_Instance] = []
        try:
            for _ in range(count):
                begun.append(self._begin())
            for instance in begun:
                self._wait_until_healthy(instance)
        except BaseException:
            _end_all(begun)
            raise
        with self._lock:
            self._instances += begun
            self._count = count
        self._watcher.start()

    @contextlib.contextmanager
    def least_busy(self) -> Iterator[str]:
        """The URL of the living instance with the fewest requests, counted as busy. Raises ConnectionError."""
        with self._lock:
            alive = [instance for instance in self._instances if instance.process.poll() is None]
            if not alive:
                raise ConnectionError("no instance is in service")
            chosen = min(alive, key=lambda instance: instance.outstanding)
            chosen.outstanding += 1
        try:
            yield chosen.url
        finally:
            with self._lock:
                chosen.outstanding -= 1

    def ask(self, url: str, body: bytes, *, content_type: str, accept: str) -> Answer:
        """Send one request to the instance at `url`. Raises ConnectionError when it does not answer."""
        request = Request(  # noqa: S310  (the URL is ours)
            url + contract.INVOCATIONS_PATH, data=body, headers={"Content-Type": content_type, "Accept": accept}
        )
        try:
            with _DIRECT.open(request, timeout=_INVOCATION_SECONDS) as response:
                return Answer(
                    status=response.status, content_type=response.headers.get_content_type(), body=response.read()
                )
        except HTTPError as error:
            with error:
                return Answer(status=error.code, content_type=error.headers.get_content_type(), body=error.read())
        except (URLError, http.client.HTTPException, OSError) as error:
            raise ConnectionError(str(error)) from error

    def close(self) -> None:
        """Let requests in flight end, then stop every instance."""
        self._closed.set()
        if self._watcher.is_alive():
            self._watcher.join()
        with self._lock:
            leaving, self._instances = self._instances, []
        deadline = time.monotonic() + _DRAIN_SECONDS
        while any(instance.outstanding for instance in leaving) and time.monotonic() < deadline:
            time.sleep(0.05)
        _end_all(leaving)

    def _begin(self) -> _Instance:
        self._started += 1
        number = self._started
        log = self._log_dir / f"instance-{number}.log"
        log.touch()
        process, where = self._start_one(log)
        tail = Tail(log, lambda lines: self._on_lines(number, lines))
        return _Instance(number=number, process=process, where=where, tail=tail)

    def _wait_until_healthy(self, instance: _Instance) -> None:
        deadline = time.monotonic() + self._start_seconds
        while not instance.healthy():
            status = instance.process.poll()
            if status is not None:
                if cause := instance.process.cause():
                    raise StartFailed(cause.what)
                raise StartFailed(f"{_UNHEALTHY}: it ended with exit code {status} before it answered /ping")
            if time.monotonic() > deadline:
                raise StartFailed(f"{_UNHEALTHY}: it did not answer /ping with 200 within {self._start_seconds:.0f} s")
            if self._give_up.wait(0.1) or self._closed.is_set():
                raise StartFailed("was given up: the endpoint was deleted while it started")

    def _watch(self) -> None:
        """Replace instances that end; one that does not start is tried again, ever more slowly."""
        backoff = _WATCH_SECONDS
        while not self._closed.wait(backoff):
            with self._lock:
                dead = [instance for instance in self._instances if instance.process.poll() is not None]
                self._instances = [instance for instance in self._instances if instance not in dead]
                missing = self._count - len(self._instances)
            for instance in dead:
                status, cause = instance.process.wait(), instance.process.cause()
                what = cause.what if cause else f"ended with exit code {status}"
                self._on_lines(instance.number, [f"kennel: the instance {what}; another replaces it"])
            _end_all(dead)
            replaced = [self._start_replacement() for _ in range(missing)]
            backoff = _WATCH_SECONDS if all(replaced) else min(backoff * 2, _MOST_BACKOFF_SECONDS)

    def _start_replacement(self) -> bool:
        try:
            replacement = self._begin()
        except (OSError, errors.KennelError) as error:  # no processes, files, networks or engine left: this may pass
            self._on_lines(self._started, [f"kennel: no replacement: {error}"])
            return False
        try:
            self._wait_until_healthy(replacement)
        except StartFailed as failure:
            self._on_lines(self._started, [f"kennel: the replacement {failure}"])
            _end_all([replacement])
            return False
        with self._lock:
            self._instances.append(replacement)
        return True


def _healthy(url: str) -> bool:
    try:
        with _DIRECT.open(url + contract.PING_PATH, timeout=_PING_SECONDS) as response:
            return bool(response.status == 200)
    except (URLError, http.client.HTTPException, OSError):
        return False


def _end_all(instances: list[_Instance]) -> None:
    for instance in instances:
        instance.process.ask_to_stop()
    for instance in instances:
        instance.process.stop()
        instance.tail.finish()
