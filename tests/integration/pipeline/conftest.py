"""A local AWS in a process of its own, in which stacks are made."""

from collections.abc import Iterator

import pytest

from kennel.local import launcher
from kennel.pipeline.aws import Aws


@pytest.fixture(scope="session")
def local_aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Aws]:
    local = launcher.start(tmp_path_factory.mktemp("local"), region="eu-west-1", port=0, outlive_us=False)
    yield Aws(region="eu-west-1", endpoint_url=local.endpoint_url)
    local.stop()
