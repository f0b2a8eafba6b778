"""Which states of a definition an input leads to, and with what data each is entered. Pure.

Follows the document, not its results: what a Task answers is an example, and a Choice about it has every outcome.
A Choice about what the input alone says has the one that it says. Of the states, Task, Pass, Choice, Wait, Succeed
and Fail are known.
"""

from __future__ import annotations

import fnmatch
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kennel.pipeline.plans.examples import anything
from kennel.pipeline.plans.expressions import Scope, put, resolve, value_of

_MISSING = object()
_COMPARISON = re.compile(r"(?:String|Numeric|Boolean|Timestamp)(?P<how>\w+?)(?P<path>Path)?")
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "LessThan": operator.lt,
    "LessThanEquals": operator.le,
    "GreaterThan": operator.gt,
    "GreaterThanEquals": operator.ge,
    "Matches": lambda text, pattern: fnmatch.fnmatchcase(text, re.sub(r"([\[?])", r"[\1]", pattern)),
}


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A state, the first time it is entered."""

    name: str
    state: Mapping[str, Any]
    scope: Scope
    """Its input and the context object in it."""


@dataclass(kw_only=True)
class Walk:
    """One way through a definition; each state once, what follows a success before what follows a failure."""

    states: Mapping[str, Mapping[str, Any]]
    context: Mapping[str, Any]
    answer: Callable[[Mapping[str, Any]], Any]
    """An example of what a Task answers."""

    seen: set[str] = field(default_factory=set)
    unresolved: dict[str, list[str]] = field(default_factory=dict)
    """Paths that led nowhere, by the state that has them."""

    def visits(self, name: str, data: Any, given: frozenset[str] = frozenset()) -> Iterator[Visit]:
        """The states from `name` on. `given` are the paths that states before it have written to."""
        if name in self.seen:
            return
        self.seen.add(name)
        state = self.states[name]
        context = {**self.context, "State": {**self.context.get("State", {}), "Name": name}}
        scope = Scope(data=data, context=context, absent=lambda path: self._absent(name, path))
        yield Visit(name=name, state=state, scope=scope)
        left, written = data, given
        if state["Type"] in ("Task", "Pass") and (path := state.get("ResultPath", "$")) is not None:
            left, written = put(data, path, self._result(state, scope)), given | {path}
        for following in _following(state, replace(scope, data=left), written):
            yield from self.visits(following, left, written)
        for catch in state.get("Catch", ()):
            path = catch.get("ResultPath", "$")
            fault = {"Error": "States.TaskFailed", "Cause": "example"}
            failed, caught = (data, given) if path is None else (put(data, path, fault), given | {path})
            yield from self.visits(catch["Next"], failed, caught)

    def _absent(self, name: str, path: str) -> Any:
        self.unresolved.setdefault(name, []).append(path)
        return anything()

    def _result(self, state: Mapping[str, Any], scope: Scope) -> Any:
        if state["Type"] == "Pass":
            return state.get("Result", resolve(state.get("Parameters", scope.data), scope))
        answered = self.answer(state)
        if "ResultSelector" not in state:
            return answered
        return resolve(state["ResultSelector"], replace(scope, data=answered))


def _following(state: Mapping[str, Any], scope: Scope, given: frozenset[str]) -> Iterator[str]:
    """The names of the states that may come next, without failures."""
    match state["Type"]:
        case "Succeed" | "Fail":
            return
        case "Choice":
            for rule in state["Choices"]:
                verdict = _holds(rule, scope, given)
                if verdict is not False:
                    yield rule["Next"]
                if verdict is True:
                    return
            if "Default" in state:
                yield state["Default"]
        case "Task" | "Pass" | "Wait":
            if "Next" in state:
                yield state["Next"]
        case kind:
            raise ValueError(f"a state of type {kind} is not known here")


def _holds(rule: Mapping[str, Any], scope: Scope, given: frozenset[str]) -> bool | None:
    """Whether a rule holds; None if only results can say."""
    if "Not" in rule:
        inner = _holds(rule["Not"], scope, given)
        return None if inner is None else not inner
    for word, decisive in (("And", False), ("Or", True)):
        if word in rule:
            verdicts = [_holds(one, scope, given) for one in rule[word]]
            if decisive in verdicts:
                return decisive
            return None if None in verdicts else not decisive
    return _compares(rule, scope, given)


def _compares(rule: Mapping[str, Any], scope: Scope, given: frozenset[str]) -> bool | None:
    """Likewise of a rule about one variable."""
    name, wanted = next((key, value) for key, value in rule.items() if key not in ("Variable", "Next", "Comment"))
    paths = [rule["Variable"], *([wanted] if name.endswith("Path") else [])]
    if any(_is_given(path, given) for path in paths):
        return None
    exact = replace(scope, absent=lambda _: _MISSING)
    value, *others = (value_of(path, exact) for path in paths)
    if name == "IsPresent":
        return bool((value is not _MISSING) == wanted)
    compared = _COMPARISON.fullmatch(name)
    compare = _OPERATORS.get(compared["how"]) if compared else None
    if compare is None or value is _MISSING or _MISSING in others:
        return None
    return compare(value, others[0] if others else wanted)


def _is_given(path: str, given: frozenset[str]) -> bool:
    """Whether the path leads into what a state has written, or holds some of it."""
    return any(f"{path}.".startswith(f"{one}.") or f"{one}.".startswith(f"{path}.") for one in given)
