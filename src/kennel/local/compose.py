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
from kennel.errors import InvalidModel, KennelError
from kennel.local.sagemaker import opt_ml

HOSTS = ("algo-1", "algo-2")
"""The services that train, by their names in the network."""


def prepare(*, runs: Path, model: Path, hosts: Path, configuration: Path) -> str:
    """Put a model into `model`, or a training job into `hosts`/<host>; say which.

    `runs` holds the results of executions, a folder each: the model of the newest that succeeded is taken. Else a
    model that an earlier training left stays. Raises KennelError.
    """
    newest = newest_artefact(runs)
    if newest is not None:
        name = newest.parent.name
        with_name = model / ".execution"
        if is_complete(model) and with_name.is_file() and with_name.read_text() == name:
            return f"the model is that of execution {name}"
        _empty(model)
        archive.unpack(newest, model)
        with_name.write_text(name)
        return f"took the model of execution {name}"
    if is_complete(model):
        return "the model is the one that was trained here"
    _empty(model)
    chosen = config.parse(configuration.read_text(), where=str(configuration))
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
        )
    return f"there is no model yet: {len(HOSTS)} hosts will train one on the sample data"


def newest_artefact(runs: Path) -> Path | None:
    """The model.tar.gz of the newest execution that succeeded, None if there is none."""
    found = []
    for result in runs.glob("*/result.json"):
        artefact = result.with_name(contract.ARTEFACT_NAME)
        document = json.loads(result.read_text())
        if document["status"] == "SUCCEEDED" and artefact.is_file():
            found.append((document["started"], artefact))
    return max(found)[1] if found else None


def is_complete(model: Path) -> bool:
    """Whether every file that the manifest names is there, unharmed."""
    try:
        files = json.loads((model / contract.MANIFEST_FILE).read_text())["files"]
        return all(hashlib.sha256((model / name).read_bytes()).hexdigest() == digest for name, digest in files.items())
    except (OSError, ValueError, KeyError):
        return False


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
    except InvalidModel as error:
        print(f"error: {error}\n  Remove that execution's folder, or run the pipeline again.", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KennelError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
