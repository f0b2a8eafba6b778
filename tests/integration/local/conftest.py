"""One local AWS for all tests of this folder: moto's state is the process's."""

import pytest
from fake_runtime import FakeRuntime

from kennel.local.server import LocalAws
from local_rig import REGION, Aws


@pytest.fixture(scope="session")
def aws(tmp_path_factory):
    folder = tmp_path_factory.mktemp("aws")
    runtime = FakeRuntime()
    server = LocalAws(port=0, state_dir=folder, region=REGION, runtime=runtime)
    server.start()
    rig = Aws(server.endpoint_url, server, runtime)
    rig.server_dir = folder
    yield rig
    server.close()
    assert [process.poll() for process in runtime.started if process.poll() is None] == []
