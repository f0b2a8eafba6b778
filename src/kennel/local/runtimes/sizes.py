"""How large an instance type is, from EC2's own table, which moto ships.

SageMaker's types are EC2's with `ml.` before them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Size:
    """What an instance has."""

    vcpus: int
    memory_bytes: int


def size_of(instance_type: str) -> Size | None:
    """The size of `ml.m5.large` and the like; None for a type that the table lacks."""
    # a second to import, and only containers need it
    from moto.ec2.models.instance_types import INSTANCE_TYPES  # noqa: PLC0415

    described = INSTANCE_TYPES.get(instance_type.removeprefix("ml."))
    if described is None:
        return None
    return Size(
        vcpus=described["VCpuInfo"]["DefaultVCpus"], memory_bytes=described["MemoryInfo"]["SizeInMiB"] * 1024 * 1024
    )


def shown(count: int) -> str:
    """A number of bytes as a person reads it.

    >>> shown(8 * 1024**3), shown(512 * 1024**2), shown(1536 * 1024**2), shown(700)
    ('8 GiB', '512 MiB', '1.5 GiB', '1 MiB')
    """
    mib = max(1, round(count / 1024**2))
    return f"{mib} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB".replace(".0 ", " ")
