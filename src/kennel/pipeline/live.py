"""What an AWS has now: the latest executions, and the endpoint."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from kennel.pipeline.aws import Aws
from kennel.pipeline.resources import Names

_LATEST = 10


def read(aws: Aws, *, name: str) -> dict[str, Any]:
    """Executions, newest first, and the endpoint or None."""
    names = Names(name=name, account=aws.account, region=aws.region)
    machine = names.arn("states", f"stateMachine:{names.state_machine}")
    executions: list[dict[str, Any]] = []
    endpoint = None
    try:
        listed = aws.client("stepfunctions").list_executions(stateMachineArn=machine, maxResults=_LATEST)
        executions = [{"name": item["name"], "status": item["status"]} for item in listed["executions"]]
        described = aws.client("sagemaker").describe_endpoint(EndpointName=name)
        endpoint = {"name": name, "status": described["EndpointStatus"], "config": described["EndpointConfigName"]}
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("StateMachineDoesNotExist", "ValidationException"):
            raise
    return {"executions": executions, "endpoint": endpoint, "console": _links(aws, names)}


def _links(aws: Aws, names: Names) -> dict[str, str]:
    """Where the console shows it; elsewhere than on AWS there is none."""
    if aws.endpoint_url is not None:
        return {}
    region = names.region
    console = f"https://{region}.console.aws.amazon.com"
    return {
        "stack": f"{console}/cloudformation/home?region={region}#/stacks?filteringText={names.name}",
        "state machine": f"{console}/states/home?region={region}#/statemachines/view/{names.state_machine_arn}",
        "endpoint": f"{console}/sagemaker/home?region={region}#/endpoints/{names.name}",
        "function": f"{console}/lambda/home?region={region}#/functions/{names.function}",
    }
