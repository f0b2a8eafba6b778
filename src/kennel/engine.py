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
        reason = _reason(error)
        hint = "Start Docker, or name its socket in DOCKER_HOST (`docker context inspect` shows it)."
        if isinstance(reason, PermissionError):
            hint = "You may not use its socket: let an administrator add you to its group, most often `docker`."
        said = reason.strerror if isinstance(reason, OSError) else reason
        raise errors.Unavailable(
            f"no Docker engine answers: {said}", hint=f"{hint}\n  `make run` alone needs no engine."
        ) from error
    return client


def _reason(error: BaseException) -> BaseException:
    """What the system said, from among the libraries' errors around it.

    >>> _reason(DockerException("Error while fetching", ConnectionError("aborted", PermissionError(13, "No way"))))
    PermissionError(13, 'No way')
    >>> _reason(DockerException("a word of its own"))
    DockerException('a word of its own')
    """
    ahead: list[object] = [error]
    while ahead:
        found = ahead.pop(0)
        if isinstance(found, OSError) and isinstance(found.strerror, str):
            return found
        if isinstance(found, BaseException):
            ahead += [*found.args, found.__cause__, found.__context__]
    return error
