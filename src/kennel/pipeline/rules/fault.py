"""What a rule yields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`where` is a logical id, a statement or a state; `what` is wrong there; `hint` says what to do."""

    where: str
    what: str
    hint: str


def unless(holds: bool, where: str, what: str, *, hint: str) -> Iterator[Fault]:
    """One fault, or none where it `holds`."""
    if not holds:
        yield Fault(where=where, what=what, hint=hint)
