"""A small image whose `train` and `serve` do what they are told, and a local AWS that runs it."""

import contextlib
import io
import os
import random
import tarfile
import uuid

from kennel import engine as engines
from kennel.local.runtimes.docker import DockerRuntime
from kennel.local.runtimes.sizes import Size, size_of
from kennel.local.server import LocalAws

BASE = "python:3.11-slim-bookworm"
TINY = "ml.c5.xlarge"
"""An instance type that the tests' runtime takes for one with 64 MiB of memory."""

TRAIN = """#!/usr/bin/env python3
import json, os, signal, socket, subprocess, sys, time
from pathlib import Path
base = Path("/opt/ml")
resources = json.loads((base / "input/config/resourceconfig.json").read_text())
hosts = resources["hosts"]
me = resources["current_host"]
rank = hosts.index(me)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the first process of a container has no default
def model(text="weights", name="model.bin"):
    (base / "model" / name).write_text(text)
def say(text):
    print(text, flush=True)
def fail(text):
    (base / "output/failure").write_text(text)
    sys.exit(1)
def eat():
    return [bytearray(b"x" * (1 << 20)) for _ in range(512)]
def answer(text, times=1):
    with socket.create_server(("0.0.0.0", 7777)) as server:
        for _ in range(times):
            connection, _ = server.accept()
            connection.sendall(text.encode())
            connection.close()
def ask(address, port=7777, seconds=20):
    deadline = time.monotonic() + seconds
    while True:
        try:
            with socket.create_connection((address, port), 1.5) as connection:
                return connection.recv(1000).decode()
        except OSError as error:
            if time.monotonic() > deadline:
                return f"{type(error).__name__}"
            time.sleep(0.1)
exec(os.environ["SCRIPT"])
"""

SERVE = """#!/usr/bin/env python3
import http.server, os, signal, socket, sys, time
from pathlib import Path
E = os.environ
if "EXIT" in E:
    print("no, thanks", flush=True)
    sys.exit(int(E["EXIT"]))
if "EAT" in E:
    eaten = [bytearray(b"x" * (1 << 20)) for _ in range(512)]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"")
    def do_POST(self):
        if self.rfile.read(int(self.headers["Content-Length"])) == b"slowly":
            time.sleep(0.5)
        try:
            Path("/opt/written").touch()
            root = "writable"
        except OSError:
            root = "read-only"
        weights = Path("/opt/ml/model/weights").read_text()
        self.answer(f"{socket.gethostname()} {E.get('SAY', '')} {weights} {root}".encode())
    def log_message(self, *arguments):
        pass
print("serving", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


def build(engine):
    """Build the image; return its name, which nobody else uses."""
    context = io.BytesIO()
    dockerfile = f"FROM {BASE}\nCOPY train serve /usr/local/bin/\n"
    with tarfile.open(fileobj=context, mode="w") as tar:
        for name, text, mode in (("Dockerfile", dockerfile, 0o644), ("train", TRAIN, 0o755), ("serve", SERVE, 0o755)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), mode
            tar.addfile(member, io.BytesIO(text.encode()))
    context.seek(0)
    tag = f"kennel-test-runtime:{uuid.uuid4().hex[:12]}"
    engine.images.build(fileobj=context, custom_context=True, tag=tag, rm=True, forcerm=True)
    return tag


@contextlib.contextmanager
def local_aws(folder, **graces):
    """A local AWS in this process whose jobs and instances are containers; and its runtime."""
    runtime = DockerRuntime(
        state_dir=folder,
        random=random.SystemRandom(),
        connect=engines.connect,
        size_of=lambda name: Size(vcpus=1, memory_bytes=64 << 20) if name == TINY else size_of(name),
        environment=dict(os.environ),
        **graces,
    )
    server = LocalAws(port=0, state_dir=folder, region="us-east-1", runtime=runtime)
    server.start()
    try:
        yield server, runtime
    finally:
        server.close()


def left(engine, state_dir, *labels):
    """Names of the containers and networks of a local AWS, or of one job or endpoint of it."""
    chosen = {"label": [f"kennel.state-dir={state_dir}", *labels]}
    containers = [name for found in engine.api.containers(all=True, filters=chosen) for name in found["Names"]]
    return sorted(containers + [network["Name"] for network in engine.api.networks(filters=chosen)])


def described(engine, state_dir, *labels):
    """What the engine says of the containers of a local AWS, or of one job or endpoint of it, by their names there."""
    chosen = {"label": [f"kennel.state-dir={state_dir}", *labels]}
    found = [engine.api.inspect_container(each["Id"]) for each in engine.api.containers(filters=chosen)]
    return {each["Config"]["Labels"]["kennel.host"]: each for each in found}


def read(aws, job):
    """The files of the model that a job left, by their names."""
    bucket, _, key = job["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
    body = aws.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as tar:
        return {member.name: tar.extractfile(member).read().decode() for member in tar if member.isfile()}
