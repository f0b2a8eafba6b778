"""The folder tree of a data set: `train/`, `valid/` and `test/`, each `<class>/<image>`.

Finds the files and checks the shape of the tree; pixels are decoded elsewhere. Every host must find
the same images in the same order, so everything is sorted. Must not import torch: a wrong tree fails
a job at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kennel.contract import SPLITS
from kennel.errors import InvalidData

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".mpo"}
)
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_LAYOUT: Final = "Expected is <split>/<class>/<image> for the splits train, valid and test."


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image file: its path, its path inside the tree, and its class index."""

    path: Path
    name: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The image files of a data set. `classes` are the folder names, sorted; items go by label and name."""

    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[Item, ...]]


def find(root: Path) -> Tree:
    """Finds the images under `root`. Raises InvalidData that says what is wrong and where.

    Hidden files and files that neither are named like an image nor begin like one are no part of the data.
    """
    if not root.is_dir():
        raise InvalidData("There is no data directory.", where=str(root), hint=_LAYOUT)
    missing = [split for split in SPLITS if not (root / split).is_dir()]
    if missing:
        found = ", ".join(_folders(root)) or "nothing"
        raise InvalidData(
            f"The data has no {' and no '.join(missing)} split; it has {found}.", where=str(root), hint=_LAYOUT
        )
    folders = {split: _folders(root / split) for split in SPLITS}
    classes = folders["train"]
    if len(classes) < 2:
        found = f"only the class {classes[0]}" if classes else "no class folder"
        raise InvalidData(
            f"There is {found}.", where=str(root / "train"), hint="A classifier needs at least two classes."
        )
    for split in ("valid", "test"):
        lacking = sorted(set(classes) - set(folders[split]))
        if lacking:
            raise InvalidData(
                f"{_some(lacking)} in train, but not here.",
                where=str(root / split),
                hint=f"Every class needs images in {split}.",
            )
        unknown = sorted(set(folders[split]) - set(classes))
        if unknown:
            raise InvalidData(
                f"{_some(unknown)} here, but not in train.",
                where=str(root / split),
                hint="The model cannot learn what train does not show: move images to train, or remove the folder.",
            )
    splits = {}
    for split in SPLITS:
        items: list[Item] = []
        empty = []
        for label, name in enumerate(classes):
            files = [path for path in sorted((root / split / name).rglob("*")) if _is_image(path, root)]
            if not files:
                empty.append(name)
            items += [Item(path=path, name=path.relative_to(root).as_posix(), label=label) for path in files]
        if empty:
            raise InvalidData(f"{_some(empty)} here without an image.", where=str(root / split), hint=_LAYOUT)
        splits[split] = tuple(items)
    return Tree(root=root, classes=tuple(classes), splits=splits)


def _folders(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))


def _is_image(path: Path, root: Path) -> bool:
    if any(part.startswith(".") for part in path.relative_to(root).parts) or not path.is_file():
        return False
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    with path.open("rb") as file:
        head = file.read(16)
    return head.startswith(_MAGIC) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{'class' if len(names) == 1 else 'classes'} {shown} {'is' if len(names) == 1 else 'are'}"
