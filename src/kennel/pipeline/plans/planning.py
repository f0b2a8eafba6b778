"""The plan of a configuration, as a user asks for it: from the project's files, and from AWS where that can be asked.

Without credentials, or where nobody answers, everything counts as new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console, ConsoleOptions, RenderResult

from kennel.config import Config
from kennel.errors import InvalidArguments
from kennel.pipeline import infrastructure, resources, template
from kennel.pipeline.aws import Aws
from kennel.pipeline.plans import costs, display, prices
from kennel.pipeline.plans import plan as plans
from kennel.pipeline.stack import Change, Stack
from kennel.pipeline.template import Template


@dataclass(frozen=True, kw_only=True)
class Ec2Cost:
    """What one instance of EC2 may cost."""

    instance_type: str
    minutes: int
    usd: float | None
    """At most; None if the type has no price."""

    @property
    def text(self) -> str:
        """One line of it."""
        amount = "an unknown amount" if self.usd is None else f"${self.usd:,.2f}"
        return f"One {self.instance_type} for at most {self.minutes} minutes: {amount}"

    def refuse_above(self, max_cost: float) -> None:
        """Raise InvalidArguments if it may cost more, or nobody knows how much."""
        if self.usd is None or self.usd > max_cost:
            raise InvalidArguments(
                self.text, where=f"--max-cost {max_cost:g}", hint="Lower ec2.max_runtime_seconds, or allow more."
            )


_WORDS = {"Add": "create", "Modify": "update", "Remove": "delete"}
_ZONES = 2
_PRICES = "config/prices.toml"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """The plan and what it was compared with. Rich prints it."""

    plan: plans.Plan
    changes: tuple[display.Change, ...]
    remark: str
    """What is to be said of where `changes` come from."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """As tables of 80 columns."""
        yield self.remark
        yield display.shown(self.plan, self.changes)

    def as_json(self) -> dict[str, Any]:
        """As JSON holds it."""
        rows = [dict(zip(("action", "type", "name", "reason"), row, strict=True)) for row in self.changes]
        return {"resources": rows, "remark": self.remark, **plans.as_json(self.plan)}

    def refuse_above(self, max_cost: float) -> None:
        """Raise InvalidArguments if a run may cost more, or nobody knows how much."""
        plans.refuse_above(self.plan, max_cost)

    def refuse_wrong(self) -> None:
        """Raise InvalidArguments if AWS would refuse something of it."""
        wrong = [finding for finding in self.plan.findings if finding.level == "error"]
        if wrong:
            plural = "s" if len(wrong) > 1 else ""
            raise InvalidArguments(
                f"the plan has {len(wrong)} error{plural}",
                hint="Mend each of these keys of the configuration.",
                problems=tuple(f"{finding.key}: {finding.what}" for finding in wrong),
            )


def plan(config: Config, endpoint_url: str | None, *, root: Path, new_id: Callable[[], str]) -> Planned:
    """The plan. `endpoint_url` "" is AWS itself, None an AWS that is not up; `root` is the project."""
    made_from = infrastructure.source(root)
    read = template.read(made_from.template, where="statemachine/infrastructure.yaml")
    changes, remark = _changes(config, endpoint_url, made_from, read, new_id)
    network = config.infrastructure.network
    interfaces = [end for end in read.of_type("AWS::EC2::VPCEndpoint") if end.text("VpcEndpointType") == "Interface"]
    standing = costs.Standing(
        interface_endpoints=len(interfaces) * _ZONES if network else 0,
        kms_keys=len(read.of_type("AWS::KMS::Key")),
        alarms=len(read.of_type("AWS::CloudWatch::Alarm")),
    )
    made = plans.make(
        config,
        json.loads(made_from.definition),
        resources.imagined(config.name, config.region),
        prices.parse((root / _PRICES).read_text(encoding="utf-8"), where=_PRICES),
        standing,
    )
    return Planned(plan=made, changes=changes, remark=remark)


def ec2_cost(config: Config, *, root: Path, minutes: int) -> Ec2Cost:
    """Of `train-on-ec2`, whose instance runs at most `minutes` longer than its training."""
    listed = prices.parse((root / _PRICES).read_text(encoding="utf-8"), where=_PRICES)
    whole = -(-config.ec2.max_runtime_seconds // 60) + minutes
    price = listed.ec2.get(config.ec2.instance_type)
    disk = config.ec2.volume_gb * listed.month.ebs_gp3_gb / prices.HOURS_PER_MONTH
    cost = None if price is None else whole / 60 * (price + disk)
    return Ec2Cost(instance_type=config.ec2.instance_type, minutes=whole, usd=cost)


def _changes(
    config: Config,
    endpoint_url: str | None,
    made_from: infrastructure.Source,
    read: Template,
    new_id: Callable[[], str],
) -> tuple[tuple[display.Change, ...], str]:
    new = tuple(_all_new(read, config))
    if endpoint_url is None:
        return new, "No local AWS is up: everything would be made."
    aws = Aws(region=config.region, endpoint_url=endpoint_url or None)
    if not aws.has_credentials:
        return new, "No credentials were found, and AWS was not asked: everything counts as new."
    try:
        stack = Stack(aws=aws, name=config.name, new_id=new_id)
        if not stack.exists():
            return new, f"There is no stack {config.name} in account {aws.account} yet."
        images = (config.images.training, config.images.serving)
        found = infrastructure.changes(aws, stack, config, made_from, images=images)
    except (BotoCoreError, ClientError) as error:
        return new, f"AWS was asked and did not say ({error}): everything counts as new."
    if not found:
        return (), f"The stack {config.name} in account {aws.account} is as it should be."
    return tuple(_row(change) for change in found), f"Changes to the stack {config.name} in account {aws.account}."


def _all_new(read: Template, config: Config) -> Iterator[display.Change]:
    absent = set() if config.infrastructure.network else {"NetworkOn"}
    for resource in read.resources.values():
        if resource.body.get("Condition") not in absent:
            yield ("create", resource.type, resource.id, "")


def _row(change: Change) -> display.Change:
    action = "replace" if change.replaced else _WORDS.get(change.action, "update")
    return (action, change.type, change.name, ", ".join(change.why))
