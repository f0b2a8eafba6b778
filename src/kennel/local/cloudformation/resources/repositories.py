"""AWS::ECR::Repository."""

from __future__ import annotations

from collections.abc import Mapping

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Properties, Wanted, names, or_undone


def _make(api: Api, wanted: Wanted) -> Made:
    name = wanted.name("RepositoryName").lower()
    repository = api(
        "ecr",
        "CreateRepository",
        repositoryName=name,
        imageTagMutability=wanted.get("ImageTagMutability"),
        imageScanningConfiguration=wanted.get("ImageScanningConfiguration"),
        encryptionConfiguration=wanted.get("EncryptionConfiguration"),
    )["repository"]
    with or_undone(lambda: api("ecr", "DeleteRepository", repositoryName=name)):
        if policy := wanted.get("LifecyclePolicy"):
            api("ecr", "PutLifecyclePolicy", repositoryName=name, **policy)
    return Made(id=name, attributes={"Arn": repository["repositoryArn"], "RepositoryUri": repository["repositoryUri"]})


def _update(api: Api, changed: Changed) -> Made:
    name = changed.id
    if changed.differs("ImageTagMutability"):
        mutability = changed.get("ImageTagMutability", "MUTABLE")
        api("ecr", "PutImageTagMutability", repositoryName=name, imageTagMutability=mutability)
    if changed.differs("ImageScanningConfiguration"):
        scanning = changed.get("ImageScanningConfiguration", {"ScanOnPush": False})
        api("ecr", "PutImageScanningConfiguration", repositoryName=name, imageScanningConfiguration=scanning)
    if changed.differs("LifecyclePolicy"):
        if policy := changed.get("LifecyclePolicy"):
            api("ecr", "PutLifecyclePolicy", repositoryName=name, **policy)
        else:
            api("ecr", "DeleteLifecyclePolicy", repositoryName=name)
    return changed.made


def _remove(api: Api, made: Made, properties: Properties) -> None:
    api("ecr", "DeleteRepository", repositoryName=made.id, force=properties.get("EmptyOnDelete", False))


KINDS: Mapping[str, Kind] = {
    "AWS::ECR::Repository": Kind(
        attributes=names("Arn RepositoryUri"),
        properties=names(
            "RepositoryName EmptyOnDelete ImageTagMutability ImageScanningConfiguration EncryptionConfiguration "
            "LifecyclePolicy"
        ),
        fixed=names("RepositoryName EncryptionConfiguration"),
        name="RepositoryName",
        make=_make,
        update=_update,
        remove=_remove,
    ),
}
