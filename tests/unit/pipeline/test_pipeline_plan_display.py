"""What people read of a plan, at 80 columns."""

import io
import json
from typing import Any

import pytest
from rich.console import Console

import configurations
from kennel import config
from kennel.pipeline.plans import display, plan, prices
from kennel.pipeline.plans.costs import Standing
from kennel.pipeline.resources import imagined

TIMES = "\N{MULTIPLICATION SIGN}"
DEFINITION = json.loads((configurations.ROOT / "statemachine" / "pipeline.asl.json").read_text())
PRICES = prices.parse((configurations.ROOT / "config" / "prices.toml").read_text(), where="prices.toml")
CHANGES = (
    ("create", "AWS::S3::Bucket", "Bucket", ""),
    ("replace", "AWS::KMS::Key", "Key", "KeySpec changes, which AWS cannot do in place"),
    (
        "create",
        "AWS::SageMaker::SomethingWithAVeryLongNameIndeedAndMore",
        "AResourceWhoseNameIsLongerThanTheColumn",
        "",
    ),
)


def shown(changes: dict[str, Any] | None = None, rows: Any = ()) -> list[str]:
    parsed = config.parse(configurations.text(changes), where="some.toml")
    standing = Standing(interface_endpoints=6, kms_keys=1, alarms=5)
    planned = plan.make(parsed, DEFINITION, imagined(parsed.name, parsed.region), PRICES, standing)
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(display.shown(planned, rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def row(lines: list[str], word: str) -> str:
    return next(line for line in lines if word in line)


def test_a_state_is_one_row_with_jobs_instances_time_and_money():
    lines = shown({"tuning.max_runtime_seconds": 5400, "tuning.volume_gb": 1, "tuning.max_jobs": 4})
    assert row(lines, "TuneHyperparameters").split() == [
        "TuneHyperparameters",
        "4",
        "ml.m5.large",
        "1",
        "h",
        "30",
        "min",
        "0.69",
    ]
    assert f"2 {TIMES} ml.m5.large" in row(lines, "TrainModel")


def test_the_month_is_shown_at_both_capacities_with_sums():
    lines = shown()
    assert row(lines, f"1 to 4 {TIMES} ml.m5.large").split()[-2:] == ["83.95", "335.80"]
    assert row(lines, "together").split()[-2:] == ["131.99", "383.84"]


def test_an_unknown_price_is_said_and_so_is_the_sum_of_it():
    lines = shown({"training.instance_type": "ml.r5.large"})
    assert row(lines, "TrainModel").rstrip().endswith("unknown price")
    assert row(lines, "at most   ").rstrip().endswith("unknown price")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"region": "eu-west-1"}, "Prices in eu-west-1 are others: these are us-east-1's."),
        ({"training.spot": True, "training.max_wait_seconds": 9000}, "* on spot capacity"),
    ],
)
def test_what_makes_the_sum_uncertain_is_said_only_where_it_does(changes, said):
    assert any(said in line for line in shown(changes))
    assert not any(said in line for line in shown())


def test_findings_say_level_key_what_and_what_to_do():
    lines = shown({"scaling.scale_out_cooldown": 30, "endpoint.instance_type": "ml.t2.medium"})
    at = lines.index("1 error, 1 warning")
    assert [line.strip()[:2] for line in (lines[at + 1], lines[at + 4])] == ["✗ ", "! "]
    assert "endpoint.instance_type" in lines[at + 1]
    assert "burstable" in lines[at + 2]
    assert "ml.m5.large" in lines[at + 3]


def test_without_findings_that_is_said_too():
    assert "Nothing is known against it" in shown()[-1]


def test_changes_of_resources_are_counted_marked_and_explained_and_left_out_if_none_are_given():
    lines = shown(rows=CHANGES)
    assert lines[0] == "Resources: 2 to create, 1 to replace"
    assert row(lines, "S3::Bucket").split() == ["+", "Bucket", "S3::Bucket"]
    assert row(lines, "KMS::Key").split()[0] == "±"
    assert "KeySpec changes" in lines[lines.index(row(lines, "KMS::Key")) + 1]
    assert not any("Resources" in line for line in shown())


def test_nothing_is_wider_than_80_columns_or_broken_within_a_row():
    wide = {
        "tuning.spot": True,
        "tuning.max_wait_seconds": 400_000,
        "tuning.instance_type": "ml.g4dn.12xlarge",
        "tuning.instance_count": 10,
        "tuning.max_runtime_seconds": 399_999,
        "training.instance_type": "ml.r5.24xlarge",
        "endpoint.instance_type": "ml.g5.48xlarge",
    }
    lines = shown(wide, CHANGES)
    assert max(map(len, lines)) <= 80
    assert f"10 {TIMES} ml.g4dn.12xlarge *" in row(lines, "TuneHyperparameters")
    assert "111 h 6 min" in row(lines, "TuneHyperparameters")
