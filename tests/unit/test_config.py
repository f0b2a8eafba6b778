"""kennel.config: every problem of a configuration is named, all at once, each with its key."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

import configurations
from configurations import ABSENT
from kennel import config
from kennel.errors import InvalidArguments

ROOT = Path(__file__).parents[2]
FILES = [ROOT / "config" / name for name in ("aws.toml", "local.toml")]


def problems(changes: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(InvalidArguments) as caught:
        config.parse(configurations.text(changes), where="some.toml")
    return caught.value.problems


def keys(table: dict[str, Any], path: str = "") -> set[str]:
    found = set()
    for name, value in table.items():
        found |= keys(value, f"{path}{name}.") if isinstance(value, dict) else {f"{path}{name}"}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_checked_in_files_are_without_problems(file):
    parsed = config.parse(file.read_text(), where=str(file))
    assert parsed.name == "kennel"
    assert parsed.tuning.ranges["learning_rate"].type == "continuous"


def test_both_checked_in_files_have_the_same_keys_but_for_hyperparameters():
    local, aws = (
        {key for key in keys(tomllib.loads(file.read_text())) if "hyperparameters" not in key} for file in FILES
    )
    assert local == aws


def test_whole_numbers_are_taken_for_numbers_and_lists_for_tuples():
    parsed = config.parse(
        configurations.text({"quality.minimum_validation_accuracy": 1, "function.allowed_url_hosts": ["a.example"]}),
        where="",
    )
    assert parsed.quality.minimum_validation_accuracy == 1.0
    assert parsed.function.allowed_url_hosts == ("a.example",)


def test_what_is_not_toml_is_named_with_its_place():
    with pytest.raises(InvalidArguments, match=r"some\.toml: this is not TOML") as caught:
        config.parse("name = ", where="some.toml")
    assert "at end of document" in str(caught.value)


def test_every_problem_is_reported_at_once_whatever_its_kind():
    found = problems(
        {
            "nmae": "kennel",
            "seed": ABSENT,
            "aws": "local",
            "data.source": 3,
            "tuning.strategy": "Genetic",
            "tuning.instance_count": 0,
            "tuning.max_parallel_jobs": 9,
            "tuning.ranges.learning_rate.min": 1.0,
            'metrics."test:loss"': "(",
            "scaling.max_capacity": 0,
            "function.provisioned_concurrency": 6,
            "function.memory_mb": True,
        }
    )
    expected = (
        "nmae is unknown; did you mean name?",
        "seed is missing",
        "aws must be a table",
        "data.source is 3; it must be a string",
        "tuning.strategy is 'Genetic'; it must be one of 'Bayesian', 'Random'",
        "tuning.instance_count is 0; it must be at least 1",
        "scaling.max_capacity is 0; it must be at least 1",
        "function.memory_mb is True; it must be a whole number",
        "tuning.max_parallel_jobs is 9, above tuning.max_jobs, which is 4",
        "function.provisioned_concurrency is 6, above function.reserved_concurrency, which is 5; AWS refuses that",
        "tuning.ranges.learning_rate.min is 1, above tuning.ranges.learning_rate.max, which is",
        'metrics."test:loss" is not a regular expression',
    )
    for words in expected:
        assert any(problem.startswith(words) for problem in found), words
    assert len(found) == len(expected)


def test_message_names_the_file_and_counts_the_problems():
    with pytest.raises(InvalidArguments) as caught:
        config.parse(configurations.text({"seed": -1}), where="some.toml")
    assert str(caught.value).startswith("some.toml: 1 problem in the configuration\n")
    assert "\n  - seed is -1; it must lie between 0 and" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "Kennel"}, "name is 'Kennel'"),
        ({"name": "anameofmorethantwelve"}, "name is"),
        ({"name": "kennel-dev"}, "name is"),
        ({"seed": True}, "seed is True; it must be a whole number"),
        ({"seed": 1.5}, "seed is 1.5; it must be a whole number"),
        ({"aws.endpoint_url": "localhost:4566"}, "aws.endpoint_url is 'localhost:4566'; it must be an address such as"),
        ({"training.instance_count": 0}, "training.instance_count is 0; it must be at least 1"),
        ({"endpoint.start_seconds": 59}, "endpoint.start_seconds is 59; it must lie between 60 and 3600"),
        ({"endpoint": ABSENT}, "endpoint is missing"),
        ({"quality.minimum_validation_accuracy": 1.1}, "quality.minimum_validation_accuracy is 1.1; it must lie"),
        ({"quality.minimum_validation_accuracy": float("nan")}, "quality.minimum_validation_accuracy is nan"),
        ({"scaling.target_invocations_per_minute": float("inf")}, "scaling.target_invocations_per_minute is inf"),
        ({"scaling.min_capacity": 5}, "scaling.min_capacity is 5, above scaling.max_capacity, which is 4"),
        ({"training.hyperparameters.epochs": 8}, "training.hyperparameters.epochs is 8; it must be a string"),
        ({"function.allowed_url_hosts": ["a", 1]}, "function.allowed_url_hosts is ['a', 1]; it must be a list"),
        ({"tuning.ranges": {}}, "tuning.ranges is empty"),
        ({"tuning.ranges": 1}, "tuning.ranges must be a table"),
        ({"tuning.ranges.batch_size": {"type": "categorical"}}, "tuning.ranges.batch_size.values is missing"),
        ({"tuning.ranges.batch_size.min": 1}, "tuning.ranges.batch_size is categorical: it has values, not min"),
        (
            {"tuning.ranges.learning_rate.values": ["1"]},
            "tuning.ranges.learning_rate is continuous: it has min and max",
        ),
        ({"tuning.ranges.learning_rate.max": ABSENT}, "tuning.ranges.learning_rate needs min and max"),
        ({"tuning.ranges.learning_rate.min": 0}, "tuning.ranges.learning_rate.min is 0; it must be above 0"),
        (
            {"tuning.ranges.learning_rate.max": float("inf")},
            "tuning.ranges.learning_rate.max is inf; it must be finite",
        ),
        ({"tuning.ranges.depth": {"type": "integer", "min": 1.5, "max": 2}}, "tuning.ranges.depth is integer: min"),
        ({"tuning.objective": "test:loss"}, "tuning.objective is 'test:loss'; the test split must stay unseen"),
        ({"tuning.objective_type": "Maximize"}, "tuning.objective_type is 'Maximize'; for validation:loss it must be"),
        ({"tuning.objective": "validation:mean"}, 'metrics."validation:mean" is missing'),
        ({'metrics."validation:accuracy"': ABSENT}, 'metrics."validation:accuracy" is missing'),
    ],
)
def test_each_kind_of_problem_is_the_only_one_reported(changes, words):
    found = problems(changes)
    assert len(found) == 1, found
    assert found[0].startswith(words)


@pytest.mark.parametrize(
    ("name", "regex", "words"),
    [
        ("train:loss", "Testing Loss: ([0-9.]+)", "never matches what a training job prints, such as: kennel-metrics"),
        ("train:loss", "train:loss=([0-9.]+", "is not a regular expression"),
        ("train:loss", "train:loss=[0-9.]+", "needs one group, around the value"),
        ("validation:loss", "loss=([0-9.]+)", "finds '1.500000' instead of '1.250000'"),
        ("epochs:seen", "(kennel)-metrics", "finds 'kennel', which is no number"),
    ],
)
def test_regex_that_would_miss_its_metric_is_refused(name, regex, words):
    (found,) = problems({f'metrics."{name}"': regex})
    assert found.startswith(f'metrics."{name}" {words}')


def test_metric_of_one_s_own_is_allowed_when_it_finds_a_number():
    parsed = config.parse(configurations.text({'metrics."epoch"': "epoch=([0-9]+)"}), where="")
    assert parsed.metrics["epoch"] == "epoch=([0-9]+)"


@pytest.mark.parametrize("url", ["", "local", "http://127.0.0.1:4566", "https://aws.example/"])
def test_endpoint_urls_are_local_empty_or_addresses(url):
    assert config.endpoint_url_problem(url) is None


@pytest.mark.parametrize("url", ["127.0.0.1:4566", "ftp://host", "http://", "http://a b"])
def test_other_endpoint_urls_are_refused(url):
    assert repr(url) in (config.endpoint_url_problem(url) or "")


@pytest.mark.parametrize("key", ["images.training", "images.serving"])
def test_image_that_is_no_reference_is_named(key):
    (problem,) = problems({key: "Kennel Serving"})
    assert problem.startswith(f"{key} is 'Kennel Serving'; it must be a name")


def test_runtime_and_torch_are_choices():
    assert problems({"aws.runtime": "podman", "images.torch": "rocm"}) == (
        "aws.runtime is 'podman'; it must be one of 'process', 'docker'",
        "images.torch is 'rocm'; it must be one of 'cpu', 'cuda'",
    )
