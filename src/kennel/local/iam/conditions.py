"""The Condition element of IAM policies. Pure.

An operator that is not known here is an error: what cannot be judged must not pass for true.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kennel import errors
from kennel.local.iam.access import Context
from kennel.local.iam.patterns import arn_matches, matches, values_of


class InvalidPolicy(errors.KennelError):
    """A policy that cannot be evaluated here."""

    code = "MalformedPolicyDocument"


Compare = Callable[[str, str, Context, bool], bool]
"""(the policy's value, the request's, context, whether variables count) → whether they agree."""


def _literal(want: str, have: str, context: Context, variables: bool, *, ignore_case: bool = False) -> bool:
    wildcards = str.maketrans({"*": "${*}", "?": "${?}"})  # text here, though variables are not
    if not variables:
        return want.lower() == have.lower() if ignore_case else want == have
    return matches(want.translate(wildcards), have, context, variables=True, ignore_case=ignore_case)


def _like(want: str, have: str, context: Context, variables: bool) -> bool:
    return matches(want, have, context, variables=variables)


def _arn(want: str, have: str, context: Context, variables: bool) -> bool:
    return arn_matches(want, have, context, variables=variables)


def _ignoring_case(want: str, have: str, context: Context, variables: bool) -> bool:
    return _literal(want, have, context, variables, ignore_case=True)


def _bool(want: str, have: str, _context: Context, _variables: bool) -> bool:
    return want.lower() == have.lower()


def _numeric(compare: Callable[[float, float], bool]) -> Compare:
    def judge(want: str, have: str, _context: Context, _variables: bool) -> bool:
        try:
            return compare(float(have), float(want))
        except ValueError:
            return False

    return judge


_POSITIVE: Mapping[str, Compare] = {
    "StringEquals": _literal,
    "StringEqualsIgnoreCase": _ignoring_case,
    "StringLike": _like,
    "ArnEquals": _arn,
    "ArnLike": _arn,
    "Bool": _bool,
    "NumericEquals": _numeric(lambda have, want: have == want),
    "NumericLessThan": _numeric(lambda have, want: have < want),
    "NumericLessThanEquals": _numeric(lambda have, want: have <= want),
    "NumericGreaterThan": _numeric(lambda have, want: have > want),
    "NumericGreaterThanEquals": _numeric(lambda have, want: have >= want),
}
_NEGATED: Mapping[str, Compare] = {
    "StringNotEquals": _literal,
    "StringNotEqualsIgnoreCase": _ignoring_case,
    "StringNotLike": _like,
    "ArnNotEquals": _arn,
    "ArnNotLike": _arn,
    "NumericNotEquals": _POSITIVE["NumericEquals"],
}


def hold(condition: Mapping[str, Any], context: Context, *, variables: bool) -> bool:
    """Whether every operator and key of a Condition holds. Raises InvalidPolicy for an operator unknown here."""
    judged = [
        _holds(operator, key, [_text(value) for value in as_list(wanted)], context, variables)
        for operator, keys in condition.items()
        for key, wanted in keys.items()
    ]
    return all(judged)  # all are judged first: an unknown operator is an error wherever it stands


def _holds(operator: str, key: str, wanted: Sequence[str], context: Context, variables: bool) -> bool:
    have = values_of(key, context)
    if operator == "Null":
        return any((have is None) == (want.lower() == "true") for want in wanted)
    quantifier, _, rest = operator.rpartition(":")
    name = rest.removesuffix("IfExists")
    if quantifier not in ("", "ForAnyValue", "ForAllValues") or name not in (*_POSITIVE, *_NEGATED):
        raise InvalidPolicy(
            f"the condition operator {operator} is not evaluated here",
            where=f"Condition of {key}",
            hint="Use one of " + ", ".join([*_POSITIVE, *_NEGATED, "Null"]) + ".",
        )
    if not have and rest.endswith("IfExists"):
        return True
    negated = name in _NEGATED
    compare = _NEGATED[name] if negated else _POSITIVE[name]
    agree = [any(compare(want, one, context, variables) for want in wanted) for one in have or ()]
    match quantifier:
        case "ForAllValues":
            return not any(agree) if negated else all(agree)
        case "ForAnyValue":
            return not all(agree) if negated else any(agree)
        case _:
            return not any(agree) if negated else any(agree)


def as_list(value: Any) -> list[Any]:
    """What may stand alone or in a list in a policy, as a list."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
