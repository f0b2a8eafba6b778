"""Wildcards and policy variables of IAM policies. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kennel.local.iam.access import Context

_TOKENS = re.compile(r"\$\{([^}]*)\}|[*?]")
_DEFAULT = re.compile(r"\s*([^,]+?)\s*,\s*'([^']*)'\s*")
_ARN_PARTS = 6


def matches(pattern: str, text: str, context: Context, *, variables: bool, ignore_case: bool = False) -> bool:
    """Whether `text` is what `pattern` says: `*` is anything, `?` one character, `${key}` the key's value.

    A variable whose key has no value, or many, matches nothing. `variables` is false for policies of version
    2008-10-17, where `${…}` is text.

    >>> matches("data/${aws:PrincipalTag/team}/*", "data/red/1", {"aws:PrincipalTag/team": "red"}, variables=True)
    True
    """
    found: list[str] = []
    start = 0
    for token in _TOKENS.finditer(pattern):
        found.append(re.escape(pattern[start : token.start()]))
        start = token.end()
        name = token.group(1)
        if name is None:
            found.append(".*" if token.group() == "*" else ".")
        elif not variables:
            found.append(re.escape(token.group()))
        else:
            value = _value(name, context)
            if value is None:
                return False
            found.append(re.escape(value))
    found.append(re.escape(pattern[start:]))
    flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
    return re.fullmatch("".join(found), text, flags) is not None


def arn_matches(pattern: str, arn: str, context: Context, *, variables: bool) -> bool:
    """Whether `arn` is what `pattern` says, part by part: a wildcard stays in its part of the ARN but for the last.

    Parts that the pattern lacks are anything, as AWS completes them.

    >>> arn_matches("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a/b", {}, variables=True)
    True
    >>> arn_matches("arn:aws:*:bucket", "arn:aws:sns:us-east-1:123456789012:bucket", {}, variables=True)
    False
    """
    if pattern == "*":
        return True
    wanted, given = _parts(pattern), arn.split(":", _ARN_PARTS - 1)
    if len(given) != _ARN_PARTS:  # `*`, where the action knows no resource, is matched by `*` alone
        return False
    wanted += ["*"] * (_ARN_PARTS - len(wanted))
    return all(matches(want, give, context, variables=variables) for want, give in zip(wanted, given, strict=True))


def _parts(pattern: str) -> list[str]:
    """The parts of an ARN's pattern; a colon inside `${…}` parts nothing."""
    protected = re.sub(r"\$\{[^}]*\}", lambda found: found.group().replace(":", "\0"), pattern)
    return [part.replace("\0", ":") for part in protected.split(":", _ARN_PARTS - 1)]


def _value(name: str, context: Context) -> str | None:
    if name in ("*", "?", "$"):
        return name
    default = None
    if found := _DEFAULT.fullmatch(name):
        name, default = found.group(1), found.group(2)
    values = values_of(name, context)
    return values[0] if values is not None and len(values) == 1 else default


def values_of(key: str, context: Context) -> Sequence[str] | None:
    """What the context says of a key, whatever its case; None if it says nothing."""
    for name, value in context.items():
        if name.lower() == key.lower():
            return [value] if isinstance(value, str) else value
    return None
