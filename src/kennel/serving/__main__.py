"""`serve`: the command that SageMaker, Docker and the local AWS start. Reads the environment; nothing else does."""

from __future__ import annotations

import os
import sys

from kennel import errors
from kennel.serving import server, settings


def main() -> int:
    """Exit status: 0 after SIGTERM or SIGINT, 2 for a wrong environment, 1 for a bad model or an illness."""
    try:
        chosen = settings.read(os.environ, cpus=settings.usable_cpus())
        server.run(chosen, environment=dict(os.environ), say=_say)
    except errors.KennelError as error:
        sys.stderr.write(f"serve: {error}\n")
        return error.exit_code
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
