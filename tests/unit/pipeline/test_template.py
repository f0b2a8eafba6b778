"""kennel.pipeline.template: intrinsics, lines, and the statements of policies."""

from textwrap import dedent

import pytest

from kennel.errors import InvalidArguments
from kennel.pipeline import template

SOURCE = dedent(
    """\
    Parameters:
      Data: {Type: CommaDelimitedList, Default: ""}
    Conditions:
      Some: !Not [!Equals [!Ref Data, ""]]
    Resources:
      Key:
        Type: AWS::KMS::Key

      Role:
        Type: AWS::IAM::Role
        Properties:
          RoleName: !Sub "${AWS::StackName}-role"
          Config: !If [Some, {Ids: [!Ref Key]}, !Ref AWS::NoValue]
          Policies:
            - PolicyName: inline
              PolicyDocument:
                Statement:
                  - {Sid: One, Effect: Allow, Action: "kms:Decrypt", Resource: !GetAtt Key.Arn}
                  - !If
                    - Some
                    - Effect: Allow
                      Action: ["s3:GetObject", "s3:ListBucket"]
                      Resource: !Ref Data
                      Condition: {StringLike: {"s3:prefix": ["a/*", "b/*"]}}
                    - !Ref AWS::NoValue
      More:
        Type: AWS::IAM::Policy
        Properties:
          Roles: [!Ref Role]
          PolicyDocument:
            Statement: {Effect: Allow, NotAction: "iam:*", Resource: "*"}
      Delivery:
        Type: AWS::Logs::ResourcePolicy
        Properties:
          PolicyDocument: !Sub |
            {"Statement": [{"Effect": "Allow", "Principal": {"Service": ["a.amazonaws.com", "b.amazonaws.com"]},
                            "Action": "logs:PutLogEvents", "Resource": "${Key.Arn}"}]}
    """
)


@pytest.fixture(scope="module")
def read():
    return template.read(SOURCE)


@pytest.mark.parametrize(
    ("yaml", "written"),
    [
        ("plain", "plain"),
        ("!Ref Key", "${Key}"),
        ("!GetAtt Key.Arn", "${Key.Arn}"),
        ("!GetAtt [Key, Arn]", "${Key.Arn}"),
        ("{'Fn::GetAtt': [Key, Arn]}", "${Key.Arn}"),
        ('!Sub "${Key.Arn}/*"', "${Key.Arn}/*"),
        ('!Sub ["${A}:${B}", {A: !Ref Key}]', "${Key}:${B}"),
        ('!Join [":", [arn, !Ref AWS::Partition]]', "arn:${AWS::Partition}"),
        ("true", "true"),
        ("[1, a]", '[1, "a"]'),
        ('!Select [0, !GetAZs ""]', '{"Fn::Select": [0, {"Fn::GetAZs": ""}]}'),
    ],
)
def test_one_meaning_is_written_in_one_way(yaml, written):
    found = template.read(f"Resources:\n  It:\n    Type: T\n    Properties:\n      Value: {yaml}\n")
    assert found.resources["It"].text("Value") == written


def test_resources_know_their_lines(read):
    assert [(found.id, found.line) for found in read.resources.values()] == [
        ("Key", 6),
        ("Role", 9),
        ("More", 26),
        ("Delivery", 32),
    ]
    assert read.size == len(SOURCE.encode())


def test_properties_are_seen_through_a_condition_with_one_value(read):
    role = read.resources["Role"]
    assert role.texts("Config.Ids") == ("${Key}",)
    assert role.text("Config.Ids.0") == "${Key}"
    assert role.get("Config.Ids.1") is role.get("Nothing.There") is None
    assert role.text("Nothing") == ""


def test_a_role_s_statements_are_those_of_every_policy_and_every_condition(read):
    one, two, three = read.identity_statements("Role")
    assert (one.where, one.actions, one.resources) == ("Role (line 9), One", ("kms:Decrypt",), ("${Key.Arn}",))
    assert two.resources == ("${Data}",)
    assert two.conditions == {"StringLike s3:prefix": ("a/*", "b/*")}
    assert (three.where, three.inverted) == ("More (line 26), statement 1", ("NotAction",))
    assert list(read.identity_statements()) == [one, two, three]
    assert list(read.identity_statements("Other")) == []


def test_a_policy_in_a_string_is_read(read):
    (statement,) = read.resource_statements()
    assert statement.principals == ("Service:a.amazonaws.com", "Service:b.amazonaws.com")
    assert statement.resources == ("${Key.Arn}",)


def test_references_lead_to_resources(read):
    assert read.refers("${Key.Arn}", "AWS::KMS::Key")
    assert read.refers("${Key}", "AWS::KMS::Key")
    assert not read.refers("${Key.Arn}/*", "AWS::KMS::Key")
    assert not read.refers("${Role}", "AWS::KMS::Key")
    assert read.referred("${AWS::StackName}") is None


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("Resources: {A: [}", "line 1"),
        ("Resources:\n  A: {Type: T}\n  A: {Type: U}\n", "A is given twice"),
        ("Parameters: {}\n", "no Resources"),
        ("", "no Resources"),
        ("- a\n", "no Resources"),
    ],
)
def test_what_is_no_template_is_refused_with_the_place(source, said):
    with pytest.raises(InvalidArguments, match=said) as refused:
        template.read(source, where="some.yaml")
    assert "some.yaml" in str(refused.value)
