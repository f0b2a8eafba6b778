"""The networks: torchvision's, with a head for the classes at hand.

torchvision is imported when a network is built, not before: it takes a second. Dropout and stochastic
depth are switched off: their randomness would depend on the number of hosts.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from kennel.errors import InvalidModel
from kennel.training.settings import Backbone

_HEADS: Final[Mapping[Backbone, str]] = {
    Backbone.RESNET18: "fc",
    Backbone.RESNET50: "fc",
    Backbone.MOBILENET_V3_SMALL: "classifier",
    Backbone.MOBILENET_V3_LARGE: "classifier",
    Backbone.EFFICIENTNET_B0: "classifier",
}
_WEIGHT_SUFFIXES: Final = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A model (n, 3, S, S) -> logits (n, classes), and the name of its head among its children."""

    model: nn.Module
    head: str

    def freeze_backbone(self) -> None:
        """From here on only the head learns."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name.startswith(f"{self.head}."))

    def set_training(self, *, head_only: bool) -> None:
        """Training mode; a frozen backbone keeps its running statistics."""
        self.model.train()
        if head_only:
            for name, child in self.model.named_children():
                child.train(name == self.head)

    def learning(self) -> Iterator[nn.Parameter]:
        """The parameters that learn."""
        return (parameter for parameter in self.model.parameters() if parameter.requires_grad)


def memory_format(backbone: Backbone, device: torch.device) -> torch.memory_format:
    """The layout of images and kernels in memory that is faster for this network on this device.

    Channels last on GPUs, and for networks of depthwise convolutions everywhere (measured on one CPU core:
    MobileNetV3-small trains 1.7 times as fast with it, ResNet-18 a tenth slower).
    """
    plain = device.type == "cpu" and backbone in (Backbone.RESNET18, Backbone.RESNET50)
    return torch.contiguous_format if plain else torch.channels_last


def build(backbone: Backbone, *, classes: int, seed: int, pretrained: Mapping[str, Tensor] | None) -> Network:
    """A network whose initial weights follow from `seed`, overwritten by those that are given.

    `pretrained` must hold the whole backbone; a head of another shape is left out. Raises InvalidModel.
    """
    models = _torchvision()
    torch.manual_seed(seed)
    model: nn.Module = getattr(models, backbone.value)(num_classes=classes)
    if pretrained is not None:
        _fill(model, pretrained, backbone=backbone)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif type(module).__name__ == "StochasticDepth":
            module.__dict__["p"] = 0.0
        if isinstance(module, nn.BatchNorm2d) and pretrained is None:
            # torchvision's momentum of 0.01 suits ImageNet's half million steps; small data has hundreds.
            module.momentum = 0.1
    return Network(model=model, head=_HEADS[backbone])


def downloaded(backbone: Backbone) -> dict[str, Tensor]:
    """The weights that torchvision offers, from its cache or the network."""
    models = _torchvision()
    try:
        weights = models.get_model_weights(backbone.value).DEFAULT.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InvalidModel(
            f"torchvision's weights could not be downloaded ({error}).",
            where="hyperparameters: pretrained",
            hint="Put the file into the channel `pretrained`, or set pretrained to none.",
        ) from error
    return dict(weights)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file, or of the only such file in a directory. Raises InvalidModel."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in _WEIGHT_SUFFIXES)
        if len(files) != 1:
            raise InvalidModel(
                f"There are {len(files)} weight files, not one.",
                where=str(path),
                hint="Give one .safetensors or .pth file.",
            )
        path = files[0]
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file  # noqa: PLC0415 - needed by few jobs

            return dict(load_file(path))
        # weights_only: a pickle that could run code is refused.
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Each reader has exceptions of its own.
        raise InvalidModel(
            f"The weights cannot be read ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}).",
            where=str(path),
            hint="Give a .safetensors file, or a .pth file of tensors only.",
        ) from error
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise InvalidModel(
            "The file holds something else than named tensors.", where=str(path), hint="Save a state_dict."
        )
    return {str(key): value for key, value in loaded.items()}


def _fill(model: nn.Module, weights: Mapping[str, Tensor], *, backbone: Backbone) -> None:
    own = model.state_dict()
    head = f"{_HEADS[backbone]}."
    wrong = []
    for name, tensor in own.items():
        given = weights.get(name)
        if given is not None and given.shape == tensor.shape:
            own[name] = given
        elif not name.startswith(head) and not name.endswith("num_batches_tracked"):
            wrong.append(name)
    if wrong:
        raise InvalidModel(
            f"These weights are not those of {backbone}: {len(wrong)} of {len(own)} tensors are missing "
            f"or have another shape, {wrong[0]} first.",
            where="pretrained weights",
            hint="Set the hyperparameter backbone to the network that the weights come from.",
        )
    model.load_state_dict(own)


def _torchvision() -> Any:
    _declare_missing_operators()
    from torchvision import models  # noqa: PLC0415 - takes a second; see the module's docstring

    return models


def _declare_missing_operators() -> None:
    """Makes `import torchvision` work beside a torch without CUDA.

    torchvision's wheels hold compiled operators that load only beside a CUDA torch, and its import then
    fails for lack of their schemas. The schemas alone are enough: no network here uses the operators.
    """
    if hasattr(torch.ops.torchvision, "nms") or _operators_load():
        return
    # torch drops the schemas when the library object goes, so it has to live on.
    _LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        _LIBRARIES[-1].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]


def _operators_load() -> bool:
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None:
        return False
    for path in Path(found.origin).parent.glob("_C.*"):
        try:
            torch.ops.load_library(path)  # type: ignore[no-untyped-call]
        except OSError:
            continue
        return hasattr(torch.ops.torchvision, "nms")
    return False


_LIBRARIES: Final[list[torch.library.Library]] = []
