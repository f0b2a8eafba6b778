"""kennel.pipeline.display: what people read, at 80 columns, on a terminal and off it."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from kennel.pipeline import display
from kennel.pipeline.events import (
    Event,
    ExecutionEnded,
    JobEnded,
    JobStarted,
    Metrics,
    Progress,
    StateEnded,
    StateEntered,
)

AT = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
TRIAL = "kennel-20260101-120000-t0-003-1a2b3c4d"
TRAINING = "kennel-20260101-120000-train-0"


def console(*, terminal: bool = False) -> Console:
    return Console(file=io.StringIO(), width=80, force_terminal=terminal, color_system=None)


def shown(*events: Event) -> list[str]:
    target = console()
    screen = display.Display(target, now=lambda: AT)
    with screen.live():
        for event in events:
            screen.show(event)
    assert isinstance(target.file, io.StringIO)
    return target.file.getvalue().splitlines()


def entered(name: str, second: float = 0) -> StateEntered:
    return StateEntered(name=name, at=AT + timedelta(seconds=second))


def ended(name: str, second: float = 0, **fields: Any) -> StateEnded:
    return StateEnded(
        **{"name": name, "status": "succeeded", "at": AT + timedelta(seconds=second), "seconds": 0.1} | fields
    )


def test_lines_begin_with_the_time_and_have_no_codes():
    lines = shown(entered("TrainModel"), ended("TrainModel", seconds=12.34), ExecutionEnded(status="SUCCEEDED"))
    assert lines == ["12:00:00 TrainModel", "12:00:00 ✓ TrainModel 12.3 s"]


def test_states_that_only_decide_count_or_look_are_left_out():
    names = ("Mode?", "StartEndpointPolls", "CountEndpointPoll", "DescribeEndpoint")
    assert shown(*(event for name in names for event in (entered(name), ended(name)))) == []


def test_quiet_state_that_fails_is_shown():
    (line,) = shown(ended("DescribeEndpoint", status="caught", error="SageMaker.SdkClientException"))
    assert line == "12:00:00 ↷ DescribeEndpoint 0.1 s SageMaker.SdkClientException, caught"


def test_waiting_is_shown_once_for_as_long_as_its_loop_goes_on():
    rounds = [entered("WaitForEndpoint", 1), ended("WaitForEndpoint", 2), entered("DescribeEndpoint", 2)]
    again = [entered("WaitForEndpoint", 3), ended("WaitForEndpoint", 4)]
    lines = shown(*rounds, *again, ended("RegisterScalableTarget", 6.1))
    assert lines == [
        "12:00:00 WaitForEndpoint",
        "12:00:00 ✓ WaitForEndpoint 5.0 s",
        "12:00:00 ✓ RegisterScalableTarget 0.1 s",
    ]


def test_trial_is_shown_with_its_hyperparameters_epochs_and_objective():
    lines = shown(
        JobStarted(name=TRIAL, tuned={"learning_rate": "0.00412345678", "batch_size": '"32"'}, hosts=1),
        Metrics(
            job=TRIAL,
            epoch=2,
            values={
                "train:loss": 1.5,
                "train:accuracy": 0.5,
                "validation:loss": float("nan"),
                "validation:accuracy": 0.625,
            },
        ),
        Metrics(job=TRIAL, epoch=None, values={"test:loss": 1.0, "test:accuracy": 0.75}),
        JobEnded(name=TRIAL, status="Completed", objective=0.25, reason=""),
    )
    assert lines == [
        "12:00:00   trial 3  started learning_rate=0.004123 batch_size=32",
        "12:00:00   trial 3  epoch  2 loss 1.500 acc 0.500 │ valid loss nan acc 0.625",
        "12:00:00   trial 3  final    test loss 1.000 acc 0.750",
        "12:00:00   trial 3  Completed objective 0.2500",
    ]


def test_final_training_says_on_how_many_hosts():
    assert shown(JobStarted(name=TRAINING, tuned={}, hosts=2)) == ["12:00:00   training started on 2 hosts"]


def test_failed_job_says_why_in_a_few_lines_of_80_columns():
    lines = shown(JobEnded(name=TRIAL, status="Failed", objective=None, reason="word " * 500 + "[markup] at the end"))
    assert lines[0] == "12:00:00   trial 3  Failed"
    assert len(lines) == 9
    assert max(map(len, lines)) <= 80
    assert lines[-1].endswith("[markup] at the end")


def test_job_that_was_never_started_may_end_and_progress():
    assert shown(Progress(job=TRIAL, fraction=0.5), JobEnded(name=TRIAL, status="Stopped", objective=None, reason=""))


def test_terminal_shows_bars():
    target = console(terminal=True)
    screen = display.Display(target, now=lambda: AT)
    with screen.live():
        screen.show(JobStarted(name=TRAINING, tuned={}, hosts=2))
        screen.show(Progress(job=TRAINING, fraction=0.5))
        assert isinstance(target.file, io.StringIO)
        screen._progress.refresh()
        assert "50 %" in target.file.getvalue()
        screen.show(ExecutionEnded(status="SUCCEEDED"))
        assert screen._progress.tasks == []


@pytest.mark.parametrize(("terminal", "bars"), [(True, True), (False, False)])
def test_uploads_are_counted_with_a_bar_on_a_terminal_only(terminal, bars):
    target = console(terminal=terminal)
    with display.counting(target, "Uploading images") as advance:
        advance(3, 4)
    assert isinstance(target.file, io.StringIO)
    assert ("Uploading images" in target.file.getvalue()) == bars


def result(**changes: Any) -> dict[str, Any]:
    def state(name: str, second: int, status: str = "succeeded") -> dict[str, Any]:
        at = AT + timedelta(seconds=second)
        return {
            "name": name,
            "status": status,
            "started": at.isoformat(),
            "ended": (at + timedelta(seconds=1)).isoformat(),
        }

    return {
        "execution": "kennel-20260101-120000",
        "status": "SUCCEEDED",
        "states": [
            state("Mode?", 0),
            state("TrainModel", 1),
            state("FindEndpoint", 2, "caught"),
            state("WaitForEndpoint", 3),
            state("DescribeEndpoint", 4),
            state("WaitForEndpoint", 5),
        ],
        "objective": {"metric": "validation:loss", "type": "Minimize"},
        "trials": [
            {"name": TRIAL.replace("003", f"{number:03d}"), "status": status, "hyperparameters": {"rate": rate}}
            | {"objective": objective}
            for number, status, rate, objective in (
                (1, "Completed", '"0.1"', 0.5),
                (2, "Failed", "0.2", None),
                (3, "Completed", "0.3", 0.25),
            )
        ],
        "metrics": {"validation:accuracy": 0.9},
        "hosts": 2,
        "endpoint": "kennel",
        "prediction": [{"label": "a", "probability": 0.75}, {"label": "[b]", "probability": 0.25}],
        **changes,
    }


def summary(**changes: Any) -> str:
    target = console()
    target.print(display.summary(result(**changes), folder=".kennel/runs/kennel-20260101-120000"))
    assert isinstance(target.file, io.StringIO)
    text = target.file.getvalue()
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    return text


def rows(text: str, word: str) -> list[list[str]]:
    return [
        [cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if word in line and "│" in line
    ]


def test_summary_has_a_row_per_state_that_matters_and_one_per_loop():
    text = summary()
    assert rows(text, "WaitForEndpoint") == [["WaitForEndpoint", "✓", "2.0"]]
    assert rows(text, "FindEndpoint") == [["FindEndpoint", "↷", "1.0"]]
    assert "Mode?" not in text
    assert "DescribeEndpoint" not in text


def test_leaderboard_begins_with_the_lowest_when_it_is_minimized():
    text = summary()
    assert "Trials by validation:loss, lowest first" in text
    assert [row[:3] for row in rows(text, "trial ")][-3:] == [
        ["trial 3", "0.2500", "0.3"],
        ["trial 1", "0.5000", "0.1"],
        ["trial 2", "–", "0.2"],  # noqa: RUF001
    ]


def test_leaderboard_begins_with_the_highest_when_it_is_maximized():
    text = summary(objective={"metric": "validation:accuracy", "type": "Maximize"})
    assert "Trials by validation:accuracy, highest first" in text
    assert [row[0] for row in rows(text, "trial ")][-3:] == ["trial 1", "trial 3", "trial 2"]


def test_summary_shows_the_answer_ranked_with_bars_and_where_the_results_lie():
    text = summary()
    assert "Final training on 2 hosts" in text
    assert rows(text, "a ")[-1][0] != ""
    assert rows(text, "[b]") == [["[b]", "0.2500", "█" * 6]]
    assert "Results: .kennel/runs/kennel-20260101-120000" in text


def test_failure_names_state_cause_job_and_log_without_walls_of_text():
    failure = {
        "state": "TrainModel",
        "error": "States.TaskFailed",
        "cause": "It begins so. " + "x y " * 1000 + "It ends so.",
        "job": TRAINING,
        "log": [
            f"2026-01-01 12:00:00,123 sagemaker-training-toolkit ERROR    line {number} [of] the log"
            for number in range(40)
        ],
    }
    text = summary(status="FAILED", failure=failure, trials=[], metrics={}, prediction=[], endpoint=None)
    assert rows(text, "TrainModel")[0] == ["TrainModel", "✗", "1.0"]
    for words in ("States.TaskFailed in TrainModel", f"job {TRAINING}", "It begins so.", "It ends so."):
        assert words in text
    assert "line 39 [of] the log" in text
    assert "line 24 [of]" not in text
    assert "toolkit" not in text
    assert len(text.splitlines()) < 50


def test_summary_of_a_rollout_has_the_image_and_the_model_and_nothing_of_a_training():
    image, model = f"registry.example/kennel-serving@sha256:{'0' * 64}", f"s3://bucket/{'m' * 80}/model.tar.gz"
    text = summary(
        mode="rollout", images={"serving": image}, model=model, objective=None, trials=[], metrics={}, hosts=0
    )
    plain = "".join(text.split())
    assert "Rolledoutimage" + image in plain
    assert "model" + model in plain
    assert "Trials" not in text
    assert "Final training" not in text
    assert "answers the smoke test" in text


def test_off_a_terminal_steps_and_bytes_are_one_line_each():
    target = console()
    with display.steps(target, "Building k:1") as say:
        say("1/2 : FROM a")
    with display.sending(target, "Pushing k:1") as advance:
        advance(1, 2)
    assert isinstance(target.file, io.StringIO)
    assert target.file.getvalue().split("\n") == ["Building k:1", "Pushing k:1", ""]


def test_on_a_terminal_the_last_line_of_a_step_is_shown_within_the_width():
    target = console(terminal=True)
    with display.steps(target, "Building k:1") as say:
        say("2/2 RUN " + "x" * 200)
    assert isinstance(target.file, io.StringIO)
    assert "Building k:1" in target.file.getvalue()
