"""Acts with the role of a function: its credentials, its log, and the delivery of what failed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from kennel.local.function_code import FunctionVersion
from kennel.local.iam.functions import SERVICE
from kennel.local.iam.roles import Acting, Roles
from kennel.local.logs import LogWriter
from kennel.local.wire import ServiceError


class FunctionRole:
    """A function's role; see `kennel.local.functions.Role`."""

    def __init__(self, role: Acting) -> None:
        self._role = role
        self._logs = LogWriter(role.client("logs"))
        self.credentials: Mapping[str, str] = role.session.credentials.variables()

    def log(self, group: str, stream: str, lines: list[str]) -> None:
        """Write lines to CloudWatch Logs; what the role may not write is lost, with a warning, as on AWS."""
        self._logs.write(group, stream, lines)

    def deliver(self, destination: str, record: dict[str, Any]) -> None:
        """Send a record to a queue or a topic. Raises ClientError, or ValueError for any other destination."""
        message = json.dumps(record)
        match destination.split(":")[2]:
            case "sqs":
                sqs = self._role.client("sqs")
                account, name = destination.split(":")[4:]
                url = f"{sqs.meta.endpoint_url}/{account}/{name}"
                sqs.send_message(QueueUrl=url, MessageBody=message)
            case "sns":
                self._role.client("sns").publish(TopicArn=destination, Message=message)
            case other:
                raise ValueError(f"{destination}: the local AWS delivers to queues and topics, not to {other}")


def assuming(roles: Roles) -> Callable[[FunctionVersion], FunctionRole]:
    """What takes the role of a function, once for each."""
    taken: dict[tuple[str, str], FunctionRole] = {}
    lock = threading.Lock()

    def assume(version: FunctionVersion) -> FunctionRole:
        arn = version.arn.partition(":function:")[0] + f":function:{version.name}"
        try:  # every time: the role may have gone or changed since
            acting = roles.assume(version.role, service=SERVICE, name=version.name, source_arn=arn)
        except ServiceError as error:
            raise ServiceError(
                "InvalidParameterValueException", "The role defined for the function cannot be assumed by Lambda."
            ) from error
        with lock:
            key = (version.role, version.name)
            if key not in taken:
                taken[key] = FunctionRole(acting)
            return taken[key]

    return assume
