"""Starts processes so that they can always be ended, and their whole tree with them.

Every job, instance and function of the local AWS is one `Supervised` process. See `kennel.local.guard`
for what happens when this process dies first.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_GUARD = Path(__file__).with_name("guard.py")
_KILLED = 128 + signal.SIGKILL


Fault = Literal["AlgorithmError", "ClientError", "InternalServerError"]
"""Whose fault it was, in the words with which SageMaker begins a FailureReason."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Why something ended, where more is known than its exit status.

    `what` goes on after the name of the host or container: `was killed: out of memory`.
    """

    what: str
    fault: Fault = "AlgorithmError"


class Supervised:
    """A running command whose descendants end with it, and which ends with this process.

    Output (standard output and error) is appended to `log`. `grace` is the number of seconds between
    SIGTERM and SIGKILL when it is stopped.
    """

    def __init__(
        self, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, grace: float = 5.0
    ) -> None:
        lifeline, self._hold = os.pipe()
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    [sys.executable, "-IS", str(_GUARD), str(lifeline), str(grace), "--", *argv],
                    env=dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lifeline,),
                    start_new_session=True,  # Ctrl-C in the terminal reaches us, and we decide
                )
        except BaseException:
            os.close(self._hold)
            raise
        finally:
            os.close(lifeline)
        self._grace = grace
        self._asked_to_stop = False
        self._releasing = threading.Lock()

    @property
    def pid(self) -> int:
        """Process id of the guard; the command is its child."""
        return self._process.pid

    def poll(self) -> int | None:
        """Exit status, or None while it runs; 128 + N if signal N ended it."""
        status = self._process.poll()
        if status is None:
            return None
        self._release()
        return _exit_status(status)

    def wait(self, timeout: float | None = None) -> int:
        """Exit status, once it has ended. Raises TimeoutError after `timeout` seconds."""
        try:
            status = self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"process {self.pid} still runs after {timeout} s") from None
        self._release()
        return _exit_status(status)

    def ask_to_stop(self) -> None:
        """Begin to stop it (SIGTERM, `grace`, SIGKILL) and return at once."""
        if self.poll() is None:
            self._asked_to_stop = True
            self._release()

    def stop(self) -> int:
        """Stop it and everything below it; return its exit status."""
        self.ask_to_stop()
        return self.wait(self._grace + 30)

    def cause(self) -> Cause | None:
        """Of one that has ended: what is known beyond its exit status."""
        if self._asked_to_stop and self.poll() == _KILLED:
            return Cause(what=f"did not end within {self._grace:.0f} s of SIGTERM and was killed")
        return None

    def _release(self) -> None:
        """Close our end of the lifeline, which asks the guard to stop."""
        with self._releasing:  # closed twice, the number could be somebody else's file by then
            hold, self._hold = self._hold, -1
        if hold >= 0:
            os.close(hold)


def _exit_status(status: int) -> int:
    return status if status >= 0 else 128 - status
