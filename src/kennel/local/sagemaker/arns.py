"""Names of the account that the local AWS is. The account number is moto's."""

from __future__ import annotations

from collections.abc import Callable

ACCOUNT = "123456789012"

Arn = Callable[[str, str], str]
"""`arn("training-job", "name")` → the resource's ARN."""


def arns_of(region: str) -> Arn:
    """The function that names SageMaker's resources in `region`."""
    return lambda kind, name: f"arn:aws:sagemaker:{region}:{ACCOUNT}:{kind}/{name.lower()}"
