"""Templates: what they say is read as CloudFormation reads it, and what is wrong is refused in its words."""

import pytest

from kennel.local.cloudformation.intrinsics import Scope, resolve
from kennel.local.cloudformation.template import load, parameter_values, template_of
from kennel.local.wire import ServiceError

PSEUDO = {"AWS::Region": "eu-west-1", "AWS::NoValue": None, "AWS::StackName": "s"}
SCOPE = Scope(
    ref={"A": "a", "AWS::Region": "eu-west-1", "List": ["x", "y"]}.__getitem__,
    get_att=lambda name, attribute: f"{name}/{attribute}",
    conditions={"Set": True, "Unset": False},
    mappings={"M": {"one": {"two": "three"}}},
    zones=("eu-west-1a", "eu-west-1b"),
)


def read(body, **given):
    return template_of(load(body), given, PSEUDO)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("!Ref A", "a"),
        ("!GetAtt Key.Arn", "Key/Arn"),
        ("!GetAtt [Key, Arn]", "Key/Arn"),
        ("!Sub '${A}:${Key.Arn}:${!A}:$A'", "a:Key/Arn:${A}:$A"),
        ("!Sub ['${A}${B}', {B: !Ref A}]", "aa"),
        ("!Sub ['${Arn}', {Arn: !GetAtt Key.Arn}]", "Key/Arn"),
        ("!Join ['-', [!Ref A, b, 1]]", "a-b-1"),
        ("!Join [',', !Ref List]", "x,y"),
        ("!Split [',', !Join [',', !Ref List]]", ["x", "y"]),
        ("!Select [1, !GetAZs '']", "eu-west-1b"),
        ("!FindInMap [M, one, two]", "three"),
        ("!Base64 a", "YQ=="),
        ("!If [Set, 1, 2]", 1),
        ("!If [Unset, 1, 2]", 2),
        ("{a: !If [Unset, 1, !Ref 'AWS::NoValue'], b: 2}", {"b": 2}),
        ("[1, !Ref 'AWS::NoValue', 2]", [1, 2]),
        ("{Ref: A}", "a"),
        ("{Ref: A, Other: 1}", {"Ref": "A", "Other": 1}),
        ("2012-10-17", "2012-10-17"),
    ],
)
def test_intrinsic_functions(written, meant):
    document = load(f"Resources: {{R: {{Type: T, Properties: {{P: {written}}}}}}}")
    assert resolve(document["Resources"]["R"]["Properties"], SCOPE) == {"P": meant}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("!Transform x", "encountered unsupported function: Fn::Transform"),
        ("!Select [9, !GetAZs '']", "Fn::Select .* cannot be done"),
        ("!Join x", "Fn::Join .* cannot be done"),
        ("!If [Nothing, 1, 2]", "Fn::If .* cannot be done"),
    ],
)
def test_what_cannot_be_resolved_is_said(written, message):
    document = load(f"Resources: {{R: {{Type: T, Properties: {{P: {written}}}}}}}")
    with pytest.raises(ServiceError, match=message):
        resolve(document["Resources"], SCOPE)


CONDITIONAL = """
Parameters: {P: {Type: String, Default: ""}}
Conditions:
  Given: !Not [!Equals [!Ref P, ""]]
  Both: !And [!Condition Given, !Equals [!Ref P, "x"]]
  Either: !Or [!Condition Both, !Equals [!Ref AWS::Region, eu-west-1]]
Resources:
  Always: {Type: T}
  Sometimes: {Type: T, Condition: Given, DependsOn: Always}
Outputs:
  O: {Condition: Given, Value: !Ref Sometimes}
"""


def test_conditions_decide_what_there_is():
    without, given = read(CONDITIONAL), read(CONDITIONAL, P="x")
    assert (list(without.resources), list(without.outputs)) == (["Always"], [])
    assert (list(given.resources), list(given.outputs)) == (["Always", "Sometimes"], ["O"])
    assert without.conditions == {"Given": False, "Both": False, "Either": True}
    assert given.conditions == {"Given": True, "Both": True, "Either": True}


def test_resources_come_after_those_that_they_need():
    body = """
    Resources:
      Last: {Type: T, Properties: {A: !GetAtt Middle.Arn}}
      Middle: {Type: T, Properties: {A: !Sub "${First}"}}
      First: {Type: T}
      Other: {Type: T, DependsOn: [Last]}
    """
    assert list(read(body).resources) == ["First", "Middle", "Last", "Other"]


def test_a_branch_that_is_not_taken_is_no_dependency():
    body = """
    Conditions: {Set: !Equals [a, b]}
    Resources:
      One: {Type: T, Properties: {A: !If [Set, !Ref Two, x]}}
      Two: {Type: T, Condition: Set}
    """
    assert read(body).resources["One"].depends_on == frozenset()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("a: [", "YAML not well-formed"),
        ("Resources: {}", "At least one Resources member must be defined"),
        ("Resources: {R: {Type: T}}\nThings: {}", r"Invalid template property or properties \[Things\]"),
        ("Resources: {R: {Type: T, Thing: 1}}", "Invalid template resource property 'Thing'"),
        ("Resources: {R: {Properties: {}}}", "must contain a Type"),
        (
            "Resources: {R: {Type: T, Properties: {A: !Ref B}}}",
            r"Unresolved resource dependencies \[B\] in the Resources",
        ),
        ("Resources: {R: {Type: T}}\nOutputs: {O: {Value: !Ref B}}", r"dependencies \[B\] in the Outputs"),
        ("Resources: {R: {Type: T, Condition: C}}", "Unresolved condition dependency C"),
        (
            "Resources: {A: {Type: T, DependsOn: B}, B: {Type: T, DependsOn: A}}",
            r"Circular dependency between resources: \[A, B\]",
        ),
        (
            "Conditions: {C: !Equals [a, b]}\nResources: {A: {Type: T, Condition: C}, B: {Type: T, DependsOn: A}}",
            r"Unresolved resource dependencies \[A\]",
        ),
    ],
)
def test_a_bad_template_is_refused(body, message):
    with pytest.raises(ServiceError, match=message) as refused:
        read(body)
    assert refused.value.code == "ValidationError"


@pytest.mark.parametrize(
    ("slot", "given", "message"),
    [
        ({"Type": "String"}, {}, r"Parameters: \[P\] must have values"),
        ({"Type": "String", "Default": ""}, {"Q": "1"}, r"Parameters: \[Q\] do not exist in the template"),
        ({"Type": "String", "AllowedValues": ["on", "off"]}, {"P": "no"}, "'P' must be one of AllowedValues"),
        ({"Type": "String", "AllowedPattern": "a+"}, {"P": "ab"}, r"'P' must match pattern a\+"),
        ({"Type": "Number"}, {"P": "x"}, "'P' must be a number"),
        ({"Type": "AWS::SSM::Parameter::Value<String>"}, {"P": "x"}, "does not read parameters of the type"),
    ],
)
def test_a_bad_parameter_is_refused(slot, given, message):
    with pytest.raises(ServiceError, match=message):
        parameter_values({"P": slot}, given)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [("String", "a,b", "a,b"), ("CommaDelimitedList", "a, b", ["a", "b"]), ("CommaDelimitedList", "", [""])],
)
def test_parameters_are_text_or_lists_of_it(kind, text, value):
    assert parameter_values({"P": {"Type": kind, "Default": text}}, {}) == {"P": value}
