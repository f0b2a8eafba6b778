"""How long a training job may take, on spot instances and on others."""

import pytest

from kennel.local.sagemaker.spot import Limits, limits
from kennel.local.wire import ServiceError


def request(spot=None, **condition):
    return {"StoppingCondition": condition} | ({} if spot is None else {"EnableManagedSpotTraining": spot})


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (request(), Limits(run=86_400)),
        (request(MaxRuntimeInSeconds=60), Limits(run=60)),
        (request(spot=False, MaxRuntimeInSeconds=60), Limits(run=60)),
        (request(spot=True, MaxRuntimeInSeconds=60, MaxWaitTimeInSeconds=60), Limits(run=60, wait=60)),
    ],
)
def test_a_request_says_how_long_its_job_may_take(asked, found):
    assert limits(asked) == found


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request(MaxWaitTimeInSeconds=60), "only supported when EnableManagedSpotTraining"),
        (request(spot=False, MaxWaitTimeInSeconds=60), "only supported when EnableManagedSpotTraining"),
        (request(spot=True, MaxRuntimeInSeconds=60), "must be present"),
        (request(spot=True, MaxRuntimeInSeconds=60, MaxWaitTimeInSeconds=59), "greater than or equal"),
        (request(spot=True, MaxWaitTimeInSeconds=3_600), "greater than or equal"),
    ],
)
def test_a_request_whose_times_make_no_sense_is_refused(asked, said):
    with pytest.raises(ServiceError, match=said) as caught:
        limits(asked)
    assert caught.value.code == "ValidationException"


def test_a_job_has_two_clocks_the_one_of_its_hosts_and_the_one_on_the_wall():
    both = Limits(run=10, wait=20)
    assert both.exceeded(trained=10, waited=20) is None
    assert both.exceeded(trained=11, waited=11) == "MaxRuntimeExceeded"
    assert both.exceeded(trained=5, waited=21) == both.exceeded(trained=21, waited=21) == "MaxWaitTimeExceeded"
    assert Limits(run=10).exceeded(trained=5, waited=1e9) is None
