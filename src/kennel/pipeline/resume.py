"""Goes on where an execution failed: a new execution whose input is what the failed one had come to.

Not RedriveExecution: our state machine catches each failure to restore the endpoint and to tell of it, so that it ends
in a Fail state, and a redrive would only fail there again (docs/decisions). The state machine's Choice `ResumeAt?`
finds the place by what the input holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kennel.errors import InvalidArguments
from kennel.pipeline.aws import Aws
from kennel.pipeline.resources import Names

_KEPT = (
    "Tuning",
    "Training",
    "Quality",
    "Network",
    "Model",
    "Endpoint",
    "Scaling",
    "Function",
    "Uploads",
    "Notification",
    "TuningJob",
    "TrainingJob",
)
"""What a later state needs: the input, and what jobs came to. What is known of the endpoint is found out anew."""


def asked(aws: Aws, names: Names, execution: str = "") -> tuple[str, dict[str, Any]]:
    """The name of the execution (the last one, unless one is named) and the input with which it goes on.

    Raises InvalidArguments if there is none, or none that failed.
    """
    states = aws.client("stepfunctions")
    try:
        if execution:
            arn = f"{names.state_machine_arn.replace(':stateMachine:', ':execution:')}:{execution}"
            found = states.describe_execution(executionArn=arn)
        else:
            listed = states.list_executions(stateMachineArn=names.state_machine_arn, maxResults=1)["executions"]
            if not listed:
                raise InvalidArguments("nothing has run yet", hint="`run.py run` starts the first execution.")
            found = states.describe_execution(executionArn=listed[0]["executionArn"])
    except (states.exceptions.ExecutionDoesNotExist, states.exceptions.StateMachineDoesNotExist) as error:
        raise InvalidArguments(
            f"there is no execution {execution}".rstrip(), hint="`run.py status` lists the latest."
        ) from error
    if found["status"] in ("SUCCEEDED", "RUNNING"):
        hint = "there is nothing to resume" if found["status"] == "SUCCEEDED" else "wait for it, or stop it first"
        raise InvalidArguments(
            f"{found['name']} is {found['status']}: {hint}", hint="`run.py status` lists the latest."
        )
    pages = states.get_paginator("get_execution_history").paginate(executionArn=found["executionArn"])
    reached = come_to(event for page in pages for event in page["events"])
    if "Network" not in reached:
        raise InvalidArguments(
            f"{found['name']} failed before it had found out what to deploy", hint="Start anew: `run.py run`."
        )
    return found["name"], reached


def come_to(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The input with which an execution with this history goes on: that of the last state entered before it failed."""
    last: dict[str, Any] = {}
    for event in events:
        if not event["type"].endswith("StateEntered"):
            continue
        entered = json.loads(event["stateEnteredEventDetails"]["input"])
        if "Failure" in entered:
            break
        last = entered
    return {"Mode": "resume", **{key: last[key] for key in _KEPT if key in last}}
