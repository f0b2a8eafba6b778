"""Bytes that claim to be an image, to the array that the network expects. Pure.

The pixels must be those of the evaluation transform that training measured its accuracy with:
Pillow's antialiased bilinear resize of the short side, then the centre crop. Whatever a stranger
sends ends in an array or in a BadRequest, never in another exception, and never in more memory
than MAX_PIXELS allows.
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from kennel import contract, errors
from kennel.contract import ContentType

ACCEPTED: Final = "image/jpeg, image/png, image/webp or application/json"
_FORMATS: Final = {ContentType.JPEG: "JPEG", ContentType.PNG: "PNG", ContentType.WEBP: "WEBP"}

_LONGEST: Final = 16
"""Of an image longer than this many short sides, only the middle is scaled."""


def sniff(body: bytes) -> ContentType | None:
    """Which of the three image types the first bytes announce; None for anything else.

    >>> sniff(b"GIF89a")
    """
    if body.startswith(b"\xff\xd8\xff"):
        return ContentType.JPEG
    if body.startswith(b"\x89PNG\r\n\x1a\n"):
        return ContentType.PNG
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return ContentType.WEBP
    return None


def decode(body: bytes, claimed: ContentType | None) -> Image.Image:
    """The picture in `body`: upright, RGB, 8 bits a channel, alpha over white, first frame only.

    `claimed` is the content type, or None to go by the bytes alone. Raises UnsupportedMediaType when the
    bytes are no JPEG, PNG or WebP or not what is claimed, PayloadTooLarge above MAX_PIXELS (before any
    pixel is decoded), BadRequest when decoding fails.
    """
    if not body:
        raise errors.BadRequest("the body is empty", hint="Send the bytes of an image.")
    found = sniff(body)
    if found is None:
        raise errors.UnsupportedMediaType("the bytes are not a JPEG, PNG or WebP image", hint=f"Send {ACCEPTED}.")
    if claimed is not None and claimed is not found:
        raise errors.UnsupportedMediaType(f"the content type says {claimed}, the bytes are {found}")
    try:
        with Image.open(io.BytesIO(body), formats=[_FORMATS[found]]) as image:
            width, height = image.size
            if width * height > contract.MAX_PIXELS:
                raise _too_many_pixels(f"{width} x {height}")
            image.load()
            return _rgb(_upright(image))
    except Image.DecompressionBombError:
        raise _too_many_pixels("far too many") from None
    except (errors.KennelError, MemoryError):
        raise
    except Exception as error:
        # Hostile bytes make Pillow raise almost anything (OSError, SyntaxError, struct.error, IndexError, …);
        # all of it means the same to the caller.
        raise errors.BadRequest(f"the {found} image cannot be decoded", hint="Is it complete?") from error


def centre_square(image: Image.Image, *, resize: int, size: int) -> npt.NDArray[np.uint8]:
    """The middle `size` by `size` pixels of `image` with its short side scaled to `resize`: (size, size, 3).

    Bit by bit what training's evaluation view is, for any shape that a camera makes.
    """
    width, height = image.size
    factor = resize / min(width, height)
    # The same expressions as training's, rounding included: it scales to whole pixels, then cuts.
    scaled_width, scaled_height = max(resize, round(width * factor)), max(resize, round(height * factor))
    left, top = (scaled_width - size) // 2, (scaled_height - size) // 2
    if max(scaled_width, scaled_height) <= _LONGEST * resize:
        whole = image.resize((scaled_width, scaled_height), Image.Resampling.BILINEAR)
        return np.asarray(whole.crop((left, top, left + size, top + size)), dtype=np.uint8)
    # The whole of a 10 by 2,000,000 image, scaled, would not fit into memory: scale the middle alone,
    # which rounds some pixels otherwise, by one step of 255.
    per_x, per_y = width / scaled_width, height / scaled_height
    box = (left * per_x, top * per_y, min((left + size) * per_x, width), min((top + size) * per_y, height))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box), dtype=np.uint8)


def normalized(
    square: npt.NDArray[np.uint8], *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> npt.NDArray[np.float32]:
    """(S, S, 3) bytes to the network's (1, 3, S, S) float32: scaled to 0…1, less `mean`, over `std`."""
    scaled = square.astype(np.float32) / np.float32(255)
    centred = (scaled - np.asarray(mean, dtype=np.float32)) / np.asarray(std, dtype=np.float32)
    return np.ascontiguousarray(centred.transpose(2, 0, 1)[np.newaxis])


def _too_many_pixels(found: str) -> errors.PayloadTooLarge:
    return errors.PayloadTooLarge(
        f"{found} pixels are more than {contract.MAX_PIXELS:,}",
        hint="Send a smaller picture; the network sees few pixels.",
    )


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF is common and the pixels are fine: take them as they lie
        return image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # 16-bit grey: convert() would clip everything above 255 to white.
        wide = np.clip(np.asarray(image).astype(np.float64), 0, 65_535)
        return Image.fromarray((wide / 257).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layered).convert("RGB")
    return image.convert("RGB")
