"""Shows an execution: lines as things happen, bars for what runs (on a terminal), a summary at the end.

Reads events and results; calls no API.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from kennel.pipeline.events import (
    Event,
    ExecutionEnded,
    JobEnded,
    JobStarted,
    Metrics,
    StateEnded,
    StateEntered,
)
from kennel.pipeline.events import Progress as JobProgress

_QUIET_KINDS = ("Polls", "Poll", "?")
"""How states that only decide or count end; they are left out of what people read."""

_MARKS = {"succeeded": "[green]✓[/]", "caught": "[yellow]↷[/]", "failed": "[red]✗[/]"}


class Display:
    """One execution on one console."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}
        self._short: dict[str, str] = {}
        self._over: set[str] = set()

    @contextmanager
    def live(self) -> Iterator[None]:
        """While inside, bars move."""
        with self._progress:
            yield

    def show(self, event: Event) -> None:
        """Say what happened."""
        match event:
            case StateEntered() | StateEnded() if _is_quiet(event.name) or event.name in self._over:
                pass  # it only decides or counts, or it is a loop's next round
            case StateEntered():
                self._line(f"[bold]{escape(event.name)}[/]")
                self._begin(event.name, event.name, total=None)
            case StateEnded():
                self._end(event.name)
                self._over.add(event.name)
                mark, why = _MARKS.get(event.status, ""), f" [yellow]{escape(event.error)}[/]" if event.error else ""
                self._line(f"{mark} {escape(event.name)} [dim]{event.seconds:.1f} s[/]{why}")
            case JobStarted():
                short = self._short[event.name] = _short(event.name)
                tuned = " ".join(f"{name}={_number(value)}" for name, value in event.tuned.items())
                hosts = f" on {event.hosts} hosts" if event.hosts > 1 else ""
                self._line(f"  [cyan]{short}[/] started{hosts} {escape(tuned)}")
                self._begin(event.name, short, total=1.0)
            case JobEnded():
                self._end(event.name)
                objective = "" if event.objective is None else f" objective [bold]{event.objective:.4f}[/]"
                colour = "green" if event.status == "Completed" else "red"
                self._line(f"  [cyan]{self._name(event.name)}[/] [{colour}]{event.status}[/]{objective}")
                if event.reason:
                    self._line(f"    [red]{escape(event.reason.splitlines()[0])}[/]")
            case Metrics():
                when = "final   " if event.epoch is None else f"epoch {event.epoch:>2}"
                self._line(f"  [cyan]{self._name(event.job)}[/] {when} {_metrics(event.values)}")
            case JobProgress() if event.job in self._bars:
                self._progress.update(self._bars[event.job], completed=event.fraction)
            case ExecutionEnded():
                for name in list(self._bars):
                    self._end(name)
            case _:
                pass

    def _name(self, job: str) -> str:
        return self._short.get(job, _short(job))

    def _line(self, text: str) -> None:
        self._console.print(f"[dim]{datetime.now():%H:%M:%S}[/] {text}", highlight=False, soft_wrap=True)

    def _begin(self, key: str, description: str, *, total: float | None) -> None:
        self._bars[key] = self._progress.add_task(description, total=total)

    def _end(self, key: str) -> None:
        if (task := self._bars.pop(key, None)) is not None:
            self._progress.remove_task(task)


@contextmanager
def counting(console: Console, description: str) -> Iterator[Any]:
    """A bar for a known number of things: yields `advance(done, of)`."""
    columns = (TextColumn(description), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of)


def summary(result: dict[str, Any], *, folder: str) -> Group:
    """Everything worth knowing at the end, in 80 columns."""
    parts: list[Any] = [_states(result)]
    if result["trials"]:
        parts.append(_leaderboard(result))
    if result["metrics"]:
        parts.append(_final_metrics(result))
    if result["prediction"]:
        parts.append(_prediction(result))
    if failure := result.get("failure"):
        parts.append(_failure(failure))
    parts.append(f"Results: {escape(folder)}")
    return Group(*parts)


def _states(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['execution']}: {result['status']}", title_justify="left")
    table.add_column("state")
    table.add_column("", justify="center")
    table.add_column("seconds", justify="right")
    visits: dict[str, list[dict[str, Any]]] = {}
    for state in result["states"]:
        if not _is_quiet(state["name"]):
            visits.setdefault(state["name"], []).append(state)
    for name, found in visits.items():  # a loop's rounds are one row
        seconds = sum(_seconds(state) for state in found)
        table.add_row(escape(name), _MARKS.get(found[-1]["status"], "?"), f"{seconds:.1f}")
    return table


def _leaderboard(result: dict[str, Any]) -> Table:
    trials = sorted(result["trials"], key=lambda trial: _rank(trial["objective"]))
    names = sorted({name for trial in trials for name in trial["hyperparameters"]})
    table = Table(title="Trials, best first", title_justify="left")
    table.add_column("trial")
    table.add_column("objective", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("status")
    for trial in trials:
        objective = "–" if trial["objective"] is None else f"{trial['objective']:.4f}"
        values = [_number(trial["hyperparameters"].get(name, "")) for name in names]
        table.add_row(_short(trial["name"]), objective, *values, trial["status"])
    return table


def _final_metrics(result: dict[str, Any]) -> Table:
    hosts = f"{result['hosts']} host{'s' if result['hosts'] != 1 else ''}"
    table = Table(title=f"Final training on {hosts}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in result["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    return table


def _prediction(result: dict[str, Any]) -> Table:
    table = Table(title=f"Endpoint {result['endpoint']} answers the smoke test", title_justify="left")
    table.add_column("label")
    table.add_column("probability", justify="right")
    table.add_column("", min_width=24)
    for prediction in result["prediction"]:
        bar = "█" * round(24 * prediction["probability"])
        table.add_row(escape(prediction["label"]), f"{prediction['probability']:.4f}", f"[green]{bar}[/]")
    return table


def _failure(failure: dict[str, Any]) -> Panel:
    job = f"\njob {escape(failure['job'])}" if failure.get("job") else ""
    tail = "".join(f"\n  {escape(line)}" for line in failure.get("log", []))
    text = f"[bold red]{escape(failure['error'])}[/] in {escape(failure['state'])}{job}\n{escape(failure['cause'])}"
    return Panel(text + (f"\n\nThe end of its log:{tail}" if tail else ""), title="Failed", title_align="left")


def _is_quiet(state: str) -> bool:
    return state.endswith(_QUIET_KINDS)


def _seconds(state: dict[str, Any]) -> float:
    if state["ended"] is None:
        return 0.0
    return (datetime.fromisoformat(state["ended"]) - datetime.fromisoformat(state["started"])).total_seconds()


def _short(job: str) -> str:
    """`kennel-20260101-120000-t0-003-1a2b3c4d` → `trial 3`; `…-train-0` → `training`."""
    parts = job.split("-")
    if len(parts) >= 3 and parts[-2].isdigit() and len(parts[-1]) == 8:
        return f"trial {int(parts[-2])}"
    return "training" if "train" in parts else job


def _number(value: str) -> str:
    try:
        return f"{float(value):.4g}"
    except ValueError:
        return str(value)


def _metrics(values: Any) -> str:
    words = []
    for split in ("train", "validation", "test"):
        found = [f"{name.partition(':')[2]} {value:.4f}" for name, value in values.items() if name.startswith(split)]
        if found:
            words.append(f"{split} {' '.join(found)}")
    return " [dim]│[/] ".join(words)


def _rank(objective: float | None) -> float:
    return math.inf if objective is None or math.isnan(objective) else objective
