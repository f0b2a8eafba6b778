"""The SageMaker integration of Step Functions, for moto's interpreter: `sagemaker:create…` and its `.sync`.

Semantics as documented in "Manage Amazon SageMaker with Step Functions": an optimized integration makes the
call; with `.sync` it waits until the job ended, answers with the job's description, fails with
`States.TaskFailed` if the job did not complete, and stops the job when the execution is stopped.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError
from moto.stepfunctions.parser.api import HistoryEventType, TaskFailedEventDetails
from moto.stepfunctions.parser.asl.component.common.error_name.custom_error_name import CustomErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.failure_event import FailureEvent
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name import StatesErrorName
from moto.stepfunctions.parser.asl.component.common.error_name.states_error_name_type import StatesErrorNameType
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.resource import ResourceCondition
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service.state_task_service_callback import (
    StateTaskServiceCallback,
)
from moto.stepfunctions.parser.asl.eval.event.event_detail import EventDetails
from moto.stepfunctions.parser.asl.utils import boto_client
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str

POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class _Job:
    """How to watch the job that a `.sync` call starts."""

    name: str
    describe: str
    stop: str
    status: str


_JOBS = {
    "create_training_job": _Job(
        name="TrainingJobName",
        describe="describe_training_job",
        stop="stop_training_job",
        status="TrainingJobStatus",
    ),
    "create_hyper_parameter_tuning_job": _Job(
        name="HyperParameterTuningJobName",
        describe="describe_hyper_parameter_tuning_job",
        stop="stop_hyper_parameter_tuning_job",
        status="HyperParameterTuningJobStatus",
    ),
}
_TAG = {"Key": "MANAGED_BY_AWS", "Value": "STARTED_BY_STEP_FUNCTIONS"}
"""What Step Functions tags the jobs with that it starts and waits for."""

_ENDED = ("Completed", "Failed", "Stopped")


class JobFailed(Exception):
    """The job that a `.sync` task waited for ended without success; carries its description."""


class _Calls:
    """Calls of SageMaker with the role of the state machine."""

    def __init__(self, region: str, state_credentials: Any) -> None:
        # looked up when it is called: what signs for a role replaces moto's
        self._client = boto_client.boto_client_for(
            service="sagemaker", region=region, state_credentials=state_credentials
        )

    def __call__(self, action: str, parameters: dict[str, Any]) -> dict[str, Any]:
        response = getattr(self._client, action)(**parameters)
        response.pop("ResponseMetadata", None)
        plain: dict[str, Any] = json.loads(to_json_str(response))  # timestamps as text, as states carry them
        return plain


class SageMakerTask(StateTaskServiceCallback):  # type: ignore[misc]
    """A Task state whose resource is `arn:aws:states:::sagemaker:…`."""

    def __init__(self) -> None:
        super().__init__(supported_integration_patterns={ResourceCondition.Sync})

    def _validate_service_integration_is_supported(self) -> None:
        if self.resource.condition not in (None, ResourceCondition.Sync):
            raise ValueError(f"{self.resource.resource_arn}: SageMaker has no {self.resource.condition} integration")
        if self.resource.condition and self._get_boto_service_action() not in _JOBS:
            raise ValueError(f"{self.resource.resource_arn}: the local AWS has no .sync for it")

    def _eval_service_task(
        self,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> None:
        call = _Calls(resource_runtime_part.region, state_credentials)
        if self.resource.condition:
            normalised_parameters = {**normalised_parameters, "Tags": [*normalised_parameters.get("Tags", []), _TAG]}
        env.stack.append(call(self._get_boto_service_action(), normalised_parameters))

    def _eval_integration_pattern(
        self,
        env: Any,
        resource_runtime_part: Any,
        normalised_parameters: dict[str, Any],
        state_credentials: Any,
    ) -> None:
        (arn,) = env.stack.pop().values()  # the answer of the create call gives way to the job's description
        call = _Calls(resource_runtime_part.region, state_credentials)
        call("list_tags", {"ResourceArn": arn})  # by its tag Step Functions knows a job again
        job = _JOBS[self._get_boto_service_action()]
        name = {job.name: normalised_parameters[job.name]}
        while env.is_running():
            description = call(job.describe, name)
            if description[job.status] in _ENDED:
                if description[job.status] != "Completed":
                    raise JobFailed(to_json_str(description))
                env.stack.append(description)
                return
            time.sleep(POLL_SECONDS)
        # the execution was stopped, or the task timed out
        with contextlib.suppress(ClientError):  # the job has ended meanwhile
            call(job.stop, name)

    def _from_error(self, env: Any, ex: Exception) -> Any:
        if isinstance(ex, JobFailed):
            error = StatesErrorName(typ=StatesErrorNameType.StatesTaskFailed)
            return self._failure(env, error, StatesErrorNameType.StatesTaskFailed.to_name(), str(ex))
        if isinstance(ex, ClientError):
            code = ex.response["Error"]["Code"]
            # AWS names the service's modelled exceptions, and calls the rest AmazonSageMakerException
            modelled = code in ("ResourceLimitExceeded", "ResourceInUse", "ResourceNotFound", "ConflictException")
            name = f"SageMaker.{code.removesuffix('Exception')}Exception" if modelled else _GENERIC
            return self._failure(env, CustomErrorName(name), name, f"{code}: {ex.response['Error']['Message']}")
        return super()._from_error(env=env, ex=ex)

    def _failure(self, env: Any, error_name: Any, error: str, cause: str) -> Any:
        return FailureEvent(
            env=env,
            error_name=error_name,
            event_type=HistoryEventType.TaskFailed,
            event_details=EventDetails(
                taskFailedEventDetails=TaskFailedEventDetails(
                    resource=self._get_sfn_resource(),
                    resourceType=self._get_sfn_resource_type(),
                    error=error,
                    cause=cause,
                )
            ),
        )


_GENERIC = "SageMaker.AmazonSageMakerException"
