"""The Docker engine of this machine: how to reach it, and what to say when there is none."""

from __future__ import annotations

import docker
from docker.errors import DockerException

from kennel import errors

_ANSWER_SECONDS = 120
"""Longest that one call of the engine may take; removing a large container is slow on a busy disk."""


def connect() -> docker.DockerClient:
    """A client of the engine at DOCKER_HOST, or at its usual socket. Raises Unavailable when none answers."""
    try:
        client = docker.from_env(timeout=_ANSWER_SECONDS)
        client.ping()
    except (DockerException, OSError) as error:  # requests' errors are OSErrors
        raise errors.Unavailable(
            f"no Docker engine answers: {error}",
            hint="Start Docker, or name its socket in DOCKER_HOST. `make run` alone needs no engine.",
        ) from error
    return client
