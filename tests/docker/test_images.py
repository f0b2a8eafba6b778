"""What the two images hold, how they start and stop, and which layers a change of code replaces."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from docker.errors import ContainerError

from kennel import contract, sample
from kennel.local.sagemaker import opt_ml
from kennel.pipeline import images as ours
from kennel.training import backbones
from serving_artefacts import RED, write_artefact

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]


def said(engine, image, *command, **options):
    """What a command in the image prints."""
    return engine.containers.run(image.id, command, remove=True, entrypoint=[], **options).decode()


class Serving:
    """The serving image with a model, as the strictest user would run it."""

    def __init__(self, engine, image, model, **options):
        options = {"read_only": True, "cap_drop": ["ALL"], "user": "10001"} | options
        self.container = engine.containers.run(
            image.id,
            ["serve"],
            detach=True,
            volumes={str(model): {"bind": "/opt/ml/model", "mode": "ro"}},
            ports={"8080/tcp": ("127.0.0.1", None)},
            **options,
        )
        self.container.reload()
        self.url = f"http://127.0.0.1:{self.container.ports['8080/tcp'][0]['HostPort']}"

    def wait(self, seconds=60):
        deadline = time.monotonic() + seconds
        while not self.answers():
            self.container.reload()
            assert self.container.status == "running", self.container.logs().decode()
            assert time.monotonic() < deadline, self.container.logs().decode()
            time.sleep(0.1)
        return self

    def answers(self):
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=2):
                return True
        except OSError:
            return False

    def invoke(self, body=RED):
        request = urllib.request.Request(f"{self.url}/invocations", body, {"Content-Type": "image/jpeg"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_artefact(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture
def start(engine, images):
    running = []

    def begin(model, **options):
        running.append(Serving(engine, images["serving"], model, **options))
        return running[-1]

    yield begin
    for serving in running:
        serving.container.remove(force=True)


@pytest.mark.parametrize("part", ours.PARTS)
def test_an_image_says_which_version_and_revision_it_is(engine, images, part):
    labels = engine.images.get(images[part].id).labels
    assert labels["org.opencontainers.image.version"] == ours.version(ROOT)
    assert labels["org.opencontainers.image.revision"] == ours.revision(ROOT, part)


@pytest.mark.parametrize("part", ours.PARTS)
def test_an_image_holds_no_compiler_no_pip_cache_and_no_tests_of_ours(engine, images, part):
    look = "ls /opt/venv/bin /usr/bin; ls -A / /root /tmp; find / -xdev -path '*kennel*' -name '*test*'"
    found = set(said(engine, images[part], "sh", "-c", look, user="0").split())
    assert "python" in found
    assert not {name for name in found if "kennel" in name}
    assert not found & {"gcc", "cc", "g++", ".cache", ".config", "project", "layers"}


def test_the_training_image_sets_what_a_job_relies_on(engine, images):
    environment = dict(item.split("=", 1) for item in engine.images.get(images["training"].id).attrs["Config"]["Env"])
    assert environment.items() >= contract.TRAINING_IMAGE_ENV.items()


def trained(engine, images, job, **options):
    """Exit status of `docker run IMAGE train`, and what it printed."""
    container = engine.containers.run(
        images["training"].id, ["train"], detach=True, volumes=[f"{job}:/opt/ml"], **options
    )
    try:
        return container.wait(timeout=120)["StatusCode"], container.logs().decode()
    finally:
        container.remove(force=True)


def job_for(folder, *, channels, **hyperparameters):
    """A folder of a job for one host, which any user may write to."""
    opt_ml.write(
        folder,
        host="localhost",
        hosts=["localhost"],
        network_interface="lo",
        instance_type="ml.local",
        hyperparameters=hyperparameters,
        channels=channels,
        checkpoints=False,
    )
    for below in (folder, *folder.rglob("*")):
        below.chmod(0o777)
    return folder


def test_train_without_a_job_says_what_is_missing(engine, images, tmp_path):
    status, said = trained(engine, images, tmp_path)
    assert (status, "Traceback" in said) == (2, False)
    assert "train: /opt/ml/input/config: there is no training job here" in said


def test_a_job_without_data_fails_with_its_reason(engine, images, tmp_path):
    status, _ = trained(engine, images, job_for(tmp_path, channels={}))
    assert status not in (0, 2)
    assert "no channel 'training'" in (tmp_path / "output" / "failure").read_text()


def test_a_job_whose_folder_is_somebody_elses_says_so(engine, images, tmp_path):
    job = job_for(tmp_path, channels={})
    shutil.rmtree(job / "output")
    job.chmod(0o755)
    status, said = trained(engine, images, job, user="54321:54321")
    assert (status, "Traceback" in said) == (2, False)
    assert "train: /opt/ml: cannot write there: Permission denied" in said


def test_the_training_image_runs_any_other_command(engine, images):
    said_ = engine.containers.run(images["training"].id, ["python", "-c", "print(6 * 7)"], remove=True)
    assert said_ == b"42\n"
    with pytest.raises(ContainerError, match="exit status 127"):
        engine.containers.run(images["training"].id, ["nonsense"], remove=True)


def test_any_user_trains_without_a_network_from_weights_that_were_baked_in(engine, images, tmp_path):
    """As `--build-arg PRETRAINED=resnet18` leaves them; torchvision's own are not to be had on every machine."""
    weights = backbones.build(backbones.Backbone.RESNET18, classes=1000, seed=1, pretrained=None).model.state_dict()
    from torchvision.models import get_model_weights  # kennel's import of torchvision makes this one work, too

    baked = tmp_path / "weights" / "hub" / "checkpoints"
    baked.mkdir(parents=True)
    torch.save(weights, baked / Path(get_model_weights("resnet18").DEFAULT.url).name)
    job = tmp_path / "job"
    sample.generate(
        job / opt_ml.CHANNELS / "training", seed=1, classes=3, per_split={"train": 8, "valid": 4, "test": 4}
    )
    job_for(
        job,
        channels={"training": "FullyReplicated"},
        image_size="32",
        epochs="1",
        batch_size="8",
        pretrained="torchvision",
    )
    engine.containers.run(
        images["training"].id,
        ["train"],
        remove=True,
        network_mode="none",
        read_only=True,
        cap_drop=["ALL"],
        user="54321:54321",
        volumes=[f"{job}:/opt/ml", f"{tmp_path / 'weights'}:/opt/weights:ro"],
    )
    assert json.loads((job / "model" / "manifest.json").read_text())["settings"]["pretrained"] == "torchvision"


def test_the_serving_image_has_no_torch_and_fits_its_size(engine, images):
    assert "torch" not in said(engine, images["serving"], "ls", "/opt/venv/lib/python3.11/site-packages").split()
    base = engine.images.get("python:3.11-slim-bookworm").attrs["Size"]
    added = engine.images.get(images["serving"].id).attrs["Size"] - base
    assert added + 130e6 < 600e6, "unpacked, on a base of 130 MB"


def test_serve_answers_as_a_stranger_with_nothing_to_write_to_and_no_rights(start, model):
    serving = start(model).wait()
    assert serving.invoke()["predictions"][0]["label"] == "red"


def test_serve_answers_under_any_user(start, model):
    assert start(model, user="54321:54321").wait().invoke()["predictions"][0]["label"] == "red"


def test_the_image_runs_as_nobody_in_particular_and_becomes_healthy(engine, images, start, model):
    assert engine.images.get(images["serving"].id).attrs["Config"]["User"] == "10001:10001"
    serving = start(model, user=None).wait()
    deadline = time.monotonic() + 40
    while (health := serving.container.attrs["State"]["Health"]["Status"]) == "starting":
        assert time.monotonic() < deadline
        time.sleep(0.5)
        serving.container.reload()
    assert health == "healthy"


def test_only_port_8080_listens_beyond_loopback(start, model):
    serving = start(model).wait()
    _, listening = serving.container.exec_run("cat /proc/net/tcp /proc/net/tcp6")
    rows = [line.split() for line in listening.decode().splitlines() if ":" in line]
    # 0A is LISTEN; 0100007F is 127.0.0.1
    ports = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and not row[1].startswith("0100007F")}
    assert ports == {8080}


def test_sigterm_lets_what_is_under_way_finish(start, model):
    serving = start(model).wait()
    host, _, port = serving.url.removeprefix("http://").partition(":")
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(RED)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as client, ThreadPoolExecutor(1) as pool:
        client.sendall(head.encode() + RED[:100])
        time.sleep(0.5)  # it has arrived
        stopping = pool.submit(serving.container.stop, timeout=30)
        deadline = time.monotonic() + 10
        while serving.answers():
            assert time.monotonic() < deadline, "it still takes new requests"
        client.sendall(RED[100:])
        answer = client.recv(65_536)
        stopping.result()
    assert answer.startswith(b"HTTP/1.1 200")
    assert serving.container.wait()["StatusCode"] == 0


def test_a_container_without_a_model_ends_at_once_and_says_so(start, tmp_path):
    tmp_path.chmod(0o755)
    serving = start(tmp_path)
    assert serving.container.wait(timeout=30)["StatusCode"] == 1
    assert "manifest.json: cannot read it" in serving.container.logs().decode()


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).with_name("hadolint")
    files = sorted(ROOT.glob("containers/*/Dockerfile"))
    done = subprocess.run([hadolint, *files], capture_output=True, text=True, check=False)
    assert (len(files), done.stdout, done.returncode) == (2, "", 0)


# --- layers ---------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path):
    """A copy of what the images are built from."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("pyproject.toml", "constraints.txt", ".dockerignore"):
        shutil.copy(ROOT / name, copy)
    for name in ("src", "containers"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return copy


def layers(engine, built):
    return engine.images.get(built.id).attrs["RootFS"]["Layers"]


def test_the_same_source_gives_the_same_layers_without_any_cache(engine, images, project):
    tag = "kennel-test-again"
    list(
        engine.api.build(
            path=str(project), dockerfile="containers/serving/Dockerfile", tag=tag, nocache=True, rm=True, decode=True
        )
    )
    try:
        assert engine.images.get(tag).attrs["RootFS"]["Layers"] == layers(engine, images["serving"])
    finally:
        engine.images.remove(tag)


@pytest.mark.parametrize("part", ours.PARTS)
def test_a_change_of_one_line_of_code_pushes_less_than_5_mb(engine, images, registry, project, part):
    with (project / "src" / "kennel" / "contract.py").open("a") as file:
        file.write("# one line more\n")
    repository = f"{registry}/kennel-test-layers-{part}"
    changed = ours.build(
        engine,
        ours.Image(part=part, name=repository, revision=ours.revision(project, part)),
        root=project,
        say=print,
    )
    try:
        before = pushed(engine, images[part].id, repository, "before")
        after = pushed(engine, changed.id, repository, "after")
    finally:
        for tag in ("before", "after", changed.image.tag, "latest"):
            engine.images.remove(f"{repository}:{tag}", force=True)
    new = [layer for layer in after["layers"] if layer["digest"] not in {old["digest"] for old in before["layers"]}]
    assert len(new) == 1
    assert sum(layer["size"] for layer in new) + after["config"]["size"] < 5e6


def pushed(engine, image_id, repository, tag):
    """Push, and return the manifest that the registry has then."""
    engine.api.tag(image_id, repository, tag)
    for event in engine.api.push(repository, tag=tag, stream=True, decode=True):
        assert "error" not in event, event
    name = repository.partition("/")[2]
    request = urllib.request.Request(
        f"http://{repository.partition('/')[0]}/v2/{name}/manifests/{tag}",
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())
