"""A runtime whose containers are small Python scripts: real processes, no torch, no model server.

`train` is what the job's environment names as SCRIPT, run in the host's base directory with a few helpers; without
SCRIPT it is a job that does all that a job may do.
`serve` is a small HTTP server that does what the model's environment says.
"""

import itertools
import os
import socket
import sys
from pathlib import Path

from kennel.local.processes import Supervised

PRELUDE = """
import json, os, signal, sys, time
from pathlib import Path
base = Path.cwd()
hyperparameters = json.loads((base / "input/config/hyperparameters.json").read_text())
resources = json.loads((base / "input/config/resourceconfig.json").read_text())
rank = resources["hosts"].index(resources["current_host"])
def model(text="weights", name="model.bin"):
    (base / "model" / name).write_text(text)
def say(text):
    print(text, flush=True)
def fail(text):
    (base / "output/failure").write_text(text)
    sys.exit(1)
def forked():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(300)
        os._exit(0)
"""

TRAIN = """
say("validation:accuracy=0.9 validation:loss=0.1")
(base / "checkpoints" / "epoch-1").write_text("a checkpoint")
if rank == 0:
    model(name="weights")
"""

SERVER = """
import http.server, os, sys, threading, time
from pathlib import Path
E = os.environ
state = Path(E["STATE"])
with state.open("a") as file:
    file.write(f"{os.getpid()} {E['PORT']}\\n")
starts = len(state.read_text().splitlines())
if str(starts) in E.get("FAIL_STARTS", "").split(","):
    sys.exit("this container does not want to")
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(500 if "SICK" in E else 200, b"")
    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        if "ANSWER" in E:
            return self.answer(200, E["ANSWER"].encode())
        body = sent.decode()
        if body.startswith("wait "):
            Path(body.split()[1]).with_suffix(f".{os.getpid()}").touch()
            while not Path(body.split()[1]).exists():
                time.sleep(0.01)
        time.sleep(float(E.get("SLEEP", "0")))
        if body.startswith("status "):
            return self.answer(int(body.split()[1]), b'{"error": "as asked"}')
        self.answer(200, f"{E.get('SAY', '')} {os.getpid()} {Path('weights').read_text()}".encode())
    def log_message(self, *arguments):
        pass
print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(E["PORT"])), Handler).serve_forever()
"""


class FakeHosts:
    network_interface = "lo"

    def __init__(self, names, start):
        self.names = names
        self._start = start
        self.closed = False

    def start(self, index, *, base_dir, log, environment):
        assert not self.closed
        return self._start(PRELUDE + environment.get("SCRIPT", TRAIN), base_dir, log, environment)

    def close(self):
        self.closed = True


class FakeRuntime:
    name = "process"

    def __init__(self, grace=1.0):
        self.grace = grace
        self.started = []
        self.asked = []
        self.jobs = []
        self._numbers = itertools.count(1)

    def hosts(self, *, count, **asked):
        self.asked.append(asked)
        number = next(self._numbers)
        self.jobs.append(FakeHosts([f"127.1.{number}.{host}" for host in range(1, count + 1)], self._start))
        return self.jobs[-1]

    def start_instance(self, *, model_dir, log, environment, **asked):
        self.asked.append(asked)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = self._start(SERVER, model_dir, log, {**environment, "PORT": str(port)})
        return process, lambda: f"http://127.0.0.1:{port}"

    def _start(self, script, cwd, log, environment):
        process = Supervised(
            [sys.executable, "-I", "-S", "-c", script],
            env={"PATH": os.defpath, **environment},
            cwd=Path(cwd),
            log=log,
            grace=self.grace,
        )
        self.started.append(process)
        return process
