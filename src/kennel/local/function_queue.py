"""Holds asynchronous invocations until they are due, and hands them to worker threads.

What is queued lives in memory: it is lost when this process ends. It decides nothing about retries; `run` does, by
returning the delay after which the event must run again.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class QueuedEvent:
    """One asynchronous invocation. `attempts` and `throttles` count what was tried; `born` is a clock's seconds."""

    name: str
    qualifier: str | None
    payload: bytes
    request_id: str
    born: float
    attempts: int = 0
    throttles: int = 0


Run = Callable[[QueuedEvent], tuple[QueuedEvent, float] | None]
"""Handles an event; returns it changed, with a delay in seconds, if it must run again."""


class EventQueue:
    """Worker threads over a queue ordered by due time."""

    def __init__(self, run: Run, *, workers: int, clock: Callable[[], float]) -> None:
        self._run = run
        self._clock = clock
        self._condition = threading.Condition()
        self._order = itertools.count()
        self._heap: list[tuple[float, int, QueuedEvent]] = []
        self._running = 0
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"function-queue-{n}", daemon=True) for n in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, event: QueuedEvent, delay: float = 0.0) -> None:
        """Queue an event, to run after `delay` seconds."""
        with self._condition:
            heapq.heappush(self._heap, (self._clock() + delay, next(self._order), event))
            self._condition.notify()

    def drain(self, timeout: float) -> bool:
        """Wait until nothing is queued or running; False if that takes longer than `timeout` seconds."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._heap and not self._running, timeout)

    def _work(self) -> None:
        while True:
            with self._condition:
                while not self._closed and (not self._heap or self._heap[0][0] > self._clock()):
                    self._condition.wait(self._heap[0][0] - self._clock() if self._heap else None)
                if self._closed:
                    return
                _, _, event = heapq.heappop(self._heap)
                self._running += 1
            again = None
            try:
                again = self._run(event)
            finally:
                with self._condition:
                    self._running -= 1
                    if again is not None:
                        self.put(*again)
                    self._condition.notify_all()

    def begin_close(self) -> None:
        """Drop what is queued, and take nothing more from the queue."""
        with self._condition:
            self._closed = True
            self._heap.clear()
            self._condition.notify_all()

    def close(self) -> None:
        """Drop what is queued and wait for what runs."""
        self.begin_close()
        for thread in self._threads:
            thread.join()
