"""The checked-in state machine: every Task is retried and caught, every state is reached."""

import json
from pathlib import Path

import pytest

DEFINITION = json.loads((Path(__file__).parents[2] / "statemachine" / "pipeline.asl.json").read_text())
STATES = DEFINITION["States"]
TASKS = [name for name, state in STATES.items() if state["Type"] == "Task"]


def following(state):
    branches = [*state.get("Choices", []), *state.get("Catch", [])]
    return [state[key] for key in ("Next", "Default") if key in state] + [branch["Next"] for branch in branches]


def reached(*first):
    found, ahead = set(), list(first)
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += following(STATES[name])
    return found


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_retried_with_full_jitter_and_a_bound(name):
    assert STATES[name]["Retry"]
    for retry in STATES[name]["Retry"]:
        assert retry["JitterStrategy"] == "FULL"
        assert 1 <= retry["MaxAttempts"] <= 10
        assert retry["MaxDelaySeconds"] <= 120
        assert "States.ALL" not in retry["ErrorEquals"], "a job that failed costs money and fails again"


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_caught_whatever_fails(name):
    last = STATES[name]["Catch"][-1]
    assert last["ErrorEquals"] == ["States.ALL"]
    assert last["ResultPath"], "the input must go on with the failure"


@pytest.mark.parametrize("name", TASKS)
def test_every_task_but_a_job_has_a_time_limit(name):
    assert ("TimeoutSeconds" in STATES[name]) != STATES[name]["Resource"].endswith(".sync")


def test_every_state_is_reached_and_none_is_missing():
    assert reached(DEFINITION["StartAt"]) == set(STATES)


def test_every_failure_is_told_before_the_end():
    for name in TASKS:
        if name != "Notify":
            after = {catch["Next"] for catch in STATES[name]["Catch"]}
            assert "Notify" in reached(*after), name


def test_rejected_model_cannot_reach_the_endpoint():
    assert STATES["GoodEnough?"]["Default"] == "Rejected"
    assert STATES["Rejected"]["Type"] == "Fail"


def test_design_s_states_are_there():
    assert set(STATES) >= {
        "Mode?", "TuneHyperparameters", "TrainModel", "GoodEnough?", "CreateModel", "CreateEndpointConfig",
        "FindEndpoint", "CreateEndpoint", "UpdateEndpoint", "WaitForEndpoint", "RegisterScalableTarget",
        "PutScalingPolicy", "ConfigureFunction", "PublishVersion", "PointAlias", "ReserveConcurrency",
        "ProvisionConcurrency", "SubscribeToUploads", "SmokeTest", "RestorePreviousEndpoint", "Notify", "Failed",
    }  # fmt: skip
