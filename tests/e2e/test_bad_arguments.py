"""What is wrong before anything starts: exit status, a sentence that names it, nothing running, nothing lost."""

import fcntl
import os
import shutil
import socket
from pathlib import Path

import pytest

import pipeline_runs


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an earlier result in it."""
    earlier = tmp_path / "home" / "runs" / "kennel-20260101-000000"
    earlier.mkdir(parents=True)
    (earlier / "result.json").write_text('{"execution": "kennel-20260101-000000"}')
    return tmp_path / "home"


def refused(*arguments: str | Path, home: Path, status: int = 2) -> str:
    """What a run says on standard error that ends with `status`, starts nothing and loses nothing."""
    code, out, err = pipeline_runs.run(*arguments, home=home)
    assert code == status, out + err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert pipeline_runs.left_behind(str(home)) == []
    if home.is_dir():
        assert [path.read_text() for path in home.glob("runs/*/result.json")] == [
            '{"execution": "kennel-20260101-000000"}'
        ]
    return err


def remade(data: Path, folder: Path) -> Path:
    shutil.copytree(data, folder)
    return folder


def test_missing_data_directory(home, tmp_path):
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=tmp_path / "nowhere")
    said = refused("--config", config, home=home)
    assert f"{tmp_path / 'nowhere'}: There is no data directory" in said
    assert "<split>/<class>/<image>" in said


def test_data_argument_goes_before_the_configuration(home, tmp_path, small_data):
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data)
    assert "There is no data directory" in refused("--config", config, "--data", tmp_path / "nowhere", home=home)


def test_empty_data_directory(home, tmp_path):
    (tmp_path / "empty").mkdir()
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=tmp_path / "empty")
    assert "no train and no valid and no test split; it has nothing" in refused("--config", config, home=home)


def test_class_in_train_but_not_in_valid(home, tmp_path, small_data):
    data = remade(small_data, tmp_path / "data")
    lost = sorted((data / "valid").iterdir())[0]
    shutil.rmtree(lost)
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=data)
    said = refused("--config", config, home=home)
    assert f"{data / 'valid'}: class {lost.name} is in train, but not here" in said


def test_one_class_only(home, tmp_path, small_data):
    data = remade(small_data, tmp_path / "data")
    for split in (data / name for name in ("train", "valid", "test")):
        for folder in sorted(split.iterdir())[1:]:
            shutil.rmtree(folder)
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=data)
    assert "at least two classes" in refused("--config", config, home=home)


def test_directory_without_images(home, tmp_path, small_data):
    data = remade(small_data, tmp_path / "data")
    for image in data.rglob("*.jpg"):
        image.with_suffix(".txt").write_text("no image")
        image.unlink()
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=data)
    assert "here without an image" in refused("--config", config, home=home)


def test_home_that_cannot_be_written(tmp_path, small_data):
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data)
    (tmp_path / "file").write_text("")  # not even root can make a folder in a file
    said = refused("--config", config, home=tmp_path / "file")
    assert f"{tmp_path / 'file'}" in said
    assert "cannot write there" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_home_without_the_right_to_write(tmp_path, small_data):
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data)
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "cannot write there: Permission denied" in refused("--config", config, home=tmp_path / "locked")


def test_port_that_is_taken(home, tmp_path, small_data):
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = refused("--config", config, "--port", str(port), home=home, status=1)
    assert f"port {port} is taken" in said
    assert "--port 0 takes any free one" in said


def test_three_wrong_keys_are_all_named(home, tmp_path, small_data):
    config = pipeline_runs.configuration(
        tmp_path / "c.toml",
        data=small_data,
        changes={"tuning.strategy": "Genetic", "training.instance_count": 0, "scaling.max_capasity": 4},
    )
    said = refused("--config", config, home=home)
    assert f"{config}: 3 problems" in said
    assert "tuning.strategy is 'Genetic'; it must be one of 'Bayesian', 'Random'" in said
    assert "training.instance_count is 0; it must be at least 1" in said
    assert "scaling.max_capasity is unknown; did you mean max_capacity?" in said


def test_missing_configuration(home, tmp_path):
    said = refused("--config", tmp_path / "none.toml", home=home)
    assert f"{tmp_path / 'none.toml'}: cannot read the configuration: No such file or directory" in said
    assert "--config" in said


def test_configuration_that_is_not_text(home, tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refused("--config", tmp_path / "c.toml", home=home)


def test_another_run_under_way_in_the_same_home(home, tmp_path, small_data):
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data)
    with (home / "run.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = refused("--config", config, home=home)
    assert f"{home}: another run is under way here" in said
    assert "--home" in said


def test_endpoint_url_where_nothing_listens(home, tmp_path, small_data):
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data)
    said = refused("--config", config, "--endpoint-url", "http://127.0.0.1:9", home=home, status=1)
    assert 'AWS does not answer: Could not connect to the endpoint URL: "http://127.0.0.1:9' in said


def test_endpoint_url_that_is_none(home, tmp_path, small_data):
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data)
    said = refused("--config", config, "--endpoint-url", "127.0.0.1:4566", home=home)
    assert "--endpoint-url: is '127.0.0.1:4566'; it must be an address" in said


@pytest.mark.parametrize("option", ["--image", "--model"])
def test_what_only_a_rollout_takes_is_refused_elsewhere(home, option):
    assert f"{option}: only rollout takes it" in refused("run", option, "x", home=home)


def test_runtime_of_an_aws_that_is_not_started_here(home):
    said = refused("--endpoint-url", "http://127.0.0.1:9", "--runtime", "docker", home=home)
    assert "--runtime docker: only the local AWS that is started here has a runtime" in said


@pytest.mark.parametrize("verb", ["images", "push"])
def test_images_without_an_engine(home, monkeypatch, verb):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    said = refused(verb, home=home, status=1)
    assert "no Docker engine answers" in said
    assert "`make run` alone needs no engine" in said


def test_docker_runtime_without_an_engine(home, tmp_path, small_data, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data)
    assert "no Docker engine answers" in refused("--config", config, "--runtime", "docker", home=home, status=1)


def test_rollout_without_a_local_aws(home):
    said = refused("rollout", home=home)
    assert f"{home}: no local AWS is up, and so no endpoint" in said
    assert "--keep" in said


def test_unknown_argument_is_refused_with_the_usage(home):
    code, _, err = pipeline_runs.run("--keeep", home=home)
    assert code == 2
    assert "usage: run.py" in err


def test_status_and_down_are_content_with_nothing(tmp_path):
    home = tmp_path / "home"
    code, out, _ = pipeline_runs.run("status", home=home)
    assert (code, "no local AWS is up" in out, "Nothing has run here yet" in out) == (0, True, True)
    code, out, _ = pipeline_runs.run("down", home=home)
    assert (code, "there is nothing to take down" in out) == (0, True)
