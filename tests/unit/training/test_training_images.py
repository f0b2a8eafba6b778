import io

import numpy as np
import pytest
from PIL import Image

from kennel import contract
from kennel.training import images


def encoded(image: Image.Image, **given) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **given)
    return buffer.getvalue()


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=2).astype(np.uint8))


def test_a_jpeg_named_anything_is_read_by_its_bytes():
    assert images.read(encoded(gradient(40, 30), format="JPEG")).size == (40, 30)


def test_transparency_lies_over_white_and_sixteen_bits_become_eight():
    clear = images.read(encoded(Image.new("RGBA", (4, 4), (255, 0, 0, 0)), format="PNG"))
    assert clear.getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.full((4, 4), 65535 // 2, dtype=np.uint16))
    assert images.read(encoded(deep, format="PNG")).getpixel((0, 0)) == (127, 127, 127)


def test_the_camera_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert images.read(encoded(gradient(40, 20), format="JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize("content", [b"", b"not an image", encoded(gradient(200, 200), format="JPEG")[:900]])
def test_broken_bytes_are_a_value_error(content):
    with pytest.raises(ValueError):
        images.read(content)


def test_more_pixels_than_serving_takes_are_refused():
    with pytest.raises(ValueError, match=str(contract.MAX_PIXELS)):
        images.read(encoded(Image.new("1", (6000, 5000)), format="PNG"))


@pytest.mark.parametrize(("size", "expected"), [((300, 150), (46, 92)), ((90, 120), (61, 46)), ((1000, 50), (46, 92))])
def test_the_short_side_is_reduced_and_the_long_side_is_bounded(size, expected):
    assert images.reduced(gradient(*size), 46).shape == (*expected, 3)


def test_the_evaluation_view_is_the_middle():
    pixels = images.reduced(gradient(92, 46), 46)
    assert np.array_equal(images.evaluation_view(pixels, 40), pixels[3:43, 26:66])


def test_the_training_view_varies_with_its_random_source_alone():
    pixels = images.reduced(gradient(92, 60), 46)

    def view(seed):
        return images.training_view(pixels, 40, random=np.random.default_rng(seed))

    assert view(1).shape == (40, 40, 3)
    assert np.array_equal(view(1), view(1))
    assert not np.array_equal(view(1), view(2))


def test_the_example_is_small_and_carries_no_metadata():
    exif = Image.Exif()
    exif[0x010F] = "a camera"
    source = images.read(encoded(gradient(1600, 900), format="JPEG", exif=exif))
    small = Image.open(io.BytesIO(images.reencoded(source)))
    assert max(small.size) == 512
    assert not small.getexif()
