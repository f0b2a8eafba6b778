"""Every change to moto's Step Functions, each with its reason.

Importing this takes longer than all the rest of the local AWS together, so the server does it when it first
may be needed.
"""

from __future__ import annotations

import json
import re
from typing import Any

from moto.core.config import default_user_config
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
from moto.stepfunctions.parser.asl.utils import json_path
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str

from kennel.local.states import SageMakerTask

_INDEFINITE = re.compile(r"\*|\.\.|\[\?|\[[^\]'\"]*[:,]")
"""Wildcards, descent, filters, slices and unions: what lets a JSONPath match more than one value."""


def apply() -> None:
    """Change moto in this process."""
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
        env.stack.append(json.loads(to_json_str(env.stack.pop())))

    StateTaskServiceAwsSdk._eval_service_task = eval_as_json
