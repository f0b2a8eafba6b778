"""The local AWS as a process of its own: how it starts, how it is found, and that it never outlives its use."""

import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from urllib.request import Request, urlopen

import boto3
import psutil
import pytest
from botocore.config import Config

from kennel.errors import KennelError
from kennel.local import launcher
from local_roles import JOBS, make_role
from waiting import gone, until


def start(folder, **changes):
    return launcher.start(folder, **{"region": "us-east-1", "port": 0, "outlive_us": False, **changes})


@pytest.fixture
def stopping():
    """Local AWSs to stop at the end, whatever happens."""
    started = []
    yield started
    for aws in started:
        aws.stop()


def client(aws, service):
    return boto3.client(
        service,
        endpoint_url=aws.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=Config(proxies={}),
    )


def test_it_is_started_found_used_and_stopped(tmp_path, stopping):
    assert launcher.find(tmp_path) is None
    aws = start(tmp_path)
    stopping.append(aws)
    client(aws, "s3").create_bucket(Bucket="here")
    found = launcher.find(tmp_path)
    assert (found.pid, found.endpoint_url) == (aws.pid, aws.endpoint_url)
    assert found.addresses() == {}
    with pytest.raises(KennelError, match="works here already"):
        start(tmp_path)
    assert launcher.find(tmp_path).pid == aws.pid
    found.stop()
    assert gone(aws.pid)
    assert launcher.find(tmp_path) is None


def test_a_taken_port_is_a_clear_error(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(KennelError) as caught:
            start(tmp_path, port=port)
    assert f"port {port} is taken" in str(caught.value)
    assert "choose another" in str(caught.value)
    assert not (tmp_path / "server.json").exists()
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if str(tmp_path) in " ".join(child.cmdline())]


def test_a_note_of_one_that_is_gone_is_no_hindrance(tmp_path, stopping):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    note = {"pid": 2**22 - 1, "endpoint_url": f"http://127.0.0.1:{port}"}
    (tmp_path / "server.json").write_text(json.dumps(note))
    assert launcher.find(tmp_path) is None
    stopping.append(start(tmp_path))
    assert launcher.find(tmp_path).pid == stopping[0].pid


@pytest.mark.parametrize(
    "said",
    [
        b"220 no web server\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nshort",
        b"HTTP/1.0 200 OK\r\n\r\n[]",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.0 200 OK\r\n\r\nnot JSON",
    ],
)
def test_a_port_that_somebody_else_has_by_now_is_no_local_aws(tmp_path, said):
    class Other(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            self.request.sendall(said)

    with socketserver.TCPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{other.server_address[1]}"
        (tmp_path / "server.json").write_text(json.dumps({"pid": os.getpid(), "endpoint_url": url}))
        assert launcher.find(tmp_path) is None
        assert launcher.runtime_at(url) is None
        other.shutdown()


def test_a_note_that_is_no_note_is_no_hindrance(tmp_path):
    (tmp_path / "server.json").write_text("[]")
    assert launcher.find(tmp_path) is None


def test_it_ends_with_its_jobs_when_its_starter_is_killed(tmp_path):
    script = """
import sys, time
from pathlib import Path
from kennel.local import launcher
aws = launcher.start(Path(sys.argv[1]), region="us-east-1", port=0, outlive_us=False)
print(aws.pid, flush=True)
time.sleep(300)
"""
    starter = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    pid = int(starter.stdout.readline())
    aws = launcher.find(tmp_path)
    client(aws, "s3").create_bucket(Bucket="bucket")
    make_role(client(aws, "iam"), "kennel", *JOBS, trusted=["sagemaker"])
    client(aws, "sagemaker").create_training_job(
        TrainingJobName="job",
        AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::123456789012:role/kennel",
        OutputDataConfig={"S3OutputPath": "s3://bucket/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    # the job is the real `train`, which imports for seconds before it finds that it has no data
    jobs = until(lambda: psutil.Process(pid).children(recursive=True))
    starter.kill()
    starter.communicate()
    until(lambda: gone(pid) and all(gone(job.pid) for job in jobs))


def test_one_that_is_to_outlive_its_starter_does_so(tmp_path, stopping):
    script = """
import sys
from pathlib import Path
from kennel.local import launcher
launcher.start(Path(sys.argv[1]), region="us-east-1", port=0, outlive_us=True)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=60)
    aws = launcher.find(tmp_path)
    stopping.append(aws)
    assert not gone(aws.pid)
    aws.stop()
    assert gone(aws.pid)


def served(tmp_path, *options, stderr=None):
    command = [sys.executable, "-m", "kennel.local", "--port", "0", "--state-dir", str(tmp_path), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True)
    line = process.stdout.readline()
    assert line.startswith("AWS is at http://127.0.0.1:")
    return process, line.split()[3]


@pytest.mark.parametrize("end", ["SIGTERM", "SIGINT", "stdin"])
def test_python_m_answers_and_ends_when_told(tmp_path, end):
    process, url = served(tmp_path, *(["--until-stdin-ends"] if end == "stdin" else []))
    with urlopen(f"{url}/_kennel") as answer:
        assert json.load(answer)["pid"] == process.pid
    begun = time.monotonic()
    if end == "stdin":
        process.stdin.close()
    else:
        os.kill(process.pid, signal.Signals[end])
    assert process.wait(20) == 0
    assert time.monotonic() - begun < 5
    assert not (tmp_path / "server.json").exists()
    process.stdout.close()


def test_python_m_says_what_is_wrong_with_its_arguments(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kennel.local", "--port", "many"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "invalid int value: 'many'" in done.stderr


def test_without_an_engine_the_docker_runtime_is_a_clear_error_before_it_listens(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "kennel.local", "--port", "0", "--runtime", "docker", "--state-dir", str(tmp_path)],
        env={**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/no-engine.sock"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no Docker engine answers: ")
    assert "Start Docker" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "server.json").exists()


class HalfAnEngine(BaseHTTPRequestHandler):
    """A Docker engine that says what it is, and then refuses everything."""

    def do_GET(self):
        answers = {
            "version": b'{"ApiVersion": "1.41"}',
            "_ping": b"OK",
            "info": b'{"NCPU": 2, "MemTotal": 4294967296}',
        }
        answer = answers.get(self.path.rpartition("/")[2])
        self.send_response(200 if answer else 409)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(answer or b'{"message": "removal is already in progress"}')

    def log_message(self, *arguments):
        pass


def test_leftovers_that_cannot_be_removed_are_a_warning(tmp_path, monkeypatch):
    with socketserver.ThreadingUnixStreamServer(f"{tmp_path}/engine.sock", HalfAnEngine) as engine:
        threading.Thread(target=engine.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/engine.sock")
        with (tmp_path / "said").open("w") as said:
            process, url = served(tmp_path, "--runtime", "docker", "--until-stdin-ends", stderr=said)
        with urlopen(f"{url}/_kennel") as answer:
            assert json.load(answer)["runtime"] == "docker"
        process.stdin.close()
        assert process.wait(20) == 0
        process.stdout.close()
        engine.shutdown()
    text = (tmp_path / "said").read_text()
    assert text.startswith("WARNING root: what an earlier local AWS here had left is not all removed: 409 ")
    assert "removal is already in progress" in text
    assert "Traceback" not in text


def test_it_says_which_runtime_it_has_and_can_listen_on_every_address(tmp_path, stopping):
    process, url = served(tmp_path, "--host", "0.0.0.0", "--until-stdin-ends")
    stopping.append(launcher.find(tmp_path))
    assert stopping[0].runtime == "process"
    port = int(url.rpartition(":")[2])
    # not the address of its own clients; the name is loopback's, as whoever publishes its port asks for
    with urlopen(Request(f"http://127.0.0.2:{port}/_kennel", headers={"Host": "localhost"})) as answer:
        assert json.load(answer)["runtime"] == "process"
    process.stdin.close()
    assert process.wait(20) == 0
    process.stdout.close()
