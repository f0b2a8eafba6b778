"""Who takes which role, and what each may do: the decisions of the local AWS, and the list of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from kennel.local.iam.access import Access, Call
from kennel.local.iam.authorizations import needed
from kennel.local.iam.conditions import InvalidPolicy
from kennel.local.iam.evaluation import Effect, Policy, Principal, Verdict, decide, evaluate
from kennel.local.iam.facts import Facts
from kennel.local.iam.sessions import Session, Sessions
from kennel.local.wire import ServiceError

_MOST_DECISIONS = 20_000


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Whether a role was allowed an action on a resource, and by which statement (`policy[Sid or number]`)."""

    role_arn: str
    action: str
    resource: str
    allowed: bool
    statement: str


class Denial(Exception):
    """An access that policies do not allow; the text is AWS's message."""

    def __init__(self, who: str, access: Access, verdict: Verdict) -> None:
        on = "" if access.resource == "*" else f" on resource: {access.resource}"
        if verdict.effect is Effect.EXPLICIT_DENY:
            why = f"with an explicit deny in {verdict.statement}"
        else:
            why = f"because no identity-based policy allows the {access.action} action"
        super().__init__(f"User: {who} is not authorized to perform: {access.action}{on} {why}")
        self.access = access


class Roles:
    """The roles of the account, as parts of the local AWS act with them."""

    def __init__(
        self,
        *,
        facts: Facts,
        sessions: Sessions,
        account: str,
        region: str,
        registry: str,
        connect: Callable[[str, Session], Any],
    ) -> None:
        """`connect(service, session)` makes a boto3 client that signs with the session's credentials.

        `registry` is where the account's own repositories of images are.
        """
        self.facts = facts
        self.registry = registry
        self._sessions = sessions
        self._account = account
        self._region = region
        self._connect = connect
        self._acting: dict[tuple[str, str, str], Acting] = {}
        self._decisions: OrderedDict[Decision, None] = OrderedDict()
        self._lock = threading.RLock()

    def trusted(self, role_arn: str, service: str, *, source_arn: str = "") -> bool:
        """Whether the role exists and lets the AWS service take it, for the resource `source_arn`.

        Raises ServiceError for a trust policy that cannot be evaluated here.
        """
        policy = self.facts.trust(role_arn)
        if policy is None:
            return False
        context = {"aws:SourceAccount": self._account} | ({"aws:SourceArn": source_arn} if source_arn else {})
        asked = Access(action="sts:AssumeRole", resource=role_arn, context=context)
        try:
            return evaluate([policy], asked, principal=Principal(service=service)).allowed
        except InvalidPolicy as error:
            raise ServiceError(error.code, f"{policy.name}: {error}") from error

    def assume(self, role_arn: str, *, service: str, name: str, source_arn: str = "") -> Acting:
        """Act with a role, as the AWS service does, in a session of that name. Raises ServiceError."""
        if not self.trusted(role_arn, service, source_arn=source_arn):
            raise ServiceError(
                "ValidationException",
                f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
                f"'{service}' to assume the role.",
            )
        with self._lock:
            key = (role_arn, service, name)
            if key not in self._acting:
                session = self._sessions.issue(role_arn, service=service, name=name)
                self._acting[key] = Acting(session, self, lambda api: self._connect(api, session))
            return self._acting[key]

    def find(self, access_key_id: str) -> Session | None:
        """The session of a key; None for the keys of the account's owner, which are all that were not issued here."""
        return self._sessions.find(access_key_id)

    def denied(self, role_arn: str, accesses: Iterable[Access]) -> Access | None:
        """The first of the accesses that a role is not allowed; None if it is allowed all."""
        try:
            self.check(role_arn, accesses, who=role_arn)
        except Denial as denial:
            return denial.access
        return None

    def check(self, role_arn: str, accesses: Iterable[Access], *, who: str) -> None:
        """Decide every access, and note it. Raises Denial for the first that is not allowed."""
        policies, boundary = self.facts.role_policies(role_arn), self.facts.boundary(role_arn)
        principal = Principal(role_arn=role_arn, account=self._account)
        common = {
            "aws:PrincipalArn": role_arn,
            "aws:PrincipalAccount": self._account,
            "aws:PrincipalType": "AssumedRole",
            "aws:PrincipalIsAWSService": "false",
            "aws:ResourceAccount": self._account,
            "aws:RequestedRegion": self._region,
            "aws:SecureTransport": "true",  # loopback has no TLS, and AWS has nothing else
        }
        for access in accesses:
            whole = replace(access, context={**common, **access.context})
            verdict = self._decide(whole, principal, policies, boundary)
            self._note(
                Decision(
                    role_arn=role_arn,
                    action=access.action,
                    resource=access.resource,
                    allowed=verdict.allowed,
                    statement=verdict.statement,
                )
            )
            if not verdict.allowed:
                raise Denial(who, access, verdict)

    def _decide(
        self, access: Access, principal: Principal, policies: Iterable[Policy], boundary: Iterable[Policy] | None
    ) -> Verdict:
        try:
            return decide(
                access,
                principal=principal,
                identity=policies,
                boundary=boundary,
                resource=self.facts.resource_policy(access.resource),
                resource_must_allow=access.action.startswith("kms:") and access.resource != "*",
            )
        except InvalidPolicy as error:  # what cannot be judged is denied, and the answer says why
            return Verdict(effect=Effect.EXPLICIT_DENY, statement=f"a policy that cannot be evaluated ({error})")

    def _note(self, decision: Decision) -> None:
        with self._lock:
            self._decisions[decision] = None
            self._decisions.move_to_end(decision)
            if len(self._decisions) > _MOST_DECISIONS:
                self._decisions.popitem(last=False)

    def decisions(self) -> list[Decision]:
        """Every decision, each once, the latest last; at most 20,000."""
        with self._lock:
            return list(self._decisions)

    def call(self, service: str, operation: str, **parameters: Any) -> Call:
        """An API call in this account and region."""
        return Call(
            service=service, operation=operation, parameters=parameters, region=self._region, account=self._account
        )


class Acting:
    """One part that acts with a role."""

    def __init__(self, session: Session, roles: Roles, connect: Callable[[str], Any]) -> None:
        self.session = session
        self._roles = roles
        self._connect = connect
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        """A boto3 client whose requests are the role's."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._connect(service)
            return self._clients[service]

    def check(self, accesses: Iterable[Access]) -> None:
        """Raises Denial unless the role is allowed all of it: what AWS's agents do and no request shows."""
        self._roles.check(self.session.role_arn, accesses, who=self.session.arn)

    def may_read(self, bucket: str, keys: Iterable[str]) -> None:
        """Raises Denial unless the role may read the objects, without reading them."""
        calls = (self._roles.call("s3", "GetObject", Bucket=bucket, Key=key) for key in keys)
        self.check(access for call in calls for access in needed(call, self._roles.facts) or ())
