"""Whether real predictions succeed: multi-model-server's own /ping says yes over a dead worker.

Any prediction that succeeds is a proof, a caller's as well as our own probe's, so a busy server is not
probed on top. It decides nothing: the gate answers with it, `serve` ends the server by it.
"""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Awaitable, Callable
from typing import Final

FRESH_SECONDS: Final = 1.0
"""A proof this young is answered from memory: at most one probe a second."""

PATIENCE_SECONDS: Final = 1.8
"""How long a ping waits for a probe; SageMaker gives it two seconds."""

BUSY_SECONDS: Final = 5.0
"""A proof this young still counts when the probe is slow: a queue of large pictures is no illness."""


class Health:
    """The age of the last proof, and one probe at a time to renew it."""

    def __init__(self, probe: Callable[[], Awaitable[bool]], *, clock: Callable[[], float]) -> None:
        """`probe` sends one real prediction and says whether it succeeded; `clock` counts seconds."""
        self._probe = probe
        self._clock = clock
        self._proved: float | None = None
        self._running: asyncio.Task[bool] | None = None

    @property
    def started(self) -> bool:
        """True once there was a first proof."""
        return self._proved is not None

    def silence(self) -> float:
        """Seconds since the last proof; infinite before the first."""
        return float("inf") if self._proved is None else self._clock() - self._proved

    def proved(self) -> None:
        """A prediction has just succeeded."""
        self._proved = self._clock()

    async def check(self) -> bool:
        """Probe now, or join the probe that is running; True if it succeeded."""
        return await asyncio.shield(self._start())

    async def ping(self) -> bool:
        """What `GET /ping` answers, within PATIENCE_SECONDS."""
        if not self.started:
            return False
        if self.silence() <= FRESH_SECONDS:
            return True
        running = self._start()
        done, _ = await asyncio.wait({running}, timeout=PATIENCE_SECONDS)
        return running.result() if done else self.silence() <= BUSY_SECONDS

    async def close(self) -> None:
        """End a probe that is running."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    def _start(self) -> asyncio.Task[bool]:
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return self._running

    async def _run(self) -> bool:
        succeeded = await self._probe()
        if succeeded:
            self.proved()
        return succeeded


def grey_png(*, side: int = 8) -> bytes:
    """A small grey picture, for artefacts without an example: a probe needs a real image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    rows = (b"\x00" + b"\x80" * side) * side
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
