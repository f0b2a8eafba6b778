"""config/prices.toml, and what is said of one that cannot be used."""

import pytest

import configurations
from kennel.errors import InvalidArguments
from kennel.pipeline import asl
from kennel.pipeline.plans import prices

TEXT = (configurations.ROOT / "config" / "prices.toml").read_text()


def test_the_prices_name_only_types_that_sagemaker_has():
    model = asl.service_model("sagemaker")
    assert model is not None
    types = {
        kind
        for shape in ("TrainingInstanceType", "ProductionVariantInstanceType")
        for kind in model.shape_for(shape).metadata["enum"]
    }
    found = prices.parse(TEXT, where="prices.toml")
    assert found.sagemaker.keys() <= types
    assert {"ml.m5.large", "ml.c5.large", "ml.g4dn.xlarge", "ml.p3.2xlarge"} <= found.sagemaker.keys()


def test_an_instance_of_sagemaker_costs_more_than_the_same_of_ec2_and_less_than_half_more():
    found = prices.parse(TEXT, where="prices.toml")
    for kind in found.ec2.keys() & {name.removeprefix("ml.") for name in found.sagemaker}:
        assert 1.1 < found.sagemaker[f"ml.{kind}"] / found.ec2[kind] < 1.5, kind


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("date = 2025-07-01", "", "date is missing"),
        ("kms_key = 1.0", "", "month.kms_key is missing"),
        ("kms_key = 1.0", "kms_keys = 1.0", "month.kms_keys is unknown"),
        (
            "provisioned_idle_gb_second = 0.0000041667",
            'provisioned_idle_gb_second = "dear"',
            "lambda.provisioned_idle_gb_second is 'dear'",
        ),
        ('"ml.m5.large" = 0.115', '"ml.m5.large" = -1', "sagemaker.ml.m5.large is -1"),
        ('"ml.m5.large" = 0.115', '"ml.m5.large" = nan', "sagemaker.ml.m5.large is nan"),
        ("[ec2]", "[ec]", "ec2 is missing"),
        ("date = ", "date ", "Expected"),
    ],
)
def test_a_price_that_cannot_be_used_is_named(before, after, said):
    with pytest.raises(InvalidArguments) as refused:
        prices.parse(TEXT.replace(before, after, 1), where="prices.toml")
    assert any(said in problem for problem in refused.value.problems), refused.value.problems
    assert refused.value.where == "prices.toml"
