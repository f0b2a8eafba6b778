"""Runs one execution environment of a function: one real process that speaks the Lambda Runtime API.

The process is AWS's own runtime client (`python -m awslambdaric`) with nothing but the function's zip and the
runtime's packages to import from, as in Lambda. Its Runtime API (version 2018-06-01) is served here, on a loopback port
of its own. This module knows nothing of concurrency, retries or boto3 shapes (`kennel.local.functions` does), and it
does not enforce the function's memory size: it only reports the memory used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from kennel.local.function_code import FunctionVersion, package_directories
from kennel.local.processes import Supervised

MAX_RESPONSE_BYTES: Final = 6_291_556
"""What Lambda lets a handler return: 6 MB and a little."""

Log = Callable[[str, str, list[str]], None]
"""Takes a CloudWatch log group, a stream, and lines."""

_API: Final = "/2018-06-01/runtime/"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one invocation. `error` is None or AWS's FunctionError; `log` holds its lines."""

    payload: bytes
    error: str | None = None
    log: tuple[str, ...] = ()


class Environment:
    """One execution environment: starts at once, serves one invocation at a time until it ends.

    `credentials` are the variables that carry its role's. `initialization` is AWS_LAMBDA_INITIALIZATION_TYPE
    (`on-demand` or `provisioned-concurrency`). `idle_since` belongs to the pool.
    """

    def __init__(
        self,
        version: FunctionVersion,
        *,
        code: Path,
        state_dir: Path,
        environment_id: str,
        initialization: str,
        endpoint_url: str,
        region: str,
        credentials: Mapping[str, str],
        log: Log,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.version = version
        self.idle_since = 0.0
        self._wall = wall
        self._log_to = log
        self._condition = threading.Condition()
        self._waiting: _Invocation | None = None
        self._current: _Invocation | None = None
        self._ready = False
        self._stopping = False
        self._exit_status: int | None = None
        self._init_error: bytes | None = None
        self._init_reported = False
        self._started = time.monotonic()
        self._init_seconds = 0.0
        self._group = f"/aws/lambda/{version.name}"
        day = datetime.fromtimestamp(wall(), UTC)
        self._stream = f"{day:%Y/%m/%d}/[{version.version}]{environment_id.replace('-', '')}"
        self._scratch = state_dir / "environments" / environment_id
        self._scratch.mkdir(parents=True)
        self._output = self._scratch / "output.log"
        self._output_read = 0
        self._api = _RuntimeApi(("127.0.0.1", 0), self)
        threading.Thread(target=self._api.serve_forever, name="runtime-api", daemon=True).start()
        try:
            self._process = Supervised(
                # -S and PYTHONPATH: the environment's packages, but no .pth file that leads to anything else
                [sys.executable, "-S", "-m", "awslambdaric", version.handler],
                env={**self._variables(code, initialization, endpoint_url, region), **credentials},
                cwd=code,
                log=self._output,
                grace=1.0,
            )
        except BaseException:
            self._close_api()
            raise
        threading.Thread(target=self._watch, name="function-process", daemon=True).start()

    def _variables(self, code: Path, initialization: str, endpoint_url: str, region: str) -> dict[str, str]:
        version, port = self.version, self._api.server_address[1]
        temporary = self._scratch / "tmp"
        temporary.mkdir()
        return {
            **version.variables,
            "PATH": os.defpath,
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "LANG": "C.UTF-8",
            "TZ": ":UTC",
            "PYTHONPATH": os.pathsep.join([str(code), *package_directories()]),
            "PYTHONDONTWRITEBYTECODE": "1",  # the code directory is shared, and read-only in Lambda
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{version.runtime}",
            "AWS_LAMBDA_FUNCTION_NAME": version.name,
            "AWS_LAMBDA_FUNCTION_VERSION": version.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(version.memory),
            "AWS_LAMBDA_INITIALIZATION_TYPE": initialization,
            "AWS_LAMBDA_LOG_GROUP_NAME": self._group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self._stream,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
            "LAMBDA_TASK_ROOT": str(code),
            "_HANDLER": version.handler,
        }

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._exit_status is None

    @property
    def usable(self) -> bool:
        """Whether it can take an invocation: initialized, running and not asked to stop."""
        return self._ready and self._exit_status is None and not self._stopping

    def wait_ready(self, timeout: float) -> Outcome | None:
        """None once it asks for work, or else what kept it from that (as an invocation would report it)."""
        with self._condition:
            done = self._condition.wait_for(lambda: self._ready or self._exit_status is not None, timeout)
            if self._ready:
                return None
        if not done:
            self.stop()
            text = f"INIT_REPORT Init Duration: {timeout * 1000:.2f} ms\tPhase: init\tStatus: timeout"
            error = {"errorType": "Sandbox.Timedout", "errorMessage": f"Initialization took over {timeout:.2f} seconds"}
            return Outcome(payload=json.dumps(error).encode(), error="Unhandled", log=self._publish([text]))
        payload = self._init_error or self._exit_error("")
        return Outcome(payload=payload, error="Unhandled", log=self._publish([]))

    def invoke(self, payload: bytes, *, request_id: str, arn: str, client_context: str | None = None) -> Outcome:
        """Run one invocation to its end, at most the function's timeout. The environment must be ready and unused."""
        invocation = _Invocation(
            payload=payload,
            headers={
                "Lambda-Runtime-Aws-Request-Id": request_id,
                "Lambda-Runtime-Deadline-Ms": str(int((self._wall() + self.version.timeout) * 1000)),
                "Lambda-Runtime-Invoked-Function-Arn": arn,
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(self._wall()):08x}-{_trace(request_id, 24)};"
                f"Parent={_trace(request_id, 16)};Sampled=0",
                **({"Lambda-Runtime-Client-Context": client_context} if client_context else {}),
            },
        )
        started = time.monotonic()
        with self._condition:
            self._waiting = invocation
            self._condition.notify_all()
            self._condition.wait_for(lambda: invocation.answered or not self.alive, self.version.timeout)
        seconds = time.monotonic() - started
        if invocation.answered:
            return self._finished(request_id, seconds, invocation.answer, invocation.error)
        if not self.alive:
            answer = self._exit_error(f"RequestId: {request_id} Error: ")
            extra = [str(json.loads(answer)["errorMessage"])]
            return self._finished(request_id, seconds, answer, "Unhandled", extra=extra)
        self.stop()
        when = datetime.fromtimestamp(self._wall(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        text = f"{when} {request_id} Task timed out after {self.version.timeout:.2f} seconds"
        answer = json.dumps({"errorMessage": text}).encode()
        return self._finished(request_id, seconds, answer, "Unhandled", extra=[text], status="timeout")

    def _finished(
        self,
        request_id: str,
        seconds: float,
        payload: bytes,
        error: str | None,
        *,
        extra: Iterable[str] = (),
        status: str = "",
    ) -> Outcome:
        if len(payload) > MAX_RESPONSE_BYTES:
            text = f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes)."
            payload = json.dumps({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": text}).encode()
            error = "Unhandled"
        init, billed = self._init_seconds, int(seconds * 1000) + 1
        report = (
            f"REPORT RequestId: {request_id}\tDuration: {seconds * 1000:.2f} ms\tBilled Duration: {billed} ms\t"
            f"Memory Size: {self.version.memory} MB\tMax Memory Used: {self._memory_used()} MB"
        )
        if not self._init_reported:
            report += f"\tInit Duration: {init * 1000:.2f} ms"
            self._init_reported = True
        if status:
            report += f"\tStatus: {status}"
        lines = [*extra, f"END RequestId: {request_id}", report]
        start = f"START RequestId: {request_id} Version: {self.version.version}"
        return Outcome(payload=payload, error=error, log=self._publish(lines, first=start))

    def _publish(self, lines: list[str], first: str = "") -> tuple[str, ...]:
        """Send what the process printed since the last time, between `first` and `lines`, to the log."""
        printed = []
        with contextlib.suppress(FileNotFoundError), self._output.open("rb") as output:
            output.seek(self._output_read)
            text = output.read()
            self._output_read += len(text)
            # awslambdaric joins the lines of a traceback by carriage returns and indents them by no-break spaces
            printed = text.decode(errors="replace").replace("\r", "\n").replace("\u00a0", " ").splitlines()
        everything = [line for line in (first, *printed, *lines) if line]
        self._log_to(self._group, self._stream, everything)
        return tuple(everything)

    def _exit_error(self, prefix: str) -> bytes:
        status = self._exit_status or 0
        reason = f"exit status {status}" if status <= 128 else f"signal: {_SIGNALS.get(status - 128, status - 128)}"
        text = f"Runtime exited with error: {reason}" if status else "Runtime exited without providing a reason"
        return json.dumps({"errorType": "Runtime.ExitError", "errorMessage": prefix + text}).encode()

    def _memory_used(self) -> int:
        """High-water mark of the handler's process in MB; 0 if it is gone."""
        with contextlib.suppress(OSError, IndexError):  # it may end at any moment
            guard = self._process.pid
            pid = Path(f"/proc/{guard}/task/{guard}/children").read_text().split()[0]
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            return int(found[1]) // 1024 if found else 0
        return 0

    def _watch(self) -> None:
        status = self._process.wait()
        with self._condition:
            self._exit_status = status
            self._condition.notify_all()
        self._close_api()

    def _close_api(self) -> None:
        self._api.shutdown()
        self._api.server_close()

    def stop(self) -> None:
        """Begin to end the process; `join` waits for it."""
        self._stopping = True
        self._process.ask_to_stop()

    def join(self, timeout: float = 30.0) -> None:
        """Wait until the process has ended, and remove its scratch directory. Raises TimeoutError."""
        with self._condition:
            if not self._condition.wait_for(lambda: not self.alive, timeout):
                raise TimeoutError(f"function process {self._process.pid} does not end")
        shutil.rmtree(self._scratch, ignore_errors=True)

    # --- the Runtime API's side; called by the threads of the HTTP server

    def next_invocation(self) -> _Invocation | None:
        """Wait for work; None when the environment ends."""
        with self._condition:
            if not self._ready:
                self._ready = True
                self._init_seconds = time.monotonic() - self._started
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._waiting is not None or not self.alive)
            self._current, self._waiting = self._waiting, None
            return self._current

    def answer(self, request_id: str, payload: bytes, error: str | None) -> bool:
        """Take the answer to the current invocation; False if it is not the current one."""
        with self._condition:
            current = self._current
            if current is None or current.headers["Lambda-Runtime-Aws-Request-Id"] != request_id:
                return False
            current.answer, current.error, current.answered = payload, error, True
            self._current = None
            self._condition.notify_all()
            return True

    def init_failed(self, payload: bytes) -> None:
        """Take the reason why initialization failed; the process exits next."""
        self._init_error = payload


@dataclass(kw_only=True)
class _Invocation:
    payload: bytes
    headers: dict[str, str]
    answered: bool = False
    answer: bytes = b""
    error: str | None = None


class _RuntimeApi(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], environment: Environment) -> None:
        self.environment = environment
        super().__init__(address, _RuntimeApiHandler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A process that was killed breaks its connections: nothing to report."""


class _RuntimeApiHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one segment: apart, Nagle and delayed ACK cost 40 ms each time
    server: _RuntimeApi

    def do_GET(self) -> None:
        if self.path != f"{_API}invocation/next":
            return self._reply(404, b'{"errorType": "NotFound"}')
        invocation = self.server.environment.next_invocation()
        if invocation is None:
            self.close_connection = True
            return None
        return self._reply(200, invocation.payload, invocation.headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        environment = self.server.environment
        match self.path.removeprefix(_API).split("/"):
            case ["init", "error"]:
                environment.init_failed(body)
                return self._reply(202, b'{"status": "OK"}')
            case ["invocation", request_id, "response"]:
                accepted = environment.answer(request_id, body, None)
            case ["invocation", request_id, "error"]:
                accepted = environment.answer(request_id, body, "Unhandled")
            case _:
                return self._reply(404, b'{"errorType": "NotFound"}')
        if accepted:
            return self._reply(202, b'{"status": "OK"}')
        return self._reply(400, b'{"errorType": "InvalidRequestID", "errorMessage": "Invalid request ID"}')

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: these are internals of the runtime."""


_SIGNALS: Final = {6: "aborted", 9: "killed", 11: "segmentation fault", 15: "terminated"}


def _trace(request_id: str, digits: int) -> str:
    return hashlib.sha256(f"{digits}{request_id}".encode()).hexdigest()[:digits]
