"""The folder of the sample: reused, replaced, or left alone."""

import pytest

from kennel import sample
from kennel.errors import InvalidArguments

FEW = {"train": 2, "valid": 1, "test": 1}


@pytest.fixture
def folder(tmp_path):
    sample.generate(tmp_path / "sample", seed=1, classes=2, per_split=FEW)
    return tmp_path / "sample"


def pictures(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.jpg")}


def test_the_same_request_reuses_what_is_there(folder):
    assert sample.generate(folder, seed=1, classes=2, per_split=FEW).reused


def test_another_seed_replaces_an_untouched_sample_and_leaves_nothing_beside_it(folder):
    before = pictures(folder)
    drawn = sample.generate(folder, seed=2, classes=2, per_split=FEW)
    assert not drawn.reused
    assert pictures(folder).keys() == before.keys()
    assert pictures(folder) != before
    assert [path.name for path in folder.parent.iterdir()] == ["sample"]


def test_a_sample_that_somebody_changed_is_left_alone(folder):
    (folder / "train" / "my_dog.jpg").write_bytes(b"a photograph")
    with pytest.raises(InvalidArguments, match="untouched sample"):
        sample.generate(folder, seed=2, classes=2, per_split=FEW)
    assert (folder / "train" / "my_dog.jpg").read_bytes() == b"a photograph"


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"a photograph")
    with pytest.raises(InvalidArguments, match="untouched sample"):
        sample.generate(tmp_path, seed=1, classes=2, per_split=FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]
