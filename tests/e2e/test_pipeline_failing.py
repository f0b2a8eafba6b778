"""What goes wrong on the way: exit status 1, the state, the cause and the end of the log; nothing stays behind."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import pipeline_runs
from pipeline_runs import left_behind

QUICK = {"tuning.max_jobs": 1, "tuning.max_parallel_jobs": 1, "training.instance_count": 1}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def failed(run: pipeline_runs.Run, home: Path) -> tuple[dict[str, Any], str]:
    """The result of a run that must fail, and what it said on standard output."""
    code, out, err = run.end()
    assert code == 1, out + err
    (path,) = home.glob("runs/*/result.json")
    result = json.loads(path.read_text())
    assert result["status"] == "FAILED"
    assert left_behind(result["execution"]) == []
    return result, out


def test_every_trial_crashing_shows_the_state_the_cause_and_the_end_of_a_log(kept, home, tmp_path, small_data):
    changes = QUICK | {"training.hyperparameters.backbone": "no-such-network"}
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data, changes=changes)
    run = pipeline_runs.Run("--config", config, "--endpoint-url", kept.endpoint_url, home=home)
    result, out = failed(run, home)
    failure = result["failure"]
    assert (failure["state"], failure["error"]) == ("TuneHyperparameters", "States.TaskFailed")
    assert failure["job"] == f"{result['execution']}-t0"
    assert "'no-such-network' is not one of" in failure["cause"]
    assert any("no-such-network" in line for line in failure["log"])
    assert [trial["status"] for trial in result["trials"]] == ["Failed"]
    for words in ("TuneHyperparameters", "All training jobs failed", "no-such-network", "The end of its log"):
        assert words in out
    assert '{"' not in out, "no walls of JSON"
    assert max(map(len, out[out.index("╭─ Failed") :].partition("Results:")[0].splitlines())) <= 80


def test_training_job_killed_by_a_signal_says_so(kept, home, tmp_path, small_data):
    config = pipeline_runs.configuration(
        tmp_path / "c.toml", data=small_data, changes=QUICK | {"training.hyperparameters.epochs": "500"}
    )
    run = pipeline_runs.Run("--config", config, "--endpoint-url", kept.endpoint_url, home=home)
    folder = f"/training-jobs/{_execution(home)}"
    trains = pipeline_runs.started_by(folder, command="train")
    trains[-1].send_signal(signal.SIGKILL)
    result, out = failed(run, home)
    assert "algo-1 was killed by signal 9" in result["failure"]["cause"]
    assert "killed by signal 9" in out


def test_model_below_the_threshold_is_not_deployed(kept, home, tmp_path, small_data):
    # another name, so that there is no endpoint yet
    changes = QUICK | {
        "name": "strict",
        "quality.minimum_validation_accuracy": 1.0,
        "training.hyperparameters.epochs": "1",
    }
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data, changes=changes)
    run = pipeline_runs.Run("--config", config, "--endpoint-url", kept.endpoint_url, home=home)
    result, out = failed(run, home)
    assert (result["failure"]["state"], result["failure"]["error"]) == ("Rejected", "ModelRejected")
    assert "below the threshold 1.0: nothing was deployed" in result["failure"]["cause"]
    assert "nothing was deployed" in " ".join(out.replace("│", " ").split())
    assert result["endpoint"] is None
    assert result["metrics"]["validation:accuracy"] < 1
    names = [item["EndpointName"] for item in kept.aws("sagemaker", "list-endpoints")["Endpoints"]]
    assert names == ["kennel"]


def test_ctrl_c_during_training_ends_every_process_and_says_how_to_go_on(home, tmp_path, small_data):
    run = _own(home, tmp_path, small_data)
    run.process.send_signal(signal.SIGINT)
    code, out, err = run.end()
    assert code == 130, out + err
    assert "was stopped" in out
    assert "`run.py resume` goes on where the execution stopped" in " ".join(out.split())
    assert "Traceback" not in out + err
    assert left_behind(str(home)) == []


def test_ctrl_c_leaves_an_aws_that_was_up_before_and_ends_its_jobs(kept, home, tmp_path, small_data):
    config = pipeline_runs.configuration(
        tmp_path / "c.toml", data=small_data, changes=QUICK | {"training.hyperparameters.epochs": "500"}
    )
    run = pipeline_runs.Run("--config", config, "--endpoint-url", kept.endpoint_url, home=home)
    execution = _execution(home)
    pipeline_runs.started_by(f"/training-jobs/{execution}", command="train")
    run.process.send_signal(signal.SIGINT)
    code, out, err = run.end()
    assert code == 130, out + err
    assert left_behind(execution) == []
    described = kept.aws("sagemaker", "describe-endpoint", "--endpoint-name", "kennel")
    assert described["EndpointStatus"] == "InService"


def test_run_that_is_killed_leaves_no_process(home, tmp_path, small_data):
    run = _own(home, tmp_path, small_data)
    run.process.kill()
    run.end()
    assert left_behind(str(home)) == []


def test_local_aws_that_is_killed_ends_the_run_with_a_word_and_leaves_no_process(home, tmp_path, small_data):
    run = _own(home, tmp_path, small_data)
    pid = json.loads((home / "local" / "server.json").read_text())["pid"]
    os.kill(pid, signal.SIGKILL)
    code, out, err = run.end()
    assert code == 1, out + err
    assert err.startswith("error: AWS does not answer")
    assert "make run" in err
    assert left_behind(str(home)) == []


def _own(home: Path, folder: Path, data: Path) -> pipeline_runs.Run:
    """A run on a local AWS of its own, whose first trial has begun and would take minutes."""
    changes = QUICK | {"training.hyperparameters.epochs": "500"}
    run = pipeline_runs.Run(
        "--config", pipeline_runs.configuration(folder / "c.toml", data=data, changes=changes), home=home
    )
    pipeline_runs.started_by(f"{home}/local/training-jobs", command="train")
    return run


def _execution(home: Path) -> str:
    """The name of the execution that a run in `home` has begun."""
    return pipeline_runs.until(lambda: [path.parent.name for path in home.glob("runs/*/logs")])[0]
