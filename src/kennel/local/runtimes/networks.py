"""Networks of jobs and instances, and whatever a local AWS has left on the engine, by its labels.

Everything here takes a client of the engine and returns when the engine has done it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from kennel import errors

STATE_DIR_LABEL = "kennel.state-dir"
_NO_BRIDGE_ADDRESS = "com.docker.network.bridge.inhibit_ipv4"
_LEAVING_SECONDS = 5.0
"""How long the engine may take to see that the last container has left a network."""


def create(client: Any, *, name: str, labels: dict[str, str], isolated: bool, reached: bool) -> None:
    """Make a network of its own for one job or instance. Raises Unavailable.

    An `isolated` one has no way out. Unless it must be `reached` from this machine, this machine has no address
    in it either: the engine keeps containers of an internal network from the world, not from their own bridge.
    """
    options = {_NO_BRIDGE_ADDRESS: "true"} if isolated and not reached else {}
    try:
        client.networks.create(name, driver="bridge", internal=isolated, labels=labels, options=options)
    except APIError as error:
        if "address pool" in str(error.explanation):
            raise errors.Unavailable(
                "the Docker engine has no network left for another job or instance",
                hint="It has about 30. Let fewer run at a time, or see `docker network ls` for what nobody uses.",
            ) from error
        raise errors.Unavailable(f"the Docker engine makes no network: {error.explanation}") from error


def remove(client: Any, name: str) -> None:
    """Remove the network; that there is none is no error. Raises APIError while containers are in it."""
    deadline = time.monotonic() + _LEAVING_SECONDS
    while True:
        try:
            client.api.remove_network(name)
        except NotFound:
            return
        except APIError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def remove_all(client: Any, labels: dict[str, str]) -> int:
    """Remove every container and network that has all of the labels; return how many there were."""
    chosen = {"label": [f"{name}={value}" for name, value in labels.items()]}
    containers = client.api.containers(all=True, filters=chosen)
    for container in containers:
        try:
            client.api.remove_container(container["Id"], force=True, v=True)
        except APIError as error:  # gone, or somebody else is removing it at this moment
            if error.status_code not in (404, 409):
                raise
    found = client.api.networks(filters=chosen)
    for network in found:
        remove(client, network["Id"])
    return len(containers) + len(found)


def sweep(client: Any, state_dir: Path) -> int:
    """Remove what an earlier local AWS that worked in `state_dir` has left; return how many things that were."""
    return remove_all(client, {STATE_DIR_LABEL: str(state_dir)})
