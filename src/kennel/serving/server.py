"""A serving instance from start to end: the model checked, multi-model-server up, the gate open.

An instance is healthy or dead. When multi-model-server ends, or no prediction has succeeded for too
long, everything is ended and the exit status says so; whoever runs the container starts a new one.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from kennel import contract, errors
from kennel.contract import ContentType
from kennel.serving import gate as gates
from kennel.serving import health as healths
from kennel.serving import model as models
from kennel.serving import modelserver
from kennel.serving.backend import Backend
from kennel.serving.gate import Gate, Limits
from kennel.serving.health import Health
from kennel.serving.model import Model
from kennel.serving.settings import Settings
from kennel.serving.supervisor import ModelServer

PROBE_SECONDS: Final = 10.0
"""Longest that a probe may take; a picture of 25 megapixels before it in the queue takes one."""

_WATCH_SECONDS: Final = 1.0
_START_PAUSE: Final = 0.05


def run(settings: Settings, *, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises InvalidArguments, InvalidModel, or Unavailable when it fell ill."""
    listening = bind(settings.host, settings.port)
    try:
        model = models.verify(settings.model_dir)
        java = modelserver.find_java(settings.search_path)
        asyncio.run(_serve(settings, model, java=java, listening=listening, environment=environment, say=say))
    finally:
        listening.close()


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to the address, not yet listening; raises InvalidArguments when it is taken or not ours."""
    where = f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise errors.InvalidArguments(
            f"no such address: {error.strerror}", where=where, hint=f"Set {contract.SERVING_HOST_ENV}."
        ) from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise errors.InvalidArguments(
            f"cannot listen there: {error.strerror}",
            where=where,
            hint=f"Set {contract.SERVING_PORT_ENV} to a free port; 0 takes any.",
        ) from None
    return bound


async def _serve(
    settings: Settings,
    model: Model,
    *,
    java: str,
    listening: socket.socket,
    environment: Mapping[str, str],
    say: Callable[[str], None],
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    directory = Path(tempfile.mkdtemp(prefix="kennel-serving-")).resolve()
    limits = Limits(slots=2 * settings.workers)
    layout = modelserver.layout(
        directory,
        java=java,
        package=modelserver.installed(),
        model_dir=settings.model_dir,
        workers=settings.workers,
        threads=settings.threads,
        # A little longer than the gate waits: the gate's words are the better ones.
        response_seconds=int(limits.answer_seconds) + 5,
    )
    server = await ModelServer.start(layout, directory, environment=environment)
    backend = Backend(layout.socket)
    health = Health(_probe(backend, model), clock=time.monotonic)
    gate = Gate(backend, health, limits)
    try:
        await gate.listen(listening)
        host, port = listening.getsockname()[:2]
        say(gates.announced(host, port))
        await _until_stopped_or_ill(settings, server, health, stop, say)
        if not await gate.drain():
            say(json.dumps({"event": "requests dropped"}))
    finally:
        await gate.close()
        await health.close()
        await backend.close()
        await server.stop()


async def _until_stopped_or_ill(
    settings: Settings, server: ModelServer, health: Health, stop: asyncio.Event, say: Callable[[str], None]
) -> None:
    """Return when told to stop; raise when the server ended, never started, or stopped predicting."""
    stopped = asyncio.create_task(stop.wait())
    ended = asyncio.create_task(server.ended())
    watched = asyncio.create_task(_watch(settings, health, say))
    try:
        await asyncio.wait({stopped, ended, watched}, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            return
        if watched.done():
            watched.result()
        raise errors.Unavailable(
            f"multi-model-server ended with status {ended.result()}", hint="Its last words are in the log above."
        )
    finally:
        for task in (stopped, ended, watched):
            task.cancel()
        await asyncio.gather(stopped, ended, watched, return_exceptions=True)


async def _watch(settings: Settings, health: Health, say: Callable[[str], None]) -> None:
    """Probe until the first success, then whenever it was quiet; raises when that fails for too long."""
    began = time.monotonic()
    while not await health.check():
        if time.monotonic() - began > settings.start_seconds:
            raise errors.Unavailable(
                f"no prediction succeeded within {settings.start_seconds:g} seconds of the start",
                hint="The log above may say why.",
            )
        await asyncio.sleep(_START_PAUSE)
    say(json.dumps({"event": "ready", "seconds": round(time.monotonic() - began, 3)}))
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        if health.silence() > healths.BUSY_SECONDS:
            await health.check()
        if health.silence() > settings.silence_seconds:
            raise errors.Unavailable(f"no prediction succeeded for {health.silence():.0f} seconds")


def _probe(backend: Backend, model: Model) -> Callable[[], Awaitable[bool]]:
    """One real prediction, of the artefact's own example or of a generated picture."""
    body, kind = (
        (healths.grey_png(), ContentType.PNG)
        if model.example is None
        else (model.example.read_bytes(), ContentType.JPEG)
    )

    async def probe() -> bool:
        try:
            reply = await backend.invoke(body, kind, seconds=PROBE_SECONDS)
        except errors.Unavailable:
            return False
        if reply.status == 500:
            failure = json.loads(reply.body)["error"]
            if failure["code"] == errors.InvalidModel.code:  # waiting will not mend it
                raise errors.InvalidModel(failure["message"])
        return reply.status == 200

    return probe
