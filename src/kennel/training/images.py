"""From image bytes to the square of pixels that the network sees. Pure.

Two views of one decoded image: the evaluation view, which serving repeats exactly (short side to R,
centre crop to S), and the training view, which varies with its random source. Must not import torch.
"""

from __future__ import annotations

import io
from typing import Final, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from kennel.contract import MAX_PIXELS

Pixels = NDArray[np.uint8]

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
"""ImageNet's mean and deviation of red, green and blue, of pixels in 0..1."""

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "MPO")
LONGEST: Final = 2
"""Of an image longer than this many short sides, the middle is kept."""

JPEG_QUALITY: Final = 92


def resize_for(image_size: int) -> int:
    """R: the short side to which an image is reduced before a square of `image_size` is cut out of it."""
    return round(image_size * 256 / 224)


def read(content: bytes, *, hint: int | None = None) -> Image.Image:
    """An upright RGB image; transparency over white, the first frame of an animation.

    With `hint`, a JPEG may be decoded at a reduced size of at least twice `hint` pixels a side.
    Raises ValueError, whatever is wrong with the bytes.
    """
    try:
        image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {MAX_PIXELS}")
        if hint is not None:
            image.draft("RGB", (2 * hint, 2 * hint))
        image.load()
        return _rgb(ImageOps.exif_transpose(image))
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to.
        raise ValueError(str(error) or type(error).__name__) from error


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I;16", "I;16L", "I;16B", "I"):
        wide = np.asarray(image).astype(np.float64)
        return Image.fromarray((np.clip(wide, 0, 65535) / 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image.convert("RGB")


def reduced(image: Image.Image, short_side: int) -> Pixels:
    """(H, W, 3) uint8 whose shorter side is `short_side`: what both views are cut from."""
    width, height = image.size
    factor = short_side / min(width, height)
    size = max(short_side, round(width * factor)), max(short_side, round(height * factor))
    small = image.resize(size, Image.Resampling.BILINEAR)
    limit = LONGEST * short_side
    if max(size) > limit:
        left, top = max(0, (size[0] - limit) // 2), max(0, (size[1] - limit) // 2)
        small = small.crop((left, top, left + min(limit, size[0]), top + min(limit, size[1])))
    return np.asarray(small)


def evaluation_view(pixels: Pixels, size: int) -> Pixels:
    """(size, size, 3): the middle of a reduced image."""
    height, width = pixels.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    return pixels[top : top + size, left : left + size]


def training_view(pixels: Pixels, size: int, *, random: np.random.Generator) -> Pixels:
    """(size, size, 3): a random part of a reduced image, perhaps mirrored, a little brighter or paler."""
    height, width = pixels.shape[:2]
    area = random.uniform(0.65, 1.0) * min(height, width) ** 2
    ratio = np.exp(random.uniform(np.log(5 / 6), np.log(6 / 5)))
    box_width, box_height = min(width, np.sqrt(area * ratio)), min(height, np.sqrt(area / ratio))
    left, top = random.uniform(0, width - box_width), random.uniform(0, height - box_height)
    image = Image.fromarray(pixels).resize(
        (size, size), Image.Resampling.BILINEAR, box=(left, top, left + box_width, top + box_height)
    )
    view = np.asarray(image)
    if random.random() < 0.5:
        view = view[:, ::-1]
    # One table of 256 values per image: brightness and contrast in one pass.
    contrast, light = random.uniform(0.8, 1.2), random.uniform(-25, 25)
    table = np.clip((np.arange(256) - 128) * contrast + 128 + light, 0, 255).astype(np.uint8)
    return cast("Pixels", table[view])


def reencoded(image: Image.Image, *, longest: int = 512) -> bytes:
    """A JPEG of at most `longest` pixels a side, without metadata."""
    small = image.copy()
    small.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    clean = Image.frombytes("RGB", small.size, small.tobytes())
    buffer = io.BytesIO()
    clean.save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
