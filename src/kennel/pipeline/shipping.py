"""Builds and pushes the images of a configuration for somebody who watches.

Knows nothing of arguments, nor of where the AWS came from. `settings` are build arguments that change nothing in an
image; `root` is the project.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from kennel.config import Config
from kennel.errors import InvalidArguments
from kennel.pipeline import display, ecr, execution, images, push
from kennel.pipeline.aws import Aws
from kennel.pipeline.images import Built, Image
from kennel.pipeline.push import Pushed


def build_all(engine: Any, config: Config, *, root: Path, settings: Mapping[str, str], console: Console) -> list[Built]:
    """Build the images of this source. Raises InvalidArguments if the configuration names none."""
    build = partial(_build, engine, root=root, settings=settings, console=console)
    return [build(image) for image in _of_this_source(config, root)]


def push_all(
    aws: Aws,
    engine: Any,
    config: Config,
    *,
    root: Path,
    settings: Mapping[str, str],
    hadolint: Path,
    console: Console,
) -> list[Pushed]:
    """Bring the images of this source to the registry, built if need be. Raises as `build_all` and `push.push` do."""
    build = partial(_build, engine, root=root, settings=settings, console=console)
    pushed: list[Pushed] = []
    for image in _of_this_source(config, root):
        sending = partial(display.sending, console, f"Pushing {image}")
        ask = partial(push.push, aws, engine, image, root=root, hadolint=hadolint, build=build, sending=sending)
        one: Pushed = execution.called(ask)
        sent = "was there already" if one.sent is None else f"{one.sent / 1e6:.1f} MB sent, before compression"
        display.line(console, f"{image}  {sent}\n  {one.pinned}")
        pushed.append(one)
    if any(images.is_dirty(one.image.revision) for one in pushed):
        display.line(console, "A tag with -dirty- or content- names source that is not committed here.")
    return pushed


def with_built(engine: Any, config: Config, *, root: Path, settings: Mapping[str, str], console: Console) -> Config:
    """The configuration with the images as this machine's engine has them, built if need be."""
    names = {"training": config.images.training, "serving": config.images.serving}
    for image in images.of(config, root):
        _build(engine, image, root=root, settings=settings, console=console)
        names[image.part] = str(image)
    chosen = dataclasses.replace(config.images, training=names["training"], serving=names["serving"])
    return dataclasses.replace(config, images=chosen)


def with_pinned(aws: Aws, config: Config, *, root: Path) -> Config:
    """The configuration with the images by their digests in the registry."""
    pinned: Config = execution.called(lambda: ecr.with_pinned(aws, config, tags=images.tags(config, root)))
    return pinned


def _of_this_source(config: Config, root: Path) -> Iterator[Image]:
    image = None
    for image in images.of(config, root):
        yield image
    if image is None:
        raise InvalidArguments(
            "no image of this project's source is asked for",
            where="images",
            hint='In the configuration, a plain name is one, such as training = "kennel-training".',
        )


def _build(engine: Any, image: Image, *, root: Path, settings: Mapping[str, str], console: Console) -> Built:
    """Build the image, unless the engine has it, and say what came of it."""
    with display.steps(console, f"Building {image}") as say:
        built = images.build(engine, image, root=root, say=say, settings=settings)
    took = "unchanged" if built.seconds is None else f"built in {built.seconds:.0f} s"
    display.line(console, f"{image}  {built.bytes / 1e6:.0f} MB  {took}")
    return built
