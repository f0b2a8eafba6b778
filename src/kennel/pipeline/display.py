"""Shows an execution: lines as things happen, bars for what runs (on a terminal), a summary at the end.

Reads events and results; calls no API.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

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

_QUIET = re.compile(r".*(Polls|Poll|\?)|Describe.*|WaitFor.*")
"""States that only decide, count, look or wait: people read of them only when they fail."""

_WAIT = re.compile(r"WaitFor.*")
"""States of a loop: shown once, for as long as the loop goes on."""

_TOOLKIT = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ sagemaker-training-toolkit \w+\s+")
"""What SageMaker's toolkit begins its log lines with."""

_WIDTH = 80
_INDENT = 13
_REASON_LINES = 8
_CAUSE_LINES = 9
_LOG_LINES = 15

_MARKS = {"succeeded": "[green]✓[/]", "caught": "[yellow]↷[/]", "failed": "[red]✗[/]"}


class Display:
    """One execution on one console."""

    def __init__(self, console: Console, *, now: Callable[[], datetime]) -> None:
        """`now` is the clock that each line begins with."""
        self._console = console
        self._now = now
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn("{task.percentage:>3.0f} %", text_format_no_percentage="     "),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bars: dict[str, TaskID] = {}
        self._short: dict[str, str] = {}
        self._waits: dict[str, datetime] = {}

    @contextmanager
    def live(self) -> Iterator[None]:
        """While inside, bars move."""
        with self._progress:
            yield

    def show(self, event: Event) -> None:
        """Say what happened."""
        match event:
            case StateEntered() if _WAIT.fullmatch(event.name) and event.name not in self._bars:
                self._waits[event.name] = event.at
                self._line(f"[bold]{escape(event.name)}[/]")
                self._begin(event.name, event.name, total=None)
            case StateEntered() | StateEnded(status="succeeded") if _QUIET.fullmatch(event.name):
                pass
            case StateEntered():
                self._end_waits(event.at)
                self._line(f"[bold]{escape(event.name)}[/]")
                self._begin(event.name, event.name, total=None)
            case StateEnded():
                self._end_waits(event.at - timedelta(seconds=event.seconds))
                self._end(event.name)
                mark = _MARKS.get(event.status, "")
                why = f" [yellow]{escape(event.error)}, {event.status}[/]" if event.error else ""
                self._line(f"{mark} {escape(event.name)} [dim]{event.seconds:.1f} s[/]{why}")
            case JobStarted():
                short = self._short[event.name] = _short(event.name)
                tuned = " ".join(f"{name}={_number(value)}" for name, value in event.tuned.items())
                hosts = f" on {event.hosts} hosts" if event.hosts > 1 else ""
                self._line(f"  [cyan]{short:<8}[/] started{hosts} {escape(tuned)}".rstrip())
                self._begin(event.name, short, total=1.0)
            case JobEnded():
                self._end(event.name)
                objective = "" if event.objective is None else f" objective [bold]{event.objective:.4f}[/]"
                colour = "green" if event.status == "Completed" else "red"
                self._line(f"  [cyan]{self._name(event.name):<8}[/] [{colour}]{event.status}[/]{objective}")
                for line in _some_lines(event.reason, width=_WIDTH - _INDENT, most=_REASON_LINES):
                    self._console.print(f"{' ' * _INDENT}[red]{escape(line)}[/]", highlight=False, soft_wrap=True)
            case Metrics():
                when = "final   " if event.epoch is None else f"epoch {event.epoch:>2}"
                self._line(f"  [cyan]{self._name(event.job):<8}[/] {when} {_metrics(event.values)}")
            case JobProgress() if event.job in self._bars:
                self._progress.update(self._bars[event.job], completed=event.fraction)
            case ExecutionEnded():
                for name in list(self._bars):
                    self._end(name)
            case _:
                pass

    def _end_waits(self, at: datetime) -> None:
        for name, began in self._waits.items():
            self._end(name)
            self._line(f"{_MARKS['succeeded']} {name} [dim]{(at - began).total_seconds():.1f} s[/]")
        self._waits.clear()

    def _name(self, job: str) -> str:
        return self._short.get(job, _short(job))

    def _line(self, text: str) -> None:
        self._console.print(f"[dim]{self._now():%H:%M:%S}[/] {text}", highlight=False, soft_wrap=True)

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


def line(console: Console, text: str) -> None:
    """Say it as it is: names, paths and addresses are not folded, coloured or read as markup."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


@contextmanager
def sending(console: Console, description: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for bytes: yields `advance(done, of)`. Off a terminal, the description alone."""
    if not console.is_terminal:
        line(console, description)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=16), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(escape(description), total=None)
        yield lambda done, of: progress.update(task, completed=done, total=of or None)


@contextmanager
def steps(console: Console, description: str) -> Iterator[Callable[[str], None]]:
    """What is being done, and the last line of its output: yields `say(line)`. Off a terminal, the first alone."""
    if not console.is_terminal:
        line(console, description)
        yield lambda _: None
        return
    with console.status(escape(description)) as spinner:
        room = max(console.width - len(description) - 6, 10)
        yield lambda said: spinner.update(f"{escape(description)} [dim]{escape(said[:room])}[/]")


def summary(result: dict[str, Any], *, folder: str) -> Group:
    """Everything worth knowing at the end, in 80 columns."""
    parts: list[Any] = [_states(result)]
    if result["trials"]:
        parts.append(_leaderboard(result))
    if result["metrics"]:
        parts.append(_final_metrics(result))
    if result.get("mode") == "rollout":
        parts.append(_rolled_out(result))
    if result["prediction"]:
        parts.append(_prediction(result))
    if failure := result.get("failure"):
        parts.append(_failure(failure))
    parts.append(Text(f"Results: {folder}", overflow="fold", no_wrap=True))
    return Group(*parts)


def _states(result: dict[str, Any]) -> Group:
    title, table = f"{result['execution']}: {result['status']}", Table()
    table.add_column("state")
    table.add_column("", justify="center")
    table.add_column("seconds", justify="right")
    failing = result.get("failure", {}).get("state")
    visits: dict[str, list[dict[str, Any]]] = {}
    for state in result["states"]:
        if not _QUIET.fullmatch(state["name"]) or _WAIT.fullmatch(state["name"]) or state["status"] != "succeeded":
            visits.setdefault(state["name"], []).append(state)
    for name, found in visits.items():  # a loop's rounds are one row
        seconds = sum(_seconds(state) for state in found)
        # a failure that was caught only to clean up and fail is a failure to the reader
        status = "failed" if name == failing else found[-1]["status"]
        table.add_row(escape(name), _MARKS.get(status, "?"), f"{seconds:.1f}")
    return _titled(title, table)


def _leaderboard(result: dict[str, Any]) -> Group:
    objective = result.get("objective") or {"metric": "objective", "type": "Minimize"}
    highest = objective["type"] == "Maximize"
    trials = sorted(result["trials"], key=lambda trial: _rank(trial["objective"], highest=highest))
    names = sorted({name for trial in trials for name in trial["hyperparameters"]})
    better = "highest" if highest else "lowest"
    title, table = f"Trials by {objective['metric']}, {better} first", Table()
    table.add_column("trial", no_wrap=True)
    table.add_column("objective", justify="right", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("status", no_wrap=True)
    for trial in trials:
        reached = "–" if trial["objective"] is None else f"{trial['objective']:.4f}"  # noqa: RUF001  (no value)
        values = [escape(_number(trial["hyperparameters"].get(name, ""))) for name in names]
        colour = "green" if trial["status"] == "Completed" else "red"
        table.add_row(_short(trial["name"]), reached, *values, f"[{colour}]{trial['status']}[/]")
    return _titled(title, table)


def _final_metrics(result: dict[str, Any]) -> Group:
    hosts = f"{result['hosts']} host{'s' if result['hosts'] != 1 else ''}"
    title, table = f"Final training on {hosts}", Table()
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in result["metrics"].items():
        table.add_row(name, f"{value:.4f}")
    return _titled(title, table)


def _rolled_out(result: dict[str, Any]) -> Group:
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column(overflow="fold")
    table.add_row("image", Text(result["images"]["serving"]))
    table.add_row("model", Text(result["model"]))
    return _titled("Rolled out", table)


def _prediction(result: dict[str, Any]) -> Group:
    title, table = f"Endpoint {result['endpoint']} answers the smoke test", Table()
    table.add_column("label")
    table.add_column("probability", justify="right")
    table.add_column("", min_width=24)
    for prediction in result["prediction"]:
        bar = "█" * round(24 * prediction["probability"])
        table.add_row(escape(prediction["label"]), f"{prediction['probability']:.4f}", f"[green]{bar}[/]")
    return _titled(title, table)


def _titled(title: str, table: Table) -> Group:
    """A title of its own: a table's is folded to the table's width."""
    return Group(Text(title, style="bold"), table, "")


def _failure(failure: dict[str, Any]) -> Panel:
    inside = _WIDTH - 4
    lines = [f"[bold red]{escape(failure['error'])}[/] in [bold]{escape(failure['state'])}[/]"]
    if failure.get("job"):
        lines.append(f"job {escape(failure['job'])}")
    lines += ["", *(escape(line) for line in _some_lines(failure["cause"], width=inside, most=_CAUSE_LINES))]
    if tail := failure.get("log"):
        lines += ["", "[bold]The end of its log[/]"]
        for line in tail[-_LOG_LINES:]:
            shown = _some_lines(_TOOLKIT.sub("", line), width=inside, most=3)
            lines += [f"[dim]{escape(part)}[/]" for part in shown]
    return Panel("\n".join(lines), title="Failed", title_align="left", border_style="red", width=_WIDTH)


def _some_lines(text: str, *, width: int, most: int) -> list[str]:
    """`text` wrapped to `width`, at most `most` lines of it: what is longer is JSON or a traceback, and on file.

    The beginning says what failed, the end why; what lies between is left out.
    """
    lines = [wrapped for line in text.strip().splitlines() for wrapped in textwrap.wrap(line, width)]
    if len(lines) <= most:
        return lines
    end = most // 2
    return [*lines[: most - end - 1], f"… {len(lines) - most + 1} lines …", *lines[-end:]]


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
    """A tuned value comes JSON-quoted from the tuner; a number needs no 17 digits."""
    plain = value.strip('"')
    try:
        return f"{float(plain):.4g}"
    except ValueError:
        return plain


def _metrics(values: Mapping[str, float]) -> str:
    """`loss 1.099 acc 0.333 │ valid loss 1.250 acc 0.500`: it must fit beside the time and the name."""
    parts = []
    for split, shown in (("train", ""), ("validation", "valid "), ("test", "test ")):
        named = (("loss", values.get(f"{split}:loss")), ("acc", values.get(f"{split}:accuracy")))
        # an exploding loss must not push its line over the edge
        words = [
            f"{name} {value:.3f}" if value < 1000 else f"{name} {value:.0e}"
            for name, value in named
            if value is not None
        ]
        if words:
            parts.append(shown + " ".join(words))
    return " [dim]│[/] ".join(parts)


def _rank(objective: float | None, *, highest: bool) -> tuple[bool, float]:
    """What has no value ranks last in either direction."""
    if objective is None:
        return (True, 0.0)
    return (False, -objective if highest else objective)
