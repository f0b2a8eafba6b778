"""The data set in memory, and the order in which training reads it.

Order and augmentation depend on the seed, the epoch and the image alone, never on the number of
hosts: that is what makes two hosts train the model that one host would. Images that cannot be decoded
are left out before anything is divided, on every host alike.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kennel.contract import SPLITS
from kennel.errors import InvalidData
from kennel.training import images
from kennel.training.images import Pixels
from kennel.tree import Item, Tree

_T = TypeVar("_T")

CACHE_BYTES: Final = 1 << 30
"""Reduced images are kept in memory up to this size; above it, every epoch decodes them again."""

TOLERATED: Final = 0.05
"""Share of images that may be undecodable."""


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """An image that could not be decoded, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """The usable images of one split. `pixels` holds them reduced, or None when they are too many."""

    items: tuple[Item, ...]
    short_side: int
    pixels: tuple[Pixels, ...] | None

    def __len__(self) -> int:
        return len(self.items)

    def reduced(self, index: int) -> Pixels:
        """(H, W, 3) uint8 whose shorter side is `short_side`."""
        if self.pixels is not None:
            return self.pixels[index]
        return images.reduced(images.read(self.items[index].path.read_bytes(), hint=self.short_side), self.short_side)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """All splits. `digest` is the SHA-256 over the names and bytes of all files, the skipped ones too."""

    classes: tuple[str, ...]
    splits: Mapping[str, ImageSet]
    skipped: tuple[Skipped, ...]
    digest: str


def load(tree: Tree, *, image_size: int, workers: int, cache_bytes: int = CACHE_BYTES) -> DataSet:
    """Reads and decodes every image once.

    Raises InvalidData when more than 5 % cannot be decoded, or when that leaves a class without any.
    """
    short_side = images.resize_for(image_size)
    total = sum(len(items) for items in tree.splits.values())
    keep = total * short_side * short_side * 3 * 1.4 <= cache_bytes

    def one(item: Item) -> tuple[str, Pixels | None, str]:
        content = item.path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        try:
            pixels = images.reduced(images.read(content, hint=short_side), short_side)
        except ValueError as error:
            return digest, None, str(error)
        return digest, pixels if keep else pixels[:0], ""

    digest = hashlib.sha256()
    splits, skipped = {}, []
    for split in SPLITS:
        good: list[tuple[Item, Pixels]] = []
        for item, (content, pixels, reason) in zip(
            tree.splits[split], _mapped(one, tree.splits[split], workers), strict=True
        ):
            digest.update(f"{item.name}\0{content}\n".encode(errors="surrogateescape"))
            if pixels is None:
                skipped.append(Skipped(name=item.name, reason=reason))
            else:
                good.append((item, pixels))
        splits[split] = ImageSet(
            items=tuple(item for item, _ in good),
            short_side=short_side,
            pixels=tuple(pixels for _, pixels in good) if keep else None,
        )
    _check(tree, splits, skipped, total)
    return DataSet(classes=tree.classes, splits=splits, skipped=tuple(skipped), digest=digest.hexdigest())


def _check(tree: Tree, splits: Mapping[str, ImageSet], skipped: Sequence[Skipped], total: int) -> None:
    shown = "; ".join(f"{one.name} ({one.reason})" for one in skipped[:3])
    if len(skipped) > TOLERATED * total:
        raise InvalidData(
            f"{len(skipped)} of {total} images cannot be decoded, more than {TOLERATED:.0%}: {shown}",
            where=str(tree.root),
            hint="Remove or replace them.",
        )
    for split, held in splits.items():
        empty = sorted(set(range(len(tree.classes))) - {item.label for item in held.items})
        if empty:
            raise InvalidData(
                f"No image of class {tree.classes[empty[0]]} can be decoded: {shown}",
                where=str(tree.root / split),
                hint="Remove or replace them.",
            )


def epoch_batches(*, count: int, batch_size: int, seed: int, epoch: int) -> list[NDArray[np.int64]]:
    """The global batches of one epoch: every index below `count` once, in an order of its own.

    Batches are as even as can be, so that none is too small for batch normalization.
    """
    order = np.random.default_rng([seed, epoch]).permutation(count)
    return np.array_split(order, -(-count // batch_size))


def shard(indices: NDArray[np.int64], *, rank: int, world: int) -> NDArray[np.int64]:
    """The part of a global batch, or of a split, that host `rank` works on."""
    return indices[rank::world]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Normalization is left to the device: `images` (n, S, S, 3) uint8, `labels` (n,) int64."""

    images: Tensor
    labels: Tensor


def read_batches(
    held: ImageSet,
    batches: Iterable[NDArray[np.int64]],
    *,
    image_size: int,
    workers: int,
    random: Callable[[int], np.random.Generator] | None = None,
) -> Iterator[Batch]:
    """Yields the batches in order. With `random` (of an image's index) the training view, else the evaluation view."""

    def view(index: int) -> Pixels:
        pixels = held.reduced(index)
        if random is None:
            return images.evaluation_view(pixels, image_size)
        return images.training_view(pixels, image_size, random=random(index))

    def batch(indices: NDArray[np.int64], views: Iterable[Pixels]) -> Batch:
        stacked = np.stack(list(views))
        labels = np.array([held.items[int(index)].label for index in indices], dtype=np.int64)
        return Batch(images=torch.from_numpy(stacked), labels=torch.from_numpy(labels))

    if workers < 2:
        for indices in batches:
            yield batch(indices, [view(int(index)) for index in indices])
        return
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[NDArray[np.int64], list[Future[Pixels]]]] = deque()
        for indices in batches:
            ahead.append((indices, [pool.submit(view, int(index)) for index in indices]))
            if len(ahead) > 2:
                ready, futures = ahead.popleft()
                yield batch(ready, [future.result() for future in futures])
        for ready, futures in ahead:
            yield batch(ready, [future.result() for future in futures])


def _mapped(function: Callable[[Item], _T], items: Sequence[Item], workers: int) -> Iterator[_T]:
    if workers < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(function, items)
