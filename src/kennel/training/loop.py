"""The training loop, to be read from top to bottom.

Several hosts do exactly what one would: a global batch is divided, each host's loss is its images' part
of the mean over the *global* batch, and gradients are added up. So every quantity here is a sum over
hosts, and no image is dropped or used twice. Must not know where files lie or where log lines go.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from kennel.contract import metric_line, progress_line
from kennel.errors import KennelError
from kennel.training import images
from kennel.training.backbones import Network
from kennel.training.checkpoint import Checkpoints, Parts, Progress
from kennel.training.data import Batch, DataSet, ImageSet, epoch_batches, read_batches, shard
from kennel.training.group import Group
from kennel.training.settings import Augmentation, Optimizer, Settings

PROGRESS_SECONDS: Final = 0.5
PROGRESS_PER_EPOCH: Final = 20
_EVALUATION_BATCH: Final = 64
_AUGMENTATION: Final = 1
"""Keeps the random numbers of augmentation apart from those of the order."""


class Diverged(KennelError):
    """The loss is no number any more."""

    code = "Diverged"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of one split: mean cross-entropy in nats per image, and the fraction of images classified correctly."""

    loss: float
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how a job computes: device, number type of the forward pass, reader threads, memory layout, peers."""

    device: torch.device
    dtype: torch.dtype
    workers: int
    memory_format: torch.memory_format
    group: Group

    def send(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalized images (n, 3, S, S) and labels (n,), on the device."""
        pixels = batch.images.to(self.device, non_blocking=True).permute(0, 3, 1, 2).to(self._exact)
        mean = torch.tensor(images.MEAN, dtype=pixels.dtype, device=self.device).view(1, 3, 1, 1) * 255
        std = torch.tensor(images.STD, dtype=pixels.dtype, device=self.device).view(1, 3, 1, 1) * 255
        return ((pixels - mean) / std).contiguous(memory_format=self.memory_format), batch.labels.to(self.device)

    @property
    def _exact(self) -> torch.dtype:
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def logits(self, network: Network, inputs: Tensor) -> Tensor:
        """What the network says, in at least single precision."""
        with self._autocast():
            return cast("Tensor", network.model(inputs)).to(self._exact)

    def _autocast(self) -> AbstractContextManager[object]:
        half = self.dtype in (torch.float16, torch.bfloat16)
        return torch.autocast(self.device.type, dtype=self.dtype if half else torch.bfloat16, enabled=half)


def train(
    network: Network,
    data: DataSet,
    settings: Settings,
    *,
    place: Place,
    head_only: bool,
    checkpoints: Checkpoints,
    report: Callable[[str], None],
    clock: Callable[[], float],
) -> Scores:
    """Trains the network in place, from where `checkpoints` have got to; the validation scores after the last epoch.

    Raises Diverged, HostLost.
    """
    held, group = data.splits["train"], place.group
    optimizer = make_optimizer(network, settings)
    # float16 needs its gradients scaled to stay above zero; other types do not.
    scaler = torch.amp.GradScaler(place.device.type, enabled=place.dtype == torch.float16)
    steps = -(-len(held) // settings.batch_size)
    parts = Parts(model=network.model, optimizer=optimizer, scaler=scaler)
    progress = checkpoints.resume(parts, group=group, device=place.device)
    if progress.epoch:
        # Once more: these may be the last metrics of this job, and its log may be a new one.
        report(metric_line(epoch=progress.epoch, **progress.scores))

    for epoch in range(progress.epoch + 1, settings.epochs + 1):
        batches = epoch_batches(count=len(held), batch_size=settings.batch_size, seed=settings.seed, epoch=epoch)
        own = [shard(batch, rank=group.rank, world=group.world) for batch in batches]
        stream = read_batches(
            held, own, image_size=settings.image_size, workers=place.workers, random=augmentation(settings, epoch=epoch)
        )
        network.set_training(head_only=head_only)
        totals = torch.zeros(2, dtype=torch.float64, device=place.device)
        shown = clock()

        for step, batch in enumerate(stream, start=1):
            rate = learning_rate(settings, done=(epoch - 1) * steps + step - 1, steps=settings.epochs * steps)
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate

            inputs, labels = place.send(batch)
            logits = place.logits(network, inputs)
            loss = functional.cross_entropy(logits, labels, reduction="sum", label_smoothing=settings.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss / len(batches[step - 1])).backward()  # type: ignore[no-untyped-call]
            group.sum_gradients_(network.learning())
            scaler.step(optimizer)
            scaler.update()

            totals += _sums(logits.detach(), labels)
            if clock() - shown >= PROGRESS_SECONDS and step % max(1, steps // PROGRESS_PER_EPOCH + 1) == 0:
                shown = clock()
                report(progress_line(epoch=epoch, epochs=settings.epochs, step=step, steps=steps))

        training = _scores(group.sum_(totals), len(held))
        if not math.isfinite(training.loss):
            raise Diverged(
                f"The training loss is {training.loss} after epoch {epoch}.",
                where="hyperparameters: learning_rate",
                hint=f"Lower the learning rate ({settings.learning_rate:g}).",
            )
        validation = evaluate(network, data.splits["valid"], settings, place=place)
        progress = Progress(
            epoch=epoch,
            scores={
                "train_loss": training.loss,
                "train_accuracy": training.accuracy,
                "validation_loss": validation.loss,
                "validation_accuracy": validation.accuracy,
            },
        )
        report(metric_line(epoch=epoch, **progress.scores))
        checkpoints.keep(progress, parts)
    return Scores(loss=progress.scores["validation_loss"], accuracy=progress.scores["validation_accuracy"])


@torch.no_grad()
def evaluate(network: Network, held: ImageSet, settings: Settings, *, place: Place) -> Scores:
    """Scores of a whole split: every host takes its part, every image counts once."""
    network.model.eval()
    own = shard(np.arange(len(held)), rank=place.group.rank, world=place.group.world)
    batches = np.array_split(own, -(-len(own) // _EVALUATION_BATCH)) if len(own) else []
    totals = torch.zeros(2, dtype=torch.float64, device=place.device)
    for batch in read_batches(held, batches, image_size=settings.image_size, workers=place.workers):
        inputs, labels = place.send(batch)
        logits = place.logits(network, inputs)
        totals += _sums(logits, labels)
    return _scores(place.group.sum_(totals), len(held))


def make_optimizer(network: Network, settings: Settings) -> torch.optim.Optimizer:
    """The optimizer over the parameters that learn; biases and normalization do not decay."""
    learning = list(network.learning())
    groups = [
        {"params": [one for one in learning if one.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [one for one in learning if one.ndim <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer is Optimizer.SGD:
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=0.9, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def learning_rate(settings: Settings, *, done: int, steps: int) -> float:
    """The learning rate after `done` of `steps` steps: a linear warm-up, then half a cosine down to zero."""
    rising = round(settings.warmup * steps)
    if done < rising:
        return settings.learning_rate * (done + 1) / rising
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - rising) / max(1, steps - rising)))


def augmentation(settings: Settings, *, epoch: int) -> Callable[[int], np.random.Generator] | None:
    """The random source of an image's training view: by seed, epoch and index, wherever the image is read."""
    if settings.augmentation is Augmentation.NONE:
        return None
    return lambda index: np.random.default_rng([settings.seed, epoch, index, _AUGMENTATION])


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    return torch.stack([loss.double(), (logits.argmax(dim=1) == labels).sum().double()])


def _scores(totals: Tensor, count: int) -> Scores:
    loss, correct = totals.tolist()
    return Scores(loss=loss / count, accuracy=correct / count)
