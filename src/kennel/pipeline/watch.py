"""Watches an execution and its training jobs through AWS's APIs, and says what happened since last time.

Logs go to files as they arrive. Nothing is shown here, and nothing is decided.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from kennel import contract
from kennel.pipeline import history
from kennel.pipeline.aws import Aws
from kennel.pipeline.events import (
    Event,
    ExecutionEnded,
    JobEnded,
    JobEvent,
    JobStarted,
    Metrics,
    Progress,
    StateEnded,
    StateEntered,
)

LOG_GROUP = "/aws/sagemaker/TrainingJobs"
_ENDED = ("Completed", "Failed", "Stopped")
_METRIC = re.compile(r"(\S+)=(\S+)")
_STEP = re.compile(rf"{contract.PROGRESS_PREFIX} epoch=(\d+)/(\d+) step=(\d+)/(\d+)")


class Watch:
    """One execution. `poll` returns what is new."""

    def __init__(self, aws: Aws, *, execution_arn: str, log_dir: Path) -> None:
        self._states = aws.client("stepfunctions")
        self._sagemaker = aws.client("sagemaker")
        self._logs = aws.client("logs")
        self._arn = execution_arn
        self._name = execution_arn.rpartition(":")[2]
        self._log_dir = log_dir
        self._seen_states: dict[int, str] = {}
        self._jobs: dict[str, str] = {}
        self._tokens: dict[str, str] = {}

    def poll(self) -> list[Event]:
        """Everything since the last call, in order; ends with ExecutionEnded."""
        # status first: what is read after it cannot be older
        status = self._states.describe_execution(executionArn=self._arn)["status"]
        states = list(self._new_states())
        known = set(self._jobs)
        jobs = list(self._new_in_jobs())
        # a job ends before its state does, and begins after it
        ends = next((index for index, event in enumerate(states) if isinstance(event, StateEnded)), len(states))
        events: list[Event] = [
            *states[:ends],
            *(event for event in jobs if _job_of(event) in known),
            *states[ends:],
            *(event for event in jobs if _job_of(event) not in known),
        ]
        if status != "RUNNING":
            events.append(ExecutionEnded(status=status))
        return events

    def history(self) -> list[history.StateRun]:
        """The states so far."""
        pages = self._states.get_paginator("get_execution_history").paginate(executionArn=self._arn)
        return history.read(event for page in pages for event in page["events"])

    def _new_states(self) -> Iterator[Event]:
        for index, run in enumerate(self.history()):
            if index not in self._seen_states and run.ended is None:
                yield StateEntered(name=run.name, at=run.started)
            if self._seen_states.get(index) != run.status and run.ended is not None:
                yield StateEnded(name=run.name, status=run.status, at=run.ended, seconds=run.seconds, error=run.error)
            self._seen_states[index] = run.status

    def _new_in_jobs(self) -> Iterator[JobEvent]:
        pages = self._sagemaker.get_paginator("list_training_jobs").paginate(NameContains=self._name)
        listed = [summary for page in pages for summary in page["TrainingJobSummaries"]]
        for summary in sorted(listed, key=lambda job: job["CreationTime"]):
            name, status = summary["TrainingJobName"], summary["TrainingJobStatus"]
            if self._jobs.get(name) in _ENDED:
                continue
            job = None
            if name not in self._jobs:
                job = self._sagemaker.describe_training_job(TrainingJobName=name)
                yield JobStarted(name=name, tuned=self._tuned(job), hosts=job["ResourceConfig"]["InstanceCount"])
            yield from self._new_lines(name)
            if status in _ENDED:
                job = self._sagemaker.describe_training_job(TrainingJobName=name)
                yield JobEnded(
                    name=name,
                    status=job["TrainingJobStatus"],
                    objective=self._objective(job),
                    reason=job.get("FailureReason", ""),
                )
            self._jobs[name] = status

    def _tuned(self, job: dict[str, Any]) -> dict[str, str]:
        if not (tuning := self._tuning_job(job)):
            return {}
        ranges = tuning["HyperParameterTuningJobConfig"]["ParameterRanges"]
        names = [item["Name"] for kind in ranges.values() for item in kind]
        return {name: job["HyperParameters"][name] for name in names if name in job["HyperParameters"]}

    def _objective(self, job: dict[str, Any]) -> float | None:
        if not (tuning := self._tuning_job(job)):
            return None
        wanted = tuning["HyperParameterTuningJobConfig"]["HyperParameterTuningJobObjective"]["MetricName"]
        return next((m["Value"] for m in job.get("FinalMetricDataList", []) if m["MetricName"] == wanted), None)

    def _tuning_job(self, job: dict[str, Any]) -> dict[str, Any] | None:
        arn: str | None = job.get("TuningJobArn")
        if arn is None:
            return None
        name = arn.rpartition("/")[2]
        tuning: dict[str, Any] = self._sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        return tuning

    def _new_lines(self, job: str) -> Iterator[JobEvent]:
        try:
            streams = self._logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{job}/")
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return  # nothing was printed yet
        for stream in streams["logStreams"]:
            name = stream["logStreamName"]
            lines = self._lines(name)
            if lines:
                host = name.rpartition("/")[2]
                with (self._log_dir / f"{job}.{host}.log").open("a", encoding="utf-8") as file:
                    file.writelines(f"{line}\n" for line in lines)
            yield from told(job, lines)

    def _lines(self, stream: str) -> list[str]:
        """What is new in a log stream, however many answers it takes."""
        lines: list[str] = []
        while True:
            known = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            answer = self._logs.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **known
            )
            lines += [event["message"].rstrip() for event in answer["events"]]
            done = answer["nextForwardToken"] == self._tokens.get(stream)
            self._tokens[stream] = answer["nextForwardToken"]
            if done or not answer["events"]:
                return lines


def _job_of(event: JobEvent) -> str:
    return event.name if isinstance(event, JobStarted | JobEnded) else event.job


def told(job: str, lines: list[str]) -> Iterator[JobEvent]:
    """What the lines say; of several steps only the last."""
    last: Progress | None = None
    for line in lines:
        if step := _STEP.search(line):
            epoch, epochs, done, steps = (int(number) for number in step.groups())
            last = Progress(job=job, fraction=(epoch - 1 + done / max(steps, 1)) / max(epochs, 1))
        elif contract.METRIC_PREFIX in line:
            values = {name: number for name, value in _METRIC.findall(line) if (number := _float(value)) is not None}
            epoch_number = values.pop("epoch", None)
            yield Metrics(job=job, epoch=None if epoch_number is None else int(epoch_number), values=values)
    if last is not None:
        yield last


def _float(text: str) -> float | None:
    """None for what only looks like a metric: a log may hold anything."""
    try:
        return float(text)
    except ValueError:
        return None
