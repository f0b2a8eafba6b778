"""kennel.pipeline.history: a table of states from what Step Functions tells."""

from datetime import UTC, datetime, timedelta
from typing import Any

from kennel.pipeline import history

START = datetime(2026, 1, 1, tzinfo=UTC)


def events(*told: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Events one second apart."""
    return [
        {"type": kind, "timestamp": START + timedelta(seconds=second), **details}
        for second, (kind, details) in enumerate(told)
    ]


def entered(name: str, kind: str = "Task") -> tuple[str, dict[str, Any]]:
    return f"{kind}StateEntered", {"stateEnteredEventDetails": {"name": name}}


def left(name: str, kind: str = "Task") -> tuple[str, dict[str, Any]]:
    return f"{kind}StateExited", {"stateExitedEventDetails": {"name": name}}


def fault(error: str, cause: str = "", kind: str = "TaskFailed") -> tuple[str, dict[str, Any]]:
    key = f"{kind[0].lower()}{kind[1:]}EventDetails"
    return kind, {key: {"resource": "x", "error": error, "cause": cause}}


BEGUN = ("ExecutionStarted", {"executionStartedEventDetails": {}})
FAILED = ("ExecutionFailed", {"executionFailedEventDetails": {"error": "E", "cause": "C"}})


def test_states_come_in_the_order_in_which_they_were_entered_with_their_times():
    runs = history.read(
        events(BEGUN, entered("Mode?", "Choice"), left("Mode?", "Choice"), entered("Train"), ("TaskSucceeded", {}))
    )
    assert [(run.name, run.kind, run.status, run.seconds) for run in runs] == [
        ("Mode?", "Choice", "succeeded", 1.0),
        ("Train", "Task", "running", 0.0),
    ]
    assert runs[0].started == START + timedelta(seconds=1)


def test_every_visit_of_a_loop_is_a_row():
    visit = (entered("Wait", "Wait"), left("Wait", "Wait"))
    assert [run.name for run in history.read(events(BEGUN, *visit, *visit))] == ["Wait", "Wait"]


def test_fault_that_a_retry_mended_is_forgotten():
    (run,) = history.read(
        events(BEGUN, entered("A"), fault("Throttled", "slow down"), ("TaskSucceeded", {}), left("A"))
    )
    assert (run.status, run.error, run.cause) == ("succeeded", "", "")


def test_last_fault_counts_when_no_retry_mended_it():
    (run,) = history.read(events(BEGUN, entered("A"), fault("Throttled"), fault("Broken", "why"), left("A")))
    assert (run.status, run.error, run.cause) == ("caught", "Broken", "why")


def test_fault_between_two_states_counts_for_its_own():
    runs = history.read(
        events(BEGUN, entered("A"), fault("Broken"), left("A"), entered("B"), ("TaskSucceeded", {}), left("B"))
    )
    assert [run.status for run in runs] == ["caught", "succeeded"]


def test_task_that_timed_out_is_a_fault():
    (run,) = history.read(events(BEGUN, entered("A"), fault("States.Timeout", kind="TaskTimedOut"), left("A")))
    assert (run.status, run.error) == ("caught", "States.Timeout")


def test_task_in_which_an_execution_failed_keeps_its_error():
    (run,) = history.read(events(BEGUN, entered("A"), fault("Broken", "why"), FAILED))
    assert (run.status, run.error, run.cause) == ("failed", "Broken", "why")
    assert history.failing_state([run]) is run


def test_state_in_which_an_execution_was_stopped_failed():
    for end in ("ExecutionAborted", "ExecutionTimedOut"):
        runs = history.read(events(BEGUN, entered("A"), left("A"), entered("B"), (end, {})))
        assert [run.status for run in runs] == ["succeeded", "failed"]
        assert history.failing_state(runs) is runs[1]


def test_choice_that_could_not_decide_is_the_failing_state():
    runs = history.read(events(BEGUN, entered("A"), left("A"), entered("GoodEnough?", "Choice"), FAILED))
    assert runs[-1].status == "failed"
    assert history.failing_state(runs) is runs[-1]


def test_failing_state_is_the_one_before_the_clean_up():
    runs = history.read(
        events(
            BEGUN,
            entered("PublishVersion"), fault("Lambda.Boom"), left("PublishVersion"),
            entered("HadEndpoint?", "Choice"), left("HadEndpoint?", "Choice"),
            entered("RestorePreviousEndpoint"), fault("No"), left("RestorePreviousEndpoint"),
            entered("Notify"), left("Notify"),
            entered("Failed", "Fail"), FAILED,
        )
    )  # fmt: skip
    failing = history.failing_state(runs)
    assert failing is not None
    assert (failing.name, failing.error) == ("PublishVersion", "Lambda.Boom")
    assert runs[-1].status == "failed"


def test_choice_after_a_fault_is_not_the_failing_state():
    runs = history.read(
        events(
            BEGUN,
            entered("FindEndpoint"), fault("SageMaker.SageMakerException", "throttled"), left("FindEndpoint"),
            entered("EndpointMissing?", "Choice"), left("EndpointMissing?", "Choice"),
            entered("Notify"), left("Notify"),
            entered("Failed", "Fail"), FAILED,
        )
    )  # fmt: skip
    failing = history.failing_state(runs)
    assert failing is not None
    assert failing.name == "FindEndpoint"


def test_rejected_model_fails_in_the_fail_state_itself():
    runs = history.read(
        events(
            BEGUN,
            entered("TrainModel"), left("TrainModel"),
            entered("GoodEnough?", "Choice"), left("GoodEnough?", "Choice"),
            entered("Rejected", "Fail"), FAILED,
        )
    )  # fmt: skip
    failing = history.failing_state(runs)
    assert failing is not None
    assert (failing.name, failing.status) == ("Rejected", "failed")


def test_empty_history_has_no_states_and_no_failing_one():
    assert history.read(events(BEGUN)) == []
    assert history.failing_state([]) is None
