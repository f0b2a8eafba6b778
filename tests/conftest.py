"""What all kinds of tests share. Puts this folder on the import path: modules in it are shared, too.

Tests marked `docker` use real containers on a real engine. Where there is none they are skipped, and say what was
not proven.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
REGISTRY = "127.0.0.1:5000"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="write tests/goldens anew instead of comparing")


@pytest.hookimpl(trylast=True)  # after -m and -k have chosen
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    chosen = [item for item in items if item.get_closest_marker("docker")]
    if not chosen:
        return
    missing = _missing_engine()
    for item in chosen:
        item.add_marker(pytest.mark.timeout(900))  # the first to ask builds the images
        if missing:
            item.add_marker(pytest.mark.skip(reason=f"nothing about containers was proven: {missing}"))


def _missing_engine() -> str:
    """Why there is no engine; empty if there is one."""
    from kennel import engine, errors

    try:
        engine.connect().close()
    except errors.Unavailable as error:
        return error.what
    return ""


@pytest.fixture(scope="session")
def engine() -> Iterator[Any]:
    """A client of the Docker engine."""
    from kennel import engine

    client = engine.connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def registry() -> str:
    """Address of a registry without authentication, as the local AWS takes for ECR's data plane."""
    try:
        with urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=2):
            return REGISTRY
    except (urllib.error.URLError, OSError):
        pytest.skip(f"nothing about pushes was proven: no registry answers at {REGISTRY}")


@pytest.fixture(scope="session")
def images(engine: Any) -> dict[str, Any]:
    """Part → our two images of this source, built unless the engine has them."""
    from kennel import config
    from kennel.pipeline import images

    chosen = config.parse((ROOT / "config" / "local.toml").read_text(), where="config/local.toml")
    return {image.part: images.build(engine, image, root=ROOT, say=print) for image in images.of(chosen, ROOT)}
