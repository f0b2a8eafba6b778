"""What an instance type is, told from its name: SageMaker's (`ml.g4dn.xlarge`) or EC2's (`g4dn.xlarge`). Pure.

AWS composes the names of its rules: a family's letters, its generation, letters for what it has, then the size.
"""

from __future__ import annotations

import re

_TYPE = re.compile(r"(?:ml\.)?(?P<family>(?P<letters>[a-z]+)\d+(?P<attributes>[a-z]*)(?:-[a-z0-9]+)*)\.[a-z0-9-]+")

_LOCAL_STORAGE_UNNAMED = frozenset(
    {
        *("g5", "g6", "gr6", "g6e", "g7", "g7e"),
        *("p5", "p5e", "p5en", "p6-b200", "p6-b300", "p6e-gb200"),
        *("trn1", "trn1n", "trn2", "dl1"),
    }
)
"""Families of SageMaker's with NVMe volumes whose names do not say so: what EC2's DescribeInstanceTypes answers as
InstanceStorageSupported (a test compares them with a copy of it), and the EC2 guide for p6e-gb200 and dl1."""


def has_local_storage(instance_type: str) -> bool:
    """Whether instances have NVMe volumes of their own, which hardware encrypts.

    Where they have, SageMaker attaches no other volume, charges none, and takes no KMS key for it: it refuses
    CreateEndpointConfig's `KmsKeyId` and ResourceConfig's `VolumeKmsKeyId`. In EC2's rules for names, the `d`
    after the generation stands for these volumes.

    >>> [has_local_storage(name) for name in ("ml.g4dn.xlarge", "ml.c5d.large", "ml.g5.xlarge", "ml.p3dn.24xlarge")]
    [True, True, True, True]
    >>> [has_local_storage(name) for name in ("ml.c5.large", "ml.p3.2xlarge", "ml.m7i-flex.large", "ml.inf2.xlarge")]
    [False, False, False, False]
    """
    found = _TYPE.fullmatch(instance_type)
    return found is not None and (found["family"] in _LOCAL_STORAGE_UNNAMED or "d" in found["attributes"])


def has_gpu(instance_type: str) -> bool:
    """Whether instances have GPUs that CUDA knows.

    >>> [has_gpu(name) for name in ("ml.g5.xlarge", "ml.p3.2xlarge", "ml.c6g.large", "ml.trn1.2xlarge")]
    [True, True, False, False]
    """
    found = _TYPE.fullmatch(instance_type)
    return found is not None and found["letters"] in ("g", "gr", "p")


def is_burstable(instance_type: str) -> bool:
    """Whether instances save up CPU time while idle and spend it under load.

    >>> [is_burstable(name) for name in ("ml.t2.medium", "ml.t3.large", "ml.trn1.2xlarge", "ml.m5.large")]
    [True, True, False, False]
    """
    found = _TYPE.fullmatch(instance_type)
    return found is not None and found["letters"] == "t"
