"""Runs one container from its creation to its removal, as a process: `python -m kennel.local.runtimes.runner FILE`.

It prints what the container prints, stops it on SIGTERM, and exits with its exit status. So whoever starts it
under `kennel.local.guard` has a container that ends when the local AWS does, even by SIGKILL. What it knows of
the end beyond the status, it leaves in `Notes`. It must not decide anything about jobs or endpoints.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docker.errors import APIError, DockerException, ImageNotFound, NotFound

from kennel import contract, engine, errors
from kennel.local.processes import Cause, Fault
from kennel.local.runtimes import networks
from kennel.local.runtimes.container import Container, Notes

_ENGINE_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127
"""Exit statuses of `docker run` for what is not the container's own."""

_KILLED = 128 + signal.SIGKILL
_STOPPED = 128 + signal.SIGTERM
_LAST_OUTPUT_SECONDS = 30.0


def main(argv: list[str]) -> int:
    """Run the container that the file describes; return its exit status."""
    run = _Run(container=Container.read(Path(argv[0])), notes=Notes(file=Path(argv[0])), connect=engine.connect)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: run.ask_to_stop())
    return run.to_its_end()


class _Run:
    """The container, and two threads at it: one works, the other stops it when that is asked."""

    def __init__(self, *, container: Container, notes: Notes, connect: Callable[[], Any]) -> None:
        self._container = container
        self._notes = notes
        self._connect = connect
        self._status = _ENGINE_FAILED
        self._stop_asked = False
        self._starting = threading.Lock()  # whoever stops must know whether there is something to stop
        self._made: Any = None

    def ask_to_stop(self) -> None:
        """Note it: called in a signal handler, which may not take a lock."""
        self._stop_asked = True

    def to_its_end(self) -> int:
        """Run it; return its exit status."""
        worker = threading.Thread(target=self._work, name="container", daemon=True)
        worker.start()
        while worker.is_alive() and not self._stop_asked:
            worker.join(0.1)
        if worker.is_alive():
            with self._starting:
                made = self._made
            if made is None:  # it pulls the image, or waits for the engine; nothing will come of it
                self._remove_network()
                return _STOPPED
            self._stop(made.id)
            worker.join()
        if self._stop_asked:
            self._remove_network()
        return self._status

    def _work(self) -> None:
        try:
            client = self._connect()
            self._find_image(client)
            try:
                self._run(client)
            finally:
                self._remove()
        except _Ended as ended:
            self._end(ended.status, ended.cause)
        except (DockerException, errors.KennelError, OSError) as error:  # requests' errors are OSErrors
            status, cause = _explained(error, self._container)
            self._end(status, cause)
        except Exception as error:  # whatever happened, the end must have a reason
            self._end(_ENGINE_FAILED, Cause(what=f"was lost: {type(error).__name__}: {error}", fault=_INTERNAL))
            raise

    def _find_image(self, client: Any) -> None:
        image = self._container.image
        try:
            client.images.get(image)
        except ImageNotFound:
            try:
                client.images.pull(image)
            except (DockerException, OSError) as error:
                raise _Ended(_ENGINE_FAILED, _no_image(image, error)) from error

    def _run(self, client: Any) -> None:
        began = int(time.time())
        with self._starting:  # to its very start: an engine does not stop what does not run yet
            if self._stop_asked:
                self._status = _STOPPED
                return
            self._made = made = client.containers.create(**self._container.creation())
            # attached before it starts: not a line is missed, and the stream ends with the container
            stream = client.api.attach(made.id, stream=True)
            made.start()
        output = threading.Thread(target=_print, args=(stream,), name="output", daemon=True)
        output.start()
        if self._container.serving:
            self._tell_url(made)
        status = client.api.wait(made.id, timeout=None)["StatusCode"]
        output.join(_LAST_OUTPUT_SECONDS)
        self._end(status, self._cause(client, made, status, began))

    def _remove(self) -> None:
        if self._made is None:
            return
        try:
            self._made.remove(force=True, v=True)
        except NotFound:
            return  # somebody swept it away: the next local AWS, or a person
        except (DockerException, OSError) as error:
            _say(f"cannot remove {self._container.name}: {error}")

    def _tell_url(self, made: Any) -> None:
        made.reload()
        settings = made.attrs["NetworkSettings"]
        if self._container.publish:
            bound = settings["Ports"].get(f"{contract.SERVING_PORT}/tcp")
            url = f"http://127.0.0.1:{bound[0]['HostPort']}" if bound else ""
        else:  # nothing can be published from an internal network, but this machine is in it
            address = settings["Networks"][self._container.network]["IPAddress"]
            url = f"http://{address}:{contract.SERVING_PORT}" if address else ""
        if url:  # else it has ended already
            self._notes.leave_url(url)

    def _cause(self, client: Any, made: Any, status: int, began: int) -> Cause | None:
        made.reload()
        state = made.attrs["State"]
        if status and (state["OOMKilled"] or _ran_out_of_memory(client, made.id, began)):
            whole = status == _KILLED  # else the kernel chose a process below the entry point
            return Cause(
                what=f"{'was killed' if whole else 'had a process killed'}: out of memory; {self._container.limit}"
            )
        if self._stop_asked and status == _KILLED:
            return Cause(what=f"did not end within {self._container.grace} s of SIGTERM and was killed")
        return None

    def _stop(self, started: str) -> None:
        try:
            self._connect().api.stop(started, timeout=self._container.grace)
        except NotFound:
            return  # it has ended
        except (DockerException, errors.KennelError, OSError) as error:
            _say(f"cannot stop {self._container.name}: {error}")

    def _end(self, status: int, cause: Cause | None) -> None:
        self._status = status
        if cause is not None:
            self._notes.leave_cause(cause)
            _say(f"{self._container.host} {cause.what}")

    def _remove_network(self) -> None:
        """The last of those who are stopped takes it away; nobody is to join any more."""
        try:
            networks.remove(self._connect(), self._container.network)
        except (DockerException, errors.KennelError, OSError):
            return  # others are still in it, or the engine is gone; the next local AWS sweeps


_INTERNAL: Fault = "InternalServerError"
_ENTRY_POINT_REFUSED = re.compile(
    # the last of what the runtime does, in words of several of its versions; a runtime that is itself missing
    # is told with other words before, and so is a mount
    r"(?:^|container process: |container init: |process caused: |process caused \\?\")"
    r"exec:? [\"\\]*[^\s\"\\]+?[\"\\]*: (?:stat \S+: )?"
    r"(executable file not found|no such file or directory|permission denied)"
)


class _Ended(Exception):
    """It cannot be run, and why."""

    def __init__(self, status: int, cause: Cause) -> None:
        self.status = status
        self.cause = cause


def _explained(error: Exception, container: Container) -> tuple[int, Cause]:
    """Exit status and cause for what the engine said instead of running the container."""
    text = _text(error)
    entry = f"did not start: image {container.image} has no entry point `{container.command}`"
    if "no space left on device" in text:
        hint = "`docker system df` shows what takes it."
        return _ENGINE_FAILED, Cause(what=f"was lost: the disk is full: {text} ({hint})", fault=_INTERNAL)
    if isinstance(error, ImageNotFound):
        return _ENGINE_FAILED, _no_image(container.image, error)
    if isinstance(error, APIError):
        if refused := _ENTRY_POINT_REFUSED.search(text):
            if refused[1] == "permission denied":
                return _NOT_EXECUTABLE, Cause(what=f"{entry} that can be executed: {text}")
            return _NOT_FOUND, Cause(what=f"{entry}: {text}")
        return _ENGINE_FAILED, Cause(what=f"was refused by the Docker engine: {text}", fault=_INTERNAL)
    return _ENGINE_FAILED, Cause(what=f"was lost: the Docker engine does not answer: {text}", fault=_INTERNAL)


def _no_image(image: str, error: Exception) -> Cause:
    hint = "`make images` builds kennel's own"
    return Cause(what=f"did not start: cannot find or pull image {image}: {_text(error)} ({hint})", fault="ClientError")


def _text(error: Exception) -> str:
    said = error.explanation if isinstance(error, APIError) and error.explanation else str(error)
    return " ".join(str(said).split())


def _ran_out_of_memory(client: Any, container: str, began: int) -> bool:
    """Whether the engine saw it. Under cgroup v2 the flag of the container misses what it killed below the entry."""
    events = client.events(
        since=began - 1, until=int(time.time()) + 1, decode=True, filters={"container": container, "event": "oom"}
    )
    return any(True for _ in events)


def _print(stream: Any) -> None:
    """Hand on what the container prints, as it is."""
    broken = False
    for piece in stream:
        try:
            while piece and not broken:
                piece = piece[os.write(1, piece) :]  # noqa: PLW2901
        except OSError:
            broken = True  # the disk of the log is full; the container must still not wait for us


def _say(text: str) -> None:
    """A line of our own in the log."""
    try:
        os.write(1, f"kennel: {text}\n".encode())
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
