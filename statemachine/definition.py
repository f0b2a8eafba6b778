"""The state machine, written with AWS's `stepfunctions` SDK; `make definition` renders it to pipeline.asl.json.

Runs at authoring time only, in an environment of its own: the SDK is old and heavy, and nothing at run time
needs it. The document is the same for first deployment, retraining and rollout, on AWS and locally; only its
input differs (`kennel.pipeline.document` builds it from config/*.toml).

    Mode? ─ train ─▶ TuneHyperparameters ▶ TrainModel ▶ GoodEnough? ─▶ CreateModel ▶ CreateEndpointConfig
          ├ rollout (an image and a model are given) ──────────────────▲           │
          ├ pushed (an image is given) ─▶ ReadDeployment ──────────────┤           │
          └ resume ─▶ the first of these that has not succeeded        ┘           │
      FindEndpoint ▶ CreateEndpoint | UpdateEndpoint ▶ WaitForEndpoint… ◀──────────┘
      ▶ RegisterScalableTarget ▶ PutScalingPolicy
      ▶ ConfigureFunction… ▶ PublishVersion ▶ PointAlias ▶ ReserveConcurrency ▶ ProvisionConcurrency
      ▶ SubscribeToUploads ▶ SmokeTest ▶ RecordDeployment ▶ Succeeded
    any failure, once an endpoint was touched ▶ RestorePreviousEndpoint | DeleteEndpoint ▶ Notify ▶ Failed
    any failure before ▶ Notify ▶ Failed
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from stepfunctions.steps import Catch, Choice, ChoiceRule, Fail, Graph, Pass, Retry, Succeed, Task, Wait

RENDERED = Path(__file__).with_name("pipeline.asl.json")

DEPLOYMENT = "deployments/current.json"
"""Key of what serves now, in our bucket: what a pushed image is rolled out with."""

API_SECONDS = 60
"""No single API call takes longer. Jobs are bounded by their StoppingCondition, waiting by a count."""

DISCARD = None
"""As ResultPath: the result is dropped, the input goes on as it is."""

# Faults of AWS, by the names that Step Functions gives them: worth another try. A job that ran and failed is
# States.TaskFailed and is not among them: to repeat it costs money and changes nothing.
SERVICE_FAULTS = {
    "sagemaker": ["SageMaker.AmazonSageMakerException", "SageMaker.ResourceLimitExceededException"],
    "aws-sdk:sagemaker": ["SageMaker.ThrottlingException", "SageMaker.SdkClientException"],
    "aws-sdk:applicationautoscaling": [
        "ApplicationAutoScaling.ConcurrentUpdateException",
        "ApplicationAutoScaling.InternalServiceException",
        "ApplicationAutoScaling.ThrottlingException",
        "ApplicationAutoScaling.SdkClientException",
    ],
    "aws-sdk:lambda": [
        "Lambda.ResourceConflictException",  # an earlier update is still in progress
        "Lambda.ServiceException",
        "Lambda.TooManyRequestsException",
        "Lambda.SdkClientException",
    ],
    "aws-sdk:s3": ["S3.S3Exception", "S3.SdkClientException"],
    "lambda": [
        "Lambda.ResourceConflictException",  # a version that was just published is still being prepared
        "Lambda.ClientExecutionTimeoutException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.TooManyRequestsException",
    ],
    "sns": ["SNS.AmazonSNSException", "SNS.SdkClientException"],
}


UNNAMED = ("SageMaker.SageMakerException",)
"""What SageMaker's model has no name for: throttling, an endpoint that changes, a configuration that is too new."""

# --- what the SDK (2022) does not know yet ----------------------------------------------------------


class JitteredRetry(Retry):
    """A bounded Retry with full jitter."""

    def to_dict(self) -> dict[str, Any]:
        """With the fields that came to the language in 2023."""
        return {**super().to_dict(), "MaxDelaySeconds": 60, "JitterStrategy": "FULL"}


class ApiTask(Task):
    """A Task with ResultSelector, and with a ResultPath that may be null."""

    def __init__(
        self, state_id: str, *, result_path: str | None, result_selector: dict[str, Any] | None, **fields: Any
    ) -> None:
        super().__init__(state_id, **fields)
        self._more = {"ResultPath": result_path} | ({"ResultSelector": result_selector} if result_selector else {})

    def to_dict(self) -> dict[str, Any]:
        """With both fields."""
        return {**super().to_dict(), **self._more}


class FailWith(Fail):
    """A Fail state whose error and cause come from its input."""

    def __init__(self, state_id: str, *, error: dict[str, str], cause: dict[str, str]) -> None:
        super().__init__(state_id)
        self._more = error | cause

    def to_dict(self) -> dict[str, Any]:
        """With Error or ErrorPath, and Cause or CausePath."""
        return {**super().to_dict(), **self._more}


# --- how this document is built ---------------------------------------------------------------------


class Builder:
    """Makes states. Every Task of a builder fails to the same state, with the failure at the path `failure`."""

    def __init__(self, on_failure: Any, *, failure: str = "$.Failure") -> None:
        self.on_failure = on_failure
        self.failure = failure

    def task(
        self,
        name: str,
        resource: str,
        parameters: dict[str, Any],
        *,
        result: str | None = DISCARD,
        selector: dict[str, Any] | None = None,
        timeout: int | None = API_SECONDS,
        catches: tuple[Catch, ...] = (),
        also_retried: tuple[str, ...] = (),
    ) -> ApiTask:
        """A Task that calls `resource` (`<service>:<action>`), with the Retry and Catch that every Task has.

        Its result lands at the path `result` of the input, which passes through otherwise.
        """
        state = ApiTask(
            name,
            resource=f"arn:aws:states:::{resource}",
            parameters=parameters,
            result_path=result,
            result_selector=selector,
            timeout_seconds=timeout,
        )
        faults = [*SERVICE_FAULTS[resource.rpartition(":")[0]], *also_retried]
        state.add_retry(JitteredRetry(error_equals=faults, interval_seconds=2, max_attempts=6, backoff_rate=2.0))
        for catch in catches:
            state.add_catch(catch)
        state.add_catch(Catch(error_equals=["States.ALL"], next_step=self.on_failure, result_path=self.failure))
        return state


def choose(name: str, *rules: tuple[Any, Any], otherwise: Any) -> Choice:
    """A Choice of (rule, next state) pairs."""
    choice = Choice(name)
    for rule, next_step in rules:
        choice.add_choice(rule, next_step)
    choice.default_choice(otherwise)
    return choice


def chain(*states: Any) -> Any:
    """Link states one after another; return the first."""
    for state, following in itertools.pairwise(states):
        state.next(following)
    return states[0]


def poll(
    *, name: str, describe: ApiTask, limit: str, seconds: str, ready: Any, done: Any, broken: Any, gone_wrong: Any
) -> Any:
    """Describe, decide, wait, again: at most as often as the number at path `limit`. Returns the first state."""
    counter = f"$.{name}Polls"
    start = Pass(f"Start{name}Polls", result={"Count": 0}, result_path=counter)
    count = Pass(f"Count{name}Poll", parameters={"Count.$": f"States.MathAdd({counter}.Count, 1)"}, result_path=counter)
    wait = Wait(f"WaitFor{name}", seconds_path=seconds)
    overdue = ChoiceRule.NumericGreaterThanEqualsPath(f"{counter}.Count", limit)
    decide = choose(f"{name}Ready?", (ready, done), (broken, gone_wrong), (overdue, gone_wrong), otherwise=count)
    chain(start, describe, decide)
    chain(count, wait, describe)
    return start


# --- the states, last ones first: each part is given what follows it --------------------------------


def aftermath() -> tuple[Any, Any]:
    """Undo, tell, fail. Returns where to go while no endpoint was touched, and where to go afterwards."""
    failed = FailWith(
        "Failed",
        # not the error's own name: names that begin with `States.` are Step Functions' to give
        error={"Error": "PipelineFailed"},
        cause={"CausePath": "States.Format('{}: {}', $.Failure.Error, $.Failure.Cause)"},
    )
    notify = ApiTask(
        "Notify",
        resource="arn:aws:states:::sns:publish",
        parameters={
            "TopicArn.$": "$.Notification.TopicArn",
            "Subject": "kennel: an execution failed",
            "Message.$": "States.Format('{}: {}: {}', $$.Execution.Name, $.Failure.Error, $.Failure.Cause)",
        },
        result_path=DISCARD,
        result_selector=None,
        timeout_seconds=API_SECONDS,
    )
    notify.add_retry(
        JitteredRetry(error_equals=SERVICE_FAULTS["sns"], interval_seconds=2, max_attempts=6, backoff_rate=2.0)
    )
    # the failure to report is the one that led here, not that of reporting it
    notify.add_catch(Catch(error_equals=["States.ALL"], next_step=failed, result_path="$.NotificationFailure"))
    notify.next(failed)

    undo = Builder(notify, failure="$.RestoreFailure")  # the failure to report is the one that led here
    restore = undo.task(
        "RestorePreviousEndpoint",
        "aws-sdk:sagemaker:updateEndpoint",
        {
            "EndpointName.$": "$.Endpoint.Name",
            "EndpointConfigName.$": "$.PreviousEndpoint.EndpointConfigName",
            "RetainAllVariantProperties": True,
        },
        also_retried=UNNAMED,
    )
    delete = undo.task(
        "DeleteEndpoint",
        "aws-sdk:sagemaker:deleteEndpoint",
        {"EndpointName.$": "$.Endpoint.Name"},
        also_retried=UNNAMED,
    )
    restore.next(notify)
    delete.next(notify)
    had_endpoint = choose(
        "HadEndpoint?",
        (ChoiceRule.IsPresent("$.PreviousEndpoint.EndpointConfigName", True), restore),
        otherwise=delete,
    )
    return notify, had_endpoint


def smoke_test(live: Builder) -> Any:
    """The image whose class is known, through the alias of the function."""
    smoke_test_failed = Pass(
        "SmokeTestFailed",
        parameters={
            "Error": "SmokeTestFailed",
            "Cause.$": "States.Format('The image whose class is known was answered with: {}', "
            "States.JsonToString($.SmokeTest))",
        },
        result_path="$.Failure",
    )
    smoke_test_failed.next(live.on_failure)
    answer_is_right = ChoiceRule.And(
        [
            ChoiceRule.NumericEquals("$.SmokeTest.StatusCode", 200),
            ChoiceRule.IsPresent("$.SmokeTest.Answer.expected", True),
            ChoiceRule.IsPresent("$.SmokeTest.Answer.predictions[0].label", True),
            ChoiceRule.StringEqualsPath("$.SmokeTest.Answer.predictions[0].label", "$.SmokeTest.Answer.expected"),
        ]
    )
    return chain(
        live.task(
            "SmokeTest",
            "lambda:invoke",
            {"FunctionName.$": "$.Function.AliasArn", "Payload": {"example": True}},
            result="$.SmokeTest",
            selector={
                "StatusCode.$": "$.Payload.statusCode",
                "Answer.$": "States.StringToJson($.Payload.body)",
            },
            timeout=120,
        ),
        choose("SmokeTestPassed?", (answer_is_right, record_deployment(live)), otherwise=smoke_test_failed),
    )


def record_deployment(live: Builder) -> Any:
    """What serves now is written down, for the rollout of an image that is pushed later."""
    return chain(
        live.task(
            "RecordDeployment",
            "aws-sdk:s3:putObject",
            {"Bucket.$": "$.Uploads.Bucket", "Key": DEPLOYMENT, "Body.$": "States.JsonToString($)"},
        ),
        Succeed("Succeeded"),
    )


def function(live: Builder, following: Any) -> Any:
    """Configuration, version, alias, concurrency and events of the function."""
    provision = live.task(
        "ProvisionConcurrency",
        "aws-sdk:lambda:putProvisionedConcurrencyConfig",
        {
            "FunctionName.$": "$.Function.Name",
            "Qualifier.$": "$.Function.Alias",
            "ProvisionedConcurrentExecutions.$": "$.Function.ProvisionedConcurrency",
        },
    )
    subscribe = live.task(
        "SubscribeToUploads",
        "aws-sdk:s3:putBucketNotificationConfiguration",
        {
            "Bucket.$": "$.Uploads.Bucket",
            "NotificationConfiguration.$": "$.Uploads.NotificationConfiguration",
        },
    )
    chain(provision, subscribe, following)
    point_alias = chain(
        live.task(
            "PublishVersion",
            "aws-sdk:lambda:publishVersion",
            {"FunctionName.$": "$.Function.Name", "Description.$": "$$.Execution.Name"},
            result="$.FunctionVersion",
            selector={"Version.$": "$.Version"},
        ),
        live.task(
            "PointAlias",
            "aws-sdk:lambda:updateAlias",
            {
                "FunctionName.$": "$.Function.Name",
                "Name.$": "$.Function.Alias",
                "FunctionVersion.$": "$.FunctionVersion.Version",
            },
        ),
        live.task(
            "ReserveConcurrency",
            "aws-sdk:lambda:putFunctionConcurrency",
            {
                "FunctionName.$": "$.Function.Name",
                "ReservedConcurrentExecutions.$": "$.Function.ReservedConcurrency",
            },
        ),
        choose(
            "Provisioned?",
            (ChoiceRule.NumericGreaterThan("$.Function.ProvisionedConcurrency", 0), provision),
            otherwise=subscribe,
        ),
    )
    function_not_updated = Pass(
        "FunctionNotUpdated",
        parameters={
            "Error": "FunctionNotUpdated",
            "Cause.$": "States.Format('The update of function {} ended as {}', $.Function.Name, "
            "$.FunctionUpdate.LastUpdateStatus)",
        },
        result_path="$.Failure",
    )
    function_not_updated.next(live.on_failure)
    return chain(
        live.task(
            "ConfigureFunction",
            "aws-sdk:lambda:updateFunctionConfiguration",
            {
                "FunctionName.$": "$.Function.Name",
                "Environment": {"Variables.$": "$.Function.Environment"},
                "Timeout.$": "$.Function.Timeout",
                "MemorySize.$": "$.Function.MemorySize",
            },
        ),
        poll(
            name="Function",
            describe=live.task(
                "DescribeFunction",
                "aws-sdk:lambda:getFunctionConfiguration",
                {"FunctionName.$": "$.Function.Name"},
                result="$.FunctionUpdate",
                selector={"LastUpdateStatus.$": "$.LastUpdateStatus"},
            ),
            limit="$.Function.MaxPolls",
            seconds="$.Function.PollSeconds",
            ready=ChoiceRule.StringEquals("$.FunctionUpdate.LastUpdateStatus", "Successful"),
            done=point_alias,
            broken=ChoiceRule.StringEquals("$.FunctionUpdate.LastUpdateStatus", "Failed"),
            gone_wrong=function_not_updated,
        ),
    )


def autoscaling(live: Builder, following: Any) -> Any:
    """The number of instances follows the traffic."""
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId.$": "$.Scaling.ResourceId",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    return chain(
        live.task(
            "RegisterScalableTarget",
            "aws-sdk:applicationautoscaling:registerScalableTarget",
            {**target, "MinCapacity.$": "$.Scaling.MinCapacity", "MaxCapacity.$": "$.Scaling.MaxCapacity"},
        ),
        live.task(
            "PutScalingPolicy",
            "aws-sdk:applicationautoscaling:putScalingPolicy",
            {
                **target,
                # the name under which the SageMaker console looks for the policy
                "PolicyName": "SageMakerEndpointInvocationScalingPolicy",
                "PolicyType": "TargetTrackingScaling",
                "TargetTrackingScalingPolicyConfiguration.$": "$.Scaling.Policy",
            },
        ),
        following,
    )


def deployment(before: Builder, live: Builder, following: Any) -> Any:
    """Model and endpoint configuration; the endpoint is created or updated, and waited for."""
    endpoint_not_in_service = Pass(
        "EndpointNotInService",
        parameters={
            "Error": "EndpointNotInService",
            "Cause.$": "States.Format('Endpoint {} is {} with configuration {} instead of {}. {}', "
            "$.Endpoint.Name, $.EndpointState.Status, $.EndpointState.Config, $.Deployment.Name, "
            "$.EndpointState.Description)",
        },
        result_path="$.Failure",
    )
    in_service = ChoiceRule.StringEquals("$.EndpointState.Status", "InService")
    in_transition = [
        ChoiceRule.StringEquals("$.EndpointState.Status", status)
        for status in ("Creating", "Updating", "SystemUpdating", "RollingBack")
    ]
    # an update that was rolled back is InService, too, with the configuration of before
    rolled_back = ChoiceRule.Not(ChoiceRule.StringEqualsPath("$.EndpointState.Config", "$.Deployment.Name"))
    roll_back = choose(
        "EndpointRolledBack?", (ChoiceRule.And([in_service, rolled_back]), before.on_failure), otherwise=live.on_failure
    )
    endpoint_not_in_service.next(roll_back)
    wait_for_endpoint = poll(
        name="Endpoint",
        describe=live.task(
            "DescribeEndpoint",
            "aws-sdk:sagemaker:describeEndpoint",
            {"EndpointName.$": "$.Endpoint.Name"},
            result="$.EndpointState",
            selector={
                "Status.$": "$.EndpointStatus",
                "Config.$": "$.EndpointConfigName",
                "Description.$": "States.JsonToString($)",
            },
            also_retried=UNNAMED,
        ),
        limit="$.Endpoint.MaxPolls",
        seconds="$.Endpoint.PollSeconds",
        ready=ChoiceRule.And([in_service, ChoiceRule.StringEqualsPath("$.EndpointState.Config", "$.Deployment.Name")]),
        done=following,
        broken=ChoiceRule.Not(ChoiceRule.Or(in_transition)),
        gone_wrong=endpoint_not_in_service,
    )
    endpoint_request = {"EndpointName.$": "$.Endpoint.Name", "EndpointConfigName.$": "$.Deployment.Name"}
    create_endpoint = before.task("CreateEndpoint", "sagemaker:createEndpoint", endpoint_request)
    # not the optimized integration, which is documented with the two names only: no DeploymentConfig
    update_endpoint = before.task(
        "UpdateEndpoint",
        "aws-sdk:sagemaker:updateEndpoint",
        {
            **endpoint_request,
            # as many instances as autoscaling has brought it to
            "RetainAllVariantProperties": True,
            "DeploymentConfig.$": "$.Endpoint.DeploymentConfig",
        },
        also_retried=UNNAMED,
    )
    create_endpoint.next(wait_for_endpoint)
    update_endpoint.next(wait_for_endpoint)
    # SageMaker has no error of its own for an unknown endpoint: the message tells it from other faults
    endpoint_missing = choose(
        "EndpointMissing?",
        (ChoiceRule.StringMatches("$.Failure.Cause", "*Could not find endpoint*"), create_endpoint),
        otherwise=before.on_failure,
    )
    return chain(
        before.task(
            "CreateModel",
            "sagemaker:createModel",
            {
                "ModelName.$": "$.Deployment.Name",
                "PrimaryContainer": {
                    "Image.$": "$.Model.Image",
                    "ModelDataUrl.$": "$.Model.ModelDataUrl",
                    "Environment.$": "$.Model.Environment",
                },
                "ExecutionRoleArn.$": "$.Model.RoleArn",
                "EnableNetworkIsolation": True,
                "VpcConfig": {
                    "Subnets.$": "$.Network.Subnets",
                    "SecurityGroupIds.$": "$.Network.ServingSecurityGroupIds",
                },
            },
        ),
        before.task(
            "CreateEndpointConfig",
            # not the optimized integration, which knows a list of fields of its own
            "aws-sdk:sagemaker:createEndpointConfig",
            {
                "EndpointConfigName.$": "$.Deployment.Name",
                "ProductionVariants": [
                    {
                        "VariantName.$": "$.Endpoint.Variant",
                        "ModelName.$": "$.Deployment.Name",
                        "InstanceType.$": "$.Endpoint.InstanceType",
                        "InitialInstanceCount.$": "$.Endpoint.InstanceCount",
                        "InitialVariantWeight": 1,
                        "ContainerStartupHealthCheckTimeoutInSeconds.$": "$.Endpoint.StartSeconds",
                    }
                ],
                "KmsKeyId.$": "$.Network.KmsKeyId",
            },
        ),
        before.task(
            "FindEndpoint",
            "aws-sdk:sagemaker:describeEndpoint",
            {"EndpointName.$": "$.Endpoint.Name"},
            result="$.PreviousEndpoint",
            selector={"EndpointConfigName.$": "$.EndpointConfigName"},
            catches=(
                Catch(
                    error_equals=["SageMaker.SageMakerException"],
                    next_step=endpoint_missing,
                    result_path="$.Failure",
                ),
            ),
        ),
        update_endpoint,
    )


def training(before: Builder, following: Any) -> tuple[Any, Any, Any]:
    """Tune, train the best, and refuse a model that is not good enough; the first state of each."""
    rejected = FailWith(
        "Rejected",
        error={"Error": "ModelRejected"},
        cause={
            "CausePath": "States.Format('The validation accuracy {} is below the threshold {}: nothing was deployed', "
            "$.TrainingJob.ValidationAccuracy, $.Quality.MinimumValidationAccuracy)"
        },
    )
    use_model = Pass(
        "UseTrainedModel",
        parameters={
            "Image.$": "$.Model.Image",
            "Environment.$": "$.Model.Environment",
            "RoleArn.$": "$.Model.RoleArn",
            "ModelDataUrl.$": "$.TrainingJob.ModelDataUrl",
        },
        result_path="$.Model",
    )
    use_model.next(following)
    good_enough = choose(
        "GoodEnough?",
        (
            ChoiceRule.NumericGreaterThanEqualsPath(
                "$.TrainingJob.ValidationAccuracy", "$.Quality.MinimumValidationAccuracy"
            ),
            use_model,
        ),
        otherwise=rejected,
    )
    train = before.task(
        "TrainModel",
        "sagemaker:createTrainingJob.sync",
        {
            "TrainingJobName.$": "States.Format('{}-train-{}', $$.Execution.Name, $$.State.RetryCount)",
            "HyperParameters.$": "States.JsonMerge($.Training.HyperParameters, "
            "$.TuningJob.BestTrainingJob.TunedHyperParameters, false)",
            **_job("$.Training"),
        },
        result="$.TrainingJob",
        selector={
            "Name.$": "$.TrainingJobName",
            "ModelDataUrl.$": "$.ModelArtifacts.S3ModelArtifacts",
            "Metrics.$": "$.FinalMetricDataList",
            "ValidationAccuracy.$": "States.ArrayGetItem("
            "$.FinalMetricDataList[?(@.MetricName=='validation:accuracy')].Value, 0)",
        },
        timeout=None,
    )
    tune = before.task(
        "TuneHyperparameters",
        "sagemaker:createHyperParameterTuningJob.sync",
        {
            # names of tuning jobs end at 32 characters; a retry needs a new one
            "HyperParameterTuningJobName.$": "States.Format('{}-t{}', $$.Execution.Name, $$.State.RetryCount)",
            "HyperParameterTuningJobConfig.$": "$.Tuning.Config",
            "TrainingJobDefinition": {"StaticHyperParameters.$": "$.Tuning.HyperParameters", **_job("$.Tuning")},
        },
        result="$.TuningJob",
        selector={
            "Name.$": "$.HyperParameterTuningJobName",
            "BestTrainingJob.$": "$.BestTrainingJob",
        },
        timeout=None,
    )
    chain(tune, train, good_enough)
    return tune, train, good_enough


def _job(settings: str) -> dict[str, Any]:
    """What a training job and each trial of a tuning job have in common; `settings` is the path of their own."""
    return {
        "AlgorithmSpecification.$": "$.Training.AlgorithmSpecification",
        "InputDataConfig.$": "$.Training.InputDataConfig",
        "OutputDataConfig": {"S3OutputPath.$": "$.Training.OutputUri", "KmsKeyId.$": "$.Network.KmsKeyId"},
        "CheckpointConfig": {"S3Uri.$": "$.Training.CheckpointsUri"},
        # VolumeKmsKeyId, but for instance types whose disks the hardware encrypts: SageMaker refuses a key there
        "ResourceConfig.$": f"States.JsonMerge({settings}.ResourceConfig, {settings}.VolumeEncryption, false)",
        "StoppingCondition.$": f"{settings}.StoppingCondition",
        "EnableManagedSpotTraining.$": f"{settings}.Spot",
        "RoleArn.$": "$.Training.RoleArn",
        "EnableNetworkIsolation": True,
        "EnableInterContainerTrafficEncryption": True,
        "VpcConfig": {
            "Subnets.$": "$.Network.Subnets",
            "SecurityGroupIds.$": "$.Network.TrainingSecurityGroupIds",
        },
    }


def pushed(before: Builder, following: Any) -> Any:
    """A pushed image is rolled out with all else as it is: what was written down when it was deployed."""
    current = "$.Current.Deployment"
    use_image = Pass(
        "UsePushedImage",
        parameters={
            **{f"{part}.$": f"{current}.{part}" for part in ("Network", "Endpoint", "Scaling", "Function", "Uploads")},
            "Model": {
                "Image.$": "$.Pushed.Image",
                **{f"{part}.$": f"{current}.Model.{part}" for part in ("ModelDataUrl", "Environment", "RoleArn")},
            },
            "Notification.$": "$.Notification",
            # EventBridge's names of executions do not fit a model
            "Deployment": {"Name.$": f"States.Format('{{}}-{{}}', {current}.Endpoint.Name, States.UUID())"},
        },
    )
    use_image.next(following)
    return chain(
        before.task(
            "ReadDeployment",
            "aws-sdk:s3:getObject",
            {"Bucket.$": "$.Pushed.Bucket", "Key": DEPLOYMENT},
            result="$.Current",
            selector={"Deployment.$": "States.StringToJson($.Body)"},
        ),
        choose(
            "Deployed?",
            (ChoiceRule.IsPresent(f"{current}.Model.ModelDataUrl", True), use_image),
            otherwise=Succeed("NothingToRollOut"),
        ),
    )


def build() -> Graph:
    """The whole state machine."""
    notify, had_endpoint = aftermath()
    before, live = Builder(notify), Builder(had_endpoint)
    deploy = deployment(before, live, autoscaling(live, function(live, smoke_test(live))))
    name = Pass("NameDeployment", parameters={"Name.$": "$$.Execution.Name"}, result_path="$.Deployment")
    name.next(deploy)
    tune, train, good_enough = training(before, name)
    resume = choose(
        "ResumeAt?",
        (ChoiceRule.IsPresent("$.Model.ModelDataUrl", True), name),
        (ChoiceRule.IsPresent("$.TrainingJob.ValidationAccuracy", True), good_enough),
        (ChoiceRule.IsPresent("$.TuningJob.BestTrainingJob", True), train),
        otherwise=tune,
    )
    mode = choose(
        "Mode?",
        (ChoiceRule.StringEquals("$.Mode", "train"), tune),
        (ChoiceRule.StringEquals("$.Mode", "rollout"), name),
        (ChoiceRule.StringEquals("$.Mode", "pushed"), pushed(before, deploy)),
        (ChoiceRule.StringEquals("$.Mode", "resume"), resume),
        otherwise=FailWith(
            "UnknownMode",
            error={"Error": "UnknownMode"},
            cause={"CausePath": "States.Format('Mode is {}; it must be train, rollout, pushed or resume', $.Mode)"},
        ),
    )
    return Graph(mode, comment="kennel: tune, train, deploy, scale, wire, test")


def render() -> str:
    """The document as it is checked in and uploaded."""
    return json.dumps(json.loads(build().to_json()), indent=2) + "\n"


if __name__ == "__main__":
    RENDERED.write_text(render())
