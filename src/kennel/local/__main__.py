"""`python -m kennel.local`: AWS on 127.0.0.1, until SIGTERM, Ctrl-C, or the end of the process that asked for it."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kennel.local.runtimes.runtime import Runtime


def main() -> int:
    """Serve; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kennel.local", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="where to listen; 0 takes any free port (default: 4566)")
    parser.add_argument("--region", default="us-east-1", help="the region it is (default: us-east-1)")
    parser.add_argument(
        "--state-dir", type=Path, default=Path(".kennel/local"), help="folder for jobs, logs and models it works on"
    )
    parser.add_argument(
        "--runtime",
        choices=("process", "docker"),
        default="process",
        help="what jobs and instances are: processes of this environment, or containers (default: process)",
    )
    parser.add_argument(
        "--host",
        choices=("127.0.0.1", "0.0.0.0"),  # nosec B104  # noqa: S104  (other names than loopback's are refused)
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 is for a container whose port is published on loopback",
    )
    parser.add_argument(
        "--registry", default="", help="host and port of the registry that holds ECR's images (default: 127.0.0.1:5000)"
    )
    parser.add_argument("--until-stdin-ends", action="store_true", help="end when standard input does")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")

    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())

    # after the arguments: a typo in them should not wait for moto
    from kennel import errors  # noqa: PLC0415
    from kennel.local.ecr import REGISTRY  # noqa: PLC0415
    from kennel.local.server import LocalAws  # noqa: PLC0415

    for name in ("no_proxy", "NO_PROXY"):  # our clients and moto's talk to ourselves
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), "127.0.0.1", "localhost")))
    state_dir = arguments.state_dir.resolve()
    ready = state_dir / "server.json"
    try:
        runtime = _runtime(arguments.runtime, state_dir)
        aws = LocalAws(
            port=arguments.port,
            host=arguments.host,
            state_dir=state_dir,
            region=arguments.region,
            runtime=runtime,
            registry=arguments.registry or REGISTRY,
        )
    except errors.KennelError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    aws.start()
    partial = ready.with_suffix(".partial")
    partial.write_text(json.dumps({"pid": os.getpid(), "endpoint_url": aws.endpoint_url}))
    partial.replace(ready)
    print(f"AWS is at {aws.endpoint_url} (any credentials, region {arguments.region}); Ctrl-C ends it", flush=True)  # noqa: T201
    if arguments.until_stdin_ends:
        threading.Thread(target=_set_at_end_of, args=(sys.stdin.fileno(), stopping), daemon=True).start()
    stopping.wait()
    ready.unlink(missing_ok=True)
    aws.close()
    return 0


def _runtime(name: str, state_dir: Path) -> Runtime:
    """The runtime `name`. Raises KennelError where there is no engine for it, or another works for this folder."""
    from kennel.local.runtimes.process import ProcessRuntime  # noqa: PLC0415

    environment = dict(os.environ)
    if name == "process":
        return ProcessRuntime(random=random.SystemRandom(), environment=environment)
    from docker.errors import DockerException  # noqa: PLC0415

    from kennel import engine, errors  # noqa: PLC0415
    from kennel.local import launcher  # noqa: PLC0415
    from kennel.local.runtimes.docker import DockerRuntime  # noqa: PLC0415
    from kennel.local.runtimes.sizes import size_of  # noqa: PLC0415

    if other := launcher.find(state_dir):  # whose containers would look like leftovers
        raise errors.KennelError(
            f"a local AWS works here already, at {other.endpoint_url}",
            where=str(state_dir),
            hint=f"Use that one, stop it (process {other.pid}), or choose another --state-dir.",
        )
    runtime = DockerRuntime(
        state_dir=state_dir,
        random=random.SystemRandom(),
        connect=engine.connect,
        size_of=size_of,
        environment=environment,
        user=f"{os.getuid()}:{os.getgid()}" if os.getuid() else "",
    )
    try:
        if swept := runtime.sweep():
            logging.warning("removed %d containers and networks that an earlier local AWS here had left", swept)
    except (DockerException, OSError) as error:  # somebody may be removing it at this moment
        logging.warning("what an earlier local AWS here had left is not all removed: %s", error)
    return runtime


def _set_at_end_of(file: int, event: threading.Event) -> None:
    """Set `event` when nobody holds the other end of `file` any more."""
    with contextlib.suppress(OSError):
        while os.read(file, 4096):  # not sys.stdin: a thread in its lock would break the interpreter's end
            pass
    event.set()


if __name__ == "__main__":
    sys.exit(main())
