"""Tuning jobs: real training jobs, proposed one after another, and the best of them.

The scheduler is thin: up to MaxParallelTrainingJobs trials run, each ended trial frees its place. A
failed trial is counted and shown, and the search goes on; the tuning job fails when every trial failed.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from kennel.local.sagemaker.arns import Arn
from kennel.local.sagemaker.search import Proposal, Search
from kennel.local.sagemaker.training_jobs import TrainingJobs
from kennel.local.wire import Operation, ServiceError, not_found

_OBJECTIVE_HYPERPARAMETER = "_tuning_objective_metric"
_STATUS_COUNTERS = {
    "Completed": "Completed",
    "InProgress": "InProgress",
    "Stopping": "InProgress",
    "Failed": "NonRetryableError",
    "Stopped": "Stopped",
}
_TRIAL_KEYS = (
    "AlgorithmSpecification",
    "RoleArn",
    "InputDataConfig",
    "VpcConfig",
    "OutputDataConfig",
    "ResourceConfig",
    "StoppingCondition",
    "EnableNetworkIsolation",
    "EnableInterContainerTrafficEncryption",
    "EnableManagedSpotTraining",
    "CheckpointConfig",
    "RetryStrategy",
    "Environment",
)


@dataclass
class _TuningJob:
    description: dict[str, Any]
    search: Search
    trials: list[tuple[str, Proposal]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class TuningJobs:
    """The hyperparameter tuning jobs of one account and region."""

    def __init__(self, *, arn: Arn, training_jobs: TrainingJobs) -> None:
        self._arn = arn
        self._training_jobs = training_jobs
        self._jobs: dict[str, _TuningJob] = {}
        self._lock = threading.Lock()
        self.operations: dict[str, Operation] = {
            "CreateHyperParameterTuningJob": self.create,
            "DescribeHyperParameterTuningJob": self.describe,
            "ListHyperParameterTuningJobs": self.list,
            "ListTrainingJobsForHyperParameterTuningJob": self.list_trials,
            "StopHyperParameterTuningJob": self.stop,
        }

    # --- the API ----------------------------------------------------------------------------

    def create(self, request: dict[str, Any]) -> dict[str, Any]:
        """CreateHyperParameterTuningJob."""
        name, config = request["HyperParameterTuningJobName"], request["HyperParameterTuningJobConfig"]
        definition = request.get("TrainingJobDefinition")
        if definition is None or "WarmStartConfig" in request:
            raise ServiceError(
                "ValidationException", "the local AWS tunes one TrainingJobDefinition, without warm start"
            )
        if config.get("TrainingJobEarlyStoppingType", "Off") != "Off":
            raise ServiceError("ValidationException", "the local AWS does not stop trials early yet")
        objective = config.get("HyperParameterTuningJobObjective")
        if objective is None:
            raise ServiceError("ValidationException", "HyperParameterTuningJobObjective is missing")
        metrics = [m["Name"] for m in definition["AlgorithmSpecification"].get("MetricDefinitions", [])]
        if objective["MetricName"] not in metrics:
            raise ServiceError(
                "ValidationException",
                f"The objective metric {objective['MetricName']} is not among the MetricDefinitions: {metrics}",
            )
        now = datetime.now(UTC)
        job = _TuningJob(
            description={
                "HyperParameterTuningJobName": name,
                "HyperParameterTuningJobArn": self._arn("hyper-parameter-tuning-job", name),
                "HyperParameterTuningJobConfig": config,
                "TrainingJobDefinition": definition,
                "HyperParameterTuningJobStatus": "InProgress",
                "CreationTime": now,
                "LastModifiedTime": now,
            },
            search=Search(
                strategy=config["Strategy"],
                ranges=config.get("ParameterRanges", {}),
                maximize=objective["Type"] == "Maximize",
                # the caller's seed, or one that repeats with the name
                seed=config.get("RandomSeed", zlib.crc32(name.encode())),
            ),
        )
        with self._lock:
            if name in self._jobs:
                raise ServiceError("ResourceInUse", f"A hyperparameter tuning job named {name} exists")
            self._jobs[name] = job
        job.thread = threading.Thread(target=self._run, args=(job,), name=name, daemon=True)
        job.thread.start()
        return {"HyperParameterTuningJobArn": job.description["HyperParameterTuningJobArn"]}

    def describe(self, request: dict[str, Any]) -> dict[str, Any]:
        """DescribeHyperParameterTuningJob, with its counters and the best trial so far."""
        job = self._job(request["HyperParameterTuningJobName"])
        trials = self._summaries(job)
        statuses = Counter(_STATUS_COUNTERS[trial["TrainingJobStatus"]] for trial in trials)
        objectives = Counter(trial.get("ObjectiveStatus") for trial in trials)
        described = deepcopy(job.description) | {
            "TrainingJobStatusCounters": {
                key: statuses[key] for key in ("Completed", "InProgress", "NonRetryableError", "Stopped")
            }
            | {"RetryableError": 0},
            "ObjectiveStatusCounters": {key: objectives[key] for key in ("Succeeded", "Pending", "Failed")},
        }
        if best := self._best(job, trials):
            described["BestTrainingJob"] = best
        return described

    def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListHyperParameterTuningJobs, newest first."""
        with self._lock:
            jobs = list(reversed(self._jobs.values()))
        described = [self.describe(job.description) for job in jobs]
        copied = (
            "HyperParameterTuningJobName",
            "HyperParameterTuningJobArn",
            "HyperParameterTuningJobStatus",
            "CreationTime",
            "HyperParameterTuningEndTime",
            "LastModifiedTime",
            "TrainingJobStatusCounters",
            "ObjectiveStatusCounters",
        )
        return {
            "HyperParameterTuningJobSummaries": [
                {key: job[key] for key in copied if key in job}
                | {
                    "Strategy": job["HyperParameterTuningJobConfig"]["Strategy"],
                    "ResourceLimits": job["HyperParameterTuningJobConfig"]["ResourceLimits"],
                }
                for job in described
                if request.get("NameContains", "") in job["HyperParameterTuningJobName"]
            ]
        }

    def list_trials(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListTrainingJobsForHyperParameterTuningJob, in the order asked for."""
        trials = self._summaries(self._job(request["HyperParameterTuningJobName"]))
        if status := request.get("StatusEquals"):
            trials = [trial for trial in trials if trial["TrainingJobStatus"] == status]
        if request.get("SortBy") == "FinalObjectiveMetricValue":
            trials = [trial for trial in trials if "FinalHyperParameterTuningJobObjectiveMetric" in trial]
            trials.sort(key=_objective_value)
        if request.get("SortOrder") == "Descending":
            trials.reverse()
        return {"TrainingJobSummaries": trials[: request.get("MaxResults", 100)]}

    def stop(self, request: dict[str, Any]) -> dict[str, Any]:
        """StopHyperParameterTuningJob: no new trials, running ones are stopped."""
        job = self._job(request["HyperParameterTuningJobName"])
        if job.description["HyperParameterTuningJobStatus"] == "InProgress":
            job.description["HyperParameterTuningJobStatus"] = "Stopping"
        job.stop.set()
        for name, _ in list(job.trials):
            self._stop_trial(name)
        return {}

    def close(self) -> None:
        """Start nothing more, and wait until every scheduler has ended."""
        with self._lock:
            jobs = list(self._jobs.values())
        for job in jobs:
            if job.thread is not None and job.thread.is_alive():
                self.stop({"HyperParameterTuningJobName": job.description["HyperParameterTuningJobName"]})
                job.thread.join()

    def _job(self, name: str) -> _TuningJob:
        with self._lock:
            if name not in self._jobs:
                raise ServiceError("ResourceNotFound", f"Amazon SageMaker can't find a tuning job with the name {name}")
            return self._jobs[name]

    # --- the work ---------------------------------------------------------------------------

    def _run(self, job: _TuningJob) -> None:
        limits = job.description["HyperParameterTuningJobConfig"]["ResourceLimits"]
        most, parallel = limits["MaxNumberOfTrainingJobs"], limits["MaxParallelTrainingJobs"]
        running: dict[Future[dict[str, Any]], Proposal] = {}
        reason = ""
        with ThreadPoolExecutor(parallel, thread_name_prefix="trial") as pool:
            try:
                while running or (len(job.trials) < most and not job.stop.is_set()):
                    while len(running) < parallel and len(job.trials) < most and not job.stop.is_set():
                        proposal = job.search.propose()
                        name = self._start_trial(job, proposal)
                        running[pool.submit(self._training_jobs.wait, name)] = proposal
                    ended, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        job.search.tell(running.pop(future), self._objective(job, future.result()))
            except ServiceError as error:
                reason = error.message
            except Exception as error:  # whatever happened, the job must end with a reason
                reason = f"InternalServerError: {type(error).__name__}: {error}"
        trials = self._summaries(job)
        now = datetime.now(UTC)
        if not reason and not job.stop.is_set() and not any("ObjectiveStatus" in t for t in _succeeded(trials)):
            first = next((trial["FailureReason"] for trial in trials if "FailureReason" in trial), "none gave a reason")
            reason = f"All training jobs failed. The first one: {first}"
        status = "Failed" if reason else "Stopped" if job.stop.is_set() else "Completed"
        if reason:
            job.description["FailureReason"] = reason[:1024]
        job.description |= {
            "HyperParameterTuningEndTime": now,
            "LastModifiedTime": now,
            "HyperParameterTuningJobStatus": status,
        }

    def _start_trial(self, job: _TuningJob, proposal: Proposal) -> str:
        definition = job.description["TrainingJobDefinition"]
        tuning_name = job.description["HyperParameterTuningJobName"]
        objective = job.description["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]
        number = len(job.trials) + 1
        name = f"{tuning_name}-{number:03d}-{zlib.crc32(f'{tuning_name}/{number}'.encode()):08x}"
        hyperparameters = {
            **definition.get("StaticHyperParameters", {}),
            **proposal.hyperparameters,
            _OBJECTIVE_HYPERPARAMETER: objective,
        }
        request = {key: definition[key] for key in _TRIAL_KEYS if key in definition}
        request |= {"TrainingJobName": name, "HyperParameters": hyperparameters}
        self._training_jobs.create(request, tuning_job_arn=job.description["HyperParameterTuningJobArn"])
        job.trials.append((name, proposal))
        return name

    def _stop_trial(self, name: str) -> None:
        try:
            self._training_jobs.stop({"TrainingJobName": name})
        except ServiceError:
            return  # it has ended already

    def _objective(self, job: _TuningJob, training_job: dict[str, Any]) -> float | None:
        if training_job["TrainingJobStatus"] != "Completed":
            return None
        name = job.description["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]
        return next((m["Value"] for m in training_job["FinalMetricDataList"] if m["MetricName"] == name), None)

    def _summaries(self, job: _TuningJob) -> list[dict[str, Any]]:
        objective = job.description["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]
        summaries = []
        for name, proposal in list(job.trials):
            training_job = self._training_jobs.describe({"TrainingJobName": name})
            copied = (
                "TrainingJobName",
                "TrainingJobArn",
                "CreationTime",
                "TrainingStartTime",
                "TrainingEndTime",
                "TrainingJobStatus",
                "FailureReason",
            )
            summary = {key: training_job[key] for key in copied if key in training_job}
            summary["TunedHyperParameters"] = proposal.hyperparameters
            value = self._objective(job, training_job)
            if value is not None:
                summary["FinalHyperParameterTuningJobObjectiveMetric"] = {**objective, "Value": value}
                summary["ObjectiveStatus"] = "Succeeded"
            else:
                ended = training_job["TrainingJobStatus"] in ("Completed", "Failed", "Stopped")
                summary["ObjectiveStatus"] = "Failed" if ended else "Pending"
            summaries.append(summary)
        return summaries

    def _best(self, job: _TuningJob, trials: list[dict[str, Any]]) -> dict[str, Any] | None:
        maximize = (
            job.description["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["Type"] == "Maximize"
        )
        finite = [trial for trial in _succeeded(trials) if abs(_objective_value(trial)) < float("inf")]
        if not finite:
            return None
        return max(finite, key=_objective_value) if maximize else min(finite, key=_objective_value)


def _succeeded(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [trial for trial in trials if trial["ObjectiveStatus"] == "Succeeded"]


def _objective_value(trial: dict[str, Any]) -> float:
    value: float = trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    return value
