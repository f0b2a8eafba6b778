"""Proposals within AWS's ranges."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kennel.local.sagemaker.search import Search
from kennel.local.wire import ServiceError


def search(strategy="Random", seed=1, maximize=False, **ranges):
    names = {"continuous": "Continuous", "integer": "Integer", "categorical": "Categorical"}
    return Search(
        strategy=strategy,
        ranges={f"{names[kind]}ParameterRanges": items for kind, items in ranges.items()},
        maximize=maximize,
        seed=seed,
    )


def numbers(name, low, high, **more):
    return [{"Name": name, "MinValue": str(low), "MaxValue": str(high), **more}]


def proposed(made, count, objective=lambda _: 1.0):
    found = []
    for _ in range(count):
        proposal = made.propose()
        made.tell(proposal, objective(proposal.hyperparameters))
        found.append(proposal.hyperparameters)
    return found


@settings(max_examples=30, deadline=None)
@given(st.floats(-1e6, 1e6), st.floats(0, 1e6), st.sampled_from(["Random", "Bayesian"]))
def test_continuous_values_lie_in_their_range_and_read_back_exactly(low, width, strategy):
    made = search(strategy, continuous=numbers("x", low, low + width))
    for hyperparameters in proposed(made, 3):
        assert low <= float(hyperparameters["x"]) <= low + width


def test_integers_are_whole_and_both_ends_are_reached():
    values = {hyperparameters["n"] for hyperparameters in proposed(search(integer=numbers("n", 1, 3)), 50)}
    assert values == {"1", "2", "3"}


def test_categories_are_the_values_as_they_were_given():
    made = search(categorical=[{"Name": "c", "Values": ["32", "64", "none"]}])
    assert {hyperparameters["c"] for hyperparameters in proposed(made, 50)} == {"32", "64", "none"}


def test_logarithmic_scaling_spreads_over_the_magnitudes():
    def small(scaling):
        made = search(continuous=numbers("x", 1e-5, 1, ScalingType=scaling))
        return sum(float(hyperparameters["x"]) < 1e-2 for hyperparameters in proposed(made, 100))

    assert 45 <= small("Logarithmic") <= 75
    assert small("Linear") <= 5


@pytest.mark.parametrize("strategy", ["Random", "Bayesian"])
def test_the_same_seed_proposes_the_same(strategy):
    def run(seed):
        made = search(strategy, seed, continuous=numbers("x", 0, 1), integer=numbers("n", 1, 100))
        return proposed(made, 6, lambda hyperparameters: float(hyperparameters["x"]))

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_random_proposals_do_not_depend_on_results():
    ranges = {"continuous": numbers("x", 0, 1)}
    assert proposed(search(**ranges), 8, lambda _: 1.0) == proposed(search(**ranges), 8, lambda _: None)


@pytest.mark.parametrize("maximize", [True, False])
def test_bayesian_search_goes_where_the_objective_is_better(maximize):
    made = search("Bayesian", 3, maximize, continuous=numbers("x", 0, 1))
    sign = 1 if maximize else -1
    found = proposed(made, 30, lambda hyperparameters: -sign * (float(hyperparameters["x"]) - 0.8) ** 2)
    late = [abs(float(hyperparameters["x"]) - 0.8) for hyperparameters in found[-10:]]
    assert sum(late) / len(late) < 0.2


@pytest.mark.parametrize("objective", [None, math.nan, math.inf])
def test_the_search_goes_on_after_failed_trials(objective):
    made = search("Bayesian", continuous=numbers("x", 0, 1))
    assert len(proposed(made, 6, lambda _: objective)) == 6


def test_trials_that_run_at_once_get_different_proposals():
    made = search("Bayesian", continuous=numbers("x", 0, 1))
    values = [made.propose().hyperparameters["x"] for _ in range(6)]
    assert len(set(values)) == 6


@pytest.mark.parametrize(
    ("strategy", "ranges", "said"),
    [
        ("Hyperband", {"continuous": numbers("x", 0, 1)}, "Hyperband"),
        ("Random", {}, "nothing to tune"),
        ("Random", {"continuous": numbers("x", 1, 0)}, "range of x is empty"),
        ("Random", {"integer": numbers("n", "1.5", 2)}, "range of n is no int"),
        ("Random", {"continuous": numbers("x", "low", 2)}, "range of x is no float"),
        ("Random", {"continuous": numbers("x", "nan", 2)}, "range of x"),
        ("Random", {"continuous": numbers("x", 0, "inf")}, "range of x"),
        ("Random", {"continuous": numbers("x", 0, 1, ScalingType="Logarithmic")}, "above 0"),
        ("Random", {"continuous": numbers("x", 0, 1, ScalingType="ReverseLogarithmic")}, "ReverseLogarithmic"),
        ("Random", {"continuous": numbers("x", 0, 1), "integer": numbers("x", 0, 1)}, "x .*twice"),
    ],
)
def test_what_cannot_be_searched_is_refused_as_aws_would(strategy, ranges, said):
    with pytest.raises(ServiceError, match=said) as caught:
        search(strategy, **ranges)
    assert (caught.value.code, caught.value.status) == ("ValidationException", 400)
