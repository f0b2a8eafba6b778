"""Starts, finds and ends the local AWS as a process of its own. Imports none of what it runs: it must be quick."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from kennel.errors import KennelError

_START_SECONDS = 60.0
_STOP_SECONDS = 180.0
_DIRECT = build_opener(ProxyHandler({}))
"""The local AWS is on this machine: whatever proxy the environment names is not for it."""

_NOT_OURS = (OSError, HTTPException, ValueError, KeyError, TypeError)
"""What comes of asking a port where nobody answers, or somebody else does, or of a note that is none."""


@dataclass
class LocalAwsProcess:
    """A local AWS that answers. `process` is None when somebody else started it."""

    endpoint_url: str
    pid: int
    runtime: str
    """What its jobs and instances are: `process` or `docker`."""

    process: subprocess.Popen[bytes] | None

    def stop(self) -> None:
        """End it, and with it everything that it started; return when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _STOP_SECONDS
        while _alive(self.pid, self.process):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return  # its number may be somebody else's from now on
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)  # its children notice and end by themselves

    def addresses(self) -> dict[str, list[str]]:
        """Endpoint name → URLs of its instances on this machine."""
        addresses: dict[str, list[str]] = _status(self.endpoint_url)["endpoints"]
        return addresses


def find(state_dir: Path) -> LocalAwsProcess | None:
    """The local AWS that works in `state_dir`, if there is one that answers."""
    try:
        noted = json.loads((state_dir / "server.json").read_text())
        status = _status(noted["endpoint_url"])
        if status["pid"] != noted["pid"]:
            return None  # its port is somebody else's by now
    except _NOT_OURS:
        return None
    runtime = status.get("runtime", "process")  # it may be of an older version
    return LocalAwsProcess(endpoint_url=noted["endpoint_url"], pid=noted["pid"], runtime=runtime, process=None)


def runtime_at(endpoint_url: str) -> str | None:
    """What jobs and instances are at an endpoint, if a local AWS is behind it, whoever started it."""
    if urlsplit(endpoint_url).hostname not in ("127.0.0.1", "localhost"):
        return None
    try:
        return str(_status(endpoint_url.rstrip("/"))["runtime"])
    except _NOT_OURS:
        return None


def start(
    state_dir: Path, *, region: str, port: int, outlive_us: bool, runtime: Literal["process", "docker"] = "process"
) -> LocalAwsProcess:
    """Start one and wait until it answers. It ends with this process, unless it is to `outlive_us`.

    Raises KennelError if it cannot start, or if another one works in `state_dir`.
    """
    if other := find(state_dir):
        raise KennelError(
            f"a local AWS works here already, at {other.endpoint_url}",
            where=str(state_dir),
            hint=f"Use that one, or stop it (process {other.pid}).",
        )
    state_dir.mkdir(parents=True, exist_ok=True)
    note, log = state_dir / "server.json", state_dir / "server.log"
    note.unlink(missing_ok=True)
    command = [sys.executable, "-m", "kennel.local", "--port", str(port), "--region", region]
    command += ["--state-dir", str(state_dir), "--runtime", runtime, *([] if outlive_us else ["--until-stdin-ends"])]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if outlive_us else subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we end it in order
        )
    deadline = time.monotonic() + _START_SECONDS
    try:
        while time.monotonic() < deadline and process.poll() is None:
            if (found := find(state_dir)) and found.pid == process.pid:
                found.process = process
                return found
            time.sleep(0.05)
    except BaseException:  # Ctrl-C while it starts
        process.kill()
        raise
    process.kill()
    process.wait()
    raise KennelError(f"the local AWS did not start: {_last_words(log)}", hint=f"All it said is in {log}.")


def _last_words(log: Path) -> str:
    said = log.read_text(errors="replace").strip().splitlines()
    if not said:
        return "it said nothing"
    # an error of ours goes on in indented lines; a traceback is told by its last
    start = max(index for index, line in enumerate(said) if not line.startswith(" "))
    return "\n".join(said[start:])


def _status(endpoint_url: str) -> dict[str, Any]:
    with _DIRECT.open(f"{endpoint_url}/_kennel", timeout=5) as response:
        status: dict[str, Any] = json.loads(response.read())
        return status


def _alive(pid: int, process: subprocess.Popen[bytes] | None) -> bool:
    if process is not None:
        return process.poll() is None
    try:
        # the command name, in parentheses, may hold anything; a zombie has ended, whoever is to collect it
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
