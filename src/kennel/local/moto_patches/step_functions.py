"""Every change to moto's Step Functions, each with its reason.

Importing this takes longer than all the rest of the local AWS together, so the server does it when it first
may be needed.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from moto.core.config import default_user_config
from moto.settings import moto_server_port
from moto.stepfunctions.parser.asl.component.common.payload.payloadvalue.payloadbinding.payload_binding import (
    PayloadBindingStringExpressionSimple,
)
from moto.stepfunctions.parser.asl.component.common.string.string_expression import StringContextPath, StringJsonPath
from moto.stepfunctions.parser.asl.component.state.exec.state_task import state_task_factory
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import state_task_service_aws_sdk
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service import StateTaskService
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_aws_sdk import (
    StateTaskServiceAwsSdk,
)
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_factory import (
    state_task_service_for,
)
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor
from moto.stepfunctions.parser.asl.utils import boto_client, json_path
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str

from kennel.local.iam.sessions import Credentials
from kennel.local.states import SageMakerTask
from kennel.local.wire import ServiceError

_INDEFINITE = re.compile(r"\*|\.\.|\[\?|\[[^\]'\"]*[:,]")
"""Wildcards, descent, filters, slices and unions: what lets a JSONPath match more than one value."""


def apply(credentials: Callable[[str], Credentials]) -> None:
    """Change moto in this process. `credentials(role_arn)` are what a state machine with that role signs with."""
    _act_with_roles(credentials)

    # moto only stores state machines unless it is asked to run them
    default_user_config["stepfunctions"] = {"execute_state_machine": True}

    # moto forwards `sagemaker:*` as plain calls and fails on `.sync`
    def service_for(service_name: str) -> StateTaskService:
        return SageMakerTask() if service_name == "sagemaker" else state_task_service_for(service_name)

    state_task_factory.state_task_service_for = service_for

    # `aws-sdk:applicationautoscaling` is Step Functions' name; botocore's has a hyphen
    StateTaskService._SERVICE_NAME_SFN_TO_BOTO_OVERRIDES["applicationautoscaling"] = "application-autoscaling"

    # moto's lexer takes a parameter `RoleArn.$` for a keyword of the language and leaves its path as text
    visit_value = Preprocessor.visitPayload_binding_value

    def visit_payload_binding_value(preprocessor: Any, context: Any) -> Any:
        binding = visit_value(preprocessor, context)
        value = getattr(binding.payload_value, "val", None)
        if not binding.field.endswith(".$") or not isinstance(value, str):
            return binding
        path = StringContextPath(value) if value.startswith("$$.") else StringJsonPath(value)
        return PayloadBindingStringExpressionSimple(field=binding.field[:-2], string_expression_simple=path)

    Preprocessor.visitPayload_binding_value = visit_payload_binding_value

    # moto answers `$.list[0].key` with a list of one; AWS, and JSONPath, take a path without wildcards for one value
    json_path._is_singleton_array_access = lambda path: _INDEFINITE.search(path) is None

    # errors of `aws-sdk:*` tasks carry AWS's spelling of the service, and Retry and Catch match on it
    state_task_service_aws_sdk._SERVICE_ERROR_NAMES.update(
        {
            "sagemaker": "SageMaker",
            "applicationautoscaling": "ApplicationAutoScaling",
            "lambda": "Lambda",
            "s3": "S3",
        }
    )

    # moto leaves Python datetimes in what `aws-sdk:*` tasks answer; AWS's states are JSON, timestamps are text
    eval_sdk_task = StateTaskServiceAwsSdk._eval_service_task

    def eval_as_json(task: Any, env: Any, *arguments: Any, **keywords: Any) -> None:
        eval_sdk_task(task, env, *arguments, **keywords)
        answer = {
            name: value.read().decode() if isinstance(value, StreamingBody) else value
            for name, value in env.stack.pop().items()
        }
        env.stack.append(json.loads(to_json_str(answer)))

    StateTaskServiceAwsSdk._eval_service_task = eval_as_json


def _act_with_roles(credentials: Callable[[str], Credentials]) -> None:
    """Make every client of a Task sign as the state machine's role; moto's all sign with the same fixed key."""

    def client_for(region: str, service: str, state_credentials: Any = None) -> Any:
        try:
            signing = credentials(state_credentials.role_arn)
        except ServiceError as error:
            raise ClientError({"Error": _NOT_ASSUMED, "ResponseMetadata": _FORBIDDEN}, "AssumeRole") from error
        return boto3.client(
            service,
            endpoint_url=f"http://localhost:{moto_server_port()}",
            region_name=region,
            aws_access_key_id=signing.access_key_id,
            aws_secret_access_key=signing.secret_access_key,
            aws_session_token=signing.session_token,
            config=Config(
                parameter_validation=False,  # the service refuses what is wrong, and a Catch sees its error
                retries={"total_max_attempts": 1},
                connect_timeout=_FOR_EVER,
                read_timeout=_FOR_EVER,
            ),
        )

    stock = boto_client.boto_client_for
    for name, module in list(sys.modules.items()):  # each imported it by name
        if name.startswith("moto.stepfunctions.") and getattr(module, "boto_client_for", None) is stock:
            module.boto_client_for = client_for  # type: ignore[attr-defined]


_FOR_EVER = 99_999_999
"""Seconds: the state's own timeout ends a call."""

_FORBIDDEN = {"HTTPStatusCode": 403, "RequestId": "none"}
_NOT_ASSUMED = {
    "Code": "AccessDeniedException",
    "Message": "Neither the global service principal states.amazonaws.com, nor the regional one is authorized to "
    "assume the provided role.",
}
