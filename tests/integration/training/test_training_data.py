"""Data sets on disk: what is found, what is refused, what is left out."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from kennel import sample
from kennel.errors import InvalidArguments, InvalidData
from kennel.training.data import load, read_batches
from kennel.tree import find


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "dogs"
    sample.generate(root, seed=1, classes=3, per_split={"train": 8, "valid": 2, "test": 2})
    return root


@pytest.fixture
def dogs(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "dogs"))


def remove(path: Path) -> None:
    shutil.rmtree(path)


def empty(path: Path) -> None:
    remove(path)
    path.mkdir()


MASKED = "003.Masked_spitz"
FAULTS = {
    "no directory": (remove, "no data directory", ""),
    "empty directory": (empty, "no train and no valid and no test", ""),
    "no valid split": (lambda root: remove(root / "valid"), "no valid split", ""),
    "class missing in valid": (lambda root: remove(root / "valid" / MASKED), MASKED, "valid"),
    "class missing in train": (
        lambda root: remove(root / "train" / MASKED),
        f"{MASKED} is here, but not in train",
        "valid",
    ),
    "class without images": (lambda root: empty(root / "test" / MASKED), f"{MASKED} is here without an image", "test"),
    "no class": (lambda root: empty(root / "train"), "no class folder", "train"),
    "one class": (
        lambda root: [remove(path) for path in (root / "train").iterdir() if path.name != MASKED],
        f"only the class {MASKED}",
        "train",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_tree_is_refused_with_what_and_where(dogs, fault):
    spoil, what, where = FAULTS[fault]
    spoil(dogs)
    with pytest.raises(InvalidData) as caught:
        find(dogs)
    assert what in caught.value.what
    assert caught.value.where == str(dogs / where)
    assert caught.value.hint


def test_classes_may_have_any_names(dogs):
    for split in ("train", "valid", "test"):
        (dogs / split / MASKED).rename(dogs / split / "Ein größerer Spitz, 3.")
    assert find(dogs).classes[-1] == "Ein größerer Spitz, 3."


def test_up_to_five_percent_of_broken_images_are_left_out_and_more_are_refused(dogs):
    broken = sorted((dogs / "train").rglob("*.jpg"))
    broken[0].write_bytes(b"not an image")
    data = load(find(dogs), image_size=32, workers=1)
    assert [skipped.name for skipped in data.skipped] == ["train/001.Spotted_hound/001.jpg"]
    assert len(data.splits["train"]) == 23
    broken[1].write_bytes(b"")
    with pytest.raises(InvalidData, match=r"2 of 36 images cannot be decoded"):
        load(find(dogs), image_size=32, workers=1)


def test_images_too_many_for_memory_are_decoded_again_to_the_same_pixels(dogs):
    tree = find(dogs)
    kept, again = load(tree, image_size=32, workers=1), load(tree, image_size=32, workers=3, cache_bytes=0)
    assert kept.digest == again.digest
    assert again.splits["train"].pixels is None

    def pixels(held, workers):
        batches = [np.arange(0, 9), np.arange(9, 20), np.arange(20, 24)]
        found = read_batches(held, batches, image_size=32, workers=workers, random=np.random.default_rng)
        return [(batch.images.numpy(), batch.labels.numpy()) for batch in found]

    for one, two in zip(pixels(kept.splits["train"], 1), pixels(again.splits["train"], 3), strict=True):
        assert np.array_equal(one[0], two[0])
        assert np.array_equal(one[1], two[1])


def test_the_digest_is_of_names_and_bytes(dogs):
    before = load(find(dogs), image_size=32, workers=1).digest
    path = sorted((dogs / "train").rglob("*.jpg"))[0]
    path.write_bytes(path.read_bytes() + b"\0")
    assert load(find(dogs), image_size=32, workers=1).digest != before


def test_a_sample_depends_on_its_seed_alone_and_is_used_again(made, tmp_path):
    asked = {"classes": 3, "per_split": {"train": 8, "valid": 2, "test": 2}}
    other = sample.generate(tmp_path / "same", seed=1, **asked)
    again = sample.generate(made, seed=1, **asked)
    assert other.digest == again.digest
    assert (other.reused, again.reused) == (False, True)
    assert sample.generate(tmp_path / "different", seed=2, **asked).digest != other.digest
    assert other.images == len(list((tmp_path / "same").rglob("*.jpg"))) == 36
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_sample_never_overwrites_what_is_not_its_own(made, dogs):
    sorted(dogs.rglob("*.jpg"))[0].unlink()
    with pytest.raises(InvalidArguments, match="something else"):
        sample.generate(dogs, seed=1, classes=3, per_split={"train": 8, "valid": 2, "test": 2})
    assert len(list(dogs.rglob("*.jpg"))) == 35
