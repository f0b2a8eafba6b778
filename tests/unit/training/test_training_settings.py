import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kennel.errors import InvalidArguments
from kennel.training.hosts import parse_hosts
from kennel.training.settings import Backbone, Optimizer, Settings, parse


def test_strings_become_values_and_the_rest_has_defaults():
    settings = parse({"backbone": "resnet50", "learning_rate": "1e-3", "optimizer": "sgd", "epochs": "3"})
    assert settings == Settings(backbone=Backbone.RESNET50, learning_rate=0.001, optimizer=Optimizer.SGD, epochs=3)


def test_tuned_values_come_json_quoted_and_integers_may_have_a_point():
    settings = parse({"batch_size": '"32"', "learning_rate": '"0.05"', "backbone": '"resnet18"', "epochs": "4.0"})
    assert (settings.batch_size, settings.learning_rate, settings.backbone, settings.epochs) == (
        32,
        0.05,
        "resnet18",
        4,
    )


def test_keys_of_the_tuner_and_the_toolkit_are_ignored():
    assert parse({"_tuning_objective_metric": "validation:loss", "sagemaker_region": '"x"'}) == Settings()


def test_all_problems_are_reported_at_once_each_with_its_key():
    with pytest.raises(InvalidArguments) as caught:
        parse(
            {
                "learning_rat": "1",
                "batch_size": "many",
                "backbone": "vgg",
                "epochs": "0",
                "learning_rate": "0",
                "seed": "1",
            }
        )
    problems = caught.value.problems
    assert [problem.split(":")[0] for problem in problems] == [
        "learning_rat",
        "batch_size",
        "backbone",
        "epochs",
        "learning_rate",
    ]
    assert "did you mean learning_rate?" in problems[0]
    assert "resnet18" in problems[2]
    assert all(problem in str(caught.value) for problem in problems)


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "", "2.5", "1e99"])
def test_what_is_no_whole_number_in_range_is_refused(text):
    with pytest.raises(InvalidArguments, match="epochs"):
        parse({"epochs": text})


@given(st.floats(min_value=1e-12, max_value=10))
def test_any_learning_rate_survives_quoting(rate):
    assert parse({"learning_rate": f'"{rate!r}"'}).learning_rate == rate


def test_every_setting_can_be_given_as_the_string_of_its_default():
    raw = {field.name: str(getattr(Settings(), field.name)) for field in dataclasses.fields(Settings)}
    assert parse(raw) == Settings()


def test_the_rank_is_the_position_of_the_host():
    hosts = parse_hosts({"current_host": "algo-2", "hosts": ["algo-1", "algo-2"], "network_interface_name": "eth0"})
    assert (hosts.rank, hosts.world, hosts.first, hosts.interface) == (1, 2, "algo-1", "eth0")


def test_no_resource_configuration_is_one_host_alone():
    assert parse_hosts({}).world == 1


@pytest.mark.parametrize("hosts", [["algo-1"], ["algo-2", "algo-2"]])
def test_a_host_that_is_not_listed_once_is_refused(hosts):
    with pytest.raises(InvalidArguments, match="algo-2"):
        parse_hosts({"current_host": "algo-2", "hosts": hosts})
