"""The folder of one host of a training job, as the container contract has it under /opt/ml.

Source: "How Amazon SageMaker provides training information" in the SageMaker developer guide.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

CHANNELS = "input/data"
"""A folder per channel lies here."""

CHECKPOINTS = "checkpoints"
"""Only jobs with a CheckpointConfig have it: that is how a script learns that what it writes there is kept."""

_FOLDERS = ("input/config", CHANNELS, "model", "output/data", "code")


def write(
    base: Path,
    *,
    host: str,
    hosts: Sequence[str],
    network_interface: str,
    instance_type: str,
    hyperparameters: Mapping[str, str],
    channels: Mapping[str, str],
    checkpoints: bool,
) -> None:
    """Make the folders and the configuration files. `channels` are names and their S3DistributionType."""
    for name in (*_FOLDERS, CHECKPOINTS) if checkpoints else _FOLDERS:
        (base / name).mkdir(parents=True, exist_ok=True)
    configuration = {
        "hyperparameters": dict(hyperparameters),
        "resourceconfig": {
            "current_host": host,
            "hosts": list(hosts),
            "network_interface_name": network_interface,
            "current_instance_type": instance_type,
        },
        "inputdataconfig": {
            channel: {"TrainingInputMode": "File", "S3DistributionType": distribution, "RecordWrapperType": "None"}
            for channel, distribution in channels.items()
        },
    }
    for name, content in configuration.items():
        (base / f"input/config/{name}.json").write_text(json.dumps(content))


def mode(base: Path, name: str) -> int:
    """The `st_mode` of what a host has left at /opt/ml/`name`: 0 for nothing, a link's if a link is on the way.

    A host owns what is below its /opt/ml: whoever follows its links reads files of this machine for it.
    """
    found, path = 0, base
    for part in PurePosixPath(name).parts:
        path /= part
        try:
            found = path.lstat().st_mode
        except OSError:
            return 0
        if stat.S_ISLNK(found):
            break
    return found
