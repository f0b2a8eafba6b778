import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from kennel import contract, errors
from kennel.contract import ContentType
from kennel.serving import decode


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def noise(size: tuple[int, int], *, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_each_type_is_recognised_by_its_bytes():
    image = noise((9, 7))
    assert decode.sniff(encoded(image, "JPEG")) is ContentType.JPEG
    assert decode.sniff(encoded(image, "PNG")) is ContentType.PNG
    assert decode.sniff(encoded(image, "WEBP")) is ContentType.WEBP


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_other_image_types_are_unsupported(kind):
    with pytest.raises(errors.UnsupportedMediaType):
        decode.decode(encoded(noise((32, 32)), kind), None)


def test_a_content_type_that_the_bytes_contradict_is_unsupported():
    with pytest.raises(errors.UnsupportedMediaType, match=r"image/jpeg.*image/png"):
        decode.decode(encoded(noise((9, 7)), "PNG"), ContentType.JPEG)


@pytest.mark.parametrize(
    "body", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x04\0\0\0WEBP", b"\x89PNG\r\n\x1a\n" + b"x" * 99]
)
def test_fragments_are_bad_requests(body):
    with pytest.raises(errors.BadRequest):
        decode.decode(body, None)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_a_bad_request(kind):
    body = encoded(noise((64, 64)), kind)
    with pytest.raises(errors.BadRequest, match="cannot be decoded"):
        decode.decode(body[: len(body) // 2], None)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_bytes_decode_or_are_bad_requests_and_nothing_else(data):
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "WEBP"]))
    body = bytearray(encoded(noise((24, 17)), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode.decode(bytes(body), None)
    except errors.BadRequest:
        return
    assert image.mode == "RGB"


def png_header(width: int, height: int) -> bytes:
    import zlib

    data = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + data
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\x01IDATx"
    )


@pytest.mark.parametrize("size", [(5_001, 5_000), (60_000, 60_000), (2_000_000_000, 1)])
def test_too_many_pixels_are_refused_by_the_header_alone(size):
    with pytest.raises(errors.PayloadTooLarge):
        decode.decode(png_header(*size), None)


def test_as_many_pixels_as_allowed_are_decoded():
    side = int(contract.MAX_PIXELS**0.5)
    assert decode.decode(encoded(Image.new("1", (side, side)), "PNG"), None).size == (side, side)


RED = (200, 10, 20)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_the_same_rgb(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    plain = Image.new("RGB", (16, 16), RED)
    body = encoded(
        plain.quantize() if mode == "P" else plain.convert(mode), kind, **({"quality": 100} if kind == "JPEG" else {})
    )
    image = decode.decode(body, None)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, dtype=int) - RED).max() <= 6


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_becomes_three_equal_channels(mode):
    pixels = np.asarray(decode.decode(encoded(Image.new("L", (5, 5), 255).convert(mode), "PNG"), None))
    assert pixels.shape == (5, 5, 3)
    assert (pixels == 255).all()


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65_535, 256, dtype=np.uint16).reshape(1, 256).repeat(4, axis=0)
    pixels = np.asarray(decode.decode(encoded(Image.fromarray(ramp), "PNG"), None))
    assert np.abs(pixels[0, :, 0].astype(int) - np.arange(256)).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_lies_over_white(kind):
    body = encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert (np.asarray(decode.decode(body, None)) == 255).all()


def test_a_transparent_palette_colour_lies_over_white():
    image = Image.new("P", (4, 4), 0)
    image.putpalette([10, 20, 30])
    assert (np.asarray(decode.decode(encoded(image, "PNG", transparency=0), None)) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    from PIL import ImageOps

    image = Image.new("RGB", (24, 16), "black")
    image.paste("white", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = encoded(image, "PNG", exif=exif)
    with Image.open(io.BytesIO(body)) as turned:
        expected = ImageOps.exif_transpose(turned)
    found = decode.decode(body, None)
    assert found.size == ((24, 16) if orientation < 5 else (16, 24))
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_leaves_the_pixels_as_they_lie():
    body = encoded(noise((20, 10)), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decode.decode(body, None).size == (20, 10)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_frame_counts(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    options = {"lossless": True} if kind == "WEBP" else {}
    body = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (np.asarray(decode.decode(body, None)) == 255).all()


@hypothesis_settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 400), height=st.integers(1, 400), size=st.integers(1, 32), extra=st.integers(0, 9))
def test_the_square_is_what_resizing_the_whole_and_cropping_gives(width, height, size, extra):
    image, resize = noise((width, height), seed=width), size + extra
    factor = resize / min(width, height)
    whole = image.resize(
        (max(resize, round(width * factor)), max(resize, round(height * factor))), Image.Resampling.BILINEAR
    )
    left, top = (whole.width - size) // 2, (whole.height - size) // 2
    expected = np.asarray(whole.crop((left, top, left + size, top + size)), dtype=int)
    found = decode.centre_square(image, resize=resize, size=size)
    assert found.shape == (size, size, 3)
    # Of long strips only the middle is scaled, where the last bit of a float may round otherwise.
    assert np.abs(found.astype(int) - expected).max() <= (max(whole.size) > 16 * resize)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (1, 1), (3, 9_999)])
def test_extreme_shapes_give_the_square_in_no_time(size):
    assert decode.centre_square(Image.new("RGB", size, RED), resize=256, size=224).shape == (224, 224, 3)


def test_normalization_is_channels_first_and_per_channel():
    square = np.zeros((2, 2, 3), dtype=np.uint8)
    square[..., 0] = 255
    found = decode.normalized(square, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))
    assert found.shape == (1, 3, 2, 2)
    assert found.dtype == np.float32
    assert (found[0, 0] == 1).all()
    assert (found[0, 1] == -1).all()
    assert (found[0, 2] == 0).all()


def test_serving_sees_the_pixels_that_training_measured_its_accuracy_with():
    images = pytest.importorskip("kennel.training.images")
    shapes = [((500, 375), 224), ((333, 481), 96), ((97, 64), 64), ((224, 256), 224), ((700, 100), 64)]
    for seed, (size, side) in enumerate(shapes):
        body = encoded(noise(size, seed=seed), "PNG")
        resize = images.resize_for(side)
        trained = images.evaluation_view(images.reduced(images.read(body), resize), side)
        served = decode.centre_square(decode.decode(body, None), resize=resize, size=side)
        assert np.array_equal(trained, served)
