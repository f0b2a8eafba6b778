"""What an execution came to: gathered from AWS's APIs, kept as `result.json` and the artefact."""

from __future__ import annotations

import hashlib
import json
import math
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
        "mode": asked["Mode"],
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
        "images": _images(asked),
        **_tuning(sagemaker, name),
        "metrics": {},
        "hosts": 0,
        "bucket": asked["Uploads"]["Bucket"],
        "endpoint": None,
        "prediction": [],
    }
    if given := asked["Model"].get("ModelDataUrl") or asked.get("TrainingJob", {}).get("ModelDataUrl"):
        result["model"] = given
    jobs = sagemaker.list_training_jobs(NameContains=f"{name}-train-")["TrainingJobSummaries"]
    for summary in sorted(jobs, key=lambda job: job["CreationTime"]):  # a retry's job comes last and counts
        job = sagemaker.describe_training_job(TrainingJobName=summary["TrainingJobName"])
        result["training_job"] = job["TrainingJobName"]
        result["hyperparameters"] = job["HyperParameters"]
        result["hosts"] = job["ResourceConfig"]["InstanceCount"]
        found = {metric["MetricName"]: _finite(metric["Value"]) for metric in job.get("FinalMetricDataList", [])}
        result["metrics"] = {metric: value for metric, value in found.items() if value is not None}
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
    """Keep the result and a new model under `folder`; each file appears complete or not at all."""
    if (model := result.get("model")) and "training_job" in result:
        bucket, _, key = model.removeprefix("s3://").partition("/")
        partial = folder / f".{contract.ARTEFACT_NAME}.partial"
        aws.client("s3").download_file(bucket, key, str(partial))
        partial.replace(folder / contract.ARTEFACT_NAME)
    write_json(folder / RESULT_FILE, result)


def write_json(path: Path, value: Any) -> None:
    """Write `value` so that a reader, or a crash, never meets half a file."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2, allow_nan=False)  # NaN is not JSON
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _images(asked: dict[str, Any]) -> dict[str, str]:
    """The images that ran, as the input of the execution names them."""
    training = asked.get("Training", {}).get("AlgorithmSpecification", {}).get("TrainingImage")
    return {**({"training": training} if training else {}), "serving": asked["Model"]["Image"]}


def _tuning(sagemaker: Any, name: str) -> dict[str, Any]:
    """The trials, in the order in which they began, and what they were compared by."""
    objective: dict[str, Any] | None = None
    trials = []
    tunings = sagemaker.list_hyper_parameter_tuning_jobs(NameContains=name)["HyperParameterTuningJobSummaries"]
    for tuning in sorted(tunings, key=lambda job: job["CreationTime"]):
        asked = {"HyperParameterTuningJobName": tuning["HyperParameterTuningJobName"]}
        config = sagemaker.describe_hyper_parameter_tuning_job(**asked)["HyperParameterTuningJobConfig"]
        compared = config["HyperParameterTuningJobObjective"]
        objective = {"metric": compared["MetricName"], "type": compared["Type"]}
        pages = sagemaker.get_paginator("list_training_jobs_for_hyper_parameter_tuning_job").paginate(**asked)
        trials += [_trial(trial) for page in pages for trial in page["TrainingJobSummaries"]]
    trials.sort(key=lambda trial: str(trial["name"]))  # names count up
    return {"objective": objective, "trials": trials}


def _trial(summary: dict[str, Any]) -> dict[str, Any]:
    reached = summary.get("FinalHyperParameterTuningJobObjectiveMetric", {}).get("Value")
    return {
        "name": summary["TrainingJobName"],
        "status": summary["TrainingJobStatus"],
        "hyperparameters": summary["TunedHyperParameters"],
        "objective": None if reached is None else _finite(reached),
        **({"reason": summary["FailureReason"]} if "FailureReason" in summary else {}),
    }


def _finite(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None


def _failure(failing: history.StateRun, execution: dict[str, Any]) -> dict[str, Any]:
    """Which state, which error, and, when the cause holds the description of a job, that job and its reason."""
    if failing.faulted:
        error, cause = failing.error, failing.cause
    else:
        error, cause = execution.get("error", failing.error), execution.get("cause", failing.cause)
        if error == "PipelineFailed":  # the state machine puts the name of the error before its cause
            error, _, cause = cause.partition(": ")
    if execution["status"] != "FAILED" and not error:
        error, cause = execution["status"], f"the execution ended as {execution['status']}"
    failure = {"state": failing.name, "error": error, "cause": cause}
    said, brace, described = cause.partition("{")
    try:
        document = json.loads(brace + described)
    except ValueError:
        return failure
    if isinstance(document, dict) and "FailureReason" in document:
        failure["cause"] = said + document["FailureReason"]
        if job := document.get("TrainingJobName") or document.get("HyperParameterTuningJobName"):
            failure["job"] = job
    return failure
