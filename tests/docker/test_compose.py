"""docker-compose.yml: a model by whatever way there is one, served."""

from __future__ import annotations

import json
import os
import time

import boto3
import pytest

from composed import Composed, classified
from kennel import archive, contract, sample
from serving_artefacts import RED, write_artefact

pytestmark = pytest.mark.docker


@pytest.fixture
def project(tmp_path, images):
    composed = Composed(tmp_path / "clone")
    yield composed
    composed.down()


@pytest.fixture
def red(tmp_path):
    picture = tmp_path / "red.jpg"
    picture.write_bytes(RED)
    return picture


def keep(project, name, *, started="2026-01-01T00:00:00", status="SUCCEEDED", **artefact):
    """A result as an execution leaves it under .kennel/."""
    run = project.folder / ".kennel" / "runs" / name
    archive.pack(write_artefact(project.folder.parent / f"model-{name}", **artefact), run.parent.parent / "packed")
    run.mkdir(parents=True)
    (run.parent.parent / "packed").rename(run / contract.ARTEFACT_NAME)
    (run / "result.json").write_text(json.dumps({"status": status, "started": started}))


def test_without_images_and_a_model_both_are_made_and_then_it_is_served(images, engine, tmp_path):
    project = Composed(tmp_path / "clone", sources=True)
    project.settings["KENNEL_TAG"] = tag = os.urandom(4).hex()  # nobody has it; its layers are in the cache
    try:
        trained_and_served(project, tmp_path)
    finally:
        project.down()
        for part in ("training", "serving"):
            engine.images.remove(f"kennel-{part}:{tag}")


def trained_and_served(project, tmp_path):
    project.run("up", "--detach")
    url = project.ready()
    log = project.run("logs", "--no-color", "train")
    assert "on 2 host(s) (cpu)" in log
    assert "test:accuracy=" in log
    sample.generate(tmp_path / "sample", seed=15)
    images = sorted((tmp_path / "sample" / "test").glob("*/*.jpg"))[::15]
    right = [classified(url, image)["predictions"][0]["label"] == image.parent.name for image in images]
    assert len(right) == 10
    assert sum(right) >= 7

    project.run("stop")
    began = time.monotonic()
    project.run("up", "--detach")
    project.ready()
    assert time.monotonic() - began < 30, "the model is there: nothing is trained again"
    assert project.run("logs", "--no-color", "train").count("test:accuracy=") == 1


def test_the_model_of_the_newest_successful_execution_is_served_at_once(project, red):
    keep(project, "old", labels=("a", "b", "c"), example=None)
    keep(project, "new", started="2026-03-01T00:00:00")
    keep(project, "newest-but-rejected", started="2026-04-01T00:00:00", status="FAILED")
    project.run("up", "--detach", "--no-build")
    answer = classified(project.ready(), red)
    assert answer["predictions"][0]["label"] == "red"
    assert "took the model of execution new" in project.run("logs", "--no-color", "prepare")
    assert "epoch" not in project.run("logs", "--no-color", "train")

    keep(project, "newer", started="2026-05-01T00:00:00", labels=("a", "b", "c"), example=None)
    project.run("up", "--detach", "--no-build")
    assert "took the model of execution newer" in project.run("logs", "--no-color", "prepare")
    project.run("restart", "serve")
    assert classified(project.ready(), red)["predictions"][0]["label"] == "a"


def test_a_broken_model_is_an_error_that_names_it(project):
    keep(project, "broken")
    (project.folder / ".kennel/runs/broken" / contract.ARTEFACT_NAME).write_bytes(b"not a tar")
    project.run("up", "--detach", "--no-build", check=False)
    said = project.run("logs", "--no-color", "prepare")
    assert "broken/model.tar.gz" in said
    assert "Traceback" not in said


def test_several_instances_and_a_second_project_share_the_machine(project, tmp_path, red, images):
    other = Composed(tmp_path / "other")
    try:
        keep(project, "ours")
        keep(other, "theirs", labels=("a", "b", "c"), example=None)
        project.run("up", "--detach", "--no-build", "--scale", "serve=2")
        other.run("up", "--detach", "--no-build")
        assert classified(project.ready(), red)["predictions"][0]["label"] == "red"
        assert classified(other.ready(), red)["predictions"][0]["label"] == "a"
        assert len(project.run("ps", "--quiet", "serve").split()) == 2
    finally:
        other.down()


def test_the_cloud_profile_adds_the_local_aws(images, tmp_path):
    project = Composed(tmp_path / "clone", sources=True)
    try:
        project.run("--profile", "cloud", "up", "--detach", "cloud")
        port = project.port("cloud", 4566)
        client = boto3.client(
            "sagemaker",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        assert client.list_training_jobs()["TrainingJobSummaries"] == []
    finally:
        project.down()
