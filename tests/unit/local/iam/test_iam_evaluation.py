"""Policies say what IAM's documentation says they say."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kennel.local.iam.access import Access
from kennel.local.iam.conditions import InvalidPolicy, hold
from kennel.local.iam.evaluation import Effect, Policy, Principal, decide, evaluate
from kennel.local.iam.patterns import arn_matches, matches

ROLE = "arn:aws:iam::123456789012:role/it"
OBJECT = Access(action="s3:GetObject", resource="arn:aws:s3:::bucket/data/1.jpg")


def policy(*statements, version="2012-10-17", name="p"):
    return Policy(name=name, document={"Version": version, "Statement": list(statements)})


def statement(action="s3:GetObject", resource="*", effect="Allow", **more):
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def verdict(access, *statements):
    return evaluate([policy(*statements)], access)


def test_what_nobody_allows_is_denied():
    assert verdict(OBJECT).effect is Effect.IMPLICIT_DENY
    assert verdict(OBJECT, statement("s3:PutObject")).effect is Effect.IMPLICIT_DENY


def test_the_statement_that_decides_is_named_by_sid_or_number():
    assert verdict(OBJECT, statement("s3:PutObject"), statement()).statement == "p[1]"
    assert verdict(OBJECT, statement(Sid="Read")).statement == "p[Read]"


@given(st.permutations([statement(), statement(effect="Deny", Sid="No"), statement("*"), statement("s3:PutObject")]))
def test_an_explicit_deny_wins_wherever_it_stands(statements):
    found = verdict(OBJECT, *statements)
    assert (found.effect, found.statement) == (Effect.EXPLICIT_DENY, "p[No]")


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("s3:GetObject", True), ("S3:getobject", True), ("s3:Get*", True), ("s3:*", True), ("*", True),
        ("s3:GetObjec?", True), ("s3:GetObject?", False), ("s3:Put*", False), ("sns:*", False), ("s3:Get", False),
    ],
)  # fmt: skip
def test_actions_match_by_wildcards_and_without_regard_to_case(pattern, allowed):
    assert verdict(OBJECT, statement(pattern)).allowed is allowed


@pytest.mark.parametrize(
    ("pattern", "allowed"),
    [
        ("arn:aws:s3:::bucket/data/1.jpg", True), ("arn:aws:s3:::bucket/*", True),
        ("arn:aws:s3:::bucket/data/?.jpg", True),
        ("arn:aws:s3:::*", True), ("arn:aws:s3:::Bucket/*", False), ("arn:aws:s3:::bucket", False),
        ("arn:aws:s3:::bucket/data", False), ("arn:aws:*", True), ("arn:aws:*bucket/*", False),
    ],
)  # fmt: skip
def test_resources_match_part_by_part_and_by_case(pattern, allowed):
    assert verdict(OBJECT, statement(resource=pattern)).allowed is allowed


def test_what_knows_no_resource_is_allowed_on_all_resources_alone():
    login = Access(action="ecr:GetAuthorizationToken")
    assert verdict(login, statement("ecr:*", "*")).allowed
    assert not verdict(login, statement("ecr:*", "arn:aws:ecr:*:*:repository/*")).allowed
    assert not verdict(login, statement("ecr:*", "arn:*")).allowed


def test_not_action_and_not_resource_are_all_but_those():
    def but(**elements):
        return {"Effect": "Allow", **elements}

    assert not verdict(OBJECT, but(NotAction="s3:Get*", Resource="*")).allowed
    assert verdict(OBJECT, but(NotAction=["sns:*"], Resource="*")).allowed
    assert not verdict(OBJECT, but(Action="*", NotResource="arn:aws:s3:::bucket/*")).allowed
    assert verdict(OBJECT, but(Action="*", NotResource="arn:aws:s3:::other/*")).allowed


@given(st.text(alphabet="ab*?$"), st.text(alphabet="ab*?$"))
def test_a_pattern_without_wildcards_matches_itself_alone(pattern, text):
    plain = pattern.translate(str.maketrans({"*": "a", "?": "b"}))
    assert matches(plain, text, {}, variables=True) == (plain == text)
    assert matches("*", text, {}, variables=True)


@given(st.lists(st.text(alphabet="abc/", max_size=4), min_size=6, max_size=6), st.data())
def test_a_wildcard_for_a_part_of_an_arn_matches_that_part_alone(parts, data):
    arn = ":".join(parts)
    place = data.draw(st.integers(0, 5))
    assert arn_matches(":".join([*parts[:place], "*", *parts[place + 1 :]]), arn, {}, variables=True)
    changed = parts.copy()
    changed[place] += "x"
    assert not arn_matches(":".join(changed), arn, {}, variables=True)


def test_variables_stand_for_the_requests_values():
    context = {"aws:PrincipalAccount": "123456789012", "aws:TagKeys": ["a", "b"]}
    asked = Access(action="s3:GetObject", resource="arn:aws:s3:::data-123456789012/x", context=context)
    arn = "arn:aws:s3:::data-${aws:PrincipalAccount}/*"
    assert verdict(asked, statement(resource=arn)).allowed
    assert not evaluate([policy(statement(resource=arn), version="2008-10-17")], asked).allowed
    assert not verdict(asked, statement(resource="arn:aws:s3:::data-${aws:userid}*")).allowed
    assert not verdict(asked, statement(resource="arn:aws:s3:::data-${aws:TagKeys}*")).allowed
    assert verdict(asked, statement(resource="arn:aws:s3:::data-${aws:userid, '123456789012'}/x")).allowed
    assert matches("${*}", "*", {}, variables=True)
    assert not matches("${*}", "x", {}, variables=True)


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"StringEquals": {"k": "red"}}, True),
        ({"StringEquals": {"K": ["blue", "red"]}}, True),
        ({"StringEquals": {"k": "RED"}}, False),
        ({"StringEquals": {"k": "r*"}}, False),
        ({"StringEqualsIgnoreCase": {"k": "RED"}}, True),
        ({"StringLike": {"k": "r?d"}}, True),
        ({"StringNotEquals": {"k": ["blue", "red"]}}, False),
        ({"StringNotEquals": {"k": ["blue", "green"]}}, True),
        ({"StringNotLike": {"k": "r*"}}, False),
        ({"StringEquals": {"gone": "x"}}, False),
        ({"StringNotEquals": {"gone": "x"}}, True),
        ({"StringEqualsIfExists": {"gone": "x"}}, True),
        ({"StringEqualsIfExists": {"k": "x"}}, False),
        ({"Null": {"gone": "true"}}, True),
        ({"Null": {"k": True}}, False),
        ({"Null": {"k": "false"}}, True),
        ({"Bool": {"flag": "true"}}, True),
        ({"Bool": {"flag": True}}, True),
        ({"Bool": {"flag": "false"}}, False),
        ({"Bool": {"gone": "false"}}, False),
        ({"NumericLessThanEquals": {"n": 5}}, True),
        ({"NumericLessThan": {"n": "5"}}, False),
        ({"NumericGreaterThan": {"n": 4.5}}, True),
        ({"NumericNotEquals": {"n": 4}}, True),
        ({"NumericEquals": {"k": 1}}, False),
        ({"ArnLike": {"arn": "arn:aws:s3:::buck*"}}, True),
        ({"ArnEquals": {"arn": "arn:aws:s3:::*"}}, True),
        ({"ArnNotLike": {"arn": "arn:aws:s3:::buck*"}}, False),
        ({"ForAnyValue:StringEquals": {"many": ["b", "z"]}}, True),
        ({"ForAnyValue:StringEquals": {"many": "z"}}, False),
        ({"ForAnyValue:StringEquals": {"gone": "z"}}, False),
        ({"ForAllValues:StringEquals": {"many": ["a", "b", "c"]}}, True),
        ({"ForAllValues:StringEquals": {"many": ["a"]}}, False),
        ({"ForAllValues:StringEquals": {"gone": ["a"]}}, True),
        ({"ForAllValues:StringNotEquals": {"many": ["a"]}}, False),
        ({"ForAnyValue:StringNotEquals": {"many": ["a"]}}, True),
        ({"StringEquals": {"k": "red"}, "Bool": {"flag": "false"}}, False),
    ],
)
def test_conditions_hold_as_documented(condition, holds):
    context = {"k": "red", "flag": "true", "n": "5", "arn": "arn:aws:s3:::bucket", "many": ["a", "b"]}
    assert hold(condition, context, variables=True) is holds


@pytest.mark.parametrize("operator", ["IpAddress", "DateLessThan", "StringEqual", "ForSome:StringEquals", "Bool2"])
def test_an_operator_that_is_not_known_is_an_error_even_where_another_fails(operator):
    with pytest.raises(InvalidPolicy, match="is not evaluated here"):
        hold({"StringEquals": {"gone": "x"}, operator: {"k": "red"}}, {"k": "red"}, variables=True)


def test_a_trust_policy_names_the_service_that_may_take_the_role():
    trust = policy(
        {"Effect": "Allow", "Principal": {"Service": ["a.com", "states.amazonaws.com"]}, "Action": "sts:AssumeRole"}
    )
    asked = Access(action="sts:AssumeRole", resource=ROLE)
    assert evaluate([trust], asked, principal=Principal(service="states.amazonaws.com")).allowed
    assert not evaluate([trust], asked, principal=Principal(service="lambda.amazonaws.com")).allowed
    assert not evaluate([trust], asked, principal=Principal(role_arn=ROLE, account="123456789012")).allowed


def grant(principal, effect="Allow"):
    return [policy({"Effect": effect, "Principal": principal, "Action": "*", "Resource": "*"}, name="theirs")]


ACCOUNT_ROOT = {"AWS": "arn:aws:iam::123456789012:root"}


@pytest.mark.parametrize(
    ("own", "theirs", "key", "allowed"),
    [
        (True, [], False, True),
        (False, [], False, False),
        (False, grant({"AWS": ROLE}), False, True),
        (False, grant("*"), False, True),
        (False, grant(ACCOUNT_ROOT), False, False),  # the account's policies decide, and say nothing
        (True, grant(ACCOUNT_ROOT, "Deny"), False, False),
        (True, grant("*", "Deny"), False, False),
        (True, grant({"AWS": "arn:aws:iam::123456789012:role/other"}, "Deny"), False, True),
        (True, [], True, False),  # a key's own policy must let somebody in
        (True, grant(ACCOUNT_ROOT), True, True),
        (False, grant(ACCOUNT_ROOT), True, False),
        (False, grant({"AWS": [ROLE]}), True, True),
    ],
)
def test_a_roles_policies_and_a_resources_policy_are_taken_together(own, theirs, key, allowed):
    principal = Principal(role_arn=ROLE, account="123456789012")
    mine = [policy(statement())] if own else []
    found = decide(OBJECT, principal=principal, identity=mine, resource=theirs, resource_must_allow=key)
    assert found.allowed is allowed


def test_a_permissions_boundary_limits_what_policies_allow():
    principal = Principal(role_arn=ROLE, account="123456789012")
    for inside, outside in itertools.product([True, False], repeat=2):
        found = decide(
            OBJECT,
            principal=principal,
            identity=[policy(statement())] if inside else [],
            boundary=[policy(statement())] if outside else [],
        )
        assert found.allowed is (inside and outside)
