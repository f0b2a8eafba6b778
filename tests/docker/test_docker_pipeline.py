"""The whole state machine with every job and instance in its image; pushed images rolled out under traffic."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import boto3
import docker
import pytest

import pipeline_runs
from composed import Composed, classified
from kennel import archive, contract, sample
from kennel.local.runtimes.process import ProcessRuntime
from pipeline_runs import Kept

pytestmark = pytest.mark.docker

PER_CLASS = {"train": 12, "valid": 6, "test": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "small"
    sample.generate(folder, seed=1, classes=3, per_split=PER_CLASS)
    return folder


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory, images: object, engine: docker.DockerClient, data: Path
) -> Iterator[Kept]:
    """A run in containers, whose local AWS and endpoint stay up."""
    home = tmp_path_factory.mktemp("containers") / "home"
    config = pipeline_runs.configuration(home.parent / "small.toml", data=data)
    arguments = ("--config", config, "--runtime", "docker")
    try:
        code, out, err = pipeline_runs.Run("run", *arguments, "--keep", "--json", home=home).end(timeout=600)
        assert code == 0, out + err
        address = json.loads((home / "local" / "server.json").read_text())["endpoint_url"]
        image = next((data / "valid").rglob("*.jpg"))
        yield Kept(home=home, config=config, result=json.loads(out), said=err, endpoint_url=address, image=image)
    finally:
        code, out, _ = pipeline_runs.run("down", "--config", config, home=home)
        left = [*pipeline_runs.left_behind(str(home)), *on_engine(engine, home)]
    assert (code, left) == (0, [])


def on_engine(engine: docker.DockerClient, home: Path) -> list[str]:
    """Names of the containers and networks of the local AWS in `home`."""
    mine = {"label": f"kennel.state-dir={home / 'local'}"}
    return [
        *(container.name for container in engine.containers.list(all=True, filters=mine)),
        *(network.name for network in engine.networks.list(filters=mine)),
    ]


def client(kept: Kept, service: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=kept.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


def ask(kept: Kept, image: Path) -> Any:
    answer = client(kept, "sagemaker-runtime").invoke_endpoint(
        EndpointName="kennel", ContentType="image/jpeg", Body=image.read_bytes()
    )
    return json.loads(answer["Body"].read())


def test_the_pipeline_runs_in_its_images_from_tuning_to_the_smoke_test(kept, engine, images):
    assert kept.result["status"] == "SUCCEEDED"
    assert kept.result["hosts"] == 2
    assert len(kept.result["trials"]) == 2
    assert kept.result["prediction"]
    logs = sorted(kept.folder.glob("logs/*train*"))
    assert any("on 2 host(s)" in log.read_text() for log in logs)
    (instance,) = (name for name in on_engine(engine, kept.home) if name.endswith("-instance-1"))
    assert engine.containers.get(instance).image.id == images["serving"].id


def test_the_same_artefact_gives_the_same_answers_from_a_process_a_container_and_compose(kept, data, tmp_path, images):
    composed = Composed(tmp_path / "clone")
    run = composed.folder / ".kennel" / "runs" / kept.folder.name
    run.mkdir(parents=True)
    for name in (contract.ARTEFACT_NAME, "result.json"):
        (run / name).write_bytes((kept.folder / name).read_bytes())

    model = tmp_path / "model"
    archive.unpack(kept.folder / contract.ARTEFACT_NAME, model)
    runtime = ProcessRuntime(random=Random(1), environment={"PATH": "/usr/bin:/bin"})
    log = tmp_path / "serve.log"
    process, where = runtime.start_instance(
        endpoint="e", image="", instance_type="", isolated=True, model_dir=model, log=log, environment={}
    )
    try:
        composed.run("up", "--detach", "--no-build")
        url = composed.ready()
        pipeline_runs.until(lambda: ["ready"] if '"ready"' in log.read_text() else [])
        pictures = sorted(data.glob("test/*/*.jpg"))
        answers = [[ask(kept, p), classified(url, p), classified(where(), p)] for p in pictures]
    finally:
        process.stop()
        composed.down()
    assert len(answers) == 12
    for first, *others in answers:
        for other in others:
            assert other["model"] == first["model"]
            ranked = [(p["label"], p["probability"]) for p in other["predictions"]]
            assert [label for label, _ in ranked] == [p["label"] for p in first["predictions"]]
            for (_, probability), wanted in zip(ranked, first["predictions"], strict=True):
                assert probability == pytest.approx(wanted["probability"], abs=1e-4)


def test_a_pushed_image_is_rolled_out_by_its_digest_and_not_one_request_fails(kept, registry, engine):
    config = ("--config", kept.config)
    code, out, err = pipeline_runs.Run("push", *config, "--json", home=kept.home).end(timeout=600)
    assert code == 0, err
    pushed = {image["part"]: image["image"] for image in json.loads(out)["images"]}

    before = client(kept, "sagemaker").describe_endpoint(EndpointName="kennel")["EndpointConfigName"]
    answers: list[float] = []
    failures: list[Exception] = []
    done = threading.Event()

    def traffic() -> None:
        while not done.is_set():
            began = time.monotonic()
            try:
                ask(kept, kept.image)
            except Exception as error:
                failures.append(error)
            answers.append(time.monotonic() - began)

    askers = [threading.Thread(target=traffic) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        code, out, err = pipeline_runs.Run("rollout", *config, "--json", home=kept.home).end(timeout=300)
    finally:
        time.sleep(1)  # the old instance has gone by then
        done.set()
        for asker in askers:
            asker.join()
    assert code == 0, out + err
    result = json.loads(out)
    assert result["mode"] == "rollout"
    assert result["images"]["serving"] == pushed["serving"]
    assert "@sha256:" in pushed["serving"]
    assert failures == []
    assert len(answers) > 20

    endpoint = client(kept, "sagemaker").describe_endpoint(EndpointName="kennel")
    assert endpoint["EndpointConfigName"] == result["execution"] != before
    (variant,) = endpoint["ProductionVariants"]
    assert variant["DeployedImages"][0]["SpecifiedImage"] == pushed["serving"]
    (instance,) = (name for name in on_engine(engine, kept.home) if "-instance-" in name)
    assert engine.containers.get(instance).attrs["Config"]["Image"] == pushed["serving"]
