"""Runs one command and sees to it that nothing of it stays behind, whoever dies first.

multi-model-server's workers outlive it, and ignore SIGTERM once they serve. This tiny process stands
between them and the gate: it adopts every orphan below it, and when the gate is gone (end of file on
standard input), when it is told to stop, or when the command ends, it kills all of them and removes
their directory. It runs as a file with `python -I -S`, so it must import the standard library only,
and it must stay single-threaded: PR_SET_PDEATHSIG fires when the thread that forked ends.

    python -I -S watchdog.py DIRECTORY COMMAND…
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_GRACE_SECONDS = 2.0


def main(arguments: list[str]) -> int:
    """Exit status of the command; 128 + n when signal n ended it; 0 when we were told to stop."""
    directory, *command = arguments
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    stop: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A function, not SIG_IGN: the command would inherit that and ignore the signal too.
        signal.signal(number, lambda received, _: stop.append(received))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child = _spawn(command)
    try:
        while True:
            status = _reap(child)
            if status is not None:
                return os.waitstatus_to_exitcode(status) % 256 if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
            if stop:
                return 0
            ready, _, _ = select.select([0, reading], [], [])
            if 0 in ready and not os.read(0, 1):
                return 0
            if reading in ready:
                os.read(reading, 4096)
    finally:
        _end_all(child)
        shutil.rmtree(directory, ignore_errors=True)


def _spawn(command: list[str]) -> int:
    us = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != us:  # we died before the line above
            os._exit(1)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.execvp(command[0], command)  # nosec B606  # noqa: S606
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def _reap(child: int) -> int | None:
    """Wait status of `child` if it has ended; adopted orphans that have ended are buried on the way."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == child:
            return status


def _end_all(child: int) -> None:
    """Ask the command to end, then kill everything below us; orphans come to us, so none is missed."""
    deadline = time.monotonic() + _GRACE_SECONDS
    if child in _children():
        os.kill(child, signal.SIGTERM)
    while child in _children() and time.monotonic() < deadline:
        if _reap(child) is not None:
            break
        time.sleep(0.01)
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        _reap(0)
        time.sleep(0.002)


def _children() -> list[int]:
    us = os.getpid()
    return [int(word) for word in Path(f"/proc/{us}/task/{us}/children").read_text().split()]


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
