"""Entry point of the training image: `docker run IMAGE train` checks that there is a job, then becomes `train`.

sagemaker-training ends silently and with success where /opt/ml has neither a job nor a place for its own failure.
Any other command is run as it is given.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from kennel import contract
from kennel.errors import InvalidArguments


def main(argv: list[str], *, environ: Mapping[str, str]) -> int:
    """Become the command; exit statuses are those of `docker run` for one that cannot be started."""
    try:
        if argv[0] == "train":
            prepare(Path(environ.get(contract.BASE_DIR_ENV, contract.BASE_DIR)))
        os.execvp(argv[0], argv)  # nosec B606  # noqa: S606  (whoever runs the container chose it)
    except InvalidArguments as error:
        sys.stderr.write(f"train: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[0]}: {error.strerror}\n")
        return 126 if isinstance(error, PermissionError) else 127


def prepare(base: Path) -> None:
    """Have a folder for what the job leaves. Raises InvalidArguments where there is no job, or nowhere to write."""
    if not (base / "input/config/resourceconfig.json").is_file():
        raise InvalidArguments(
            "there is no training job here",
            where=str(base / "input/config"),
            hint="SageMaker, compose and run.py put one there. By hand: docker run --volume JOB:/opt/ml IMAGE train",
        )
    try:
        for name in ("model", "output"):
            (base / name).mkdir(exist_ok=True)
    except OSError as error:
        raise InvalidArguments(
            f"cannot write there: {error.strerror}",
            where=str(base),
            hint="Give the container a user who may: --user UID:GID.",
        ) from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], environ=os.environ))
