"""multi-model-server seen from the gate: one request over its Unix socket.

Every response that is not our handler's own becomes Unavailable here; its words are about queues and
workers, which are none of the caller's business.
"""

from __future__ import annotations

import asyncio
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from kennel import errors
from kennel.serving.modelserver import PREDICTIONS_PATH
from kennel.serving.wire import ANSWER_HEADER, CONTENT_TYPE_HEADER

_CONTENT_TYPE_CHARACTERS: Final = 200


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What the handler answered: HTTP status and JSON body."""

    status: int
    body: bytes


class Backend:
    """A client of one multi-model-server."""

    def __init__(self, socket: Path) -> None:
        """Make it inside the event loop that will use it."""
        # A new connection each time costs a tenth of a millisecond on a Unix socket, and a pooled one may be
        # closed under a POST that must not be sent twice.
        connector = aiohttp.UnixConnector(path=str(socket), force_close=True, limit=0)
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=None), auto_decompress=False
        )

    async def invoke(self, body: bytes, content_type: str, *, seconds: float) -> Reply:
        """The handler's reply to one request; raises Unavailable when there is none within `seconds`."""
        headers = {
            "Content-Type": "application/octet-stream",
            CONTENT_TYPE_HEADER: content_type[:_CONTENT_TYPE_CHARACTERS].encode("ascii", "replace").decode(),
        }
        try:
            async with (
                asyncio.timeout(seconds),
                # A file, because aiohttp warns of large bodies as bytes.
                self._session.post(
                    f"http://localhost{PREDICTIONS_PATH}", data=io.BytesIO(body), headers=headers
                ) as response,
            ):
                answered = await response.read()
                if ANSWER_HEADER in response.headers:
                    return Reply(status=response.status, body=answered)
        except TimeoutError:
            raise errors.Unavailable(f"no answer within {seconds:g} seconds", hint="Try again later.") from None
        except (aiohttp.ClientError, OSError):
            raise errors.Unavailable("the model is not answering", hint="Try again in a few seconds.") from None
        raise errors.Unavailable("the model cannot take this request now", hint="Try again in a few seconds.")

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()
