"""What a change set finds to do, and in which order resources can be removed."""

import datetime as dt

import pytest

from kennel.local.cloudformation.intrinsics import KNOWN_AFTER_APPLY
from kennel.local.cloudformation.kinds import Kind, Made
from kennel.local.cloudformation.plan import changes_to, different, removal_order
from kennel.local.cloudformation.records import StackResource
from kennel.local.cloudformation.template import load, template_of
from kennel.local.wire import ServiceError

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
PSEUDO = {"AWS::Region": "eu-west-1", "AWS::NoValue": None}


def nothing(*_):
    raise AssertionError("planning makes nothing")


KINDS = {
    "T": Kind(
        properties=frozenset("abn"), attributes=frozenset(("Arn",)), fixed=frozenset("n"), make=nothing, remove=nothing
    )
}


def there(name, *needs, status="CREATE_COMPLETE", **properties):
    made = Made(id=f"id-{name}", attributes={"Arn": f"arn-{name}"})
    return StackResource(
        logical_id=name,
        type="T",
        status=status,
        time=NOW,
        made=made,
        properties=properties,
        depends_on=frozenset(needs),
    )


def planned(body, *existing):
    template = template_of(load(body), {}, PSEUDO)
    changes = changes_to({resource.logical_id: resource for resource in existing}, template, PSEUDO, KINDS)
    return {change.logical_id: (change.action, dict(change.properties), change.dynamic) for change in changes}


def test_what_is_there_and_the_same_is_no_change():
    assert planned("Resources: {R: {Type: T, Properties: {a: 1}}}", there("R", a=1)) == {}


def test_what_is_new_changed_and_gone_is_told():
    body = "Resources: {New: {Type: T}, R: {Type: T, Properties: {a: 2, n: x}}}"
    assert planned(body, there("R", a=1, n="x"), there("Old")) == {
        "New": ("Add", {}, frozenset()),
        "R": ("Modify", {"a": False}, frozenset()),
        "Old": ("Remove", {}, frozenset()),
    }


def test_what_was_removed_before_is_new_again():
    assert planned("Resources: {R: {Type: T}}", there("R", status="DELETE_COMPLETE"))["R"][0] == "Add"


def test_a_fixed_property_makes_another_resource_whose_id_is_not_known_yet():
    body = """
    Resources:
      R: {Type: T, Properties: {n: new}}
      User: {Type: T, Properties: {a: !Ref R, b: !GetAtt R.Arn}}
    """
    assert planned(body, there("R", n="old"), there("User", "R", a="id-R", b="arn-R")) == {
        "R": ("Modify", {"n": True}, frozenset()),
        "User": ("Modify", {"a": False, "b": False}, frozenset("ab")),
    }


def test_a_reference_to_what_stays_is_no_change():
    body = "Resources: {R: {Type: T}, User: {Type: T, Properties: {a: !Ref R, b: !GetAtt R.Arn}}}"
    assert planned(body, there("R"), there("User", "R", a="id-R", b="arn-R")) == {}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("Resources: {R: {Type: Other}}", r"Unrecognized resource types: \[Other\]"),
        ("Resources: {R: {Type: T}, S: {Type: T, Properties: {a: !GetAtt R.B}}}", "does not support attribute type B"),
    ],
)
def test_what_can_never_be_made_is_refused(body, message):
    with pytest.raises(ServiceError, match=message):
        planned(body)


def test_properties_differ_by_value_and_by_being_there():
    assert different({"a": 1, "b": [1], "c": 3}, {"a": 1, "b": [2], "d": 4}) == ["b", "c", "d"]


def test_resources_are_removed_before_those_that_they_need():
    resources = [there("Key"), there("Bucket", "Key", "Logs"), there("Policy", "Bucket"), there("Logs")]
    order = removal_order({resource.logical_id: resource for resource in resources})
    assert order.index("Policy") < order.index("Bucket") < min(order.index("Key"), order.index("Logs"))


def test_what_is_known_only_afterwards_is_written_as_aws_writes_it():
    assert KNOWN_AFTER_APPLY == "{{changeSet:KNOWN_AFTER_APPLY}}"
