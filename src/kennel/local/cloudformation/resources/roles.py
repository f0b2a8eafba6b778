"""AWS::IAM::Role, AWS::IAM::Policy, AWS::IAM::InstanceProfile."""

from __future__ import annotations

from collections.abc import Mapping

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import (
    Changed,
    Kind,
    Made,
    Properties,
    Wanted,
    gone_is_fine,
    names,
    or_undone,
)


def _make_role(api: Api, wanted: Wanted) -> Made:
    role = api(
        "iam",
        "CreateRole",
        RoleName=wanted.name("RoleName"),
        AssumeRolePolicyDocument=wanted["AssumeRolePolicyDocument"],
        Description=wanted.get("Description"),
        Path=wanted.get("Path"),
        MaxSessionDuration=wanted.get("MaxSessionDuration"),
    )["Role"]
    made = Made(id=role["RoleName"], attributes={"Arn": role["Arn"], "RoleId": role["RoleId"]})
    with or_undone(lambda: _remove_role(api, made, wanted.properties)):
        _attach(api, made.id, wanted.properties)
    return made


def _attach(api: Api, role: str, properties: Properties) -> None:
    for arn in properties.get("ManagedPolicyArns", []):
        api("iam", "AttachRolePolicy", RoleName=role, PolicyArn=arn)
    for policy in properties.get("Policies", []):
        api("iam", "PutRolePolicy", RoleName=role, **policy)


def _update_role(api: Api, changed: Changed) -> Made:
    role = changed.id
    if changed.differs("AssumeRolePolicyDocument"):
        trust = changed.wanted["AssumeRolePolicyDocument"]
        api("iam", "UpdateAssumeRolePolicy", RoleName=role, PolicyDocument=trust)
    if changed.differs("Description", "MaxSessionDuration"):
        seconds = changed.get("MaxSessionDuration", 3600)
        api("iam", "UpdateRole", RoleName=role, Description=changed.get("Description", ""), MaxSessionDuration=seconds)
    new = {policy["PolicyName"] for policy in changed.get("Policies", [])}
    for policy in changed.old.get("Policies", []):
        if policy["PolicyName"] not in new:
            with gone_is_fine():
                api("iam", "DeleteRolePolicy", RoleName=role, PolicyName=policy["PolicyName"])
    for arn in changed.old.get("ManagedPolicyArns", []):
        if arn not in changed.get("ManagedPolicyArns", []):
            with gone_is_fine():
                api("iam", "DetachRolePolicy", RoleName=role, PolicyArn=arn)
    _attach(api, role, changed.wanted.properties)
    return changed.made


def _remove_role(api: Api, made: Made, properties: Properties) -> None:
    for policy in properties.get("Policies", []):
        with gone_is_fine():
            api("iam", "DeleteRolePolicy", RoleName=made.id, PolicyName=policy["PolicyName"])
    for arn in properties.get("ManagedPolicyArns", []):
        with gone_is_fine():
            api("iam", "DetachRolePolicy", RoleName=made.id, PolicyArn=arn)
    api("iam", "DeleteRole", RoleName=made.id)


def _put_policy(api: Api, wanted: Wanted) -> Made:
    for role in wanted["Roles"]:
        api(
            "iam",
            "PutRolePolicy",
            RoleName=role,
            PolicyName=wanted["PolicyName"],
            PolicyDocument=wanted["PolicyDocument"],
        )
    return Made(id=wanted.name())


def _update_policy(api: Api, changed: Changed) -> Made:
    _put_policy(api, changed.wanted)
    for role in changed.old["Roles"]:
        if role not in changed.wanted["Roles"] or changed.differs("PolicyName"):
            with gone_is_fine():
                api("iam", "DeleteRolePolicy", RoleName=role, PolicyName=changed.old["PolicyName"])
    return changed.made


def _remove_policy(api: Api, _made: Made, properties: Properties) -> None:
    for role in properties["Roles"]:
        with gone_is_fine():
            api("iam", "DeleteRolePolicy", RoleName=role, PolicyName=properties["PolicyName"])


def _make_profile(api: Api, wanted: Wanted) -> Made:
    profile = api("iam", "CreateInstanceProfile", InstanceProfileName=wanted.name("InstanceProfileName"))
    made = profile["InstanceProfile"]
    name = made["InstanceProfileName"]
    with or_undone(lambda: api("iam", "DeleteInstanceProfile", InstanceProfileName=name)):
        for role in wanted["Roles"]:
            api("iam", "AddRoleToInstanceProfile", InstanceProfileName=name, RoleName=role)
    return Made(id=name, attributes={"Arn": made["Arn"]})


def _update_profile(api: Api, changed: Changed) -> Made:
    for role in changed.old["Roles"]:
        api("iam", "RemoveRoleFromInstanceProfile", InstanceProfileName=changed.id, RoleName=role)
    for role in changed.wanted["Roles"]:
        api("iam", "AddRoleToInstanceProfile", InstanceProfileName=changed.id, RoleName=role)
    return changed.made


def _remove_profile(api: Api, made: Made, properties: Properties) -> None:
    for role in properties["Roles"]:
        with gone_is_fine():
            api("iam", "RemoveRoleFromInstanceProfile", InstanceProfileName=made.id, RoleName=role)
    api("iam", "DeleteInstanceProfile", InstanceProfileName=made.id)


KINDS: Mapping[str, Kind] = {
    "AWS::IAM::Role": Kind(
        attributes=names("Arn RoleId"),
        properties=names(
            "RoleName AssumeRolePolicyDocument Description Path MaxSessionDuration ManagedPolicyArns Policies"
        ),
        fixed=names("RoleName Path"),
        name="RoleName",
        iam=True,
        make=_make_role,
        update=_update_role,
        remove=_remove_role,
    ),
    "AWS::IAM::Policy": Kind(
        properties=names("PolicyName PolicyDocument Roles"),
        iam=True,
        make=_put_policy,
        update=_update_policy,
        remove=_remove_policy,
    ),
    "AWS::IAM::InstanceProfile": Kind(
        attributes=names("Arn"),
        properties=names("InstanceProfileName Roles"),
        fixed=names("InstanceProfileName"),
        name="InstanceProfileName",
        iam=True,
        make=_make_profile,
        update=_update_profile,
        remove=_remove_profile,
    ),
}
