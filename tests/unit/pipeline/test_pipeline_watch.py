"""kennel.pipeline.watch: what AWS's APIs say becomes events, each once and in an order that makes sense."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kennel import contract
from kennel.pipeline import watch
from kennel.pipeline.events import ExecutionEnded, JobEnded, JobStarted, Metrics, Progress, StateEnded, StateEntered

AT = datetime(2026, 1, 1, tzinfo=UTC)
NAME = "kennel-20260101-000000"
TRIAL = f"{NAME}-t0-001-1a2b3c4d"


class FakeAws:
    """An AWS with one execution, whose answers are this object's attributes."""

    def __init__(self) -> None:
        self.status = "RUNNING"
        self.history: list[dict[str, Any]] = []
        self.jobs: dict[str, dict[str, Any]] = {}
        self.lines: dict[str, list[str]] = {}
        self.page = 1000

    def client(self, service: str) -> "FakeAws":
        return self

    def get_paginator(self, operation: str) -> "FakePages":
        return FakePages(self, operation)

    def describe_execution(self, **_: Any) -> dict[str, Any]:
        return {"status": self.status}

    def describe_training_job(self, *, TrainingJobName: str) -> dict[str, Any]:
        return self.jobs[TrainingJobName]

    def describe_hyper_parameter_tuning_job(self, **_: Any) -> dict[str, Any]:
        return {
            "HyperParameterTuningJobConfig": {
                "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "learning_rate"}]},
                "HyperParameterTuningJobObjective": {"MetricName": "validation:loss", "Type": "Minimize"},
            }
        }

    def describe_log_streams(self, *, logStreamNamePrefix: str, **_: Any) -> dict[str, Any]:
        return {"logStreams": [{"logStreamName": name} for name in self.lines if name.startswith(logStreamNamePrefix)]}

    def get_log_events(self, *, logStreamName: str, nextToken: str = "0", **_: Any) -> dict[str, Any]:
        begin = int(nextToken)
        found = self.lines[logStreamName][begin : begin + self.page]
        return {"events": [{"message": line} for line in found], "nextForwardToken": str(begin + len(found))}

    # --- what happens ---------------------------------------------------------------------------

    def enter(self, name: str) -> None:
        self._happen("TaskStateEntered", stateEnteredEventDetails={"name": name})

    def leave(self) -> None:
        self._happen("TaskStateExited")

    def _happen(self, kind: str, **details: Any) -> None:
        self.history.append({"type": kind, "timestamp": AT + timedelta(seconds=len(self.history)), **details})

    def begin(self, name: str, **fields: Any) -> None:
        self.jobs[name] = {
            "TrainingJobName": name,
            "TrainingJobStatus": "InProgress",
            "CreationTime": AT + timedelta(seconds=len(self.jobs)),
            "HyperParameters": {"learning_rate": '"0.1"', "epochs": "2"},
            "ResourceConfig": {"InstanceCount": 1},
            **fields,
        }


class FakePages:
    def __init__(self, aws: FakeAws, operation: str) -> None:
        self.aws, self.operation = aws, operation

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        if self.operation == "get_execution_history":
            return [{"events": self.aws.history}]
        return [{"TrainingJobSummaries": [job]} for job in reversed(self.aws.jobs.values())]  # one a page, newest first


def watching(aws: FakeAws, folder: Path = Path("unused")) -> watch.Watch:
    return watch.Watch(aws, execution_arn=f"arn:aws:states:r:1:execution:m:{NAME}", log_dir=folder)  # type: ignore[arg-type]


def test_each_state_is_told_once_when_it_begins_and_once_when_it_ends():
    aws = FakeAws()
    watcher = watching(aws)
    aws.enter("A")
    assert watcher.poll() == [StateEntered(name="A", at=AT)]
    assert watcher.poll() == []
    aws.leave()
    assert watcher.poll() == [StateEnded(name="A", status="succeeded", at=AT + timedelta(seconds=1), seconds=1.0)]
    assert watcher.poll() == []


def test_state_that_began_and_ended_between_two_looks_is_told_by_its_end():
    aws = FakeAws()
    watcher = watching(aws)
    aws.enter("A")
    aws.leave()
    aws.enter("B")
    assert [(type(event), event.name) for event in watcher.poll()] == [(StateEnded, "A"), (StateEntered, "B")]


def test_last_event_says_how_the_execution_ended():
    aws = FakeAws()
    aws.status = "FAILED"
    assert watching(aws).poll() == [ExecutionEnded(status="FAILED")]


def test_trial_tells_its_tuned_hyperparameters_and_its_objective():
    aws = FakeAws()
    watcher = watching(aws)
    aws.begin(TRIAL, TuningJobArn="arn:aws:sagemaker:r:1:hyper-parameter-tuning-job/t")
    assert watcher.poll() == [JobStarted(name=TRIAL, tuned={"learning_rate": '"0.1"'}, hosts=1)]
    aws.jobs[TRIAL] |= {
        "TrainingJobStatus": "Completed",
        "FinalMetricDataList": [{"MetricName": "validation:loss", "Value": 0.5}],
    }
    assert watcher.poll() == [JobEnded(name=TRIAL, status="Completed", objective=0.5, reason="")]
    assert watcher.poll() == []


def test_job_that_failed_before_its_first_metric_tells_its_reason():
    aws = FakeAws()
    aws.begin(TRIAL, TrainingJobStatus="Failed", FailureReason="AlgorithmError: no")
    assert watching(aws).poll() == [
        JobStarted(name=TRIAL, tuned={}, hosts=1),
        JobEnded(name=TRIAL, status="Failed", objective=None, reason="AlgorithmError: no"),
    ]


def test_job_ends_before_its_state_and_the_next_begins_after_it():
    aws = FakeAws()
    watcher = watching(aws)
    aws.enter("Tune")
    aws.begin(TRIAL)
    watcher.poll()
    aws.leave()
    aws.enter("Train")
    aws.jobs[TRIAL]["TrainingJobStatus"] = "Completed"
    aws.begin(f"{NAME}-train-0")
    assert [(type(event), event.name) for event in watcher.poll()] == [
        (JobEnded, TRIAL),
        (StateEnded, "Tune"),
        (StateEntered, "Train"),
        (JobStarted, f"{NAME}-train-0"),
    ]


def test_jobs_of_every_page_are_told_oldest_first():
    aws = FakeAws()
    for number in range(3):
        aws.begin(f"{TRIAL}{number}")
    assert [event.name for event in watching(aws).poll()] == [f"{TRIAL}{number}" for number in range(3)]


def test_log_goes_to_a_file_per_host_whole_and_once(tmp_path):
    aws = FakeAws()
    aws.page = 2
    aws.begin(TRIAL)
    aws.lines = {f"{TRIAL}/algo-{host}": [f"line {number} of {host}" for number in range(5)] for host in (1, 2)}
    watcher = watching(aws, tmp_path)
    watcher.poll()
    aws.lines[f"{TRIAL}/algo-1"].append("the end")
    watcher.poll()
    assert (tmp_path / f"{TRIAL}.algo-1.log").read_text().splitlines() == [
        *(f"line {number} of 1" for number in range(5)),
        "the end",
    ]
    assert len((tmp_path / f"{TRIAL}.algo-2.log").read_text().splitlines()) == 5


def test_metrics_and_the_last_progress_are_read_from_the_log(tmp_path):
    aws = FakeAws()
    aws.begin(TRIAL)
    aws.lines[f"{TRIAL}/algo-1"] = [
        contract.progress_line(epoch=1, epochs=2, step=1, steps=4),
        contract.metric_line(epoch=1, validation_loss=float("nan")),
        contract.metric_line(test_loss=0.5),
        f"{contract.METRIC_PREFIX} is a=word in another's=line x=1",
        contract.progress_line(epoch=2, epochs=2, step=2, steps=4),
    ]
    _, first, final, odd, progress = watching(aws, tmp_path).poll()
    assert isinstance(first, Metrics)
    assert first.epoch == 1
    assert list(first.values) == ["validation:loss"]
    assert final == Metrics(job=TRIAL, epoch=None, values={"test:loss": 0.5})
    assert odd == Metrics(job=TRIAL, epoch=None, values={"x": 1.0})
    assert progress == Progress(job=TRIAL, fraction=0.75)
