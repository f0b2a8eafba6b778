"""multi-model-server as a child that is started whole and ended whole.

It owns the child's directory and process group. It does not judge health: `health` does, and whoever
holds both ends this when it says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kennel.serving import modelserver, watchdog
from kennel.serving.modelserver import Layout

_STOP_SECONDS: Final = 6.0
"""The watchdog needs two at most; SageMaker's SIGKILL comes at 30, of which requests may use 20."""


class ModelServer:
    """One running multi-model-server, under its watchdog."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self._process = process
        self._directory = directory

    @classmethod
    async def start(cls, layout: Layout, directory: Path, *, environment: Mapping[str, str]) -> ModelServer:
        """Write the layout into `directory` (ours to remove) and start the command there, in a group of its own."""
        modelserver.write(layout, directory)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(watchdog.__file__),
            str(directory),
            *layout.command,
            stdin=asyncio.subprocess.PIPE,  # its end tells the watchdog that we are gone
            cwd=directory,
            env={**environment, **layout.environment},
            start_new_session=True,
        )
        return cls(process, directory)

    async def ended(self) -> int:
        """Wait until the server has ended by itself; its exit status."""
        return await self._process.wait()

    async def stop(self) -> None:
        """End the server, its workers and its directory, gently if that is quick."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        # If the watchdog was killed, the group still holds the workers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)
