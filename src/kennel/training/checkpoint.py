"""What a training goes on from when its hosts were taken away: a file for each of the last epochs.

Order, augmentation and learning rate follow from seed, epoch and step alone, and what is exported is the network
after the last epoch: network, optimizer, gradient scaler and epoch are all there is to keep. So an interrupted
training ends with the bits of one that was not. No pickle: tensors are safetensors, everything else is its JSON header.

A file is called `epoch-0003-<job>-<content>.safetensors`: which job it is of, and a digest by which damage is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from kennel.contract import PARTIAL_SUFFIX
from kennel.training.group import Group
from kennel.training.settings import Settings

KEPT: Final = 2
"""Files kept of a job. Not one: what is removed here is removed from S3, perhaps before the new one is there."""

_NAME: Final = re.compile(r"epoch-(?P<epoch>\d{4})-(?P<job>[0-9a-f]{16})-(?P<content>[0-9a-f]{16})\.safetensors")
_HEADER: Final = "kennel"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is: whole epochs, and the scores of the last one as `metric_line` takes them."""

    epoch: int
    scores: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """All that an epoch changes. The tensors of the optimizer have the memory layout of their parameters."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


class Checkpoints:
    """The checkpoints of one job in `directory`; with None (no place for them, or not the first host) none are kept."""

    def __init__(self, directory: Path | None, *, job: str, report: Callable[[str], None]) -> None:
        """`job` is the `fingerprint` of the job; `report` takes log lines."""
        self._directory = directory
        self._job = job[:16]
        self._report = report

    def resume(self, parts: Parts, *, group: Group, device: torch.device) -> Progress:
        """Fill `parts` from the newest good checkpoint of the first host; epoch 0 where it has none. A collective."""
        content = group.bytes_from_first(self._newest(), device=device)
        if not content:
            return Progress(epoch=0, scores={})
        progress = fill(parts, content)
        self._report(f"Going on from the checkpoint of epoch {progress.epoch}.")
        return progress

    def keep(self, progress: Progress, parts: Parts) -> None:
        """Write a checkpoint and remove old ones. A disk that takes none ends no training: the log says so."""
        if self._directory is None:
            return
        content = to_bytes(progress, parts)
        try:
            _write(self._directory / f"epoch-{progress.epoch:04}-{self._job}-{_digest(content)}.safetensors", content)
            for old in self._found(own=True)[KEPT:]:
                old.unlink()
        except OSError as error:
            self._report(f"There is no checkpoint of epoch {progress.epoch}: {error.strerror}.")

    def _newest(self) -> bytes:
        others = self._found(own=False)
        if others:
            self._report(
                f"{len(others)} checkpoint(s) of another job are ignored, {others[0].name} first: "
                "their hyperparameters, data or versions are not those of this job."
            )
        for path in self._found(own=True):
            try:
                content = path.read_bytes()
            except OSError as error:
                self._report(f"The checkpoint {path.name} cannot be read and is ignored: {error.strerror}.")
                continue
            if path.stem.endswith(f"-{_digest(content)}"):
                return content
            self._report(f"The checkpoint {path.name} is damaged and is ignored.")
        return b""

    def _found(self, *, own: bool) -> list[Path]:
        """The files of this job, or of all others, newest first."""
        if self._directory is None:
            return []
        names = [match for path in self._directory.iterdir() if (match := _NAME.fullmatch(path.name))]
        kept = sorted((match.string for match in names if (match["job"] == self._job) == own), reverse=True)
        return [self._directory / name for name in kept]


def fingerprint(
    settings: Settings, *, data_digest: str, head_only: bool, dtype: torch.dtype, versions: Mapping[str, str]
) -> str:
    """SHA-256 over all that makes a checkpoint of one job useless to another, which the number of hosts does not."""
    told = {key: value for key, value in asdict(settings).items() if key != "host_timeout"}
    document = [told, data_digest, head_only, str(dtype), dict(versions)]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def to_bytes(progress: Progress, parts: Parts) -> bytes:
    """All of `parts` and `progress` as safetensors, on the CPU; the same values give the same bytes."""
    tensors = {f"model/{name}": tensor for name, tensor in parts.model.state_dict().items()}
    for index, state in parts.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": tensor for name, tensor in state.items()}
    header = {**asdict(progress), "scaler": parts.scaler.state_dict()}
    content: bytes = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={_HEADER: json.dumps(header)},
    )
    return content


def fill(parts: Parts, content: bytes) -> Progress:
    """Overwrite all of `parts` with what `to_bytes` wrote of parts of the same shape."""
    # Eight bytes hold the length of the header; `load` leaves it out.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"][_HEADER]
    document = json.loads(header)
    tensors = load(content)
    parts.model.load_state_dict(
        {name.removeprefix("model/"): tensor for name, tensor in tensors.items() if name.startswith("model/")}
    )
    parameters = [parameter for group in parts.optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/")
            state.setdefault(int(index), {})[name] = _laid_out(tensor, like=parameters[int(index)])
    parts.optimizer.load_state_dict({**parts.optimizer.state_dict(), "state": state})
    parts.scaler.load_state_dict(document["scaler"])
    return Progress(epoch=document["epoch"], scores=document["scores"])


def _laid_out(tensor: Tensor, *, like: Tensor) -> Tensor:
    """Fused optimizers go through memory, not through indices: a tensor has to lie there as its parameter does."""
    if tensor.shape != like.shape:
        return tensor
    return torch.empty_like(like, dtype=tensor.dtype).copy_(tensor)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _write(path: Path, content: bytes) -> None:
    """Write a file that is under its name only when it is complete and on disk; an earlier attempt's rest goes."""
    for left in path.parent.glob(f".*{PARTIAL_SUFFIX}"):
        left.unlink()
    partial = path.with_name(f".{path.name}{PARTIAL_SUFFIX}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
