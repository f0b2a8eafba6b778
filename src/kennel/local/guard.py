"""Runs one command as a container would: it and all it starts end together, whoever dies first.

Started by `kennel.local.processes` as a script of its own (`python -IS guard.py FD GRACE -- COMMAND…`),
so it must import nothing but the standard library and stay single-threaded. `FD` is the read end of a pipe
whose write end only the starting process holds: when that process ends, even by SIGKILL, the pipe closes
and the command is stopped. Orphans are adopted (PR_SET_CHILD_SUBREAPER) and killed with the rest.

Exit status: the command's own, or 128 + the number of the signal that ended it, as Docker reports it.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(argv: list[str]) -> int:
    """Run the command after `--`; return its exit status."""
    lifeline, grace, command = int(argv[0]), float(argv[1]), argv[3:]
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    stop_asked = False

    def ask_to_stop(_signal: int, _frame: object) -> None:
        nonlocal stop_asked
        stop_asked = True

    signal.signal(signal.SIGTERM, ask_to_stop)
    signal.signal(signal.SIGINT, ask_to_stop)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    child = os.fork()
    if child == 0:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            # Python ignores the last two, and what is ignored stays ignored across exec
            signal.signal(number, signal.SIG_DFL)
        os.close(lifeline)
        os.setsid()
        try:
            os.execvp(command[0], command)  # nosec B606  # noqa: S606  (the command is ours; there is no shell)
        except OSError as error:
            os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
            os._exit(126 if isinstance(error, PermissionError) else 127)  # as shells and Docker say it

    watched = [lifeline, wake_read]
    deadline = float("inf")
    while True:
        status = _reap(child)
        if status is not None:
            break
        if stop_asked and deadline == float("inf"):
            deadline = time.monotonic() + grace
            os.kill(child, signal.SIGTERM)
        if time.monotonic() >= deadline:
            os.kill(child, signal.SIGKILL)
        timeout = None if deadline == float("inf") else max(deadline - time.monotonic(), 0.05)
        for ready in select.select(watched, [], [], timeout)[0]:
            if not os.read(ready, 4096) and ready == lifeline:
                stop_asked = True
                watched.remove(lifeline)
    _kill_descendants()
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _reap(child: int) -> int | None:
    """Collect whatever ended; return the wait status of `child` if it is among it."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def _kill_descendants() -> None:
    """SIGKILL everything below this process until nothing is left (new orphans arrive while we kill)."""
    while pids := _descendants():
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _reap(0)
        time.sleep(0.005)


def _descendants() -> list[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # the command name, in parentheses, may hold anything: count fields from its end
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, ahead = [], [os.getpid()]
    while ahead:
        below = parents.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
