"""The one door of a serving instance: `GET /ping`, `POST /invocations`, and 404 for anything else.

`PUT /invocations` is the same for an image of any kind: what `curl -T image.jpg` sends.

It keeps from multi-model-server what that handles badly: oversized bodies, overload, content types it
would act on, and everybody else's path. It must not look into a body; what a request means is the data
plane's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from aiohttp import web

from kennel import contract, errors
from kennel.serving.backend import Reply
from kennel.serving.health import Health
from kennel.serving.wire import SNIFFED, error_body

_RETRY_SECONDS: Final = "1"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much a gate holds at once, and for how long."""

    slots: int
    """Requests that multi-model-server has at a time. The rest wait here, where they cost a body and no heap."""
    requests: int = 100
    """Requests under way, waiting ones included; more are refused with 503."""
    request_bytes: int = 64 * 1024 * 1024
    """Bodies under way together; a request that does not say its length counts as the longest."""
    payload_bytes: int = contract.MAX_PAYLOAD_BYTES
    body_seconds: float = 25.0
    """Time for a body to arrive."""
    answer_seconds: float = 50.0
    """Time for an answer after that, the wait for a slot included; SageMaker gives up at 60."""
    drain_seconds: float = 20.0
    """Time for requests under way to finish after SIGTERM; SageMaker's SIGKILL comes at 30."""


class Invokes(Protocol):
    """What the gate needs of a backend."""

    async def invoke(self, body: bytes, content_type: str, *, seconds: float) -> Reply:
        """The reply to one request; raises Unavailable."""
        ...


class Gate:
    """Answers HTTP for one backend."""

    def __init__(self, backend: Invokes, health: Health, limits: Limits) -> None:
        self._backend = backend
        self._health = health
        self._limits = limits
        self._slots = asyncio.Semaphore(limits.slots)
        self._requests = 0
        self._bytes = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._runner: web.AppRunner | None = None
        self._site: web.SockSite | None = None

    async def listen(self, listening: socket.socket) -> None:
        """Serve on a bound socket until `drain`."""
        app = web.Application()
        app.on_response_prepare.append(_unnamed)
        app.router.add_route("*", "/{path:.*}", self._handle, expect_handler=self._expect)
        # Bodies stay as they are sent: one that unpacks to gigabytes is refused, not unpacked.
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, auto_decompress=False, shutdown_timeout=1.0
        )
        await self._runner.setup()
        self._site = web.SockSite(self._runner, listening, backlog=128)
        await self._site.start()

    async def drain(self) -> bool:
        """Stop accepting, and let what is under way finish; False if some of it did not in time."""
        self._draining = True
        if self._site is not None:
            await self._site.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), self._limits.drain_seconds)
        return self._requests == 0

    async def close(self) -> None:
        """Close every connection."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        try:
            match request.method, request.path:
                case "GET", contract.PING_PATH:
                    return await self._ping()
                case "POST", contract.INVOCATIONS_PATH:
                    return await self._invoke(request, content_type=request.headers.get("Content-Type", ""))
                case "PUT", contract.INVOCATIONS_PATH:
                    return await self._invoke(request, content_type=request.headers.get("Content-Type", SNIFFED))
            raise errors.NotFound(
                "there is nothing here",
                hint=f"The paths are GET {contract.PING_PATH} and POST {contract.INVOCATIONS_PATH}.",
            )
        except errors.KennelError as error:
            return self._refusal(error, request)
        except (aiohttp.ClientError, ConnectionError):  # the caller went away in the middle of its body
            return self._refusal(errors.BadRequest("the body did not arrive"), request)

    async def _ping(self) -> web.Response:
        if self._draining or not await self._health.ping():
            raise errors.Unavailable("predictions do not succeed" if self._health.started else "the model is loading")
        return web.Response(body=b'{"status":"healthy"}', content_type="application/json")

    async def _invoke(self, request: web.Request, *, content_type: str) -> web.Response:
        length = self._checked_length(request)
        if self._draining:
            raise errors.Unavailable("this instance is stopping", hint="Try again: another instance will answer.")
        if not self._health.started:
            raise errors.Unavailable("the model is loading", hint="Try again in a few seconds.")
        reserved = self._limits.payload_bytes if length is None else length
        if self._requests >= self._limits.requests or self._bytes + reserved > self._limits.request_bytes:
            raise errors.Unavailable("too many requests are waiting", hint="Try again in a second.")
        self._requests += 1
        self._bytes += reserved
        self._idle.clear()
        try:
            body = await self._read(request)
            reply = await self._ask(body, content_type)
        finally:
            self._requests -= 1
            self._bytes -= reserved
            if self._requests == 0:
                self._idle.set()
        if reply.status == 200:
            self._health.proved()
        return web.Response(status=reply.status, body=reply.body, content_type="application/json")

    async def _ask(self, body: bytes, content_type: str) -> Reply:
        seconds = self._limits.answer_seconds
        try:
            async with asyncio.timeout(seconds):
                async with self._slots:
                    return await self._backend.invoke(body, content_type, seconds=seconds)
        except TimeoutError:
            raise errors.Unavailable(f"no answer within {seconds:g} seconds", hint="Try again later.") from None

    async def _read(self, request: web.Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > self._limits.payload_bytes:
                        raise self._too_large()
        except TimeoutError:
            raise errors.BadRequest(f"the body did not arrive within {self._limits.body_seconds:g} seconds") from None
        return bytes(body)

    def _checked_length(self, request: web.Request) -> int | None:
        """The announced length of the body, None if it is not announced; refuses what need not be read."""
        if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise errors.UnsupportedMediaType("compressed bodies are not accepted", hint="Send the bytes as they are.")
        length = request.content_length
        if length is not None and length > self._limits.payload_bytes:
            raise self._too_large()
        return length

    async def _expect(self, request: web.Request) -> web.Response | None:
        """Answer `Expect: 100-continue`: a client that asks first is refused before it sends."""
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            try:
                self._checked_length(request)
            except errors.KennelError as error:
                return self._refusal(error, request)
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    def _too_large(self) -> errors.PayloadTooLarge:
        return errors.PayloadTooLarge(
            f"the body is larger than {self._limits.payload_bytes:,} bytes", hint="Send a smaller picture."
        )

    def _refusal(self, error: errors.KennelError, request: web.Request) -> web.Response:
        response = web.Response(status=int(error.status), body=error_body(error), content_type="application/json")
        if isinstance(error, errors.Unavailable):
            response.headers["Retry-After"] = _RETRY_SECONDS
        if self._draining or not request.content.is_eof():
            response.force_close()  # the rest of the body is not wanted
        return response


async def _unnamed(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = "kennel"  # versions of libraries are nobody's business


def announced(host: str, port: int) -> str:
    """The line that says where a gate listens, as JSON for whoever started it."""
    return json.dumps({"event": "listening", "host": host, "port": port})
