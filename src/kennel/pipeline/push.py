"""Brings an image to its repository, once: a tag that is there is never pushed again, so it never moves.

The order is that of cost: what can be refused is refused before anything is built, and built before it is sent.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException

from kennel.errors import InvalidArguments, KennelError, PipelineFailed, Unavailable
from kennel.pipeline import ecr
from kennel.pipeline.aws import Aws
from kennel.pipeline.images import Image

_SEEN_TRIES = 10
_SEEN_SECONDS = 1.0
_PRESENT = ("Layer already exists", "Mounted from")

Advance = Callable[[int, int], None]
"""Hears how many bytes have been sent, of how many."""


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """An image in its repository. `sent` is None if it was there already."""

    image: Image
    uri: str
    digest: str
    sent: int | None

    @property
    def pinned(self) -> str:
        """The image, whatever becomes of its tag."""
        return f"{self.uri}@{self.digest}"


def push(
    aws: Aws,
    engine: docker.DockerClient,
    image: Image,
    *,
    root: Path,
    hadolint: Path,
    build: Callable[[Image], object],
    sending: Callable[[], AbstractContextManager[Advance]],
) -> Pushed:
    """Have the image in its repository. Raises InvalidArguments if there is none.

    `build` and then `sending`, which shows how far it is, are called only if the image is not there.

    Raises Unavailable before anything is built where no registry answers, and where the way there breaks.
    """
    uri = ecr.repository_uri(aws, image.name)
    login = ecr.login(aws)
    if digest := ecr.digest_of(aws, image.name, image.tag):
        return Pushed(image=image, uri=uri, digest=digest, sent=None)
    scan(image, root=root, hadolint=hadolint)
    build(image)
    with sending() as advance:
        return _sent(aws, engine, image, uri=uri, login=login, advance=advance)


def scan(image: Image, *, root: Path, hadolint: Path) -> None:
    """Have hadolint read the Dockerfile. Raises InvalidArguments with all its findings at warning level or above."""
    own = root / ".hadolint.yaml"
    command = [str(hadolint), "--format", "json", *(["--config", str(own)] if own.is_file() else []), image.dockerfile]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        findings = json.loads(done.stdout or "null")
    except (OSError, ValueError) as error:
        raise KennelError(
            f"hadolint does not run: {error}", where=str(hadolint), hint="It comes with the package's extra `pipeline`."
        ) from error
    if findings is None:
        raise KennelError(f"hadolint failed: {done.stderr.strip()}", where=image.dockerfile)
    wrong = tuple(
        f"line {found['line']}: {found['code']} {found['level']}: {found['message']}"
        for found in findings
        if found["level"] in ("error", "warning")
    )
    if wrong:
        raise InvalidArguments(
            f"hadolint has {len(wrong)} finding{'s' if len(wrong) > 1 else ''}",
            where=image.dockerfile,
            hint="Nothing was built or pushed. Mend each, or say in .hadolint.yaml why it does not apply.",
            problems=wrong,
        )


def _sent(
    aws: Aws, engine: docker.DockerClient, image: Image, *, uri: str, login: ecr.Login, advance: Advance
) -> Pushed:
    """Send the image, which the engine has; layers that are there already are not sent again."""
    credentials = {"username": login.username, "password": login.password}
    try:
        engine.api.tag(str(image), uri, image.tag, force=True)
        events = engine.api.push(uri, tag=image.tag, auth_config=credentials, stream=True, decode=True)
        progress = _follow(events, f"{uri}:{image.tag}", advance)
    except (DockerException, OSError) as error:
        raise _broken(f"{uri}:{image.tag}", str(error)) from error
    _must_be_seen(aws, image, progress.digest)
    return Pushed(image=image, uri=uri, digest=progress.digest, sent=progress.sent)


@dataclass(kw_only=True)
class _Progress:
    """What the engine said so far. Bytes by layer: sent, and to be sent."""

    digest: str = ""
    current: dict[str, int] = field(default_factory=dict)
    total: dict[str, int] = field(default_factory=dict)

    @property
    def sent(self) -> int:
        return sum(self.current.values())


def _follow(events: Iterator[Mapping[str, Any]], where: str, advance: Advance) -> _Progress:
    progress = _Progress()
    with closing(events):  # type: ignore[type-var]
        for event in events:
            if "error" in event:
                raise _broken(where, str(event["error"]))
            layer, status = str(event.get("id", "")), str(event.get("status", ""))
            detail = event.get("progressDetail") or {}
            if status == "Pushing" and "current" in detail:
                progress.current[layer] = int(detail["current"])
                progress.total[layer] = max(int(detail.get("total", 0)), progress.current[layer])
            elif status.startswith(_PRESENT):
                progress.current.pop(layer, None)
                progress.total.pop(layer, None)
            progress.digest = str((event.get("aux") or {}).get("Digest", progress.digest))
            advance(progress.sent, sum(progress.total.values()))
    if not progress.digest:
        raise _broken(where, "the engine named no digest")
    return progress


def _must_be_seen(aws: Aws, image: Image, digest: str) -> None:
    """Raises PipelineFailed unless the registry, too, has that digest under the tag."""
    found = None
    for _ in range(_SEEN_TRIES):  # ECR may need a moment
        if found := ecr.digest_of(aws, image.name, image.tag):
            break
        time.sleep(_SEEN_SECONDS)
    if found != digest:
        raise PipelineFailed(
            f"the engine pushed {digest}, and the repository has {found or 'nothing'} under that tag", where=str(image)
        )


def _broken(where: str, why: str) -> Unavailable:
    return Unavailable(
        f"the push broke off: {why}",
        where=where,
        hint="Push again: layers that have arrived are not sent again.",
    )
