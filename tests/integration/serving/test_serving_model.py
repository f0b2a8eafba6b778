import json

import pytest

from kennel import contract, errors
from kennel.serving import decode
from kennel.serving import model as models
from kennel.serving.answer import DataPlane
from kennel.serving.predictor import Predictor
from serving_artefacts import BLUE, GREEN, RED, network, picture, write_artefact


def test_a_sound_directory_is_read_in_full(tmp_path):
    model = models.verify(write_artefact(tmp_path))
    assert model.labels == ("red", "green", "blue")
    assert (model.image_size, model.resize, model.example_label) == (32, 37, "green")
    assert model.described()["classes"] == 3
    assert len(model.model_sha256) == 64


def test_a_directory_without_an_example_is_sound(tmp_path):
    model = models.verify(write_artefact(tmp_path, example=None))
    assert (model.example, model.example_label) == (None, None)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"format_version": 2}, "format version 2"),
        ({"format_version": "1"}, "format_version"),
        ({"classes": 4}, "3 labels for 4 classes"),
        ({"image_size": 0}, "image_size"),
        ({"image_size": True}, "image_size"),
        ({"resize": 31}, "resize"),
        ({"mean": [0.5, 0.5]}, "mean"),
        ({"std": [0.5, 0.5, 0]}, "std"),
        ({"std": [0.5, 0.5, float("inf")]}, "std"),
        ({"backbone": None}, "backbone"),
        ({"data": {}}, "data.digest"),
        ({"example": {"label": "purple"}}, "example.label"),
        ({"files": {}}, "files.model.onnx"),
        ({"files": {"../secret": "0" * 64}}, "../secret"),
        (
            {"files": {contract.MODEL_FILE: "0" * 64, contract.LABELS_FILE: "0" * 64, contract.EXAMPLE_FILE: "0" * 64}},
            "sha256",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_by_name(tmp_path, changes, named):
    with pytest.raises(errors.InvalidModel, match=None) as caught:
        models.verify(write_artefact(tmp_path, changes=changes))
    assert named in str(caught.value)


@pytest.mark.parametrize("name", [contract.MODEL_FILE, contract.LABELS_FILE, contract.EXAMPLE_FILE])
def test_a_changed_file_is_refused(tmp_path, name):
    path = write_artefact(tmp_path) / name
    path.write_bytes(path.read_bytes() + (b" " if name == contract.LABELS_FILE else b"\0"))
    with pytest.raises(errors.InvalidModel, match="sha256") as caught:
        models.verify(tmp_path)
    assert name in caught.value.where


@pytest.mark.parametrize(
    "name", [contract.MODEL_FILE, contract.LABELS_FILE, contract.MANIFEST_FILE, contract.EXAMPLE_FILE]
)
def test_a_missing_file_is_refused(tmp_path, name):
    (write_artefact(tmp_path) / name).unlink()
    with pytest.raises(errors.InvalidModel, match="cannot read it") as caught:
        models.verify(tmp_path)
    assert name in caught.value.where


def test_labels_that_are_no_list_of_names_are_refused(tmp_path):
    (write_artefact(tmp_path) / contract.LABELS_FILE).write_text('["a", "a", "b"]')
    with pytest.raises(errors.InvalidModel, match="twice"):
        models.read(tmp_path)


@pytest.mark.parametrize(("body", "label"), [(RED, "red"), (GREEN, "green"), (BLUE, "blue")])
def test_the_network_runs_and_names_the_colour(tmp_path, body, label):
    predictor = Predictor(models.verify(write_artefact(tmp_path)))
    ranked = predictor.predict(decode.decode(body, None), top_k=3)
    assert ranked[0].label == label
    assert [p.probability for p in ranked] == sorted((p.probability for p in ranked), reverse=True)
    assert sum(p.probability for p in ranked) == pytest.approx(1, abs=1e-5)


def test_only_the_centre_of_a_wide_picture_counts(tmp_path):
    from PIL import Image

    image = Image.new("RGB", (300, 100), "red")
    image.paste("blue", (100, 0, 200, 100))
    assert Predictor(models.read(write_artefact(tmp_path))).predict(image, top_k=1)[0].label == "blue"


@pytest.mark.parametrize("onnx_bytes", [b"not onnx", network(classes=2), network(size=64)])
def test_a_network_of_the_wrong_shape_is_refused_when_it_is_loaded(tmp_path, onnx_bytes):
    model = models.verify(write_artefact(tmp_path, onnx_bytes=onnx_bytes))
    with pytest.raises(errors.InvalidModel, match=None):
        Predictor(model)


def test_the_artefacts_own_example_is_answered_with_its_known_label(tmp_path):
    plane = DataPlane(Predictor(models.verify(write_artefact(tmp_path))))
    status, body = plane.answer(b'{"example": true, "top_k": 1}', "application/json")
    answer = json.loads(body)
    assert status == 200
    assert answer["expected"] == "green"
    assert [p["label"] for p in answer["predictions"]] == ["green"]


def test_fewer_classes_than_the_usual_ranking_are_ranked_in_full(tmp_path):
    plane = DataPlane(Predictor(models.verify(write_artefact(tmp_path))))
    _, body = plane.answer(picture((1, 2, 3)), "image/jpeg")
    assert len(json.loads(body)["predictions"]) == 3
