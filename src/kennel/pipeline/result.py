"""What an execution came to: gathered from AWS's APIs, kept as `result.json` and the artefact."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from kennel import contract
from kennel.pipeline import history
from kennel.pipeline.aws import Aws

RESULT_FILE = "result.json"


def gather(aws: Aws, *, execution_arn: str, runs: list[history.StateRun]) -> dict[str, Any]:
    """The result of an ended execution, as JSON holds it."""
    states, sagemaker = aws.client("stepfunctions"), aws.client("sagemaker")
    execution = states.describe_execution(executionArn=execution_arn)
    machine = states.describe_state_machine_for_execution(executionArn=execution_arn)
    asked = json.loads(execution["input"])
    name = execution["name"]
    result: dict[str, Any] = {
        "execution": name,
        "status": execution["status"],
        "definition_sha256": hashlib.sha256(machine["definition"].encode()).hexdigest(),
        "started": execution["startDate"].isoformat(),
        "ended": execution["stopDate"].isoformat(),
        "states": [
            {
                "name": run.name,
                "status": run.status,
                "started": run.started.isoformat(),
                "ended": run.ended.isoformat() if run.ended else None,
            }
            for run in runs
        ],
        "trials": _trials(sagemaker, name),
        "metrics": {},
        "hosts": 0,
        "endpoint": None,
        "prediction": [],
    }
    for summary in sagemaker.list_training_jobs(NameContains=f"{name}-train-")["TrainingJobSummaries"]:
        job = sagemaker.describe_training_job(TrainingJobName=summary["TrainingJobName"])
        result["training_job"] = job["TrainingJobName"]
        result["hyperparameters"] = job["HyperParameters"]
        result["hosts"] = job["ResourceConfig"]["InstanceCount"]
        result["metrics"] = {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}
        if "ModelArtifacts" in job:
            result["model"] = job["ModelArtifacts"]["S3ModelArtifacts"]
    if execution["status"] == "SUCCEEDED":
        output = json.loads(execution["output"])
        result["endpoint"] = asked["Endpoint"]["Name"]
        result["prediction"] = output["SmokeTest"]["Answer"]["predictions"]
    elif failing := history.failing_state(runs):
        result["failure"] = _failure(failing, execution)
    return result


def save(result: dict[str, Any], aws: Aws, folder: Path) -> None:
    """Keep the result and the model under `folder`; each file appears complete or not at all."""
    if model := result.get("model"):
        bucket, _, key = model.removeprefix("s3://").partition("/")
        partial = folder / f".{contract.ARTEFACT_NAME}.partial"
        aws.client("s3").download_file(bucket, key, str(partial))
        partial.replace(folder / contract.ARTEFACT_NAME)
    write_json(folder / RESULT_FILE, result)


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a reader, or a crash, never meets half a file."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _trials(sagemaker: Any, name: str) -> list[dict[str, Any]]:
    found = []
    for tuning in sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name)["HyperParameterTuningJobSummaries"]:
        trials = sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=tuning["HyperParameterTuningJobName"], MaxResults=100
        )["TrainingJobSummaries"]
        found += [
            {
                "name": trial["TrainingJobName"],
                "status": trial["TrainingJobStatus"],
                "hyperparameters": trial["TunedHyperParameters"],
                "objective": trial.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value"),
                **({"reason": trial["FailureReason"]} if "FailureReason" in trial else {}),
            }
            for trial in trials
        ]
    return found


def _failure(failing: history.StateRun, execution: dict[str, Any]) -> dict[str, Any]:
    """Which state, which error, and, when the cause is the description of a job, that job and its reason."""
    if failing.faulted:
        error, cause = failing.error, failing.cause
    else:
        error, cause = execution.get("error", failing.error), execution.get("cause", failing.cause)
        if error == "PipelineFailed":  # the state machine puts the name of the error before its cause
            error, _, cause = cause.partition(": ")
    failure = {"state": failing.name, "error": error, "cause": cause}
    try:
        job = json.loads(cause)
    except ValueError:
        return failure
    if isinstance(job, dict) and "FailureReason" in job:
        failure["cause"] = job["FailureReason"]
        failure["job"] = job.get("TrainingJobName") or job.get("HyperParameterTuningJobName")
    return failure
