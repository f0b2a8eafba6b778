"""The state machine as a graph. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kennel.pipeline import asl
from kennel.pipeline.rules.fault import Fault, unless

_TYPES = ("Task", "Pass", "Choice", "Wait", "Succeed", "Fail")
_TERMINAL = ("Succeed", "Fail")
_LIMITS = ("NumericGreaterThanEquals", "NumericGreaterThanEqualsPath")
_LONGEST_WAIT_SECONDS = 300


def transitions(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """Every state is of a kind that the rules here read, and what it goes on to exists."""
    states = asl.states(definition)
    yield from unless(
        definition.get("StartAt") in states,
        "StartAt",
        f"there is no state {definition.get('StartAt')}",
        hint="Name the first state.",
    )
    for name, state in states.items():
        yield from unless(
            state.get("Type") in _TYPES, name, f"is a {state.get('Type')}", hint=f"Make it one of {', '.join(_TYPES)}."
        )
        for following in asl.following(state):
            yield from unless(
                following in states, name, f"goes on to {following}, which is no state", hint="Name a state."
            )


def reachable(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """A state that no execution reaches is a mistake in those that should lead to it."""
    reached = asl.reached(definition, str(definition.get("StartAt")))
    for name in asl.states(definition).keys() - reached:
        yield from unless(False, name, "is never reached", hint="Lead to it, or take it out.")


def ends(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """An execution ends in Succeed or Fail, nowhere else: what is caught must not look like a success."""
    states = asl.states(definition)
    last = {name for name, state in states.items() if state.get("Type") in _TERMINAL}
    for name, state in states.items():
        whole = name in last or ("Default" in state if state.get("Type") == "Choice" else "Next" in state)
        yield from unless(
            whole and not state.get("End"),
            name,
            "is a dead end",
            hint="Give it a Next (a Choice: a Default) that leads to a Succeed or a Fail.",
        )
        yield from unless(
            bool(asl.reached(definition, name) & last),
            name,
            "leads to no end",
            hint="Lead it to a Succeed or a Fail.",
        )


def bounded_waits(definition: Mapping[str, Any]) -> Iterator[Fault]:
    """Step Functions lets an execution go on for a year: what waits must stop at some count."""
    states = asl.states(definition)
    for name, state in states.items():
        if state.get("Type") == "Wait":
            seconds = state.get("Seconds", 0)
            yield from unless(
                ("SecondsPath" in state or 0 < seconds <= _LONGEST_WAIT_SECONDS),
                name,
                f"waits for {seconds} s or until a time",
                hint=f"Wait for at most {_LONGEST_WAIT_SECONDS} s, or for SecondsPath.",
            )
        loop = _loop(definition, name)
        if loop and name == min(loop):
            yield from unless(
                any(_stops(states[member], loop, _counters(states, loop)) for member in loop),
                ", ".join(sorted(loop)),
                "go round without a limit",
                hint="Count the rounds in a Pass, and leave by a Choice on that count.",
            )


def _loop(definition: Mapping[str, Any], name: str) -> set[str]:
    """The states that come after this one and before it; empty if it does not come after itself."""
    after = asl.reached(definition, *asl.following(definition["States"][name]))
    return {other for other in after if name in asl.reached(definition, other)} if name in after else set()


def _counters(states: Mapping[str, Any], loop: set[str]) -> set[str]:
    """Paths of the numbers that a state of the loop adds 1 to."""
    return {
        f"{state['ResultPath']}.{key.removesuffix('.$')}"
        for state in (states[name] for name in loop)
        if state.get("Type") == "Pass"
        for key, value in state.get("Parameters", {}).items()
        if str(value) == f"States.MathAdd({state.get('ResultPath')}.{key.removesuffix('.$')}, 1)"
    }


def _stops(state: Mapping[str, Any], loop: set[str], counters: set[str]) -> bool:
    return any(
        choice.get("Variable") in counters and choice["Next"] not in loop and any(limit in choice for limit in _LIMITS)
        for choice in state.get("Choices", [])
    )
