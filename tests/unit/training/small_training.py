"""A network and a data set so small that a training takes a blink, in float64, where only mistakes differ."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kennel.training.checkpoint import Checkpoints
from kennel.training.data import DataSet, ImageSet
from kennel.training.group import Group
from kennel.training.loop import Place
from kennel.training.settings import Settings
from kennel.tree import Item

CPU = torch.device("cpu")
NONE = Checkpoints(None, job="", report=print)
SETTINGS = Settings(image_size=32, epochs=3, batch_size=10, learning_rate=0.05, seed=3)


def image_set(count: int, *, seed: int) -> ImageSet:
    random = np.random.default_rng(seed)
    items, pixels = [], []
    for index in range(count):
        label = index % 3
        items.append(Item(path=Path(f"{index}"), name=f"{index}", label=label))
        pixels.append((random.integers(0, 120, (37, 37 + index % 5, 3)) + 60 * label).astype(np.uint8))
    return ImageSet(items=tuple(items), short_side=37, pixels=tuple(pixels))


DATA = DataSet(
    classes=("a", "b", "c"),
    splits={"train": image_set(23, seed=1), "valid": image_set(11, seed=2), "test": image_set(7, seed=3)},
    skipped=(),
    digest="00",
)


class _Double(nn.Module):
    """A small network in float64."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 5, stride=4),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.Conv2d(6, 8, 3, stride=2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
        )
        self.fc = nn.Linear(8, 3)
        self.double()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.body(images.double()).mean(dim=(2, 3)))


MODEL = _Double()


def double() -> nn.Module:
    return copy.deepcopy(MODEL)


def place(group: Group) -> Place:
    return Place(device=CPU, dtype=torch.float32, workers=1, memory_format=torch.contiguous_format, group=group)
