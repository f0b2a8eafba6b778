"""No container outlives its local AWS, or, if everything was killed at once, the start of the next one."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
from runtime_rig import left

from kennel.local import launcher
from local_rig import Aws
from waiting import gone, until

pytestmark = pytest.mark.docker


@pytest.fixture
def started(tmp_path):
    running = []

    def start():
        running.append(launcher.start(tmp_path, region="us-east-1", port=0, outlive_us=False, runtime="docker"))
        return running[-1]

    yield start
    for process in running:
        process.stop()


def with_job(process, folder, image, engine):
    """A job of two hosts that run; returns the rig and the processes below the local AWS."""
    aws = Aws(process.endpoint_url, None, None)
    aws.server_dir = folder
    script = "say('ready'); time.sleep(300)"
    definition = aws.definition(script, hosts=2)
    definition["AlgorithmSpecification"]["TrainingImage"] = image
    aws.sagemaker.create_training_job(TrainingJobName="job", **definition)
    aws.started("job", times=2)
    assert len(left(engine, folder)) == 3
    return aws, psutil.Process(process.pid).children(recursive=True)


def test_its_containers_are_nobody_elses_to_sweep_and_go_when_it_is_stopped(engine, image, started, tmp_path):
    process = started()
    assert launcher.find(tmp_path).runtime == process.runtime == "docker"
    with_job(process, tmp_path, image, engine)
    command = [sys.executable, "-m", "kennel.local", "--runtime", "docker", "--port", "0", "--state-dir", str(tmp_path)]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (second.returncode, second.stdout) == (1, "")
    assert f"a local AWS works here already, at {process.endpoint_url}" in second.stderr
    assert len(left(engine, tmp_path)) == 3
    process.stop()
    assert left(engine, tmp_path) == []


def test_containers_end_with_a_local_aws_that_is_killed(engine, image, started, tmp_path):
    process = started()
    _, below = with_job(process, tmp_path, image, engine)
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: left(engine, tmp_path) == [] and all(gone(child.pid) for child in below), 40)


def test_what_outlives_even_the_guards_is_swept_by_the_next_start_and_nothing_else(engine, image, started, tmp_path):
    process = started()
    _, below = with_job(process, tmp_path, image, engine)
    other = engine.networks.create("kennel-test-other", labels={"kennel.state-dir": f"{tmp_path}-other"})
    try:
        for child in [psutil.Process(process.pid), *below]:
            child.suspend()  # so that none sees another die
        for child in [psutil.Process(process.pid), *below]:
            child.kill()
        until(lambda: all(gone(child.pid) for child in below))
        assert len(left(engine, tmp_path)) == 3
        started()
        assert left(engine, tmp_path) == []
        assert left(engine, f"{tmp_path}-other") == ["kennel-test-other"]
    finally:
        other.remove()


class Relay:
    """A socket that leads to the engine until it is cut."""

    def __init__(self, path):
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(str(path))
        self.server.listen()
        self.ends = [self.server]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.server.accept()
                far = socket.socket(socket.AF_UNIX)
                far.connect("/var/run/docker.sock")
            except OSError:
                return
            self.ends += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=ends, daemon=True).start()

    def copy(self, source, sink):
        try:
            while piece := source.recv(1 << 16):
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def cut(self):
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for end in self.ends:
            end.close()


@pytest.mark.skipif(not Path("/var/run/docker.sock").exists(), reason="the engine's socket is elsewhere")
def test_a_job_whose_engine_goes_away_fails_and_says_so(engine, image, started, tmp_path, monkeypatch):
    relay = Relay(tmp_path / "engine.sock")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
    process = started()
    try:
        aws, _ = with_job(process, tmp_path, image, engine)
        relay.cut()
        reason = aws.ended_job("job")["FailureReason"]
        assert reason.startswith("InternalServerError: algo-")
        assert "was lost: the Docker engine does not answer" in reason
    finally:
        relay.cut()
        process.stop()
        monkeypatch.delenv("DOCKER_HOST")
        started()  # which sweeps what could not be removed without an engine
        assert left(engine, tmp_path) == []
