"""The role of a model: SageMaker takes it to read the model when it is made, and for each instance that serves it."""

from __future__ import annotations

from typing import Any

from kennel.local.iam.roles import Acting, Denial, Roles
from kennel.local.iam.sagemaker import SERVICE
from kennel.local.sagemaker.storage import split_uri
from kennel.local.wire import ServiceError


def assume(roles: Roles, model: dict[str, Any], container: dict[str, Any], *, arn: str) -> Acting:
    """Act with a model's role. `arn` is the model's.

    Raises ServiceError if the role cannot be taken or may not read the model data of the container.
    """
    role_arn, url = model["ExecutionRoleArn"], container["ModelDataUrl"]
    bucket, key = split_uri(url)
    try:
        role = roles.assume(role_arn, service=SERVICE, name="SageMaker", source_arn=arn)
        role.may_read(bucket, [key])
    except (ServiceError, Denial) as error:
        raise ServiceError(
            "ValidationException",
            f'Could not access model data at {url}. Please ensure that the role "{role_arn}" exists and that its trust '
            f'relationship policy allows the action "sts:AssumeRole" for the service principal "{SERVICE}". Also '
            'ensure that the role has "s3:GetObject" permissions and that the object is located in this region. '
            f"{error}",
        ) from error
    return role
