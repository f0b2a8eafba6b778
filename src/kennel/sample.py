"""Generated sample data: drawn dogs, so that the pipeline can be tried before there are photographs.

The pictures are made up, and so are the breeds. They are learnable but not trivially: breeds share
coat colours, every picture has its own pose, scale, light and background, and a few carry hardly any
noise while others are grainy, so no single colour histogram tells the breeds apart.

The same seed gives the same bytes (with the same Pillow and numpy). This module must not import
torch: it runs where the pipeline runs.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from PIL import Image, ImageDraw

from kennel.contract import SPLITS
from kennel.errors import InvalidArguments

Colour = tuple[int, int, int]
Points = np.ndarray[tuple[int, int], np.dtype[np.float64]]

MARKER: Final = ".kennel-sample.json"
"""File that a complete sample ends with: what was asked for, and the digest of what was made."""

PER_SPLIT: Final[Mapping[str, int]] = {"train": 50, "valid": 12, "test": 15}
"""Images per class and split, unless told otherwise."""

BLACK: Final = (38, 34, 34)
BROWN: Final = (112, 72, 44)
TAN: Final = (196, 146, 92)
GOLD: Final = (216, 160, 74)
CREAM: Final = (238, 220, 188)
WHITE: Final = (244, 241, 236)
GREY: Final = (132, 134, 142)
RED: Final = (160, 84, 48)


@dataclass(frozen=True, kw_only=True)
class Breed:
    """How one made-up breed looks. Coats overlap between breeds: shape and pattern tell them apart."""

    name: str
    coats: tuple[Colour, ...]
    ears: Literal["prick", "drop", "long", "button", "bat", "none"]
    pattern: Literal["plain", "spots", "mask", "saddle", "stripes", "split", "blaze", "muzzle"]
    mark: tuple[Colour, ...]
    width: float = 1.0
    snout: float = 1.0
    fur: Literal["smooth", "curly", "fringe"] = "smooth"


BREEDS: Final = (
    Breed(name="Spotted_hound", coats=(WHITE, CREAM), ears="drop", pattern="spots", mark=(BLACK, BROWN)),
    Breed(name="Tufted_terrier", coats=(TAN, GREY, CREAM), ears="button", pattern="plain", mark=(BROWN,), fur="fringe"),
    Breed(name="Masked_spitz", coats=(GREY, BLACK, RED), ears="prick", pattern="mask", mark=(WHITE,)),
    Breed(name="Saddled_shepherd", coats=(TAN, GOLD), ears="prick", pattern="saddle", mark=(BLACK, BROWN), snout=1.15),
    Breed(name="Lowland_basset", coats=(RED, TAN, BLACK), ears="long", pattern="blaze", mark=(WHITE,), width=0.9),
    Breed(
        name="Snub_pug", coats=(CREAM, TAN, GREY), ears="button", pattern="muzzle", mark=(BLACK,), width=1.15, snout=0.8
    ),
    Breed(
        name="Curly_poodle",
        coats=(WHITE, BLACK, RED),
        ears="drop",
        pattern="plain",
        mark=(WHITE,),
        width=0.9,
        fur="curly",
    ),
    Breed(name="Brindle_mastiff", coats=(TAN, RED, GREY), ears="drop", pattern="stripes", mark=(BLACK,), width=1.15),
    Breed(name="Moonlit_pointer", coats=(BLACK, BROWN, RED), ears="long", pattern="plain", mark=(BLACK,), snout=1.2),
    Breed(name="Harlequin_collie", coats=(WHITE, CREAM), ears="prick", pattern="split", mark=(BLACK, BROWN, GREY)),
    Breed(
        name="Batty_bulldog",
        coats=(WHITE, CREAM, GREY),
        ears="bat",
        pattern="plain",
        mark=(BLACK,),
        width=1.15,
        snout=0.8,
    ),
    Breed(
        name="Otter_retriever", coats=(GOLD, BROWN, BLACK), ears="none", pattern="plain", mark=(BROWN,), fur="fringe"
    ),
)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a sample holds. `digest` is the SHA-256 over every path and its bytes, in order."""

    directory: Path
    seed: int
    classes: tuple[str, ...]
    per_split: Mapping[str, int]
    images: int
    digest: str
    reused: bool


def generate(directory: Path, *, seed: int, classes: int = 10, per_split: Mapping[str, int] = PER_SPLIT) -> Summary:
    """Draws `classes` times `per_split` JPEGs into `directory`/<split>/NNN.Class_name/NNN.jpg.

    A complete sample of the same request is reused, an untouched one of another request is replaced; anything else
    that lies there is an InvalidArguments, for it may be somebody's photographs. The directory appears complete or
    not at all.
    """
    if not 2 <= classes <= len(BREEDS):
        raise InvalidArguments(f"classes is {classes}", where="sample", hint=f"Ask for 2 to {len(BREEDS)} classes.")
    if set(per_split) != set(SPLITS) or min(per_split.values()) < 1:
        raise InvalidArguments(
            f"per_split is {dict(per_split)}",
            where="sample",
            hint=f"Give at least 1 image for each of {', '.join(SPLITS)}.",
        )
    names = tuple(f"{number:03d}.{breed.name}" for number, breed in enumerate(BREEDS[:classes], start=1))
    request = {"seed": seed, "classes": list(names), "per_split": {split: per_split[split] for split in SPLITS}}
    images = classes * sum(per_split.values())

    def summary(digest: str, *, reused: bool) -> Summary:
        return Summary(
            directory=directory,
            seed=seed,
            classes=names,
            per_split=dict(per_split),
            images=images,
            digest=digest,
            reused=reused,
        )

    if directory.exists() and any(directory.iterdir()):
        digest, marker = _digest(directory), _marker(directory)
        if marker == {**request, "digest": digest}:
            return summary(digest, reused=True)
        if marker is None or marker.get("digest") != digest:
            raise InvalidArguments(
                "The directory holds something else than an untouched sample.",
                where=str(directory),
                hint="Remove it, or name another directory.",
            )

    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        for split_number, split in enumerate(SPLITS):
            for class_number, name in enumerate(names):
                folder = temporary / split / name
                folder.mkdir(parents=True)
                for index in range(per_split[split]):
                    random = np.random.default_rng([seed, split_number, class_number, index])
                    (folder / f"{index + 1:03d}.jpg").write_bytes(picture(BREEDS[class_number], random=random))
        digest = _digest(temporary)
        (temporary / MARKER).write_text(json.dumps({**request, "digest": digest}, indent=1) + "\n")
        temporary.chmod(0o755)
        if directory.exists():  # empty, or an untouched sample of another request
            replaced = temporary.with_name(f"{temporary.name}.replaced")
            directory.rename(replaced)
            shutil.rmtree(replaced)
        temporary.rename(directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return summary(digest, reused=False)


def picture(breed: Breed, *, random: np.random.Generator) -> bytes:
    """One JPEG of one dog, 80 to 320 pixels a side."""
    short, ratio = int(random.integers(80, 240)), random.uniform(1.0, 1.333)
    size = (int(short * ratio), short) if random.random() < 0.5 else (short, int(short * ratio))
    # Small pictures are drawn at twice their size and reduced: smooth edges at an even cost.
    scale = 2 if short < 150 else 1
    canvas = (size[0] * scale, size[1] * scale)
    image = _background(canvas, random=random)
    _dog(image, breed, random=random)
    if scale > 1:
        image = image.reduce(scale)
    pixels = np.asarray(image, dtype=np.float32)
    light = random.uniform(0.75, 1.2) * (1 + random.uniform(-0.06, 0.06, 3))
    grain = random.normal(0, random.uniform(1, 9), (*pixels.shape[:2], 1))
    lit = np.clip(pixels * light.astype(np.float32) + grain.astype(np.float32), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(lit).save(buffer, format="JPEG", quality=int(random.integers(78, 94)))
    return buffer.getvalue()


class _Pen:
    """Draws shapes given in the dog's own coordinates: the head is a circle of radius 1 about (0, 0)."""

    def __init__(self, image: Image.Image, *, centre: Points, radius: float, angle: float, mirrored: bool) -> None:
        self.image = image
        self.draw = ImageDraw.Draw(image)
        cos, sin = np.cos(angle) * radius, np.sin(angle) * radius
        self.matrix = np.array([[cos, sin], [-sin, cos]]) * (np.array([[-1], [1]]) if mirrored else 1)
        self.centre = centre

    def onto(self, image: Image.Image) -> _Pen:
        """The same pose on another image."""
        pen = object.__new__(_Pen)
        pen.image, pen.draw, pen.matrix, pen.centre = image, ImageDraw.Draw(image), self.matrix, self.centre
        return pen

    def polygon(self, points: Points, fill: Colour | int) -> None:
        """A filled polygon; `points` (n, 2)."""
        self.draw.polygon([(float(x), float(y)) for x, y in points @ self.matrix + self.centre], fill=fill)

    def oval(self, x: float, y: float, width: float, height: float, fill: Colour | int, *, turn: float = 0.0) -> None:
        """A filled ellipse about (x, y) with the given half axes, turned by `turn` radians."""
        self.polygon(_oval(x, y, width, height, turn=turn), fill)


def _oval(x: float, y: float, width: float, height: float, *, turn: float = 0.0) -> Points:
    theta = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    across, down = width * np.cos(theta), height * np.sin(theta)
    points: Points = np.stack(
        [x + across * np.cos(turn) - down * np.sin(turn), y + across * np.sin(turn) + down * np.cos(turn)], axis=1
    )
    return points


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (min(255, max(0, round(channel * factor))) for channel in colour)
    return (red, green, blue)


def _background(canvas: tuple[int, int], *, random: np.random.Generator) -> Image.Image:
    """A soft gradient, a horizon more often than not, and some clutter in any colour, coat colours included."""
    corners = (random.integers(60, 226, 3) * 0.6 + random.integers(50, 236, (2, 2, 3)) * 0.4).astype(np.uint8)
    image = Image.fromarray(corners).resize(canvas, Image.Resampling.BILINEAR)
    draw = ImageDraw.Draw(image)
    width, height = canvas
    if random.random() < 0.6:
        horizon = int(height * random.uniform(0.45, 0.85))
        draw.rectangle((0, horizon, width, height), fill=_any_colour(random))
    for _ in range(int(random.integers(2, 8))):
        x, y = random.uniform(0, width), random.uniform(0, height)
        a, b = random.uniform(0.03, 0.2, 2) * min(canvas)
        box = (x - a, y - b, x + a, y + b)
        if random.random() < 0.5:
            draw.ellipse(box, fill=_any_colour(random))
        else:
            draw.rectangle(box, fill=_any_colour(random))
    return image


def _any_colour(random: np.random.Generator) -> Colour:
    if random.random() < 0.3:
        coats = (BLACK, BROWN, TAN, GOLD, CREAM, WHITE, GREY, RED)
        return coats[int(random.integers(len(coats)))]
    red, green, blue = (int(channel) for channel in random.integers(40, 230, 3))
    return (red, green, blue)


def _dog(image: Image.Image, breed: Breed, *, random: np.random.Generator) -> None:
    width, height = image.size
    radius = min(width, height) * random.uniform(0.3, 0.38)
    centre = np.array([width * random.uniform(0.4, 0.6), height * random.uniform(0.46, 0.56)])
    pen = _Pen(
        image, centre=centre, radius=radius, angle=random.uniform(-0.25, 0.25), mirrored=bool(random.random() < 0.5)
    )
    coat = _shade(breed.coats[int(random.integers(len(breed.coats)))], random.uniform(0.9, 1.08))
    mark = _shade(breed.mark[int(random.integers(len(breed.mark)))], random.uniform(0.9, 1.08))
    dark = _shade(coat, 0.72)
    # Where the dog looks: features shift sideways against the head.
    look = random.uniform(-0.16, 0.16)
    wide, tall = breed.width * random.uniform(0.94, 1.06), random.uniform(0.95, 1.08)

    pen.oval(0, 2.0, 1.15 * wide, 1.5, dark)
    if random.random() < 0.7:
        pen.polygon(np.array([[-0.75, 0.8], [0.75, 0.8], [0.82, 1.08], [-0.82, 1.08]]), _any_colour(random))
    if breed.ears in ("prick", "bat", "none"):
        _ears(pen, breed, coat=mark if breed.pattern == "saddle" else coat, wide=wide, random=random)
    if breed.fur == "curly":
        for theta in np.linspace(0, 2 * np.pi, 13, endpoint=False):
            pen.oval(
                0.86 * wide * np.cos(theta),
                0.84 * tall * np.sin(theta) - 0.1,
                0.32,
                0.32,
                _shade(coat, random.uniform(0.82, 1.1)),
            )
        for _ in range(7):
            pen.oval(
                random.uniform(-0.5, 0.5),
                random.uniform(-1.35, -0.9),
                0.3,
                0.3,
                _shade(coat, random.uniform(0.85, 1.1)),
            )
    pen.oval(0, 0, 0.86 * wide, 0.98 * tall, coat)
    _pattern(pen, breed, mark=mark, wide=wide, tall=tall, look=look, random=random)
    if breed.ears in ("drop", "long", "button"):
        _ears(pen, breed, coat=mark if breed.pattern == "spots" else dark, wide=wide, random=random)
    _face(pen, breed, coat=coat, mark=mark, look=look, random=random)


def _pattern(
    pen: _Pen, breed: Breed, *, mark: Colour, wide: float, tall: float, look: float, random: np.random.Generator
) -> None:
    """Draws the coat's pattern, on the head only."""
    if breed.pattern in ("plain", "muzzle"):
        return
    head = Image.new("L", pen.image.size)
    pen.onto(head).oval(0, 0, 0.86 * wide, 0.98 * tall, 255)
    layer = pen.image.copy()
    brush = pen.onto(layer)
    match breed.pattern:
        case "spots":
            for _ in range(int(random.integers(9, 15))):
                a, b = random.uniform(0.09, 0.22, 2)
                brush.oval(
                    random.uniform(-0.85, 0.85), random.uniform(-0.95, 0.8), a, b, mark, turn=random.uniform(0, 3)
                )
        case "mask":
            brush.oval(look - 0.34, 0.0, 0.36, 0.4, mark)
            brush.oval(look + 0.34, 0.0, 0.36, 0.4, mark)
            brush.oval(look, 0.6, 0.75, 0.6, mark)
        case "saddle":
            top = random.uniform(-0.5, -0.3)
            brush.polygon(
                np.array(
                    [
                        [-1.2, -1.3],
                        [1.2, -1.3],
                        [1.2, top + 0.2],
                        [0.4, top],
                        [0, top - 0.25],
                        [-0.4, top],
                        [-1.2, top + 0.2],
                    ]
                ),
                mark,
            )
        case "stripes":
            for y in np.arange(-0.95, 0.9, random.uniform(0.2, 0.28)):
                tilt, thick = random.uniform(0.1, 0.3), random.uniform(0.05, 0.09)
                for side in (-1, 1):
                    brush.polygon(
                        np.array(
                            [
                                [side * 0.12, y],
                                [side * 1.1, y - tilt],
                                [side * 1.1, y - tilt + 2 * thick],
                                [side * 0.12, y + thick],
                            ]
                        ),
                        mark,
                    )
        case "split":
            edge = look + random.uniform(-0.08, 0.08)
            brush.polygon(np.array([[edge, -1.3], [1.4, -1.3], [1.4, 1.3], [edge, 1.3]]), mark)
        case "blaze":
            brush.polygon(
                np.array(
                    [
                        [look - 0.1, -1.1],
                        [look + 0.1, -1.1],
                        [look + 0.34, 0.5],
                        [look + 0.5, 1.2],
                        [look - 0.5, 1.2],
                        [look - 0.34, 0.5],
                    ]
                ),
                mark,
            )
    pen.image.paste(layer, mask=head)


def _ears(pen: _Pen, breed: Breed, *, coat: Colour, wide: float, random: np.random.Generator) -> None:
    inner = _shade(coat, 0.7) if sum(coat) > 250 else (120, 84, 84)
    long = random.uniform(0.9, 1.12)
    for side in (-1, 1):
        x = side * wide
        match breed.ears:
            case "prick":
                tip = np.array([x * 0.86, -1.5 * long])
                pen.polygon(np.array([[x * 0.84, -0.25], tip, [x * 0.16, -0.8]]), coat)
                pen.polygon(np.array([[x * 0.7, -0.5], tip * 0.9, [x * 0.36, -0.8]]), inner)
            case "bat":
                pen.oval(x * 0.72, -0.98, 0.3, 0.55 * long, coat, turn=side * 0.35)
                pen.oval(x * 0.72, -0.96, 0.17, 0.4 * long, (206, 150, 146), turn=side * 0.35)
            case "drop":
                pen.oval(x * 0.88, -0.12, 0.28, 0.62 * long, coat, turn=side * -0.22)
            case "long":
                pen.oval(x * 0.95, 0.35, 0.32, 1.08 * long, coat, turn=side * -0.12)
            case "button":
                pen.polygon(
                    np.array([[x * 0.24, -0.92], [x * 0.92, -0.76], [x * 0.84, -0.22], [x * 0.52, -0.42]]), coat
                )
            case "none":
                pen.oval(x * 0.84, -0.3, 0.14, 0.2 * long, _shade(coat, 0.8))


def _face(pen: _Pen, breed: Breed, *, coat: Colour, mark: Colour, look: float, random: np.random.Generator) -> None:
    pale = _shade(coat, 1.18)
    muzzle = {"muzzle": mark, "blaze": WHITE, "mask": WHITE}.get(breed.pattern, pale)
    if breed.fur == "fringe":
        for _ in range(16):
            x = random.uniform(-0.75, 0.75)
            strand = np.array(
                [
                    [x - 0.08, -0.95],
                    [x + 0.08, -0.95],
                    [x * 1.2 + random.uniform(-0.1, 0.1), random.uniform(-0.5, -0.12)],
                ]
            )
            pen.polygon(strand, _shade(coat, random.uniform(0.7, 1.2)))
        for _ in range(12):
            x = random.uniform(-0.55, 0.55)
            strand = np.array([[x - 0.07, 0.6], [x + 0.07, 0.6], [x * 1.3, random.uniform(1.05, 1.4)]])
            pen.polygon(strand, _shade(coat, random.uniform(0.75, 1.25)))
    pen.oval(look * 1.3, 0.42, 0.42, 0.4 * breed.snout, muzzle)
    nose = (30, 26, 28)
    pen.oval(look * 1.6, 0.24 - 0.06 * (breed.snout - 1), 0.17, 0.12, nose)
    pen.oval(look * 1.58 - 0.05, 0.2, 0.04, 0.025, (120, 116, 118))
    mouth = 0.42 + 0.22 * breed.snout
    smile = np.array([[-0.24, mouth - 0.1], [0, mouth], [0.24, mouth - 0.1], [0, mouth + 0.06]]) + np.array(
        [look * 1.4, 0]
    )
    pen.polygon(smile, nose)
    if random.random() < 0.4:
        pen.oval(look * 1.4, mouth + 0.16, 0.11, 0.18, (226, 110, 122))
    gaze = random.uniform(-0.03, 0.03)
    ring = 0.15 if breed.pattern == "muzzle" else 0.13
    for side in (-1, 1):
        x = look + side * 0.36
        pen.oval(x, -0.16, ring, ring, (252, 250, 244))
        pen.oval(x + gaze, -0.15, 0.09, 0.1, (44, 30, 24))
        pen.oval(x + gaze + 0.03, -0.19, 0.03, 0.03, (255, 255, 255))


def _files(directory: Path) -> Iterator[Path]:
    for split in SPLITS:
        yield from sorted(path for path in (directory / split).rglob("*") if path.is_file())


def _digest(directory: Path) -> str:
    digest = hashlib.sha256()
    for path in _files(directory):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(directory).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _marker(directory: Path) -> dict[str, object] | None:
    try:
        found = json.loads((directory / MARKER).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def main(arguments: list[str] | None = None) -> None:
    """`python -m kennel.sample DIR [--seed N]`."""
    parser = argparse.ArgumentParser(prog="python -m kennel.sample", description="Generate drawn dogs to train on.")
    parser.add_argument("directory", type=Path, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    try:
        made = generate(given.directory, seed=given.seed)
    except InvalidArguments as error:
        parser.exit(error.exit_code, f"{error}\n")
    print(f"{made.images} images of {len(made.classes)} classes in {made.directory} (sha256 {made.digest[:12]})")  # noqa: T201


if __name__ == "__main__":
    main()
