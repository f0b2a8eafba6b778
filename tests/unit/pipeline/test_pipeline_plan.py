"""The plan: what a run and a month cost at most, and what is found before anything is deployed."""

import json
from typing import Any

import pytest

import configurations
from kennel import config
from kennel.errors import InvalidArguments
from kennel.pipeline.plans import plan, prices
from kennel.pipeline.plans.costs import Standing
from kennel.pipeline.resources import imagined

DEFINITION = json.loads((configurations.ROOT / "statemachine" / "pipeline.asl.json").read_text())
PRICES = prices.parse((configurations.ROOT / "config" / "prices.toml").read_text(), where="prices.toml")
HOUR, MONTH = 3600, 730


def made(changes: dict[str, Any] | None = None, standing: Standing | None = None) -> plan.Plan:
    parsed = config.parse(configurations.text(changes), where="some.toml")
    return plan.make(parsed, DEFINITION, imagined(parsed.name, parsed.region), PRICES, standing or Standing())


def keys(planned: plan.Plan, level: str) -> list[str]:
    return [finding.key for finding in planned.findings if finding.level == level]


def test_a_state_costs_its_jobs_times_instances_times_hours_times_price_and_their_volumes():
    changes = {
        "tuning.max_jobs": 5,
        "tuning.instance_count": 2,
        "tuning.max_runtime_seconds": 2 * HOUR,
        "tuning.volume_gb": 73,
        "training.instance_count": 3,
        "training.max_runtime_seconds": HOUR,
        "training.volume_gb": 730,
    }
    tuning, training = made(changes).steps
    assert (tuning.jobs, tuning.instances) == (5, 2)
    assert tuning.cost == pytest.approx(5 * 2 * 2 * (0.115 + 73 * 0.14 / MONTH))
    assert training.cost == pytest.approx(3 * (0.115 + 730 * 0.14 / MONTH))
    assert made(changes).run_cost == pytest.approx(tuning.cost + training.cost)


def test_instances_with_volumes_of_their_own_pay_for_no_other():
    changes = {"training.instance_type": "ml.g5.xlarge", "training.volume_gb": 1000, "training.instance_count": 1}
    step = made({**changes, "training.max_runtime_seconds": HOUR}).steps[-1]
    assert step.cost == pytest.approx(1.408)


def test_spot_is_told_and_its_maximum_is_that_of_on_demand():
    spot = {"training.spot": True, "training.max_wait_seconds": 9000}
    assert made(spot).steps[-1].spot
    assert made(spot).run_cost == made().run_cost


def test_a_month_has_the_endpoint_at_both_capacities_and_what_stays_besides():
    changes = {"scaling.min_capacity": 2, "scaling.max_capacity": 5, "function.memory_mb": 1024}
    planned = made(changes, Standing(interface_endpoints=6, kms_keys=1, alarms=5))
    costs = {item.name: (item.at_minimum, item.at_maximum) for item in planned.monthly}
    assert costs["endpoint"] == pytest.approx((2 * 0.115 * MONTH, 5 * 0.115 * MONTH))
    assert costs["provisioned concurrency"][0] == pytest.approx(0.0000041667 * HOUR * MONTH)
    assert costs["interface endpoints"][0] == pytest.approx(6 * 0.01 * MONTH)
    assert costs["KMS keys"] == (1.0, 1.0)
    assert costs["alarms"][0] == pytest.approx(0.5)
    assert planned.monthly_maximum == pytest.approx(sum(high or 0 for _, high in costs.values()))
    assert planned.monthly_minimum == pytest.approx(sum(low or 0 for low, _ in costs.values()))


def test_what_is_not_there_is_no_row():
    names = [item.name for item in made({"function.provisioned_concurrency": 0}).monthly]
    assert names == ["endpoint"]


def test_a_run_above_the_maximum_is_refused_with_the_sum_and_one_at_it_is_not():
    planned = made()
    cost = planned.run_cost
    assert cost is not None
    plan.refuse_above(planned, cost)
    with pytest.raises(InvalidArguments) as refused:
        plan.refuse_above(planned, cost - 0.01)
    assert f"${cost:,.2f}" in refused.value.what
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("key", "kind"), [("training.instance_type", "ml.r5.large"), ("endpoint.instance_type", "ml.r5.large")]
)
def test_a_type_without_a_price_is_not_free(key, kind):
    planned = made({key: kind})
    assert None in (planned.run_cost, planned.monthly_maximum)
    with pytest.raises(InvalidArguments, match=f"price is unknown of .*{kind}"):
        plan.refuse_above(planned, 1e9)


def test_the_configurations_as_they_are_have_no_findings():
    for file in ("local.toml", "aws.toml"):
        parsed = config.parse((configurations.ROOT / "config" / file).read_text(), where=file)
        planned = plan.make(parsed, DEFINITION, imagined(parsed.name, parsed.region), PRICES, Standing())
        assert planned.findings == ()
        assert planned.run_cost is not None
        assert planned.monthly_maximum is not None


@pytest.mark.parametrize(
    ("changes", "level", "found"),
    [
        ({"tuning.instance_type": "ml.m5.lrge"}, "error", ["tuning.instance_type"]),
        ({"endpoint.instance_type": "ml.t2.medium"}, "error", ["endpoint.instance_type"]),
        ({"endpoint.instance_type": "ml.c5d.large"}, "error", ["endpoint.instance_type"]),
        ({"endpoint.instance_type": "ml.g4dn.xlarge"}, "error", ["endpoint.instance_type"]),
        ({"endpoint.instance_type": "ml.p3.2xlarge"}, "error", []),
        ({"training.max_runtime_seconds": 432_001}, "error", ["training.max_runtime_seconds"]),
        ({"training.max_runtime_seconds": 86_401}, "warning", ["training.max_runtime_seconds"]),
        ({"training.max_runtime_seconds": 86_400}, "warning", []),
        ({"scaling.scale_in_cooldown": 59}, "warning", ["scaling.scale_in_cooldown"]),
        ({"scaling.scale_out_cooldown": 30}, "warning", ["scaling.scale_out_cooldown"]),
        ({"scaling.scale_out_cooldown": 60}, "warning", []),
        ({"function.allowed_url_hosts": ["a.org"]}, "warning", ["function.allowed_url_hosts"]),
        ({"function.allowed_url_hosts": ["a.org"], "infrastructure.network": False}, "warning", []),
        ({"images.torch": "cuda"}, "warning", ["tuning.instance_type", "training.instance_type"]),
        ({"training.instance_type": "ml.g5.xlarge"}, "warning", ["training.instance_type"]),
    ],
)
def test_what_would_be_refused_or_would_hurt_is_found_under_its_key(changes, level, found):
    planned = made(changes)
    assert keys(planned, level) == found
    assert all(finding.what and finding.hint for finding in planned.findings)


def test_errors_come_before_warnings():
    planned = made({"scaling.scale_out_cooldown": 30, "endpoint.instance_type": "ml.t2.medium"})
    assert [finding.level for finding in planned.findings] == ["error", "warning"]


def test_provisioned_above_reserved_concurrency_is_refused_by_the_configuration_itself():
    with pytest.raises(InvalidArguments) as refused:
        made({"function.reserved_concurrency": 5, "function.provisioned_concurrency": 10})
    assert "function.provisioned_concurrency is 10, above function.reserved_concurrency" in str(refused.value)


def test_as_json_it_can_be_written_and_read_and_an_unknown_price_is_null():
    read = json.loads(json.dumps(plan.as_json(made({"training.instance_type": "ml.r5.large"}))))
    assert read["run"]["maximum"] is None
    assert [step["cost"] is None for step in read["run"]["steps"]] == [False, True]
    assert read["monthly"]["items"][0]["name"] == "endpoint"
    assert {one["state"] for one in read["requests"]} >= {"TrainModel", "CreateEndpointConfig"}
