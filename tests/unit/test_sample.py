import io

import numpy as np
from PIL import Image

from kennel.sample import BREEDS, picture


def draw(breed, *seed):
    return picture(breed, random=np.random.default_rng(seed))


def test_the_same_random_source_draws_the_same_bytes():
    assert draw(BREEDS[0], 1) == draw(BREEDS[0], 1)
    assert draw(BREEDS[0], 1) != draw(BREEDS[0], 2)


def test_every_breed_can_be_drawn_in_both_orientations_and_many_sizes():
    for breed in BREEDS:
        sizes = [Image.open(io.BytesIO(draw(breed, seed))).size for seed in range(8)]
        assert all(80 <= side <= 320 for size in sizes for side in size)
        assert len(set(sizes)) > 4
    assert {w > h for w, h in (Image.open(io.BytesIO(draw(BREEDS[0], seed))).size for seed in range(20))} == {
        True,
        False,
    }


def test_breeds_have_names_of_their_own_and_share_coats():
    assert len({breed.name for breed in BREEDS}) == len(BREEDS) >= 10
    coats = [coat for breed in BREEDS for coat in breed.coats]
    assert all(coats.count(coat) > 1 for coat in coats), "a coat that only one breed wears would give it away"
