"""One training job on one host, from checked settings to the artefact.

Everything that needs torch is below this module; `entry` checks what it can before importing it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from kennel.contract import metric_line
from kennel.errors import InvalidArguments, InvalidData
from kennel.training import backbones, export
from kennel.training.checkpoint import Checkpoints, fingerprint
from kennel.training.data import DataSet, load
from kennel.training.group import Group, join
from kennel.training.hosts import Hosts
from kennel.training.loop import Place, evaluate, train
from kennel.training.normalization import globalize
from kennel.training.settings import Precision, Settings, TrainLayers
from kennel.tree import Tree


def run(
    tree: Tree,
    settings: Settings,
    hosts: Hosts,
    *,
    pretrained_channel: Path | None,
    model_directory: Path,
    checkpoint_directory: Path | None,
    environ: MutableMapping[str, str],
    report: Callable[[str], None],
    clock: Callable[[], float],
) -> None:
    """Trains together with the other hosts; the first one evaluates on test and writes the artefact.

    With a `checkpoint_directory`, the first host keeps a checkpoint of every epoch there, and goes on from the last.
    `report` takes log lines; only the first host's are the job's. Raises KennelError.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _prepare(device)
    say = report if hosts.rank == 0 else _nothing
    dtype = _number_type(settings.precision, device)
    workers = min(16, os.cpu_count() or 1) if device.type == "cuda" else min(4, torch.get_num_threads())

    data = load(tree, image_size=settings.image_size, workers=workers)
    for skipped in data.skipped:
        say(f"skipped {skipped.name}: {skipped.reason}")
    say(_summary(data, settings, hosts, device))
    _check_sizes(data, settings, hosts)

    weights = _pretrained(settings, pretrained_channel)
    head_only = settings.train_layers is TrainLayers.HEAD or (
        settings.train_layers is TrainLayers.AUTO and weights is not None
    )
    network = backbones.build(settings.backbone, classes=len(data.classes), seed=settings.seed, pretrained=weights)
    layout = backbones.memory_format(settings.backbone, device)
    network.model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    if dtype == torch.float64:
        network.model.double()
    if head_only:
        network.freeze_backbone()
    versions = {"kennel": version("kennel"), "torch": torch.__version__}
    checkpoints = Checkpoints(
        checkpoint_directory if hosts.rank == 0 else None,
        job=fingerprint(settings, data_digest=data.digest, head_only=head_only, dtype=dtype, versions=versions),
        report=say,
    )

    with join(hosts, device=device, timeout=settings.host_timeout, environ=environ) as group:
        place = Place(device=device, dtype=dtype, workers=workers, memory_format=layout, group=group)
        if not group.agree(data.digest, device=device):
            raise InvalidData(
                "The hosts were given different images.",
                where="input/data/training",
                hint="Set S3DataDistributionType of the channel to FullyReplicated.",
            )
        group.copy_from_first_(network.model.state_dict().values())
        if group.world > 1:
            globalize(network.model, group)
        validation = train(
            network,
            data,
            settings,
            place=place,
            head_only=head_only,
            checkpoints=checkpoints,
            report=say,
            clock=clock,
        )
        assert_same_weights(network.model, group, device)
        test = evaluate(network, data.splits["test"], settings, place=place)
    say(metric_line(test_loss=test.loss, test_accuracy=test.accuracy))

    if hosts.rank == 0:
        example = export.write_artefact(
            model_directory,
            model=network.model,
            data=data,
            settings=settings,
            metrics={
                "validation:loss": validation.loss,
                "validation:accuracy": validation.accuracy,
                "test:loss": test.loss,
                "test:accuracy": test.accuracy,
            },
            versions=versions,
        )
        if example is None:
            say("The model classifies no validation image correctly: the artefact has no example.")


def _number_type(precision: Precision, device: torch.device) -> torch.dtype:
    if precision is Precision.DOUBLE:
        return torch.float64
    if precision is Precision.SINGLE or device.type == "cpu":
        return torch.float32
    # Emulated bfloat16, as on the T4, is slower than float16.
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _prepare(device: torch.device) -> None:
    if device.type == "cuda":
        # Equal bytes for equal seeds are promised on CPUs; on GPUs speed comes first.
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.allow_tf32 = True
    else:
        torch.use_deterministic_algorithms(True)


def _pretrained(settings: Settings, channel: Path | None) -> dict[str, Tensor] | None:
    match settings.pretrained:
        case "none":
            return None
        case "torchvision":
            return backbones.downloaded(settings.backbone)
        case "auto":
            return None if channel is None else backbones.read_weights(channel)
        case path:
            if not Path(path).exists():
                raise InvalidArguments(
                    f"There is no file {path}.",
                    where="hyperparameters: pretrained",
                    hint="Use auto, none, torchvision, or the path of a file that the training image can see.",
                )
            return backbones.read_weights(Path(path))


def _check_sizes(data: DataSet, settings: Settings, hosts: Hosts) -> None:
    if settings.batch_size < 4 * hosts.world:
        raise InvalidArguments(
            f"{settings.batch_size} images a step are too few for {hosts.world} hosts.",
            where="hyperparameters: batch_size",
            hint=f"It counts over all hosts: use at least {4 * hosts.world}.",
        )
    if len(data.splits["train"]) < 2 * hosts.world:
        raise InvalidData(
            f"{len(data.splits['train'])} training images are too few for {hosts.world} hosts.",
            where="input/data/training/train",
            hint="Use fewer hosts or more images.",
        )


def assert_same_weights(model: torch.nn.Module, group: Group, device: torch.device) -> None:
    """Raises RuntimeError unless every host holds the same bits: anything else is a bug in this package."""
    digest = export.weights_digest(model)
    if not group.agree(digest, device=device):
        raise RuntimeError(f"The hosts trained different models: rank {group.rank} of {group.world} holds {digest}")


def _summary(data: DataSet, settings: Settings, hosts: Hosts, device: torch.device) -> str:
    counts = ", ".join(f"{len(held)} {split}" for split, held in data.splits.items())
    return (
        f"{settings.backbone} at {settings.image_size} px on {hosts.world} host(s) ({device.type}); "
        f"{len(data.classes)} classes, {counts}, {len(data.skipped)} skipped"
    )


def _nothing(_: str) -> None:
    pass
