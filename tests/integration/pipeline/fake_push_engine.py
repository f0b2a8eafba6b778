"""An engine that says what Docker says of a push."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


class PushEngine:
    def __init__(self, *, digest: str, error: str = "") -> None:
        self.api = self
        self.digest = digest
        self.error = error
        self.tags: list[tuple[str, str, str]] = []
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.on_pushed: Callable[[str], object] = lambda digest: None

    def tag(self, image: str, repository: str, tag: str, force: bool) -> None:
        self.tags.append((image, repository, tag))

    def push(self, repository: str, *, tag: str, auth_config: dict[str, str], **_: Any) -> Iterator[dict[str, Any]]:
        self.asked.append((repository, tag, auth_config))
        yield {"status": f"The push refers to repository [{repository}]"}
        yield {"status": "Preparing", "progressDetail": {}, "id": "a"}
        yield {"status": "Layer already exists", "progressDetail": {}, "id": "a"}
        for current in (10, 30):
            yield {"status": "Pushing", "progressDetail": {"current": current, "total": 30}, "id": "b"}
        if self.error:
            yield {"errorDetail": {"message": self.error}, "error": self.error}
            return
        yield {"status": "Pushed", "progressDetail": {}, "id": "b"}
        self.on_pushed(self.digest)
        yield {"progressDetail": {}, "aux": {"Tag": tag, "Digest": self.digest, "Size": 1}}
