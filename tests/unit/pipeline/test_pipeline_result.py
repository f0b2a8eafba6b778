"""kennel.pipeline.result: the failure in words, and JSON that any reader takes."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kennel.pipeline import history, result

AT = datetime(2026, 1, 1, tzinfo=UTC)


def state(**fields: Any) -> history.StateRun:
    return history.StateRun(**{"name": "TrainModel", "kind": "Task", "started": AT, "ended": AT} | fields)


def failed(error: str = "PipelineFailed", cause: str = "") -> dict[str, Any]:
    return {"status": "FAILED", "error": error, "cause": cause}


def test_cause_that_describes_a_training_job_becomes_its_reason_and_its_name():
    job = {"TrainingJobName": "k-1-train-0", "FailureReason": "AlgorithmError: no", "ResourceConfig": {}}
    run = state(faulted=True, error="States.TaskFailed", cause=json.dumps(job))
    assert result._failure(run, failed()) == {
        "state": "TrainModel",
        "error": "States.TaskFailed",
        "cause": "AlgorithmError: no",
        "job": "k-1-train-0",
    }


def test_cause_that_describes_a_tuning_job_names_it():
    job = {"HyperParameterTuningJobName": "k-1-t0", "FailureReason": "All training jobs failed."}
    run = state(faulted=True, error="States.TaskFailed", cause=json.dumps(job))
    assert result._failure(run, failed())["job"] == "k-1-t0"


def test_job_that_was_stopped_and_left_no_reason_keeps_its_description():
    cause = json.dumps({"TrainingJobName": "k-1-train-0", "TrainingJobStatus": "Stopped"})
    failure = result._failure(state(faulted=True, error="States.TaskFailed", cause=cause), failed())
    assert failure["cause"] == cause


def test_description_after_a_sentence_is_replaced_by_its_reason():
    cause = (
        'EndpointNotInService: Endpoint kennel is Failed. {"FailureReason": "ping failed", "EndpointName": "kennel"}'
    )
    failure = result._failure(state(name="EndpointNotInService", kind="Pass"), failed(cause=cause))
    assert failure == {
        "state": "EndpointNotInService",
        "error": "EndpointNotInService",
        "cause": "Endpoint kennel is Failed. ping failed",
    }


@pytest.mark.parametrize("cause", ["plain words", "", "[1, 2]", '{"half', "braces {like} these", '"text"'])
def test_any_other_cause_stays_as_it_is(cause):
    failure = result._failure(state(faulted=True, error="Lambda.Boom", cause=cause), failed())
    assert failure == {"state": "TrainModel", "error": "Lambda.Boom", "cause": cause}


def test_fail_state_of_its_own_gives_error_and_cause_of_the_execution():
    failure = result._failure(state(name="Rejected", kind="Fail"), failed("ModelRejected", "0.1 is below 0.5"))
    assert (failure["error"], failure["cause"]) == ("ModelRejected", "0.1 is below 0.5")


def test_execution_that_was_stopped_says_so():
    failure = result._failure(state(broken_off=True), {"status": "ABORTED"})
    assert (failure["error"], failure["cause"]) == ("ABORTED", "the execution ended as ABORTED")


def test_values_that_json_does_not_have_become_none():
    assert [result._finite(value) for value in (1.5, float("nan"), float("inf"))] == [1.5, None, None]


def test_trial_without_an_objective_has_none_and_says_why():
    trial = result._trial(
        {"TrainingJobName": "t", "TrainingJobStatus": "Failed", "TunedHyperParameters": {}, "FailureReason": "boom"}
    )
    assert (trial["objective"], trial["reason"]) == (None, "boom")
