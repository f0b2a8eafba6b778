"""Filters, order and pages of List calls; tags; who may ask."""

from datetime import UTC, datetime

import pytest

from kennel.local.sagemaker.listing import listed
from kennel.local.sagemaker.tags import Tags
from kennel.local.server import foreign_origin
from kennel.local.wire import ServiceError

JOBS = [
    {
        "JobName": f"Job-{number}",
        "JobStatus": "Failed" if number % 2 else "Completed",
        "CreationTime": datetime.fromtimestamp(1000 + number, UTC),
        "LastModifiedTime": datetime.fromtimestamp(2000 - number, UTC),
        "Secret": number,
    }
    for number in range(5)
]


def names(**request):
    answer = listed(request, JOBS, kind="Job", keys=("JobName", "JobStatus"), answer="Jobs")
    assert all(set(job) == {"JobName", "JobStatus"} for job in answer["Jobs"])
    return [int(job["JobName"][-1]) for job in answer["Jobs"]]


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        ({}, [4, 3, 2, 1, 0]),
        ({"SortOrder": "Ascending"}, [0, 1, 2, 3, 4]),
        ({"SortBy": "Name", "SortOrder": "Ascending"}, [0, 1, 2, 3, 4]),
        ({"SortBy": "Status", "SortOrder": "Ascending"}, [0, 2, 4, 1, 3]),
        ({"StatusEquals": "Failed"}, [3, 1]),
        ({"NameContains": "JOB-2"}, [2]),
        ({"CreationTimeAfter": 1003}, [4, 3]),
        ({"CreationTimeBefore": 1001}, [1, 0]),
        ({"LastModifiedTimeAfter": 1999}, [1, 0]),
        ({"MaxResults": 2}, [4, 3]),
        ({"MaxResults": 2, "NextToken": "4"}, [0]),
    ],
)
def test_a_list_is_filtered_ordered_and_cut_as_asked(request_, found):
    assert names(**request_) == found


def test_pages_lead_to_the_end_and_no_further():
    seen, token = [], {}
    while True:
        answer = listed({"MaxResults": 2, **token}, JOBS, kind="Job", keys=("JobName",), answer="Jobs")
        seen += answer["Jobs"]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert len(seen) == 5


@pytest.mark.parametrize("token", ["-1", "x", "", "²"])
def test_a_token_that_is_not_ours_is_refused(token):
    with pytest.raises(ServiceError, match="NextToken"):
        names(NextToken=token)


def tag(key, value="v"):
    return {"Key": key, "Value": value}


def test_a_resource_has_at_most_50_tags_and_a_refused_call_changes_nothing():
    tags = Tags()
    tags.create("arn", [tag(str(number)) for number in range(50)])
    tags.add({"ResourceArn": "arn", "Tags": [tag("0", "new")]})
    with pytest.raises(ServiceError, match="at most 50"):
        tags.add({"ResourceArn": "arn", "Tags": [tag("one more")]})
    found = tags.list_tags({"ResourceArn": "arn"})["Tags"]
    assert len(found) == 50
    assert found[0] == tag("0", "new")


def test_a_deleted_resource_has_no_tags():
    tags = Tags()
    tags.create("arn", [])
    assert tags.delete({"ResourceArn": "arn", "TagKeys": ["not there"]}) == {}
    tags.forget("arn")
    for call in (tags.list_tags, tags.add, tags.delete):
        with pytest.raises(ServiceError, match="Could not find"):
            call({"ResourceArn": "arn", "Tags": [], "TagKeys": []})


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:4566", "localhost:80", "[::1]", "b.c.localhost:1", "LocalHost"]
)
def test_this_machine_may_ask_under_its_own_names(host):
    assert foreign_origin(host, None) == foreign_origin(host, f"http://{host}") == ""


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "example.com",
        "127.0.0.1.example.com",
        "localhost.example.com",
        "xlocalhost",
        "10.0.0.1",
        "::1",
        "localhost:x",
        "127.0.0.1\n",
    ],
)
def test_nobody_asks_under_another_name(host):
    assert foreign_origin(host, None)


@pytest.mark.parametrize(
    "origin", ["https://example.com", "null", "localhost", "http://localhost.example.com", "file://"]
)
def test_no_page_from_elsewhere_asks_through_a_browser(origin):
    assert foreign_origin("localhost:4566", origin)
