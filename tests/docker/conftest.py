"""The small image that stands for one of ours where a test wants a `train` or `serve` that does as it is told."""

import pytest
import runtime_rig


@pytest.fixture(scope="session")
def image(engine):
    tag = runtime_rig.build(engine)
    yield tag
    engine.images.remove(tag, force=True)
