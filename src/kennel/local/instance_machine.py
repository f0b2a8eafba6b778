"""One running EC2 instance: its user data as a supervised process, and what the commands in it really do.

What the instance has and this machine has not, `docker` and `shutdown`, are stand-ins on its PATH
(`kennel.local.instance_stand_in`); they leave their commands in a folder, and here these are carried out: containers
through the runtime, like those of training jobs. What user data leaves in the background ends with it.
"""

from __future__ import annotations

import json
import logging
import shlex
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import getpid, pathsep
from pathlib import Path

from kennel import contract, errors
from kennel.local import instance_commands as commands
from kennel.local.processes import Supervised
from kennel.local.runtimes.runtime import Hosts, Process, Runtime

LOG = logging.getLogger(__name__)
_POLL_SECONDS = 0.05
STAND_IN = Path(__file__).with_name("instance_stand_in.py")
_NEVER = float("inf")
_NO_METADATA = {"AWS_EC2_METADATA_DISABLED": "true"}
"""This machine may be an instance of EC2 itself: its metadata, and its credentials, are not the local instance's."""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """An instance that was started."""

    instance_id: str
    instance_type: str
    region: str
    user_data: str
    role_arn: str
    """Of its instance profile; empty for none."""

    shut_down: Callable[[], None]
    """What becomes of it when it shuts itself down: it is stopped, or terminated."""


@dataclass(frozen=True, kw_only=True)
class _Container:
    process: Process
    hosts: Hosts
    ended: Path


class Machine:
    """Runs in a thread of its own until the instance has ended; then `launch.shut_down`, or what `end` was given."""

    def __init__(
        self,
        launch: Launch,
        *,
        folder: Path,
        environment: Mapping[str, str],
        runtime: Runtime,
        problem_of_image: Callable[[str], str],
        minute_seconds: float,
        grace: float,
    ) -> None:
        """`folder` is the instance's own. `problem_of_image` says why an image cannot be pulled; empty if it can."""
        self._launch = launch
        self._folder = folder
        self._runtime = runtime
        self._problem_of_image = problem_of_image
        self._minute_seconds = minute_seconds
        self._mailbox = folder / "commands"
        self._containers: dict[str, _Container] = {}
        self._stops: list[tuple[str, Path]] = []
        self._shutdown_at = _NEVER
        self._asked = threading.Event()
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._finished: Callable[[], None] | None = None
        shutil.rmtree(folder, ignore_errors=True)
        for made in (self._mailbox, folder / "tmp", folder / "bin"):
            made.mkdir(parents=True)
        self._add_commands()
        script = folder / "user-data"
        script.write_text(launch.user_data)
        script.chmod(0o700)
        self._process = Supervised(
            [str(script)],
            env={
                **_NO_METADATA,
                **environment,
                "PATH": f"{folder / 'bin'}{pathsep}{environment['PATH']}",
                "HOME": str(folder),  # this machine's user has credentials in theirs
                "TMPDIR": str(folder / "tmp"),
                contract.BASE_DIR_ENV: str(folder / "opt/ml"),
            },
            cwd=folder,
            log=self._console,
            grace=grace,
        )
        threading.Thread(target=self._run, name=launch.instance_id, daemon=True).start()

    def end(self, finished: Callable[[], None]) -> None:
        """Begin to end what runs; `finished` is called when it has, or now if it has already."""
        with self._lock:
            if not self._over.is_set():
                self._finished = finished
                self._asked.set()
                return
        finished()

    def wait(self) -> None:
        """Wait until everything has ended."""
        self._over.wait()

    def console(self) -> str:
        """What user data has printed."""
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    @property
    def _console(self) -> Path:
        return self._folder / "console.log"

    def _add_commands(self) -> None:
        python = shlex.join([sys.executable, "-IS", str(STAND_IN), str(self._mailbox), str(getpid())])
        scripts = Path(sys.executable).parent  # not resolved: the environment's own folder, not its base's
        for name, command in (
            ("docker", f"{python} docker"),
            ("shutdown", f"{python} shutdown"),
            ("aws", shlex.quote(str(scripts / "aws"))),  # not the folder itself: what else is there, the AMI has not
            ("python3", shlex.quote(sys.executable)),
        ):
            file = self._folder / "bin" / name
            file.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            file.chmod(0o700)

    # --- the instance's own thread ------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._asked.is_set() and time.monotonic() < self._shutdown_at:
                self._carry_out()
                self._asked.wait(_POLL_SECONDS)
            self._process.ask_to_stop()
            while self._process.poll() is None:  # its last words may be commands
                self._carry_out()
                time.sleep(_POLL_SECONDS)
        except Exception:  # whatever happened, the instance must end
            LOG.exception("instance %s", self._launch.instance_id)
        self._process.stop()
        for container in self._containers.values():
            container.process.ask_to_stop()
        for container in self._containers.values():
            container.process.stop()
            container.hosts.close()
        with self._lock:
            self._over.set()
        (self._finished or self._launch.shut_down)()

    def _carry_out(self) -> None:
        """Begin what was asked for since last time; say of what has ended how it did."""
        for request in sorted(self._mailbox.glob("*.request")):
            command = commands.parse(json.loads(request.read_text()))
            output, ended = request.with_suffix(".output"), request.with_suffix(".ended")
            request.unlink()
            self._begin(command, output, ended)
        for name, container in list(self._containers.items()):
            if (status := container.process.poll()) is not None:
                container.hosts.close()
                del self._containers[name]
                _leave(container.ended, status)
        for name, ended in list(self._stops):
            if name not in self._containers:
                self._stops.remove((name, ended))
                _leave(ended, 0)

    def _begin(self, command: commands.Command, output: Path, ended: Path) -> None:
        match command:
            case commands.Refused():
                _leave(ended, command.status, output, command.text)
            case commands.Shutdown():
                self._shutdown_at = time.monotonic() + command.minutes * self._minute_seconds
                _leave(ended, 0)
            case commands.Login():
                _leave(ended, 0, output, "Login Succeeded")
            case commands.Pull():
                problem = self._problem_of_image(command.image)
                _leave(ended, 1 if problem else 0, output, problem or command.image)
            case commands.Run():
                self._start(command, output, ended)
            case commands.Stop() if command.name in self._containers:
                self._containers[command.name].process.ask_to_stop()
                self._stops.append((command.name, ended))
            case commands.Stop():
                _leave(ended, 1, output, f"Error response from daemon: No such container: {command.name}")

    def _start(self, command: commands.Run, output: Path, ended: Path) -> None:
        if command.name in self._containers:
            _leave(ended, 125, output, f"docker: the container name {command.name} is already in use")
            return
        hosts = None
        try:
            hosts = self._runtime.hosts(
                job=self._launch.instance_id,
                image=command.image,
                instance_type=self._launch.instance_type,
                count=1,
                isolated=command.isolated,
            )
            process = hosts.start(0, base_dir=Path(command.base_dir), log=output, environment=command.environment)
        except (errors.KennelError, OSError) as error:
            if hosts is not None:
                hosts.close()
            _leave(ended, 125, output, f"docker: {error}")
            return
        self._containers[command.name] = _Container(process=process, hosts=hosts, ended=ended)


def _leave(ended: Path, status: int, output: Path | None = None, text: str = "") -> None:
    """Tell the stand-in what its command printed and how it ended."""
    if output is not None:
        with output.open("a") as said:
            said.write(f"{text}\n")
    partial = ended.with_suffix(".partial")
    partial.write_text(str(status))
    partial.replace(ended)
