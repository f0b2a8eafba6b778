"""The local EventBridge for what AWS services tell: an event goes to the state machines of the rules that match it.

moto keeps rules and matches patterns; it starts no state machine and reads templates in its own way. What cannot be
started goes to the target's dead-letter queue with the reason, as on AWS. Targets of other sorts are left out.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from botocore.exceptions import ClientError

from kennel.local.wire import ServiceError

LOG = logging.getLogger(__name__)

_STRING_OR_NAME: Final = re.compile(r'"(?:[^"\\]|\\.)*"|<[^<>"\s]+>')
_NAME: Final = re.compile(r"<([^<>\"\s]+)>")


class EventBus:
    """The default event bus of one region."""

    def __init__(
        self,
        *,
        client: Callable[[str], Any],
        assume: Callable[[str, str], Callable[[str], Any]],
        account: str,
        region: str,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        unique: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """`client` makes clients of the owner, `assume(role_arn, rule_arn)` gives what makes those of a target's role.

        `assume` raises ServiceError.
        """
        self._client = client
        self._assume = assume
        self._account = account
        self._region = region
        self._now = now
        self._unique = unique
        self._clients: dict[str, Any] = {}

    def rules(self) -> Iterator[dict[str, Any]]:
        """Enabled rules with a pattern, as ListRules has them."""
        for page in self._owner("events").get_paginator("list_rules").paginate():
            yield from (rule for rule in page["Rules"] if rule["State"] == "ENABLED" and rule.get("EventPattern"))

    def emit(self, *, source: str, detail_type: str, detail: Mapping[str, Any]) -> None:
        """Send what a service tells to the targets of every rule that matches it."""
        from moto.events.models import EventPattern  # noqa: PLC0415  (slow, and only needed where there are rules)

        event = {
            "version": "0",
            "id": self._unique(),
            "detail-type": detail_type,
            "source": source,
            "account": self._account,
            "time": self._now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": self._region,
            "resources": [],
            "detail": dict(detail),
        }
        for rule in self.rules():
            if EventPattern.load(rule["EventPattern"]).matches_event(event):
                for target in self._owner("events").list_targets_by_rule(Rule=rule["Name"])["Targets"]:
                    self._send(event, rule["Arn"], target)

    def _send(self, event: Mapping[str, Any], rule: str, target: Mapping[str, Any]) -> None:
        if ":states:" not in target["Arn"]:
            LOG.warning("the local EventBridge does not send to %s", target["Arn"])
            return
        try:
            states = self._assume(target.get("RoleArn", ""), rule)("stepfunctions")
            name = f"{self._unique()}_{self._unique()}"
            states.start_execution(stateMachineArn=target["Arn"], name=name, input=input_of(target, event))
        except ServiceError as error:
            self._bury(event, rule, target, error.code, error.message)
        except ClientError as error:
            told = error.response["Error"]
            self._bury(event, rule, target, told["Code"], told["Message"])

    def _bury(self, event: Mapping[str, Any], rule: str, target: Mapping[str, Any], code: str, message: str) -> None:
        LOG.warning("%s did not start %s: %s: %s", rule, target["Arn"], code, message)
        queue = target.get("DeadLetterConfig", {}).get("Arn", "")
        if not queue:
            return
        told = {"RULE_ARN": rule, "TARGET_ARN": target["Arn"], "ERROR_CODE": code, "ERROR_MESSAGE": message}
        sqs = self._owner("sqs")
        sqs.send_message(
            QueueUrl=sqs.get_queue_url(QueueName=queue.rpartition(":")[2])["QueueUrl"],
            MessageBody=json.dumps(event),
            MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in told.items()},
        )

    def _owner(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._client(service)
        return self._clients[service]


def input_of(target: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    """What a target is given: the event, a constant, a part of the event, or a template filled with parts of it."""
    if "InputTransformer" in target:
        transformer = target["InputTransformer"]
        paths = transformer.get("InputPathsMap", {})
        return filled(transformer["InputTemplate"], {name: part_of(event, path) for name, path in paths.items()})
    if "InputPath" in target:
        return json.dumps(part_of(event, target["InputPath"]))
    return str(target.get("Input") or json.dumps(event))


def part_of(event: Mapping[str, Any], path: str) -> Any:
    """What is at a path of names; None if there is nothing.

    >>> part_of({"detail": {"image-digest": "sha256:1"}}, "$.detail.image-digest")
    'sha256:1'
    """
    found: Any = event
    for name in path.removeprefix("$").split("."):
        if name:
            found = found.get(name) if isinstance(found, Mapping) else None
    return found


def filled(template: str, values: Mapping[str, Any]) -> str:
    """The template with values for its `<names>`: within quotes as text, elsewhere as JSON.

    >>> filled('{"Image": "repository@<digest>", "Tags": <tags>}', {"digest": "sha256:1", "tags": ["a"]})
    '{"Image": "repository@sha256:1", "Tags": ["a"]}'
    """

    def text(found: re.Match[str]) -> str:
        if found[1] not in values:
            return found[0]
        value = values[found[1]]
        return json.dumps("" if value is None else value if isinstance(value, str) else json.dumps(value))[1:-1]

    def part(found: re.Match[str]) -> str:
        if found[0].startswith('"'):
            return _NAME.sub(text, found[0])
        name = found[0][1:-1]
        return json.dumps(values[name]) if name in values else found[0]

    return _STRING_OR_NAME.sub(part, template)
