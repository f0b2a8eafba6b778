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

from kennel import contract
from kennel.local.logs import Tail
from kennel.local.processes import Supervised
from kennel.local.runtimes.runtime import Runtime

_PING_SECONDS = 2.0
"""A container must answer /ping within 2 s (SageMaker's contract)."""

_INVOCATION_SECONDS = 60.0
"""A container must answer /invocations within 60 s (SageMaker's contract)."""

_DRAIN_SECONDS = 30.0
_WATCH_SECONDS = 0.5
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
    process: Supervised
    url: str
    tail: Tail
    outstanding: int = 0


class StartFailed(Exception):
    """An instance did not answer /ping in time; says why."""


class Fleet:
    """Instances of one variant.

    `on_lines(number, lines)` takes what instance `number` prints; a start ends when `give_up` is set.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        model_dir: Path,
        log_dir: Path,
        environment: dict[str, str],
        on_lines: Callable[[int, list[str]], None],
        start_seconds: float,
        give_up: threading.Event,
    ) -> None:
        self._runtime = runtime
        self._model_dir = model_dir
        self._log_dir = log_dir
        self._environment = environment
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
        process, url = self._runtime.start_instance(model_dir=self._model_dir, log=log, environment=self._environment)
        return _Instance(process=process, url=url, tail=Tail(log, lambda lines: self._on_lines(number, lines)))

    def _wait_until_healthy(self, instance: _Instance) -> None:
        deadline = time.monotonic() + self._start_seconds
        while not _healthy(instance.url):
            status = instance.process.poll()
            if status is not None:
                raise StartFailed(f"the container ended with exit code {status} before it answered /ping")
            if time.monotonic() > deadline:
                raise StartFailed(f"the container did not answer /ping with 200 within {self._start_seconds:.0f} s")
            if self._give_up.wait(0.1) or self._closed.is_set():
                raise StartFailed("the endpoint was deleted while it started")

    def _watch(self) -> None:
        """Replace instances that end; one that does not start is tried again, ever more slowly."""
        backoff = _WATCH_SECONDS
        while not self._closed.wait(backoff):
            with self._lock:
                dead = [instance for instance in self._instances if instance.process.poll() is not None]
                self._instances = [instance for instance in self._instances if instance not in dead]
                missing = self._count - len(self._instances)
            _end_all(dead)
            replaced = [self._start_replacement() for _ in range(missing)]
            backoff = _WATCH_SECONDS if all(replaced) else min(backoff * 2, _MOST_BACKOFF_SECONDS)

    def _start_replacement(self) -> bool:
        try:
            replacement = self._begin()
        except OSError as error:  # no processes or files left: this may pass
            self._on_lines(self._started, [f"kennel: replacement failed: {error}"])
            return False
        try:
            self._wait_until_healthy(replacement)
        except StartFailed as failure:
            self._on_lines(self._started, [f"kennel: replacement failed: {failure}"])
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
