"""The plan of a configuration, as a user asks for it: from the project's files, and from AWS where that can be asked.

Without credentials, or where nobody answers, everything counts as new.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console, ConsoleOptions, RenderResult

from kennel.config import Config
from kennel.errors import InvalidArguments
from kennel.pipeline import ec2_request, infrastructure, resources, template
from kennel.pipeline.aws import Aws
from kennel.pipeline.plans import costs, display, prices
from kennel.pipeline.plans import plan as plans
from kennel.pipeline.stack import Change, Stack
from kennel.pipeline.template import Template

_WORDS = {"Add": "create", "Modify": "update", "Remove": "delete"}
_ZONES = 2
_PRICES = "config/prices.toml"
_ALARMS_OF_SCALING = 2  # target tracking's own


Purpose = Literal["run", "deployment", "ec2"]
"""What is paid once: the jobs of a run, nothing, or one instance of EC2."""


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
            keys = ", ".join(dict.fromkeys(finding.key for finding in wrong))
            raise InvalidArguments(
                f"the plan has {len(wrong)} error{plural}", hint=f"Mend in the configuration: {keys}"
            )


def plan(
    config: Config,
    endpoint_url: str | None,
    *,
    root: Path,
    new_id: Callable[[], str],
    of: Purpose = "run",
    asked: Mapping[str, Any] | None = None,
) -> Planned:
    """The plan. `endpoint_url` "" is AWS itself, None an AWS that is not up; `root` is the project.

    `asked` is the input of a run that is resumed, whose jobs are not those of the configuration of today.
    """
    made_from = infrastructure.source(root)
    read = template.read(made_from.template, where="statemachine/infrastructure.yaml")
    changes, remark = _changes(config, endpoint_url, made_from, read, new_id)
    network = config.infrastructure.network
    interfaces = [end for end in read.of_type("AWS::EC2::VPCEndpoint") if end.text("VpcEndpointType") == "Interface"]
    standing = costs.Standing(
        interface_endpoints=len(interfaces) * _ZONES if network else 0,
        kms_keys=len(read.of_type("AWS::KMS::Key")),
        alarms=len(read.of_type("AWS::CloudWatch::Alarm")) + _ALARMS_OF_SCALING,
    )
    listed = prices.parse((root / _PRICES).read_text(encoding="utf-8"), where=_PRICES)
    made = plans.make(
        config,
        json.loads(made_from.definition),
        resources.imagined(config.name, config.region),
        listed,
        standing,
        asked=asked,
    )
    if of != "run":
        made = replace(made, steps=(_ec2_step(config, listed),) if of == "ec2" else ())
    return Planned(plan=made, changes=changes, remark=remark)


def _ec2_step(config: Config, listed: prices.Prices) -> costs.Step:
    """The one instance of `train-on-ec2`, to its time limit."""
    kind, seconds = config.ec2.instance_type, config.ec2.max_runtime_seconds + 60 * ec2_request.MINUTES_AROUND
    price = listed.ec2.get(kind)
    disk = config.ec2.volume_gb * listed.month.ebs_gp3_gb / prices.HOURS_PER_MONTH
    return costs.Step(
        state="train-on-ec2",
        instance_type=kind,
        jobs=1,
        instances=1,
        max_seconds=seconds,
        spot=config.ec2.spot,
        cost=None if price is None else seconds / 3600 * (price + disk),
    )


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
