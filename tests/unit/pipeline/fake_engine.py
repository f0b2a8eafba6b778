"""A Docker engine that does what it is told: the events of builds and pushes are given, the calls are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from docker.errors import ImageNotFound


class FakeApi:
    def __init__(self, *, events: list[dict[str, Any]], fails: Exception | None = None) -> None:
        self.events = events
        self.fails = fails
        self.images: dict[str, str] = {}
        self.builds: list[dict[str, Any]] = []
        self.pushes: list[dict[str, Any]] = []
        self.on_build: Callable[[], None] = lambda: None

    def inspect_image(self, name: str) -> dict[str, Any]:
        if name not in self.images:
            raise ImageNotFound(f"no such image: {name}")
        return {"Id": self.images[name], "Size": 1000}

    def tag(self, image: str, repository: str, tag: str, force: bool) -> None:
        self.images[f"{repository}:{tag}"] = self.images.get(image, image)

    def build(self, **asked: Any) -> Iterator[dict[str, Any]]:
        self.builds.append(asked)
        self.on_build()
        return self._told(lambda: self.images.setdefault(asked["tag"], "sha256:built"))

    def push(self, repository: str, **asked: Any) -> Iterator[dict[str, Any]]:
        self.pushes.append({"repository": repository, **asked})
        return self._told(lambda: None)

    def _told(self, then: Callable[[], object]) -> Iterator[dict[str, Any]]:
        yield from self.events
        if self.fails:
            raise self.fails
        if not any("error" in event for event in self.events):
            then()


class FakeEngine:
    def __init__(self, *events: dict[str, Any], fails: Exception | None = None) -> None:
        self.api = FakeApi(events=list(events), fails=fails)
