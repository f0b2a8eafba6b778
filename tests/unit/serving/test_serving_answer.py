import base64
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image

from kennel import errors
from kennel.contract import Prediction
from kennel.serving import wire
from kennel.serving.answer import DataPlane
from kennel.serving.model import Model

LABELS = ("a", "b", "c", "d", "e", "f", "g")


class Ranker:
    """A predictor that ranks the labels in their order."""

    model = Model(
        directory=Path("/nowhere"),
        format_version=1,
        backbone="ranker",
        labels=LABELS,
        image_size=8,
        resize=8,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        data_digest="d1",
        model_sha256="m1",
        example_label=None,
    )

    def predict(self, image, *, top_k):
        assert image.mode == "RGB"
        return tuple(Prediction(label=label, probability=1 / 2 ** (i + 1)) for i, label in enumerate(LABELS[:top_k]))


PLANE = DataPlane(Ranker())


def picture(kind="JPEG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, format=kind)
    return buffer.getvalue()


def ask(body: bytes | dict, content_type: str = "application/json"):
    status, answer = PLANE.answer(body if isinstance(body, bytes) else json.dumps(body).encode(), content_type)
    return status, json.loads(answer)


@pytest.mark.parametrize(
    ("kind", "content_type"),
    [
        ("JPEG", "image/jpeg"),
        ("PNG", "image/png"),
        ("WEBP", "image/webp"),
        ("JPEG", "Image/JPEG; charset=UTF-8"),
        ("PNG", "  image/png ;q=1"),
        ("WEBP", "application/x-image"),
    ],
)
def test_an_image_of_each_type_is_answered(kind, content_type):
    status, answer = ask(picture(kind), content_type)
    assert status == 200
    assert [p["label"] for p in answer["predictions"]] == list("abcde")
    assert answer["model"] == {
        "backbone": "ranker",
        "classes": 7,
        "data_digest": "d1",
        "format_version": 1,
        "model_sha256": "m1",
    }


def test_json_carries_an_image_in_base64_line_breaks_included():
    text = base64.encodebytes(picture("PNG")).decode()
    assert "\n" in text
    assert ask({"image": text})[0] == 200


@pytest.mark.parametrize("top_k", [1, 7])
def test_top_k_is_respected(top_k):
    status, answer = ask({"image": base64.b64encode(picture()).decode(), "top_k": top_k})
    assert status == 200
    assert len(answer["predictions"]) == top_k


@pytest.mark.parametrize("top_k", [0, 8, -1, 1.5, "1", None, True])
def test_a_wrong_top_k_is_a_bad_request(top_k):
    status, answer = ask({"image": base64.b64encode(picture()).decode(), "top_k": top_k})
    assert (status, answer["error"]["code"]) == (400, "BadRequest")
    assert "from 1 to 7" in answer["error"]["message"]


@pytest.mark.parametrize(
    "content_type", ["", "text/plain", "image/gif", "multipart/form-data; boundary=x", "image/*", ";"]
)
def test_other_content_types_are_told_what_is_accepted(content_type):
    status, answer = ask(picture(), content_type)
    assert (status, answer["error"]["code"]) == (415, "UnsupportedMediaType")
    assert "image/jpeg" in answer["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"\xff\xfe\xff",
        b"[" * 100_000,
        b"1" * 5_000,
        b"{}",
        b'{"image": 5}',
        b'{"image": null}',
        b'{"image": "@@@"}',
        b'{"image": "YQ"}',
        b'{"image": "\xc3\xa4"}',
        b'{"image": ""}',
        b'{"image": "data:image/png;base64,YQ=="}',
        b'{"example": false}',
        b'{"example": 1}',
        b'{"example": true}',
        b'{"example": true, "image": "YQ=="}',
        b'{"url": "http://example.com"}',
    ],
)
def test_malformed_json_requests_are_bad_requests(body):
    status, answer = ask(body)
    assert (status, answer["error"]["code"]) == (400, "BadRequest")


def test_json_with_bytes_that_are_no_image_is_unsupported():
    assert ask({"image": base64.b64encode(b"GIF89a").decode()})[0] == 415


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    body=st.binary(max_size=200),
    content_type=st.sampled_from(["image/jpeg", "application/json", "application/x-image", "x"]),
)
def test_no_input_is_answered_with_a_server_error(body, content_type):
    status, answer = PLANE.answer(body, content_type)
    assert status in (200, 400, 413, 415)
    assert "Traceback" not in json.dumps(json.loads(answer))


def test_a_bug_is_not_taken_for_a_bad_request():
    class Broken(Ranker):
        def predict(self, image, *, top_k):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        DataPlane(Broken()).answer(picture(), "image/jpeg")


def test_an_error_body_says_what_and_what_to_do():
    body = json.loads(wire.error_body(errors.BadRequest("it is empty", hint="Send more")))
    assert body == {"error": {"code": "BadRequest", "message": "it is empty. Send more."}}
