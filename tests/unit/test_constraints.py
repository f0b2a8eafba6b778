"""What of a request violates botocore's service model."""

import pytest
from botocore.model import DenormalizedStructureBuilder, ShapeResolver
from moto.core.utils import get_service_model

from kennel.constraints import _PYTHON_TYPES, located_violations, violations

SHAPES = {
    "Request": {
        "type": "structure",
        "required": ["Name"],
        "members": {
            "Name": {"shape": "Name"},
            "Count": {"shape": "Count"},
            "Rate": {"shape": "Rate"},
            "Color": {"shape": "Color"},
            "Items": {"shape": "Items"},
            "Table": {"shape": "Table"},
            "Flag": {"shape": "Flag"},
            "When": {"shape": "When"},
            "Bytes": {"shape": "Bytes"},
            "Odd": {"shape": "Odd"},
        },
    },
    "Name": {"type": "string", "min": 2, "max": 5, "pattern": "^[a-z\\d]+$"},
    "Count": {"type": "integer", "min": 1, "max": 3},
    "Rate": {"type": "float"},
    "Color": {"type": "string", "enum": ["Red", "Green"]},
    "Items": {"type": "list", "min": 1, "max": 2, "member": {"shape": "Item"}},
    "Item": {"type": "structure", "required": ["Key"], "members": {"Key": {"shape": "Name"}}},
    "Table": {"type": "map", "max": 2, "key": {"shape": "Name"}, "value": {"shape": "Count"}},
    "Flag": {"type": "boolean"},
    "When": {"type": "timestamp"},
    "Bytes": {"type": "blob", "max": 3},
    "Odd": {"type": "string", "pattern": "[\\p{L}]+"},
}
SHAPE = ShapeResolver(SHAPES).get_shape_by_name("Request")


@pytest.mark.parametrize(
    "request_",
    [
        {"Name": "ab"},
        {"Name": "abcde", "Count": 1, "Rate": 1, "Color": "Red", "Flag": True, "When": 1.5, "Bytes": b"abc"},
        {"Name": "ab", "Items": [{"Key": "ab"}], "Table": {"ab": 3}},
        {"Name": "ab", "Count": None},
        {"Name": "ab", "Odd": "pattern that Python cannot read: not checked"},
    ],
)
def test_what_the_model_allows_has_no_violations(request_):
    assert violations(SHAPE, request_) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"Name": None}, "Value null at 'name' failed to satisfy constraint: Member must not be null"),
        (
            {"Name": "a"},
            "Value 'a' at 'name' failed to satisfy constraint: Member must have length greater than or equal to 2",
        ),
        (
            {"Name": "abcdef"},
            "Value 'abcdef' at 'name' failed to satisfy constraint: Member must have length less than or equal to 5",
        ),
        (
            {"Name": "AB"},
            "Value 'AB' at 'name' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: ^[a-z\\d]+$",
        ),
        ({"Name": "ab\n"}, "pattern"),
        ({"Name": "ab\u0661"}, "pattern"),
        (
            {"Count": 0},
            "Value '0' at 'count' failed to satisfy constraint: Member must have value greater than or equal to 1",
        ),
        (
            {"Count": 4},
            "Value '4' at 'count' failed to satisfy constraint: Member must have value less than or equal to 3",
        ),
        ({"Count": "1"}, "Value at 'count' failed to satisfy constraint: Member must be a integer"),
        ({"Count": True}, "Value at 'count' failed to satisfy constraint: Member must be a integer"),
        ({"Flag": 1}, "Value at 'flag' failed to satisfy constraint: Member must be a boolean"),
        (
            {"Color": "Blue"},
            "Value 'Blue' at 'color' failed to satisfy constraint: Member must satisfy enum value set: [Green, Red]",
        ),
        ({"Items": []}, "greater than or equal to 1"),
        ({"Items": [{"Key": "ab"}] * 3}, "less than or equal to 2"),
        ({"Items": [{"Key": "ab"}, {}]}, "Value null at 'items.2.member.key'"),
        ({"Items": ["ab"]}, "Value at 'items.1.member' failed to satisfy constraint: Member must be a structure"),
        ({"Items": {"0": "ab"}}, "Member must be a list"),
        ({"Table": {"ab": 9}}, "Value '9' at 'table.ab.value'"),
        ({"Table": {"A": 1}}, "Value 'A' at 'table.key'"),
        ({"Table": {"ab": 1, "bc": 1, "cd": 1}}, "less than or equal to 2"),
        ({"Bytes": b"abcd"}, "less than or equal to 3"),
        ({"Nmae": "ab"}, "Unknown parameter 'nmae'"),
    ],
)
def test_each_violation_is_told_in_the_words_of_aws(changes, said):
    found = violations(SHAPE, {"Name": "ab", **changes})
    assert any(said in violation for violation in found), found


def test_every_violation_is_told_not_only_the_first():
    assert len(violations(SHAPE, {"Count": 0, "Color": "Blue", "Items": [{}]})) == 4


def test_an_operation_without_input_has_none():
    assert violations(None, {}) == []


def test_a_shape_of_one_member_is_enough():
    shape = DenormalizedStructureBuilder().with_members({"A": {"type": "string"}}).build_model()
    assert violations(shape, {"A": 1}) != []


@pytest.mark.parametrize("service", ["sagemaker", "sagemaker-runtime", "lambda"])
def test_every_type_of_the_services_that_are_ours_is_known(service):
    model = get_service_model(service)
    kinds = {model.shape_for(name).type_name for name in model.shape_names}
    assert kinds <= _PYTHON_TYPES.keys()


def test_a_violation_knows_its_place_its_value_and_what_would_be_allowed():
    (found,) = located_violations(SHAPE, {"Name": "ab", "Color": "Blue"})
    assert (found.path, found.value, found.allowed) == ("color", "Blue", ("Red", "Green"))
    (missing,) = located_violations(SHAPE, {"Name": "ab", "Items": [{}]})
    assert (missing.path, missing.value, missing.allowed) == ("items.1.member.key", None, ())
