"""What the names of instance types say, compared with a copy of what EC2 answers about them."""

import gzip
import json
from pathlib import Path
from typing import Any

import moto.ec2
import pytest

from kennel.pipeline import asl
from kennel.pipeline.instance_types import has_gpu, has_local_storage, is_burstable

DESCRIBED: dict[str, dict[str, Any]] = json.loads(
    gzip.decompress((Path(moto.ec2.__file__).parent / "resources" / "instance_types.json.gz").read_bytes())
)
"""EC2's DescribeInstanceTypes, which moto carries."""


def types_of_sagemaker() -> list[str]:
    model = asl.service_model("sagemaker")
    assert model is not None
    shapes = ("TrainingInstanceType", "ProductionVariantInstanceType")
    return sorted({kind for shape in shapes for kind in model.shape_for(shape).metadata["enum"]})


KNOWN = [kind for kind in types_of_sagemaker() if kind.removeprefix("ml.") in DESCRIBED]


def test_nearly_all_types_of_sagemaker_are_described():
    unknown = {kind.split(".")[1] for kind in types_of_sagemaker()} - {kind.split(".")[1] for kind in KNOWN}
    assert unknown <= {"dl1", "p2", "p3", "p6e-gb200"}


def said(kind: str) -> tuple[bool, bool, bool]:
    return has_local_storage(kind), has_gpu(kind), is_burstable(kind)


def answered(kind: str) -> tuple[bool, bool, bool]:
    described = DESCRIBED[kind.removeprefix("ml.")]
    gpus = described.get("GpuInfo", {}).get("Gpus", [])
    nvidia = any(gpu["Manufacturer"] == "NVIDIA" for gpu in gpus)
    return described["InstanceStorageSupported"], nvidia, described["BurstablePerformanceSupported"]


def test_the_names_say_what_ec2_answers():
    assert {kind: said(kind) for kind in KNOWN} == {kind: answered(kind) for kind in KNOWN}


@pytest.mark.parametrize("kind", ["", "ml", "ml.", "example", "ml.g4dn"])
def test_what_is_no_type_has_nothing(kind):
    assert not (has_local_storage(kind) or has_gpu(kind) or is_burstable(kind))
