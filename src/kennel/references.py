"""References to container images: `[registry/]repository[:tag][@digest]`, read as Docker reads them. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?:(?P<registry>(?:[^/@]*[.:][^/@]*|localhost))/)?(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """One image, or with neither tag nor digest, a repository. Registry, tag and digest may be empty."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether it is the name of a repository and nothing more."""
        return not (self.registry or self.tag or self.digest)

    def __str__(self) -> str:
        registry = f"{self.registry}/" if self.registry else ""
        tag = f":{self.tag}" if self.tag else ""
        return f"{registry}{self.repository}{tag}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str) -> Reference:
    """Read a reference. Raises ValueError for what is none.

    >>> parse("127.0.0.1:5000/kennel-serving:1")
    Reference(registry='127.0.0.1:5000', repository='kennel-serving', tag='1', digest='')
    >>> parse("team/kennel").is_plain
    True
    """
    found = _REFERENCE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no reference to an image")
    parts = found.groupdict(default="")
    return Reference(
        registry=parts["registry"], repository=parts["repository"], tag=parts["tag"], digest=parts["digest"]
    )


def problem(text: str) -> str | None:
    """Why `text` names no image; None if it does.

    >>> problem("Kennel")
    "is 'Kennel'; it must be a name such as kennel-serving, or [REGISTRY/]NAME[:TAG][@sha256:…]"
    >>> problem("127.0.0.1:5000/kennel")
    "is '127.0.0.1:5000/kennel'; an image in a registry needs a tag or a digest"
    """
    try:
        parsed = parse(text)
    except ValueError:
        return f"is {text!r}; it must be a name such as kennel-serving, or [REGISTRY/]NAME[:TAG][@sha256:…]"
    if parsed.registry and not (parsed.tag or parsed.digest):
        return f"is {text!r}; an image in a registry needs a tag or a digest"
    return None


def is_digest(text: str) -> bool:
    """Whether `text` is a digest by itself."""
    return _DIGEST.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether `text` can be a tag by itself."""
    return _TAG.fullmatch(text) is not None
