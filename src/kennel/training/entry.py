"""What the `train` command of sagemaker-training calls: the container contract around a training job.

Reads the files of the contract, and sees to it that a failure leaves a reason that a person
understands in output/failure: only its first 1,024 characters become FailureReason.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, Final

from sagemaker_training.errors import ClientError

from kennel import contract
from kennel.errors import InvalidArguments, InvalidData, KennelError
from kennel.training.hosts import parse_hosts
from kennel.training.settings import parse
from kennel.tree import find

STOPPED: Final = "Stopped by SIGTERM before training was finished."


def main() -> None:
    """Runs the training job that lies under the base directory. Raises ClientError with the reason of a failure."""
    base = Path(os.environ.get(contract.BASE_DIR_ENV, contract.BASE_DIR))
    exit_on_sigterm(base / "output" / "failure")
    try:
        train(base, environ=os.environ)
    except KennelError as error:
        raise ClientError(str(error)) from error
    except Exception as error:
        raise ClientError(reason(error)) from error


def train(base: Path, *, environ: MutableMapping[str, str]) -> None:
    """Checks what can be checked at once, then trains. Raises KennelError."""
    config = base / "input" / "config"
    settings = parse(_document(config / "hyperparameters.json"))
    hosts = parse_hosts(_document(config / "resourceconfig.json"))
    channels = base / "input" / "data"
    training = channels / contract.TRAINING_CHANNEL
    if not training.is_dir():
        raise InvalidData(
            f"The job has no channel {contract.TRAINING_CHANNEL!r}.",
            where=str(channels),
            hint=f"Add an input channel of that name that holds {', '.join(contract.SPLITS)}.",
        )
    tree = find(training)
    pretrained = channels / contract.PRETRAINED_CHANNEL
    checkpoints = base / "checkpoints"

    from kennel.training import job  # noqa: PLC0415 - torch takes seconds; what is wrong above should not wait

    job.run(
        tree,
        settings,
        hosts,
        pretrained_channel=pretrained if pretrained.is_dir() and any(pretrained.iterdir()) else None,
        model_directory=base / "model",
        # SageMaker makes the folder for jobs that have a CheckpointConfig.
        checkpoint_directory=checkpoints if checkpoints.is_dir() else None,
        environ=environ,
        report=_log,
        clock=time.monotonic,
    )


def reason(error: BaseException) -> str:
    """The text of output/failure for a bug: the exception first, the traceback after it."""
    first = "".join(traceback.format_exception_only(error)).strip()
    trace = "".join(traceback.format_exception(error))
    return f"{first}\n{trace}"


def exit_on_sigterm(failure: Path) -> None:
    """From here on SIGTERM writes `failure` and ends the process at once.

    A thread does it: the main thread may be waiting inside torch, where Python runs no signal handler.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)

    def watch() -> None:
        while signal.SIGTERM not in reader.recv(64):
            pass
        failure.parent.mkdir(parents=True, exist_ok=True)
        failure.write_text(STOPPED)
        _log(STOPPED)
        os._exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=watch, args=(), daemon=True, name="sigterm").start()
    _KEPT.append(writer)


_KEPT: Final[list[socket.socket]] = []
"""Sockets that live as long as the process: the garbage collector would close them."""


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InvalidArguments(f"This is no JSON ({error}).", where=str(path)) from error
    if not isinstance(document, dict):
        raise InvalidArguments("This is no JSON object.", where=str(path))
    return document


def _log(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
