"""Stands in, on the PATH of a local EC2 instance, for a command that only a real one has: `docker`, `shutdown`.

Run as a script of its own (`python -IS instance_stand_in.py MAILBOX OWNER COMMAND…`): hands the command to the local
AWS, process OWNER, as a file in the folder MAILBOX, prints what comes of it, and ends as it ended. It must import
nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

_POLL_SECONDS = 0.03
_NO_ENGINE = 125
"""What `docker run` ends with where no engine answers."""


def main(argv: list[str]) -> int:
    """Have the command carried out; return its exit status."""
    mailbox, owner, command = Path(argv[0]), argv[1], argv[2:]
    if "--password-stdin" in command:
        sys.stdin.read()  # whoever sends it must not meet a closed pipe
    name = f"{time.time_ns()}-{os.getpid()}"
    output, ended, partial = (mailbox / f"{name}.{suffix}" for suffix in ("output", "ended", "partial"))
    output.touch()
    partial.write_text(json.dumps(command))
    partial.replace(mailbox / f"{name}.request")
    with output.open("rb") as said:
        while True:
            status = int(ended.read_text()) if ended.exists() else None  # first: all was printed before it
            shutil.copyfileobj(said, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            if status is not None:
                return status
            if not _runs(owner):
                sys.stderr.write(f"{command[0]}: the local AWS has ended\n")
                return _NO_ENGINE
            time.sleep(_POLL_SECONDS)


def _runs(process: str) -> bool:
    try:
        # the command name, in parentheses, may hold anything; a zombie has ended, whoever is to collect it
        state = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
