"""Real training jobs, started as SageMaker starts them: `train` over a folder of the container contract."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from training_jobs import Host, start, stop

from kennel import contract, sample
from kennel.training import images
from kennel.training.group import join
from kennel.training.hosts import HostLost, Hosts
from waiting import until

SMALL = {
    "backbone": '"resnet18"',  # as a tuner writes it
    "image_size": "32",
    "epochs": "2",
    "batch_size": '"16"',
    "optimizer": "sgd",
    "learning_rate": "0.01",
    "_tuning_objective_metric": "validation:loss",
}
EXACT = {**SMALL, "precision": "double"}
ENDLESS = {**SMALL, "epochs": "1000"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 + 9 + 9 drawings, and what real data sets bring along."""
    root = tmp_path_factory.mktemp("data") / "dogs"
    sample.generate(root, seed=7, classes=3, per_split={"train": 12, "valid": 3, "test": 3})
    first = sorted((root / "train").iterdir())[0]
    whole = (first / "001.jpg").read_bytes()
    (first / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (first / "002.jpg").rename(first / "002.JFIF")
    (first / "003.jpg").rename(first / "003.holiday")
    (first / "notes.txt").write_text("not an image")
    (first / ".DS_Store").write_bytes(b"\0")
    return root


@contextmanager
def running(*args, **given) -> Iterator[list[Host]]:
    hosts = start(*args, **given)
    try:
        yield hosts
    finally:
        stop(hosts)


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Host:
    with running(tmp_path_factory.mktemp("one"), SMALL, data=data) as (host,):
        assert host.wait() == 0, host.log
        return host


@pytest.fixture(scope="module")
def two(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Host]:
    with running(tmp_path_factory.mktemp("two"), EXACT, data=data, hosts=("127.7.1.1", "127.7.1.2")) as hosts:
        for host in hosts:
            assert host.wait() == 0, host.log
        return hosts


def test_every_metric_of_the_contract_is_in_the_log(one):
    for metric in contract.METRICS:
        assert len(one.series(metric)) == (1 if metric.startswith("test:") else 2), metric


def test_two_hosts_have_the_loss_curve_of_one_host_with_the_same_global_batch(two, data, tmp_path):
    with running(tmp_path, EXACT, data=data) as (alone,):
        assert alone.wait() == 0, alone.log
    for metric in ("train:loss", "validation:loss", "test:loss"):
        np.testing.assert_allclose(two[0].series(metric), alone.series(metric), rtol=1e-4, err_msg=metric)


def test_two_hosts_leave_one_artefact_and_one_series_of_metrics(two):
    assert contract.MODEL_FILE in two[0].model
    assert two[1].model == {}
    assert two[1].series("train:loss") == []


def test_the_same_seed_and_data_give_the_same_bytes(one, data, tmp_path):
    with running(tmp_path, SMALL, data=data) as (again,):
        assert again.wait() == 0, again.log
        assert again.model == one.model


@pytest.mark.parametrize("whole", ["one", "two"])
def test_a_job_that_is_killed_and_started_again_leaves_the_bytes_of_one_that_was_not(whole, data, tmp_path, request):
    never_killed = request.getfixturevalue(whole)
    given, addresses = (EXACT, ("127.7.5.1", "127.7.5.2")) if whole == "two" else (SMALL, ("127.0.0.1",))
    empty = tmp_path / "empty"
    empty.mkdir()
    with running(tmp_path / "killed", given, data=data, hosts=addresses, checkpoints=empty) as hosts:
        until(lambda: hosts[0].checkpoints, 60)
        stop(hosts)
        assert all(host.model == {} for host in hosts)
        assert [host.checkpoints for host in hosts[1:]] == [[]] * (len(hosts) - 1)
    kept = hosts[0].base / "checkpoints"
    with running(tmp_path / "again", given, data=data, hosts=addresses, checkpoints=kept) as again:
        for host in again:
            assert host.wait() == 0, host.log
    assert "Going on from the checkpoint of epoch" in again[0].log
    assert again[0].model == (never_killed[0] if whole == "two" else never_killed).model


def test_a_job_without_a_folder_for_checkpoints_keeps_none(one):
    assert not (one.base / "checkpoints").exists()


def test_the_artefact_holds_what_the_contract_says(one, data):
    files = one.model
    manifest = json.loads(files[contract.MANIFEST_FILE])
    assert set(files) == {
        contract.MODEL_FILE, contract.LABELS_FILE, contract.WEIGHTS_FILE, contract.EXAMPLE_FILE, contract.MANIFEST_FILE
    }  # fmt: skip
    assert manifest["files"] == {
        name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != contract.MANIFEST_FILE
    }
    labels = json.loads(files[contract.LABELS_FILE])
    assert labels == sorted(path.name for path in (data / "train").iterdir())
    assert (manifest["format_version"], manifest["backbone"], manifest["classes"]) == (1, "resnet18", 3)
    assert (manifest["image_size"], manifest["resize"]) == (32, 37)
    assert manifest["data"]["counts"] == {"train": 36, "valid": 9, "test": 9}
    assert manifest["metrics"]["test:loss"] == pytest.approx(one.series("test:loss")[0], abs=1e-6)
    assert manifest["metrics"]["validation:accuracy"] == pytest.approx(one.series("validation:accuracy")[-1], abs=1e-6)


def test_the_exported_model_recognizes_its_example(one):
    files = one.model
    manifest = json.loads(files[contract.MANIFEST_FILE])
    session = onnxruntime.InferenceSession(files[contract.MODEL_FILE], providers=["CPUExecutionProvider"])
    pixels = images.evaluation_view(images.reduced(images.read(files[contract.EXAMPLE_FILE]), manifest["resize"]), 32)
    scaled = (pixels / 255 - np.array(manifest["mean"])) / np.array(manifest["std"])
    batch = np.stack([scaled.transpose(2, 0, 1)] * 3).astype(np.float32)
    probabilities = session.run(["probabilities"], {"image": batch})[0]
    assert probabilities.shape == (3, 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    labels = json.loads(files[contract.LABELS_FILE])
    assert labels[int(probabilities[0].argmax())] == manifest["example"]["label"]
    assert probabilities[0].max() == pytest.approx(manifest["example"]["probability"], abs=1e-4)


def test_an_undecodable_image_is_reported_and_left_out(one):
    skipped = json.loads(one.model[contract.MANIFEST_FILE])["data"]["skipped"]
    assert [Path(entry["name"]).name for entry in skipped] == ["truncated.jpg"]
    assert "truncated.jpg" in one.log
    assert "notes.txt" not in one.log


def test_nothing_in_the_artefact_is_a_pickle_or_names_this_machine(one):
    for name, content in one.model.items():
        assert not content.startswith((b"\x80", b"PK")), name
        assert str(Path.cwd()).encode() not in content, name


def test_sigterm_ends_a_job_at_once_with_a_reason(data, tmp_path):
    with running(tmp_path, ENDLESS, data=data) as (host,):
        host.wait_for("epoch=1")
        before = time.monotonic()
        host.process.send_signal(signal.SIGTERM)
        assert host.wait(10) != 0
        assert time.monotonic() - before < 3
        assert "SIGTERM" in host.failure
        assert host.model == {}


def test_a_host_that_is_killed_fails_the_others_within_seconds(data, tmp_path):
    with running(tmp_path, ENDLESS, data=data, hosts=("127.7.2.1", "127.7.2.2")) as (first, second):
        first.wait_for("epoch=1")
        second.process.kill()
        assert first.wait(20) == 1
        assert "lost another host" in first.failure[: contract.FAILURE_REASON_CHARACTERS]
        assert first.model == {}


def test_a_host_that_never_comes_fails_the_job_within_the_timeout(tmp_path):
    hosts = Hosts(current="127.7.3.1", all=("127.7.3.1", "127.7.3.2"), interface="lo")
    before = time.monotonic()
    with (
        pytest.raises(HostLost, match="did not meet"),
        join(hosts, device=torch.device("cpu"), timeout=1, environ={}),
    ):
        pass
    assert time.monotonic() - before < 15


def test_a_rendezvous_port_that_is_taken_is_said_so(tmp_path):
    hosts = Hosts(current="127.7.4.1", all=("127.7.4.1", "127.7.4.2"), interface="lo")
    with (
        socket.create_server(("127.7.4.1", 0)) as taken,
        pytest.raises(HostLost, match="Cannot listen"),
        join(hosts, device=torch.device("cpu"), timeout=1, environ={}, port=taken.getsockname()[1]),
    ):
        pass


def test_wrong_hyperparameters_fail_the_job_with_all_problems_and_their_keys(data, tmp_path):
    with running(tmp_path, {"batch_size": "none", "learningrate": "0.1"}, data=data) as (host,):
        assert host.wait(20) == 1
        reason = host.failure[: contract.FAILURE_REASON_CHARACTERS]
        assert "batch_size" in reason
        assert "did you mean learning_rate" in reason
        assert "Traceback" not in reason


def test_a_missing_weight_file_fails_the_job_and_is_named(data, tmp_path):
    with running(tmp_path, {**SMALL, "pretrained": "/nowhere.safetensors"}, data=data) as (host,):
        assert host.wait(30) == 1
        assert "/nowhere.safetensors" in host.failure


def test_a_job_without_its_channel_fails_and_names_it(tmp_path):
    with running(tmp_path, SMALL, data=None) as (host,):
        assert host.wait(20) == 1
        assert "'training'" in host.failure


def test_a_bug_leaves_the_exception_first_in_the_reason(data, tmp_path, one):
    # A model directory that cannot be written stands for any exception that nobody foresaw.
    hosts = start(tmp_path, {**SMALL, "epochs": "1"}, data=data)
    try:
        shutil.rmtree(hosts[0].base / "model")
        (hosts[0].base / "model").write_text("in the way")
        assert hosts[0].wait() != 0
        assert hosts[0].failure.startswith("FileExistsError")
        assert "Traceback" in hosts[0].failure
    finally:
        stop(hosts)


def test_weights_of_one_job_start_the_next_one_and_a_frozen_backbone_stays(one, data, tmp_path):
    from safetensors.torch import load

    weights = tmp_path / "given.safetensors"
    weights.write_bytes(one.model[contract.WEIGHTS_FILE])
    other = tmp_path / "other"
    sample.generate(other, seed=8, classes=2, per_split={"train": 4, "valid": 1, "test": 1})
    with running(tmp_path / "job", {**SMALL, "epochs": "1", "pretrained": str(weights)}, data=other) as (host,):
        assert host.wait() == 0, host.log
        before, after = load(one.model[contract.WEIGHTS_FILE]), load(host.model[contract.WEIGHTS_FILE])
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {"fc.weight", "fc.bias"}
        assert after["fc.weight"].shape == (2, 512)
