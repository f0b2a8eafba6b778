"""Proposes hyperparameters within AWS's ParameterRanges; Optuna does the proposing.

Pure but for the random source inside Optuna, which is seeded. Knows nothing of jobs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from kennel.local.wire import ServiceError

STRATEGIES = ("Bayesian", "Random")
_KINDS = ("ContinuousParameterRanges", "IntegerParameterRanges", "CategoricalParameterRanges")


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Hyperparameters for one trial, as the strings that a training job takes, and Optuna's number for them."""

    number: int
    hyperparameters: dict[str, str]


class Search:
    """One search over `ranges` (AWS's ParameterRanges). `maximize` says which objective is better."""

    def __init__(self, *, strategy: str, ranges: dict[str, Any], maximize: bool, seed: int) -> None:
        if strategy not in STRATEGIES:
            raise ServiceError(
                "ValidationException", f"the local AWS tunes by {' or '.join(STRATEGIES)}, not by {strategy} yet"
            )
        self._distributions = _distributions(ranges)
        sampler: optuna.samplers.BaseSampler = (
            optuna.samplers.RandomSampler(seed=seed)
            if strategy == "Random"
            # start-up trials are random; constant_liar keeps trials that run at once apart
            else optuna.samplers.TPESampler(seed=seed, n_startup_trials=3, constant_liar=True, multivariate=True)
        )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(direction="maximize" if maximize else "minimize", sampler=sampler)

    def propose(self) -> Proposal:
        """Hyperparameters for the next trial."""
        trial = self._study.ask(self._distributions)
        return Proposal(
            number=trial.number, hyperparameters={name: _shown(value) for name, value in trial.params.items()}
        )

    def tell(self, proposal: Proposal, objective: float | None) -> None:
        """Say how it went; None (or a value that is no number) for a failed trial."""
        if objective is None or not math.isfinite(objective):
            self._study.tell(proposal.number, state=optuna.trial.TrialState.FAIL)
        else:
            self._study.tell(proposal.number, objective)


def _distributions(ranges: dict[str, Any]) -> dict[str, BaseDistribution]:
    found: dict[str, BaseDistribution] = {}
    names = [item["Name"] for kind in _KINDS for item in ranges.get(kind, [])]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ServiceError("ValidationException", f"{', '.join(sorted(twice))} is in ParameterRanges twice")
    for item in ranges.get("ContinuousParameterRanges", []):
        low, high = _bounds(item, float)
        found[item["Name"]] = FloatDistribution(low, high, log=_logarithmic(item, low))
    for item in ranges.get("IntegerParameterRanges", []):
        low, high = _bounds(item, int)
        found[item["Name"]] = IntDistribution(int(low), int(high), log=_logarithmic(item, low))
    for item in ranges.get("CategoricalParameterRanges", []):
        found[item["Name"]] = CategoricalDistribution(item["Values"])
    if not found:
        raise ServiceError("ValidationException", "ParameterRanges is empty: there is nothing to tune")
    return found


def _bounds(item: dict[str, Any], number: type[int] | type[float]) -> tuple[float, float]:
    try:
        low, high = number(item["MinValue"]), number(item["MaxValue"])
    except ValueError as error:
        raise ServiceError(
            "ValidationException", f"the range of {item['Name']} is no {number.__name__}: {error}"
        ) from error
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ServiceError("ValidationException", f"the range of {item['Name']} has no end: {low} to {high}")
    if low > high:
        raise ServiceError("ValidationException", f"the range of {item['Name']} is empty: {low} > {high}")
    return low, high


def _logarithmic(item: dict[str, Any], low: float) -> bool:
    scaling = item.get("ScalingType", "Auto")
    if scaling == "ReverseLogarithmic":
        raise ServiceError(
            "ValidationException", f"{item['Name']}: the local AWS does not scale ReverseLogarithmic yet"
        )
    if scaling == "Logarithmic" and low <= 0:
        raise ServiceError("ValidationException", f"{item['Name']}: Logarithmic scaling needs a minimum above 0")
    return bool(scaling == "Logarithmic")


def _shown(value: Any) -> str:
    return repr(float(value)) if isinstance(value, float) else str(value)  # numpy's floats are floats, and say more
