"""Shows a stack while it is deployed or deleted: a line per resource, or one line that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from kennel.pipeline.stack import ResourceEvent

_COLOURS = {"COMPLETE": "green", "FAILED": "bold red", "IN_PROGRESS": "dim"}

Say = Callable[[str], None]
Told = Callable[[ResourceEvent], None]


@contextmanager
def progress(console: Console, *, in_lines: bool, doing: str = "Deploying") -> Iterator[tuple[Say, Told]]:
    """What tells of steps, and what tells of resources, while the block runs."""
    with console.status(doing) as spinner:

        def say(step: str) -> None:
            spinner.update(f"{doing} {escape(step)}")

        def told(event: ResourceEvent) -> None:
            if event.failed:
                console.print(f"  {line(event)}", highlight=False, soft_wrap=True)
                console.print(f"    {event.reason}", highlight=False, markup=False, soft_wrap=True)
            elif in_lines and event.status.endswith("_COMPLETE"):
                console.print(f"  {line(event)}", highlight=False, overflow="ellipsis", no_wrap=True)
            else:
                spinner.update(f"{doing} {event.name} ({event.type})")

        yield say, told


def line(event: ResourceEvent) -> str:
    """Status, logical id and type, with colours."""
    ended = next((end for end in _COLOURS if event.status.endswith(end)), "IN_PROGRESS")
    return f"[{_COLOURS[ended]}]{event.status:<19}[/] {event.name:<26.26} [dim]{event.type}[/]"
