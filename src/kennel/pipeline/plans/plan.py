"""The plan: what a run would ask of AWS, what that may cost, and what is wrong with it. Pure.

Made without credentials and network, from what is on disk. `display` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.config import Config
from kennel.errors import InvalidArguments
from kennel.pipeline import document
from kennel.pipeline.plans import costs
from kennel.pipeline.plans.config_keys import with_keys
from kennel.pipeline.plans.costs import Monthly, Standing, Step
from kennel.pipeline.plans.findings import Finding, findings
from kennel.pipeline.plans.prices import Prices
from kennel.pipeline.plans.requests import Request, requests
from kennel.pipeline.resources import Resources


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What would happen. Costs are in USD; None stands for an unknown price."""

    requests: tuple[Request, ...]
    steps: tuple[Step, ...]
    monthly: tuple[Monthly, ...]
    findings: tuple[Finding, ...]
    region: str
    prices_region: str
    prices_date: str

    @property
    def run_cost(self) -> float | None:
        """What one run costs at most, once."""
        return _sum(step.cost for step in self.steps)

    @property
    def monthly_minimum(self) -> float | None:
        """A month with the endpoint at its minimum capacity."""
        return _sum(item.at_minimum for item in self.monthly)

    @property
    def monthly_maximum(self) -> float | None:
        """And at its maximum."""
        return _sum(item.at_maximum for item in self.monthly)


def make(
    config: Config,
    definition: Mapping[str, Any],
    resources: Resources,
    prices: Prices,
    standing: Standing,
    *,
    asked: Mapping[str, Any] | None = None,
) -> Plan:
    """The plan of a training run and of what stays after it. `definition` is the state machine's document.

    `asked` is the input of the execution, if it is not that of the configuration.
    """
    keyed = with_keys(config)
    execution = f"{config.name}-20260101-000000"  # as long as any
    bucket = resources.names.bucket
    of_config = document.execution_input(
        keyed,
        resources,
        execution=execution,
        data_uri=f"s3://{bucket}/data",
        pretrained_uri=f"s3://{bucket}/pretrained" if config.data.pretrained else "",
    )
    made = requests(definition, dict(asked or of_config), execution_name=execution)
    steps = costs.steps(made, prices)
    return Plan(
        requests=made,
        steps=steps,
        monthly=costs.monthly(config, standing, prices),
        findings=findings(keyed, made, steps),
        region=config.region,
        prices_region=prices.region,
        prices_date=prices.date.isoformat(),
    )


def refuse_above(plan: Plan, max_cost: float) -> None:
    """Raise InvalidArguments if a run may cost more than `max_cost` USD, or nobody knows how much."""
    unknown = [step.instance_type for step in plan.steps if step.cost is None]
    unknown += [item.details for item in plan.monthly if item.at_maximum is None]
    where = f"--max-cost {max_cost:g}"
    if unknown:
        raise InvalidArguments(
            f"the price is unknown of {', '.join(dict.fromkeys(unknown))}",
            where=where,
            hint="Add it to config/prices.toml, or take a type that is there.",
        )
    cost = plan.run_cost or 0.0
    if cost > max_cost:
        raise InvalidArguments(
            f"a run may cost ${cost:,.2f}",
            where=where,
            hint="Lower max_jobs, instance_count or max_runtime_seconds, or allow more.",
            problems=tuple(f"{step.state}: ${step.cost or 0:,.2f}" for step in plan.steps),
        )


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as JSON holds it; a cost of null is an unknown price."""
    return {
        "region": plan.region,
        "prices": {"region": plan.prices_region, "date": plan.prices_date, "currency": "USD"},
        "run": {
            "maximum": _rounded(plan.run_cost),
            "steps": [
                {
                    "state": step.state,
                    "instance_type": str(step.instance_type),
                    "jobs": step.jobs,
                    "instances": step.instances,
                    "max_seconds": int(step.max_seconds),
                    "spot": step.spot,
                    "cost": _rounded(step.cost),
                }
                for step in plan.steps
            ],
        },
        "monthly": {
            "minimum": _rounded(plan.monthly_minimum),
            "maximum": _rounded(plan.monthly_maximum),
            "items": [
                {
                    "name": item.name,
                    "details": item.details,
                    "minimum": _rounded(item.at_minimum),
                    "maximum": _rounded(item.at_maximum),
                }
                for item in plan.monthly
            ],
        },
        "findings": [{"level": one.level, "key": one.key, "what": one.what, "hint": one.hint} for one in plan.findings],
        "requests": [
            {"state": one.state, "service": one.service, "operation": one.operation, "parameters": one.parameters}
            for one in plan.requests
        ],
    }


def _sum(costs_: Iterable[float | None]) -> float | None:
    """None if one of them is not known."""
    total = 0.0
    for cost in costs_:
        if cost is None:
            return None
        total += cost
    return total


def _rounded(cost: float | None) -> float | None:
    return None if cost is None else round(cost, 2)
