"""One run of the pipeline whose local AWS is kept, for all end-to-end tests: it takes the better part of a minute."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import pipeline_runs
from kennel import sample
from pipeline_runs import Kept


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "small"
    sample.generate(folder, seed=1, classes=3, per_split={"train": 12, "valid": 4, "test": 4})
    return folder


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory, small_data: Path) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("pipeline")
    home = folder / "home"
    config = pipeline_runs.configuration(folder / "small.toml", data=small_data)
    try:
        code, out, err = pipeline_runs.run("run", "--config", config, "--keep", "--json", home=home)
        assert code == 0, out + err
        address = json.loads((home / "local" / "server.json").read_text())["endpoint_url"]
        image = next((small_data / "valid").rglob("*.jpg"))
        yield Kept(home=home, config=config, result=json.loads(out), said=err, endpoint_url=address, image=image)
    finally:
        code, out, _ = pipeline_runs.run("down", "--config", config, home=home)
        left = pipeline_runs.left_behind(str(home))
    assert (code, left) == (0, [])
    assert "has ended" in out
    assert list(home.glob("runs/*/result.json")), "results outlive the local AWS"
