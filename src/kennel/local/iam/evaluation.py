"""Evaluates IAM policies: an explicit deny wins over an allow, an allow over nothing said. Pure.

The logic is that of "Policy evaluation logic" in the IAM User Guide, within one account. It serves identity-based
policies, permissions boundaries, trust policies and resource-based policies alike; the last two name a Principal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from kennel.local.iam.access import Access
from kennel.local.iam.conditions import InvalidPolicy, as_list, hold
from kennel.local.iam.patterns import arn_matches, matches


class Effect(StrEnum):
    """What policies say of an access."""

    ALLOW = "allow"
    EXPLICIT_DENY = "explicit deny"
    IMPLICIT_DENY = "implicit deny"


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy document, parsed, under the name by which a decision calls it."""

    name: str
    document: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Principal:
    """Who asks, for policies that name principals: a role's session or an AWS service.

    With an `account`, a policy that names the account means it, too.
    """

    role_arn: str = ""
    service: str = ""
    account: str = ""

    def named_by(self, principal: Any) -> bool:
        """Whether the Principal element of a statement means it."""
        if principal == "*":
            return True
        if isinstance(principal, str):
            principal = {"AWS": principal}
        if self.service:
            return any(value in (self.service, "*") for value in as_list(principal.get("Service", [])))
        wanted = {"*", self.role_arn}
        if self.account:
            wanted |= {self.account, f"arn:aws:iam::{self.account}:root"}
        return any(value in wanted for value in as_list(principal.get("AWS", [])))


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What policies say, and which statement (`policy[Sid or number]`); empty where none matched."""

    effect: Effect
    statement: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the access is allowed."""
        return self.effect is Effect.ALLOW


def evaluate(policies: Iterable[Policy], access: Access, *, principal: Principal | None = None) -> Verdict:
    """What the policies say of an access. `principal` must be given exactly for policies that name principals.

    Raises InvalidPolicy for what cannot be judged here.
    """
    allowed = ""
    for policy in policies:
        variables = policy.document.get("Version", "2008-10-17") == "2012-10-17"
        for index, statement in enumerate(as_list(policy.document.get("Statement", []))):
            if not _applies(statement, access, principal, variables=variables):
                continue
            name = f"{policy.name}[{statement.get('Sid', index)}]"
            match statement.get("Effect"):
                case "Deny":
                    return Verdict(effect=Effect.EXPLICIT_DENY, statement=name)
                case "Allow":
                    allowed = allowed or name
                case other:
                    raise InvalidPolicy(f"Effect is {other!r}; it must be Allow or Deny", where=name)
    return Verdict(effect=Effect.ALLOW if allowed else Effect.IMPLICIT_DENY, statement=allowed)


def decide(
    access: Access,
    *,
    principal: Principal,
    identity: Iterable[Policy],
    boundary: Iterable[Policy] | None = None,
    resource: Iterable[Policy] = (),
    resource_must_allow: bool = False,
) -> Verdict:
    """Whether a role of the resource's own account has an access, all its policies taken together.

    `resource_must_allow` is true for keys of KMS: their policy must name the role, or leave it to the account's
    policies by naming the account. Elsewhere a resource's policy that names the role is enough by itself.
    """
    own = evaluate(identity, access)
    theirs = evaluate(resource, access, principal=principal)  # the account named, too
    limit = None if boundary is None else evaluate(boundary, access)
    for verdict in (own, theirs, limit):
        if verdict is not None and verdict.effect is Effect.EXPLICIT_DENY:
            return verdict
    granted = evaluate(resource, access, principal=replace(principal, account=""))
    if granted.allowed:
        return granted
    if resource_must_allow and not theirs.allowed:
        return Verdict(effect=Effect.IMPLICIT_DENY)
    if limit is not None and not limit.allowed:
        return limit
    return own


def _applies(statement: Mapping[str, Any], access: Access, principal: Principal | None, *, variables: bool) -> bool:
    if "NotPrincipal" in statement:
        raise InvalidPolicy("NotPrincipal is not evaluated here", hint="Name principals, or use a condition.")
    if principal is not None and not principal.named_by(statement.get("Principal", {})):
        return False
    return (
        _element(statement, "Action", lambda pattern: _action_matches(pattern, access.action))
        # a trust policy has no Resource: it is the role's own
        and _element(
            statement,
            "Resource",
            lambda pattern: arn_matches(pattern, access.resource, access.context, variables=variables),
        )
        and hold(statement.get("Condition", {}), access.context, variables=variables)
    )


def _element(statement: Mapping[str, Any], name: str, matches_one: Any) -> bool:
    if f"Not{name}" in statement:
        return not any(matches_one(pattern) for pattern in as_list(statement[f"Not{name}"]))
    if name in statement:
        return any(matches_one(pattern) for pattern in as_list(statement[name]))
    return name == "Resource"


def _action_matches(pattern: str, action: str) -> bool:
    return matches(pattern, action, {}, variables=False, ignore_case=True)
