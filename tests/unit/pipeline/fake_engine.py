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
        """Name, or id, to id."""
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
        if tag := asked.get("tag"):
            self.images[tag] = "sha256:built"  # an engine does not wait for anybody to listen
        self.images["sha256:built"] = "sha256:built"
        return self._told({"aux": {"ID": "sha256:built"}})

    def push(self, repository: str, **asked: Any) -> Iterator[dict[str, Any]]:
        self.pushes.append({"repository": repository, **asked})
        return self._told()

    def _told(self, *last: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from self.events
        if self.fails:
            raise self.fails
        yield from last


class FakeEngine:
    def __init__(self, *events: dict[str, Any], fails: Exception | None = None) -> None:
        self.api = FakeApi(events=list(events), fails=fails)
