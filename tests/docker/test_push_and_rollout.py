"""Pushes by the command line, as a user makes them, from a copy of the project to a registry that is really there."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

import configurations

pytestmark = pytest.mark.docker

ROOT = Path(__file__).resolve().parents[2]
PARTS = (
    "pyproject.toml",
    "constraints.txt",
    ".dockerignore",
    ".hadolint.yaml",
    "src",
    "containers",
    "config",
    "lambda",
    "statemachine",
)
MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json"
STACK = "testpush"
NAME = f"{STACK}-serving"
"""One name for all: a registry forgets images, but no repository."""

NO_IMAGE_OF_OURS = "210987654321.dkr.ecr.us-east-1.amazonaws.com/kennel-training:1"


@dataclass(frozen=True, kw_only=True)
class Project:
    """A copy of the project whose serving image has a name of its own."""

    root: Path
    name: str
    registry: str

    def dockerfile(self, text: str) -> None:
        (self.root / "containers/serving/Dockerfile").write_text(text)

    def start(self, verb: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(self.root / "statemachine/run.py"), verb, "--json"]
        command += ["--config", str(self.root / "config.toml"), "--home", str(self.root / "home")]
        return subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "80", "PYTHONUNBUFFERED": "1"},
        )

    def run(self, verb: str) -> tuple[dict[str, Any], str]:
        """The one image in the result of the verb, and what was said on the way."""
        process = self.start(verb)
        out, err = process.communicate(timeout=220)
        assert process.returncode == 0, err
        (image,) = json.loads(out)["images"]
        return image, err

    def tags(self) -> dict[str, str]:
        """Tag → digest, as the registry says."""
        try:
            with urllib.request.urlopen(f"http://{self.registry}/v2/{self.name}/tags/list", timeout=10) as answer:
                tags = json.loads(answer.read())["tags"] or []
        except urllib.error.HTTPError:
            return {}
        return {tag: self._manifest("HEAD", tag) for tag in tags}

    def _manifest(self, method: str, what: str) -> str:
        url = f"http://{self.registry}/v2/{self.name}/manifests/{what}"
        request = urllib.request.Request(url, method=method, headers={"Accept": MANIFESTS})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.headers.get("Docker-Content-Digest", ""))

    def remove(self, engine: docker.DockerClient) -> None:
        for digest in {*self.tags().values()}:
            self._manifest("DELETE", digest)
        for image in engine.images.list():
            for tag in image.tags:
                if tag.rpartition(":")[0].endswith(self.name):
                    engine.images.remove(tag)


@pytest.fixture
def project(tmp_path: Path, engine: docker.DockerClient, registry: str) -> Iterator[Project]:
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        elif (ROOT / part).exists():
            shutil.copy(ROOT / part, tmp_path / part)
    changes = {"name": STACK, "images.training": NO_IMAGE_OF_OURS, "images.serving": NAME}
    (tmp_path / "config.toml").write_text(configurations.text(changes))
    made = Project(root=tmp_path, name=NAME, registry=registry)
    made.remove(engine)  # what a test that was killed left
    yield made
    made.remove(engine)


def said(process: subprocess.Popen[str], words: str) -> None:
    """Wait until the process says `words`."""
    assert process.stderr is not None
    for line in process.stderr:
        if words in line:
            return
    raise AssertionError(f"it never said {words!r}")


def interrupted(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert out == ""


def test_serving_image_is_pushed_once_and_known_by_its_digest(project, images):
    image, words = project.run("push")
    assert project.tags() == {image["tag"]: image["digest"]}
    assert image["image"] == f"{project.registry}/{project.name}@{image['digest']}"
    assert image["tag"].startswith("content-"), "the copy has no git"
    assert "source that is not committed" in words

    again, words = project.run("push")
    assert again == {**image, "bytes_sent": None}
    assert "Building" not in words
    assert "was there already" in words


def test_changed_source_gets_a_tag_of_its_own_and_the_old_one_stays(project):
    project.dockerfile("FROM python:3.11-slim-bookworm\nCOPY src/kennel/contract.py /\n")
    before, _ = project.run("push")
    with (project.root / "src/kennel/contract.py").open("a") as file:
        file.write("# changed\n")
    after, _ = project.run("push")
    assert before["tag"] != after["tag"]
    assert project.tags() == {before["tag"]: before["digest"], after["tag"]: after["digest"]}
    assert after["bytes_sent"] < 1_000_000, "the layers below were there"


def test_tag_that_another_image_has_already_is_not_moved(project, engine):
    project.dockerfile("FROM python:3.11-slim-bookworm\nCOPY pyproject.toml /\n")
    before, _ = project.run("push")
    # what the engine calls so by now is another image
    engine.api.tag("python:3.11-slim-bookworm", project.name, before["tag"], force=True)
    again, _ = project.run("push")
    assert again["digest"] == before["digest"]
    assert project.tags() == {before["tag"]: before["digest"]}


def test_push_that_was_interrupted_is_made_good_by_the_next(project):
    project.dockerfile(
        "FROM python:3.11-slim-bookworm\nRUN head -c 150000000 /dev/urandom > /noise\nCOPY pyproject.toml /\n"
    )
    process = project.start("push")
    said(process, "built in")
    time.sleep(0.7)  # the noise takes some seconds
    interrupted(process)
    assert project.tags() == {}
    image, words = project.run("push")
    assert "unchanged" in words, "it was built already"
    assert project.tags() == {image["tag"]: image["digest"]}


def test_build_ends_with_the_command(project, engine):
    mark = f"sleep 6{secrets.randbelow(10**6)}"
    project.dockerfile(f"FROM python:3.11-slim-bookworm\nRUN {mark}\n")

    def building() -> list[Any]:
        return [one for one in engine.containers.list() if mark in str(one.attrs["Config"]["Cmd"])]

    process = project.start("images")
    deadline = time.monotonic() + 60
    while not building():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    interrupted(process)
    deadline = time.monotonic() + 30
    while building():
        assert time.monotonic() < deadline, "the engine goes on building"
        time.sleep(0.2)


def test_finding_in_a_dockerfile_ends_a_push_before_the_build(project):
    project.dockerfile("FROM python\n")
    process = project.start("push")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "containers/serving/Dockerfile: hadolint has 1 finding" in err
    assert "DL3006" in err
    assert project.tags() == {}


def test_step_that_fails_is_named_with_its_log(project):
    project.dockerfile("FROM python:3.11-slim-bookworm\nRUN echo before && echo the reason && false\n")
    process = project.start("images")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "the build failed at step 2/2" in err
    assert "    the reason" in err
