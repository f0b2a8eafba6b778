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
            f"no Docker engine answers: {_reason(error)}",
            hint="Start Docker, or name its socket in DOCKER_HOST. `make run` alone needs no engine.",
        ) from error
    return client


def _reason(error: BaseException) -> str:
    """What the system said, from among the libraries' words around it.

    >>> _reason(DockerException("Error while fetching", ConnectionError("aborted", PermissionError(13, "No way"))))
    'No way'
    >>> _reason(DockerException("a word of its own"))
    'a word of its own'
    """
    ahead: list[object] = [error]
    while ahead:
        found = ahead.pop(0)
        if isinstance(found, OSError) and isinstance(found.strerror, str):
            return found.strerror
        if isinstance(found, BaseException):
            ahead += [*found.args, found.__cause__, found.__context__]
    return str(error)
