"""Real containers on a real engine. Where there is none, these tests are skipped and say what was not proven."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from kennel import config as configuration
from kennel import engine as engines
from kennel.errors import Unavailable
from kennel.pipeline import images as ours

ROOT = Path(__file__).resolve().parents[2]
REGISTRY = "127.0.0.1:5000"


def _engine() -> docker.DockerClient | None:
    try:
        return engines.connect()
    except Unavailable:
        return None


_ENGINE = _engine()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if _ENGINE is None:
        skip = pytest.mark.skip(reason="no Docker engine answers: nothing about containers was proven")
        for item in items:
            if item.get_closest_marker("docker"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    assert _ENGINE is not None
    yield _ENGINE
    _ENGINE.close()


@pytest.fixture(scope="session")
def registry() -> str:
    """Address of a registry without authentication, as the local AWS takes for ECR's data plane."""
    try:
        with urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=2):
            return REGISTRY
    except (urllib.error.URLError, OSError):
        pytest.skip(f"no registry answers at {REGISTRY}: nothing about pushes was proven")


@pytest.fixture(scope="session")
def images(engine: docker.DockerClient) -> dict[str, ours.Built]:
    """Part → our two images of this source, built unless the engine has them."""
    config = configuration.parse((ROOT / "config" / "local.toml").read_text(), where="config/local.toml")
    return {image.part: ours.build(engine, image, root=ROOT, say=print) for image in ours.of(config, ROOT)}
