"""The model directory, read and distrusted: manifest, labels, checksums.

This is the last gate between an artefact and production: what passes here may be served. It must
not load the network (that is the predictor's) and must not know how requests look.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kennel import contract, errors

_MAX_SIDE: Final = 2_048
_HINT: Final = "Train again, or unpack model.tar.gz again: the directory is not what training wrote."


@dataclass(frozen=True, kw_only=True)
class Model:
    """What the manifest and the labels say of one artefact."""

    directory: Path
    format_version: int
    backbone: str
    labels: tuple[str, ...]
    image_size: int
    """Side of the square that the network sees, in pixels."""
    resize: int
    """Length of the short side before the centre crop, in pixels; never less than `image_size`."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    data_digest: str
    model_sha256: str
    example_label: str | None
    """The known class of the artefact's own example image; None if it has none."""

    @property
    def network(self) -> Path:
        """The ONNX file."""
        return self.directory / contract.MODEL_FILE

    @property
    def example(self) -> Path | None:
        """The example image (JPEG), if the artefact has one."""
        return None if self.example_label is None else self.directory / contract.EXAMPLE_FILE

    def described(self) -> dict[str, str | int]:
        """The `model` object of every answer."""
        return {
            "backbone": self.backbone,
            "classes": len(self.labels),
            "data_digest": self.data_digest,
            "format_version": self.format_version,
            "model_sha256": self.model_sha256,
        }


def read(directory: Path) -> Model:
    """The model in `directory`, its manifest checked; raises InvalidModel. File contents are `verify`'s."""
    path = directory / contract.MANIFEST_FILE
    manifest = _Fields(path, _json(path))
    version = manifest.whole("format_version", 1, 1_000_000)
    if version != contract.MODEL_FORMAT_VERSION:
        raise errors.InvalidModel(
            f"format version {version}; this image reads {contract.MODEL_FORMAT_VERSION}",
            where=str(path),
            hint="Serve the artefact with the image of the same release, or train again.",
        )
    labels = _labels(directory / contract.LABELS_FILE)
    classes = manifest.whole("classes", 1, 1_000_000)
    if classes != len(labels):
        raise errors.InvalidModel(
            f"{len(labels)} labels for {classes} classes", where=str(directory / contract.LABELS_FILE), hint=_HINT
        )
    image_size = manifest.whole("image_size", 1, _MAX_SIDE)
    files = manifest.checksums()
    return Model(
        directory=directory,
        format_version=version,
        backbone=manifest.text("backbone"),
        labels=labels,
        image_size=image_size,
        resize=manifest.whole("resize", image_size, _MAX_SIDE),
        mean=manifest.colour("mean", low=-10.0),
        std=manifest.colour("std", low=1e-6),
        data_digest=manifest.within("data").text("digest"),
        model_sha256=files[contract.MODEL_FILE],
        example_label=_example_label(manifest, labels),
    )


def verify(directory: Path) -> Model:
    """The model in `directory`, with every file that the manifest lists read and compared; raises InvalidModel."""
    model = read(directory)
    path = directory / contract.MANIFEST_FILE
    files = _Fields(path, _json(path)).checksums()
    if model.example is not None and contract.EXAMPLE_FILE not in files:
        raise errors.InvalidModel(f"no checksum for {contract.EXAMPLE_FILE}", where=str(path), hint=_HINT)
    for name, expected in files.items():
        try:
            with (directory / name).open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise errors.InvalidModel(
                f"cannot read it: {error.strerror}", where=str(directory / name), hint=_HINT
            ) from None
        if found != expected:
            raise errors.InvalidModel(
                f"sha256 is {found[:12]}…, the manifest says {expected[:12]}…", where=str(directory / name), hint=_HINT
            )
    return model


class _Fields:
    """A JSON object whose values are taken out with their type checked."""

    def __init__(self, path: Path, value: object, key: str = "") -> None:
        self._path = path
        self._key = key
        if not isinstance(value, dict):
            raise self._wrong("", "a JSON object")
        self._values: dict[str, Any] = value

    def text(self, name: str) -> str:
        value = self._values.get(name)
        if not isinstance(value, str) or not value:
            raise self._wrong(name, "a string")
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        value = self._values.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(name, f"a whole number from {low} to {high}")
        return value

    def colour(self, name: str, *, low: float) -> tuple[float, float, float]:
        value = self._values.get(name)
        if not isinstance(value, list) or len(value) != 3:
            raise self._wrong(name, "three numbers")
        for number in value:
            if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number < math.inf:
                raise self._wrong(name, f"three numbers of at least {low:g}")
        red, green, blue = value
        return float(red), float(green), float(blue)

    def within(self, name: str) -> _Fields:
        return _Fields(self._path, self._values.get(name), f"{self._key}{name}.")

    def optional(self, name: str) -> _Fields | None:
        return None if self._values.get(name) is None else self.within(name)

    def checksums(self) -> dict[str, str]:
        """File names and their sha256; names are checked to lie in the directory itself."""
        files = self.within("files")
        for name in files._values:
            if len(files.text(name)) != 64 or "/" in name or name in ("", ".", ".."):
                raise files._wrong(name, "a file name of the directory with a sha256")
        for name in (contract.MODEL_FILE, contract.LABELS_FILE):
            files.text(name)
        return dict(files._values)

    def _wrong(self, name: str, wanted: str) -> errors.InvalidModel:
        key = f"{self._key}{name}".rstrip(".")
        return errors.InvalidModel(f"{key or 'the file'} is not {wanted}", where=str(self._path), hint=_HINT)


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise errors.InvalidModel(
            f"cannot read it: {error.strerror}",
            where=str(path),
            hint=f"Set {contract.MODEL_DIR_ENV} to a directory that holds an unpacked {contract.ARTEFACT_NAME}.",
        ) from None
    except (ValueError, RecursionError) as error:
        raise errors.InvalidModel(f"not JSON: {error}", where=str(path), hint=_HINT) from None


def _labels(path: Path) -> tuple[str, ...]:
    labels = _json(path)
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise errors.InvalidModel("not a JSON list of class names", where=str(path), hint=_HINT)
    if len(set(labels)) != len(labels):
        raise errors.InvalidModel("a class name occurs twice", where=str(path), hint=_HINT)
    return tuple(labels)


def _example_label(manifest: _Fields, labels: tuple[str, ...]) -> str | None:
    example = manifest.optional("example")
    if example is None:
        return None
    label = example.text("label")
    if label not in labels:
        raise example._wrong("label", "one of the labels")
    return label
