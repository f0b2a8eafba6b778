from pathlib import Path

import pytest

from kennel import errors
from kennel.serving import settings


def test_nothing_set_gives_the_containers_defaults():
    chosen = settings.read({}, cpus=3)
    assert (chosen.host, chosen.port, chosen.workers, chosen.threads) == ("127.0.0.1", 8080, 3, 1)
    assert chosen.model_dir == Path("/opt/ml/model")


def test_every_variable_is_read():
    chosen = settings.read(
        {
            "KENNEL_SERVING_PORT": "0",
            "KENNEL_SERVING_HOST": "0.0.0.0",
            "KENNEL_MODEL_DIR": "/models/a",
            "KENNEL_SERVING_WORKERS": "2",
            "KENNEL_SERVING_THREADS": "4",
            "KENNEL_SERVING_SILENCE_SECONDS": "7.5",
        },
        cpus=1,
    )
    assert (chosen.host, chosen.port, chosen.workers, chosen.threads) == ("0.0.0.0", 0, 2, 4)
    assert chosen.model_dir == Path("/models/a")
    assert chosen.silence_seconds == 7.5


def test_every_wrong_variable_is_named_at_once():
    environment = {"KENNEL_SERVING_PORT": "eighty", "KENNEL_SERVING_WORKERS": "0", "KENNEL_SERVING_THREADS": "1.5"}
    with pytest.raises(errors.InvalidArguments) as caught:
        settings.read(environment, cpus=1)
    assert len(caught.value.problems) == 3
    for name in environment:
        assert name in str(caught.value)


@pytest.mark.parametrize(
    ("quota", "affinity", "expected"),
    [
        ("max 100000", 4, 4),
        ("50000 100000", 4, 1),
        ("250000 100000", 8, 3),
        ("800000 100000", 2, 2),
        ("", 2, 2),
        ("x", 0, 1),
    ],
)
def test_workers_follow_the_quota_and_the_affinity(quota, affinity, expected):
    assert settings.cpus_within(quota, affinity=affinity) == expected
