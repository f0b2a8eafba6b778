"""Shows a plan in 80 columns: what changes, what it costs, what to look at. Computes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from kennel.pipeline.plans.costs import Step
from kennel.pipeline.plans.findings import Finding
from kennel.pipeline.plans.plan import Plan

Change = tuple[str, str, str, str]
"""Action (create, update, replace, delete), type, name, and why; the last may be empty."""

_MARKS = {"create": ("+", "green"), "update": ("~", "yellow"), "replace": ("±", "red"), "delete": ("-", "red")}
_LEVELS = {"error": ("✗", "red"), "warning": ("!", "yellow")}
_NAME_WIDTH = 36
_UNKNOWN = Text("unknown price", style="yellow")


def shown(plan: Plan, changes: Iterable[Change] = ()) -> Group:
    """All of it; without changes, the table of them is left out."""
    rows = list(changes)
    parts: list[Any] = [_changes(rows)] if rows else []
    parts += [_run(plan)] if plan.steps else []
    parts += [_monthly(plan), _prices(plan), *_findings(plan.findings)]
    return Group(*parts)


def _changes(rows: list[Change]) -> Group:
    counts = [f"{sum(row[0].lower() == action for row in rows)} to {action}" for action in _MARKS]
    title = Text(f"Resources: {', '.join(count for count in counts if not count.startswith('0 '))}", style="bold")
    width = min(max(len(name) for _, _, name, _ in rows), _NAME_WIDTH)
    return Group(title, Text(), *(_change(row, width) for row in rows), Text())


def _change(row: Change, width: int) -> Padding:
    action, kind, name, reason = row
    mark, colour = _MARKS.get(action.lower(), ("?", "yellow"))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(width=width, overflow="ellipsis", no_wrap=True)
    grid.add_column(overflow="ellipsis", no_wrap=True)
    grid.add_row(Text(mark, style=f"bold {colour}"), Text(name), Text(kind.removeprefix("AWS::"), style="dim"))
    because = [Padding(Text(reason, style=colour), (0, 0, 0, 2))] if reason else []
    return Padding(Group(grid, *because), (0, 1, 0, 1))


def _run(plan: Plan) -> Group:
    table = _table(footer=True)
    table.add_column("state", "at most", no_wrap=True)
    table.add_column("jobs", justify="right")
    table.add_column("instances", no_wrap=True)
    table.add_column("each", justify="right", no_wrap=True)
    table.add_column("USD", _money(plan.run_cost), justify="right", no_wrap=True)
    for step in plan.steps:
        table.add_row(
            Text(step.state), f"{step.jobs}", _instances(step), _duration(step.max_seconds), _money(step.cost)
        )
    return _titled("What runs, once", table)


def _instances(step: Step) -> Text:
    count = f"{step.instances} × " if step.instances > 1 else ""  # noqa: RUF001  (times)
    text = Text(f"{count}{step.instance_type}")
    if step.spot:
        text.append(" *", style="cyan")
    return text


def _monthly(plan: Plan) -> Group:
    table = _table(footer=True)
    table.add_column("what stays", "together", no_wrap=True)
    table.add_column("")
    table.add_column("USD at least", _money(plan.monthly_minimum), justify="right", no_wrap=True)
    table.add_column("at most", _money(plan.monthly_maximum), justify="right", no_wrap=True)
    for item in plan.monthly:
        table.add_row(item.name, Text(item.details), _money(item.at_minimum), _money(item.at_maximum))
    return _titled("Every month, as long as it stays", table)


def _prices(plan: Plan) -> Padding:
    lines = [f"On-demand list prices of {plan.prices_date} in {plan.prices_region}: config/prices.toml."]
    if any(step.spot for step in plan.steps):
        lines.append("* on spot capacity, which costs less: by how much nobody knows before.")
    lines.append("Requests, traffic, logs and what is stored come on top.")
    text = Text("\n".join(lines), style="dim")
    if plan.region != plan.prices_region:
        text.append(f"\nPrices in {plan.region} are others: these are {plan.prices_region}'s.", style="yellow")
    return Padding(text, (0, 1, 1, 1))


def _findings(found: tuple[Finding, ...]) -> list[Any]:
    if not found:
        return [Text("Nothing is known against it: every request is as AWS's models want it.", style="green")]
    errors = sum(one.level == "error" for one in found)
    counts = (_count(errors, "error"), _count(len(found) - errors, "warning"))
    title = ", ".join(count for count in counts if count)
    return [Text(title, style="bold red" if errors else "bold yellow"), *(_finding(one) for one in found)]


def _finding(finding: Finding) -> Padding:
    mark, colour = _LEVELS[finding.level]
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(overflow="fold")
    grid.add_row(Text(mark, style=f"bold {colour}"), Text(finding.key, style="bold"))
    grid.add_row("", Text(finding.what, style=colour))
    grid.add_row("", Text(finding.hint))
    return Padding(grid, (0, 1, 0, 1))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""


def _table(*, footer: bool = False) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        show_footer=footer,
        footer_style="bold",
        header_style="dim",
        collapse_padding=True,
        pad_edge=False,
    )


def _titled(title: str, table: Table) -> Group:
    """A title of its own: a table's is folded to the table's width."""
    return Group(Text(title, style="bold"), Padding(table, (0, 0, 0, 1)))


def _money(cost: float | None) -> Text:
    """`1,234.50`; what is dearer than nothing is never shown as nothing."""
    if cost is None:
        return _UNKNOWN.copy()
    return Text("< 0.01" if 0 < cost < 0.005 else f"{cost:,.2f}")


def _duration(seconds: int) -> str:
    """`2 h`, `1 h 30 min`, `45 min`, `50 s`: the two largest units."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    parts = [f"{number} {unit}" for number, unit in ((hours, "h"), (minutes, "min"), (left, "s")) if number]
    return " ".join(parts[:2])
