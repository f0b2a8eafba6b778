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

_ENDPOINT_LOGS = "/aws/sagemaker/Endpoints/"
_JOB_LOGS = "/aws/sagemaker/TrainingJobs"
_PATIENCE_SECONDS = 1800.0
_POLL_SECONDS = 0.5


def remove(aws: Aws, stack: Stack, names: Names, *, say: Say) -> None:
    """Remove everything; `say` is told what was removed. Raises PipelineFailed with what cannot be."""
    for step in (_executions, _jobs, _instances, _scaling, _endpoint, _configs_and_models, _provisioned, _objects):
        step(aws, names, say)
    if stack.describe() is not None:
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
    try:
        running = states.list_executions(stateMachineArn=names.state_machine_arn, statusFilter="RUNNING")["executions"]
    except states.exceptions.StateMachineDoesNotExist:
        return
    for execution in running:
        states.stop_execution(executionArn=execution["executionArn"], error="Interrupted", cause="run.py down")
        say(f"execution {execution['name']} is stopped")


def _jobs(aws: Aws, names: Names, say: Say) -> None:
    """Jobs that nobody waits for, such as those of an execution that was stopped a moment ago."""
    sagemaker = aws.client("sagemaker")
    kinds = (
        ("list_hyper_parameter_tuning_jobs", "HyperParameterTuningJob", sagemaker.stop_hyper_parameter_tuning_job),
        ("list_training_jobs", "TrainingJob", sagemaker.stop_training_job),
    )
    for lister, kind, stop in kinds:
        for name in _named(sagemaker, lister, kind, names, StatusEquals="InProgress"):
            if _unless(("ValidationException",), partial(stop, **{f"{kind}Name": name})):
                say(f"job {name} is stopped")


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
    deadline = time.monotonic() + _PATIENCE_SECONDS
    existed = False
    while time.monotonic() < deadline:
        try:
            status = sagemaker.describe_endpoint(EndpointName=names.name)["EndpointStatus"]
        except ClientError as error:
            if "Could not find" not in error.response["Error"]["Message"]:
                raise
            if existed:
                say(f"endpoint {names.name}")
            return
        existed = True
        if status not in ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"):
            _unless(("ValidationException",), lambda: sagemaker.delete_endpoint(EndpointName=names.name))
        time.sleep(_POLL_SECONDS)
    raise PipelineFailed(
        f"it is still there after {_PATIENCE_SECONDS / 60:.0f} minutes",
        where=f"endpoint {names.name}",
        hint="Give the same command again.",
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
    for group in _log_groups(aws, f"{_ENDPOINT_LOGS}{names.name}"):
        if group == f"{_ENDPOINT_LOGS}{names.name}":
            logs.delete_log_group(logGroupName=group)
            say(f"log group {group}")
    for group in _log_groups(aws, _JOB_LOGS):
        pages = logs.get_paginator("describe_log_streams").paginate(logGroupName=group)
        streams = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
        ours = [stream for stream in streams if stream.startswith(f"{names.name}-")]
        for stream in ours:
            logs.delete_log_stream(logGroupName=group, logStreamName=stream)
        if ours:
            say(f"{len(ours)} logs of jobs")
        if len(ours) == len(streams):  # SageMaker makes it again for the next job
            logs.delete_log_group(logGroupName=group)
            say(f"log group {group}")


# --- what is left -----------------------------------------------------------------------------------


def _billed(aws: Aws, names: Names) -> Iterator[str]:
    """What costs money as long as it exists."""
    s3 = aws.client("s3")
    for bucket in s3.list_buckets()["Buckets"]:
        if bucket["Name"] in (names.bucket, names.logs_bucket):
            yield f"bucket {bucket['Name']}: billed by what it holds"
    ecr = aws.client("ecr")
    for repository in ecr.describe_repositories()["repositories"]:
        if repository["repositoryName"] in (names.repository("training"), names.repository("serving")):
            yield f"repository {repository['repositoryName']}: billed by what it holds"
    streams = aws.client("logs").describe_log_streams
    for group in _log_groups(aws, _JOB_LOGS):
        if streams(logGroupName=group, logStreamNamePrefix=f"{names.name}-", limit=1)["logStreams"]:
            yield f"log group {group}: the account's, with logs of {names.name}'s jobs; billed by what it holds"


def _free(aws: Aws, names: Names) -> Iterator[str]:
    """What stays for a while and costs nothing."""
    kms = aws.client("kms")
    for page in kms.get_paginator("list_keys").paginate():
        for key in page["Keys"]:
            described = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
            if described["KeyState"] == "PendingDeletion" and described["Description"].startswith(f"{names.name}: "):
                yield f"key {key['KeyId']}: deleted for good on {described['DeletionDate']:%Y-%m-%d}; free until then"


def _log_groups(aws: Aws, prefix: str) -> list[str]:
    pages = aws.client("logs").get_paginator("describe_log_groups").paginate(logGroupNamePrefix=prefix)
    return [group["logGroupName"] for page in pages for group in page["logGroups"]]


def _named(sagemaker: Any, lister: str, kind: str, names: Names, **filters: str) -> Iterator[str]:
    """The names of what is ours of a kind."""
    asked = {"NameContains": f"{names.name}-", **filters}
    pages = sagemaker.get_paginator(lister).paginate(**asked)
    summaries = ("TrainingJobSummaries", "HyperParameterTuningJobSummaries", "EndpointConfigs", "Models")
    for page in pages:
        for item in next(page[name] for name in summaries if name in page):
            if item[f"{kind}Name"].startswith(f"{names.name}-"):
                yield str(item[f"{kind}Name"])


def _unless(codes: tuple[str, ...], call: Callable[[], Any]) -> bool:
    """Make the call; whether it went through. False when AWS answers with one of the error `codes`."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise
        return False
    return True
