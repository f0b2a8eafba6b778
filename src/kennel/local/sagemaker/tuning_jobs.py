"""Tuning jobs: real training jobs, proposed one after another, and the best of them.

The scheduler is thin: up to MaxParallelTrainingJobs trials run, each ended trial frees its place. A
failed trial is counted and shown, and the search goes on; the tuning job fails when every trial failed.
"""

from __future__ import annotations

import logging
import math
import threading
import zlib
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kennel import contract
from kennel.local.sagemaker.arns import Arn
from kennel.local.sagemaker.listing import listed
from kennel.local.sagemaker.tags import Tags
from kennel.local.sagemaker.training_jobs import TrainingJobs
from kennel.local.wire import Operation, ServiceError

if TYPE_CHECKING:
    from kennel.local.sagemaker.search import Proposal, Search

LOG = logging.getLogger(__name__)
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
    tags: list[dict[str, str]]
    trials: list[tuple[str, Proposal]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None


class TuningJobs:
    """The hyperparameter tuning jobs of one account and region."""

    def __init__(self, *, arn: Arn, training_jobs: TrainingJobs, tags: Tags) -> None:
        self._arn = arn
        self._tags = tags
        self._training_jobs = training_jobs
        self._jobs: dict[str, _TuningJob] = {}
        self._lock = threading.RLock()
        self.operations: dict[str, Operation] = {
            "CreateHyperParameterTuningJob": self.create,
            "DescribeHyperParameterTuningJob": self.describe,
            "ListHyperParameterTuningJobs": self.list_jobs,
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
        if "MaxNumberOfTrainingJobs" not in config["ResourceLimits"]:
            raise ServiceError("ValidationException", "ResourceLimits needs MaxNumberOfTrainingJobs here")
        self._training_jobs.check(definition)
        ranges = config.get("ParameterRanges", {})
        tuned = {item["Name"] for kind in ranges.values() for item in kind if isinstance(item, dict)}
        if both := tuned & definition.get("StaticHyperParameters", {}).keys():
            raise ServiceError(
                "ValidationException", f"Hyperparameters are static or tuned, not both: {', '.join(sorted(both))}"
            )
        # Optuna takes a third of a second to import, and only tuning needs it
        from kennel.local.sagemaker.search import Search  # noqa: PLC0415

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
            tags=request.get("Tags", []),
            search=Search(
                strategy=config["Strategy"],
                ranges=ranges,
                maximize=objective["Type"] == "Maximize",
                # the caller's seed, or one that repeats with the name
                seed=config.get("RandomSeed", zlib.crc32(name.encode())),
            ),
        )
        with self._lock:
            if name in self._jobs:
                raise ServiceError("ResourceInUse", f"A hyperparameter tuning job named {name} exists")
            self._jobs[name] = job
        self._tags.create(job.description["HyperParameterTuningJobArn"], job.tags)
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

    def list_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """ListHyperParameterTuningJobs."""
        with self._lock:
            jobs = list(self._jobs.values())
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
            "Strategy",
            "ResourceLimits",
        )
        return listed(
            request,
            [job | job["HyperParameterTuningJobConfig"] for job in described],
            kind="HyperParameterTuningJob",
            keys=copied,
            answer="HyperParameterTuningJobSummaries",
        )

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
        with self._lock:
            if job.description["HyperParameterTuningJobStatus"] != "InProgress":
                return {}
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
                        if job.stop.is_set():  # it came too late for whoever stopped the others
                            self._stop_trial(name)
                    ended, _ = wait(running, return_when=FIRST_COMPLETED)
                    for future in ended:
                        job.search.tell(running.pop(future), self._objective(job, future.result()))
            except ServiceError as error:
                reason = error.message
            except Exception as error:  # whatever happened, the job must end with a reason
                LOG.exception("tuning job %s", job.description["HyperParameterTuningJobName"])
                reason = f"InternalServerError: {type(error).__name__}: {error}"
        trials = self._summaries(job)
        with self._lock:
            stopped = job.stop.is_set()
            if not reason and not stopped and not _succeeded(trials):
                reason = _why_all_failed(trials)
            now = datetime.now(UTC)
            job.description |= {
                "HyperParameterTuningEndTime": now,
                "LastModifiedTime": now,
                "HyperParameterTuningJobStatus": "Failed" if reason else "Stopped" if stopped else "Completed",
                **({"FailureReason": reason[: contract.FAILURE_REASON_CHARACTERS]} if reason else {}),
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
        request |= {"TrainingJobName": name, "HyperParameters": hyperparameters, "Tags": job.tags}
        if checkpoints := definition.get("CheckpointConfig"):  # trials must not go on from one another
            request["CheckpointConfig"] = checkpoints | {"S3Uri": f"{checkpoints['S3Uri'].rstrip('/')}/{name}"}
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
        for metric in training_job["FinalMetricDataList"]:
            if metric["MetricName"] == name and math.isfinite(metric["Value"]):
                return float(metric["Value"])
        return None

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
        succeeded = _succeeded(trials)
        if not succeeded:
            return None
        return max(succeeded, key=_objective_value) if maximize else min(succeeded, key=_objective_value)


def _succeeded(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [trial for trial in trials if trial["ObjectiveStatus"] == "Succeeded"]


def _objective_value(trial: dict[str, Any]) -> float:
    value: float = trial["FinalHyperParameterTuningJobObjectiveMetric"]["Value"]
    return value


def _why_all_failed(trials: list[dict[str, Any]]) -> str:
    reasons = [trial["FailureReason"] for trial in trials if "FailureReason" in trial]
    if reasons:
        return f"All training jobs failed. The first one: {reasons[0]}"
    return "No training job reported a number for the objective metric."
