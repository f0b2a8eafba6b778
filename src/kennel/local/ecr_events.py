"""Tells EventBridge of images that are pushed: ECR does, but the registry beside the local AWS tells nobody.

So the tags of the repositories that an enabled rule names are looked at every couple of seconds, as long as there is
such a rule. What is there when that begins was not pushed since.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from kennel.local.events import EventBus
from kennel.local.wire import ServiceError

LOG = logging.getLogger(__name__)

SOURCE: Final = "aws.ecr"
DETAIL_TYPE: Final = "ECR Image Action"


class Pushes:
    """Watches repositories from `start` to `close`, in a thread of its own."""

    def __init__(
        self, *, bus: EventBus, list_images: Callable[[dict[str, Any]], dict[str, Any]], seconds: float = 2.0
    ) -> None:
        """`list_images` is ECR's ListImages; `seconds` pass from look to look."""
        self._bus = bus
        self._list_images = list_images
        self._seconds = seconds
        self._known: dict[str, set[str]] = {}
        self._closed = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Watch from now on; once is enough."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="ECR pushes", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(self._seconds + 5)

    def look(self) -> None:
        """Look once, and tell of each digest that is new. Raises ServiceError and what clients raise."""
        named = repositories_of(rule["EventPattern"] for rule in self._bus.rules())
        self._known = {name: digests for name, digests in self._known.items() if name in named}
        for name in sorted(named):
            tagged = self._tagged(name)
            known = self._known.setdefault(name, set(tagged))
            for digest in tagged.keys() - known:
                known.add(digest)
                detail = {
                    "result": "SUCCESS",
                    "repository-name": name,
                    "image-digest": digest,
                    "action-type": "PUSH",
                    "image-tag": tagged[digest],
                }
                self._bus.emit(source=SOURCE, detail_type=DETAIL_TYPE, detail=detail)

    def _tagged(self, repository: str) -> dict[str, str]:
        """Digest → a tag of it."""
        found: dict[str, str] = {}
        request: dict[str, Any] = {"repositoryName": repository}
        while True:
            page = self._list_images(request)
            found |= {image["imageDigest"]: image["imageTag"] for image in page["imageIds"]}
            if "nextToken" not in page:
                return found
            request["nextToken"] = page["nextToken"]

    def _watch(self) -> None:
        while not self._closed.wait(self._seconds):
            try:
                self.look()
            except (ServiceError, ClientError, BotoCoreError) as error:  # no registry, a repository that is gone: later
                LOG.debug("pushes cannot be watched: %s", error)


def repositories_of(patterns: Iterable[str]) -> frozenset[str]:
    """Names of repositories whose pushes the patterns ask for.

    >>> sorted(repositories_of(['{"source": ["aws.ecr"], "detail": {"repository-name": ["a", "b"]}}']))
    ['a', 'b']
    """
    return frozenset(name for pattern in patterns for name in _named(json.loads(pattern)))


def _named(pattern: Mapping[str, Any]) -> list[str]:
    if SOURCE not in pattern.get("source", []):
        return []
    names = pattern.get("detail", {}).get("repository-name", [])
    return [name for name in names if isinstance(name, str)]
