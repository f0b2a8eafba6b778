"""Takes down all that a configuration ever made, in an order that works, and says what is left.

What the state machine made is not the stack's: it goes first, for it stands on the stack. Each step takes what it
finds, so that an interrupted one is simply repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from kennel.errors import PipelineFailed
from kennel.pipeline import ec2_request
from kennel.pipeline.aws import Aws
from kennel.pipeline.resources import FUNCTION_ALIAS, VARIANT, Names
from kennel.pipeline.stack import Stack

Say = Callable[[str], None]

_JOB_LOGS = "/aws/sagemaker/TrainingJobs"
_PATIENCE_SECONDS = 1800.0
_POLL_SECONDS = 0.5


def remove(aws: Aws, stack: Stack, names: Names, *, say: Say) -> None:
    """Remove everything; `say` is told what was removed. Raises PipelineFailed with what cannot be."""
    for step in (_executions, _jobs, _instances, _scaling, _endpoint, _configs_and_models, _provisioned, _objects):
        step(aws, names, say)
    if stack.describe() is not None:
        _interfaces(aws, stack)
        try:
            stack.delete()
        except PipelineFailed:  # an access log that came late, or an object that was put meanwhile
            _objects(aws, names, say)
            stack.delete()
        say(f"stack {names.name}")
    _logs(aws, names, say)


def what_remains(aws: Aws, names: Names) -> list[str]:
    """What still exists, each with what it costs."""
    return [*_billed(aws, names), *_free(aws, names)]


# --- what the state machine made -------------------------------------------------------------------


def _executions(aws: Aws, names: Names, say: Say) -> None:
    """Those under way would make anew what goes now; their jobs stop with them."""
    states = aws.client("stepfunctions")
    asked = {"stateMachineArn": names.state_machine_arn, "statusFilter": "RUNNING"}
    try:
        pages = list(states.get_paginator("list_executions").paginate(**asked))
    except states.exceptions.StateMachineDoesNotExist:
        return
    for execution in (found for page in pages for found in page["executions"]):
        states.stop_execution(executionArn=execution["executionArn"], error="Interrupted", cause="run.py down")
        say(f"execution {execution['name']} is stopped")


def _jobs(aws: Aws, names: Names, say: Say) -> None:
    """Jobs that run, and those that are still stopping: they need their role and the network until they have ended."""
    sagemaker = aws.client("sagemaker")
    kinds = (
        ("list_hyper_parameter_tuning_jobs", "HyperParameterTuningJob", sagemaker.stop_hyper_parameter_tuning_job),
        ("list_training_jobs", "TrainingJob", sagemaker.stop_training_job),
    )
    for lister, kind, stop in kinds:
        for name in _named(sagemaker, lister, kind, names, StatusEquals="InProgress"):
            if _unless(("ValidationException",), partial(stop, **{f"{kind}Name": name})):
                say(f"job {name} is stopped")

    def ended() -> bool:
        return not any(
            list(_named(sagemaker, lister, kind, names, StatusEquals=status))
            for lister, kind, _ in kinds
            for status in ("InProgress", "Stopping")
        )

    _wait(ended, f"jobs of {names.name}")


def _instances(aws: Aws, names: Names, say: Say) -> None:
    """EC2 instances that train."""
    ec2 = aws.client("ec2")
    filters = [
        {"Name": f"tag:{ec2_request.JOB_TAG}", "Values": [f"{names.name}-*"]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    found = [item["InstanceId"] for page in pages for group in page["Reservations"] for item in group["Instances"]]
    if found:
        ec2.terminate_instances(InstanceIds=found)
        say(f"instances {', '.join(found)}")
        ec2.get_waiter("instance_terminated").wait(InstanceIds=found)  # their disks and interfaces hold the network


def _scaling(aws: Aws, names: Names, say: Say) -> None:
    """The alarms of target tracking go with it."""
    scaling = aws.client("application-autoscaling")
    resource = f"endpoint/{names.name}/variant/{VARIANT}"
    found = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])["ScalableTargets"]
    for target in found:
        scaling.deregister_scalable_target(
            ServiceNamespace="sagemaker", ResourceId=resource, ScalableDimension=target["ScalableDimension"]
        )
        say(f"scaling of {resource}")


def _endpoint(aws: Aws, names: Names, say: Say) -> None:
    """It cannot be deleted while it changes, and its configuration must not go before it."""
    sagemaker = aws.client("sagemaker")
    existed = False

    def gone() -> bool:
        nonlocal existed
        try:
            status = sagemaker.describe_endpoint(EndpointName=names.name)["EndpointStatus"]
        except ClientError as error:
            if "Could not find" not in error.response["Error"]["Message"]:
                raise
            return True
        existed = True
        if status not in ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"):
            _unless(("ValidationException",), lambda: sagemaker.delete_endpoint(EndpointName=names.name))
        return False

    _wait(gone, f"endpoint {names.name}")
    if existed:
        say(f"endpoint {names.name}")


def _interfaces(aws: Aws, stack: Stack) -> None:
    """SageMaker removes its network interfaces a while after what used them; they hold groups and subnets."""
    outputs = stack.outputs()
    groups = [outputs[key] for key in ("TrainingSecurityGroupId", "ServingSecurityGroupId") if key in outputs]
    ec2, ours = aws.client("ec2"), [{"Name": "group-id", "Values": groups}]
    if groups:
        _wait(
            lambda: not ec2.describe_network_interfaces(Filters=ours)["NetworkInterfaces"],
            f"network interfaces of {stack.name}",
        )


def _configs_and_models(aws: Aws, names: Names, say: Say) -> None:
    sagemaker = aws.client("sagemaker")
    kinds = (
        ("list_endpoint_configs", "EndpointConfig", sagemaker.delete_endpoint_config),
        ("list_models", "Model", sagemaker.delete_model),
    )
    for lister, kind, delete in kinds:
        found = list(_named(sagemaker, lister, kind, names))
        for name in found:
            delete(**{f"{kind}Name": name})
        if found:
            say(f"{len(found)} {'endpoint configurations' if kind == 'EndpointConfig' else 'models'}")


def _provisioned(aws: Aws, names: Names, say: Say) -> None:
    """Paid by the hour; the function's versions and its alias go with the function."""
    functions = aws.client("lambda")
    asked = {"FunctionName": names.function, "Qualifier": FUNCTION_ALIAS}
    missing = ("ResourceNotFoundException", "ProvisionedConcurrencyConfigNotFoundException")
    if _unless(missing, lambda: functions.get_provisioned_concurrency_config(**asked)):
        functions.delete_provisioned_concurrency_config(**asked)
        say(f"provisioned concurrency of {names.function}")


def _objects(aws: Aws, names: Names, say: Say) -> None:
    """A bucket must be empty to be deleted: all versions, and what was never finished."""
    s3 = aws.client("s3")
    for bucket in (names.bucket, names.logs_bucket):
        removed = 0
        try:
            s3.put_bucket_logging(Bucket=bucket, BucketLoggingStatus={})  # or what is removed here is logged there
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
                kinds = (*page.get("Versions", []), *page.get("DeleteMarkers", []))
                versions = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in kinds]
                if versions:
                    s3.delete_objects(Bucket=bucket, Delete={"Objects": versions, "Quiet": True})
                removed += len(versions)
            for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket):
                for upload in page.get("Uploads", []):
                    s3.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        except s3.exceptions.NoSuchBucket:
            continue
        if removed:
            say(f"{removed} versions of objects in {bucket}")


def _logs(aws: Aws, names: Names, say: Say) -> None:
    """Logs that SageMaker made: the endpoint's, and those of our jobs in the group that all of the account share."""
    logs = aws.client("logs")
    own = f"/aws/sagemaker/Endpoints/{names.name}"
    if _unless(("ResourceNotFoundException",), lambda: logs.delete_log_group(logGroupName=own)):
        say(f"log group {own}")
    ours = _job_logs(aws, names)
    for stream in ours:
        logs.delete_log_stream(logGroupName=_JOB_LOGS, logStreamName=stream)
    if ours:
        say(f"{len(ours)} logs of jobs")


def _job_logs(aws: Aws, names: Names) -> list[str]:
    """The streams of our jobs; none where no job has run in the account."""
    logs = aws.client("logs")
    asked = {"logGroupName": _JOB_LOGS, "logStreamNamePrefix": f"{names.name}-"}
    try:
        pages = list(logs.get_paginator("describe_log_streams").paginate(**asked))
    except logs.exceptions.ResourceNotFoundException:
        return []
    return [stream["logStreamName"] for page in pages for stream in page["logStreams"]]


# --- what is left -----------------------------------------------------------------------------------


def _billed(aws: Aws, names: Names) -> Iterator[str]:
    """What costs money as long as it exists."""
    s3 = aws.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        if bucket["Name"] in (names.bucket, names.logs_bucket):
            yield f"bucket {bucket['Name']}: billed by what it holds"
    repositories = aws.client("ecr").get_paginator("describe_repositories").paginate()
    for name in (found["repositoryName"] for page in repositories for found in page["repositories"]):
        if name in (names.repository("training"), names.repository("serving")):
            yield f"repository {name}: billed by what it holds"
    if left := _job_logs(aws, names):
        yield f"{len(left)} logs of jobs in {_JOB_LOGS}: billed by what they hold"


def _free(aws: Aws, names: Names) -> Iterator[str]:
    """What stays for a while and costs nothing."""
    kms = aws.client("kms")
    for page in kms.get_paginator("list_keys").paginate():
        for key in page["Keys"]:
            try:
                described = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
            except ClientError as error:
                if error.response["Error"]["Code"] != "AccessDeniedException":
                    raise
                continue  # somebody else's
            if described["KeyState"] == "PendingDeletion" and described["Description"].startswith(f"{names.name}: "):
                yield f"key {key['KeyId']}: deleted for good on {described['DeletionDate']:%Y-%m-%d}; free until then"


def _named(sagemaker: Any, lister: str, kind: str, names: Names, **filters: str) -> Iterator[str]:
    """The names of what is ours of a kind."""
    asked = {"NameContains": f"{names.name}-", **filters}
    pages = sagemaker.get_paginator(lister).paginate(**asked)
    summaries = ("TrainingJobSummaries", "HyperParameterTuningJobSummaries", "EndpointConfigs", "Models")
    for page in pages:
        for item in next(page[name] for name in summaries if name in page):
            if item[f"{kind}Name"].startswith(f"{names.name}-"):
                yield str(item[f"{kind}Name"])


def _wait(done: Callable[[], bool], what: str) -> None:
    """Look until it is done. Raises PipelineFailed after half an hour."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not done():
        if time.monotonic() > deadline:
            raise PipelineFailed(
                f"still there after {_PATIENCE_SECONDS / 60:.0f} minutes",
                where=what,
                hint="Give the same command again.",
            )
        time.sleep(_POLL_SECONDS)


def _unless(codes: tuple[str, ...], call: Callable[[], Any]) -> bool:
    """Make the call; whether it went through. False when AWS answers with one of the error `codes`."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise
        return False
    return True
