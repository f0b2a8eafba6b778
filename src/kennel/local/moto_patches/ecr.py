"""Names ECR's repositories after the registry that images are really in."""

from __future__ import annotations

from typing import Any

from moto.ecr.models import Repository


def keep_images_at(registry: str) -> None:
    """Change moto in this process: the URI of a repository that is made from now on is at `registry`."""
    initialize = Repository.__init__

    # moto's URI is that of a registry at AWS, where nothing can be pushed
    def initialize_here(repository: Any, *arguments: Any, **keywords: Any) -> None:
        initialize(repository, *arguments, **keywords)
        repository.uri = f"{registry}/{repository.name}"

    Repository.__init__ = initialize_here
