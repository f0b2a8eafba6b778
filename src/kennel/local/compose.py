"""What docker-compose.yml runs before training: a model that is there already, or a training job to make one.

Knows the folders that docker-compose.yml mounts, and nothing of engines: the services are compose's.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

from kennel import archive, config, contract, sample
from kennel.errors import InvalidData, KennelError
from kennel.local.sagemaker import opt_ml

HOSTS = ("algo-1", "algo-2")
"""The services that train, by their names in the network."""

_TAKEN = ".execution"
"""File beside a model that was taken from an execution: its name."""


def prepare(*, runs: Path, model: Path, hosts: Path, configuration: Path) -> str:
    """Put a model into `model`, or a training job into `hosts`/<host>; say which.

    `runs` holds the results of executions, a folder each: the model of the newest that succeeded is taken. Else a
    model that an earlier training left stays. Raises KennelError.
    """
    newest = newest_artefact(runs)
    if newest is not None:
        execution = newest.parent.name
        taken = model / _TAKEN
        if is_complete(model) and taken.is_file() and taken.read_text() == execution:
            return f"the model is that of execution {execution}"
        _replace(model, newest)
        taken.write_text(execution)
        return f"took the model of execution {execution}; a `serve` that is up serves it after a restart"
    if is_complete(model):
        return "the model is the one that was trained here"
    chosen = config.parse(configuration.read_text(), where=str(configuration))
    _empty(model)
    for host in HOSTS:
        _empty(hosts / host)
        channel = hosts / host / opt_ml.CHANNELS / contract.TRAINING_CHANNEL
        sample.generate(channel, seed=chosen.seed)
        opt_ml.write(
            hosts / host,
            host=host,
            hosts=HOSTS,
            network_interface="eth0",
            instance_type="ml.local",
            hyperparameters={**chosen.training.hyperparameters, "seed": str(chosen.seed)},
            channels={contract.TRAINING_CHANNEL: "FullyReplicated"},
            checkpoints=False,
        )
    return f"there is no model yet: {len(HOSTS)} hosts will train one on the sample data"


def newest_artefact(runs: Path) -> Path | None:
    """The model.tar.gz of the newest execution that succeeded, None if there is none."""
    found = []
    for result in runs.glob("*/result.json"):
        artefact = result.with_name(contract.ARTEFACT_NAME)
        try:
            document = json.loads(result.read_text())
            succeeded, started = document["status"] == "SUCCEEDED", str(document["started"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidData(
                f"this is no result of an execution ({error})", where=str(result), hint="Remove that folder."
            ) from error
        if succeeded and artefact.is_file():
            found.append((started, artefact))
    return max(found)[1] if found else None


def is_complete(model: Path) -> bool:
    """Whether every file that the manifest names is there, unharmed."""
    try:
        files = json.loads((model / contract.MANIFEST_FILE).read_text())["files"]
        return all(hashlib.sha256((model / name).read_bytes()).hexdigest() == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _replace(model: Path, artefact: Path) -> None:
    """Put the artefact's files into `model`, each whole, the manifest last: something may be serving from there."""
    incoming = model / ".incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir(parents=True)
    archive.unpack(artefact, incoming)
    names = sorted((path.name for path in incoming.iterdir()), key=lambda name: name == contract.MANIFEST_FILE)
    for name in names:
        (incoming / name).replace(model / name)
    for item in model.iterdir():
        if item.name not in (*names, _TAKEN):
            shutil.rmtree(item) if item.is_dir() else item.unlink()


def _empty(folder: Path) -> None:
    """Remove what is in it; the folder itself may be a mount."""
    for item in folder.iterdir() if folder.is_dir() else ():
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()


def main(argv: list[str]) -> int:
    """Exit status."""
    parser = argparse.ArgumentParser(prog="python -m kennel.local.compose", description=__doc__)
    for name in ("runs", "model", "hosts", "configuration"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    try:
        print(prepare(**vars(parser.parse_args(argv))), flush=True)  # noqa: T201
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)  # noqa: T201
        return 1
    except KennelError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
