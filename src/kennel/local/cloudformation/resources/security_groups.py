"""AWS::EC2::SecurityGroup, SecurityGroupIngress, SecurityGroupEgress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from kennel.local.cloudformation.api import Api, Refused
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
from kennel.local.cloudformation.resources.network import deleted_by, tag

Direction = Literal["Ingress", "Egress"]

_PEERS: Final = {
    "CidrIp": ("IpRanges", "CidrIp"),
    "CidrIpv6": ("Ipv6Ranges", "CidrIpv6"),
    "SourcePrefixListId": ("PrefixListIds", "PrefixListId"),
    "DestinationPrefixListId": ("PrefixListIds", "PrefixListId"),
    "SourceSecurityGroupId": ("UserIdGroupPairs", "GroupId"),
    "DestinationSecurityGroupId": ("UserIdGroupPairs", "GroupId"),
}
"""A rule of a template names its peer by a property of its own; the API has a list for each sort of peer."""

_EVERYTHING: Final = {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}
"""What a new group lets out until it is told otherwise."""

_RULE: Final = names("IpProtocol FromPort ToPort Description") | frozenset(_PEERS)


def permission(rule: Mapping[str, Any]) -> dict[str, Any]:
    """A template's rule as the API has it. Raises Refused."""
    if extraneous := [key for key in rule if key not in _RULE]:
        raise Refused(f"#: extraneous key [{extraneous[0]}] is not permitted", "InvalidRequest")
    peers: dict[str, Any] = {}
    described = {"Description": rule["Description"]} if "Description" in rule else {}
    for key, (many, one) in _PEERS.items():
        if key in rule:
            peers[many] = [{one: rule[key], **described}]
    if not peers:
        raise Refused("Exactly one of the peers of a rule must be specified and not empty", "InvalidRequest")
    ports = {key: rule[key] for key in ("IpProtocol", "FromPort", "ToPort") if key in rule}
    return {**ports, **peers}


def _authorize(api: Api, group: str, direction: Direction, rules: list[Mapping[str, Any]]) -> list[str]:
    if not rules:
        return []
    permissions = [permission(rule) for rule in rules]
    made = api("ec2", f"AuthorizeSecurityGroup{direction}", GroupId=group, IpPermissions=permissions)
    return [str(rule["SecurityGroupRuleId"]) for rule in made["SecurityGroupRules"]]


def _revoke(api: Api, group: str, direction: Direction, rules: list[Mapping[str, Any]]) -> None:
    if rules:
        permissions = [permission(rule) for rule in rules]
        with gone_is_fine():
            api("ec2", f"RevokeSecurityGroup{direction}", GroupId=group, IpPermissions=permissions)


def _make_group(api: Api, wanted: Wanted) -> Made:
    group = api(
        "ec2",
        "CreateSecurityGroup",
        GroupName=wanted.name("GroupName"),
        Description=wanted["GroupDescription"],
        VpcId=wanted.get("VpcId"),
    )["GroupId"]
    with or_undone(lambda: api("ec2", "DeleteSecurityGroup", GroupId=group)):
        tag(api, group, wanted.get("Tags", []))
        _authorize(api, group, "Ingress", wanted.get("SecurityGroupIngress", []))
        if egress := wanted.get("SecurityGroupEgress"):
            _revoke(api, group, "Egress", [_EVERYTHING])
            _authorize(api, group, "Egress", egress)
    return Made(id=group, attributes={"GroupId": group, "VpcId": wanted.get("VpcId", "")})


def _update_group(api: Api, changed: Changed) -> Made:
    directions: tuple[tuple[Direction, list[Mapping[str, Any]]], ...] = (("Ingress", []), ("Egress", [_EVERYTHING]))
    for direction, default in directions:
        name = f"SecurityGroup{direction}"
        old = changed.old.get(name) or default
        new = changed.get(name) or default
        # what differs by its description only cannot be there twice
        _revoke(api, changed.id, direction, [rule for rule in old if rule not in new])
        _authorize(api, changed.id, direction, [rule for rule in new if rule not in old])
    tag(api, changed.id, changed.get("Tags", []), changed.old.get("Tags", []))
    return changed.made


def _rule_kind(direction: Direction) -> Kind:
    def rule_of(properties: Properties) -> dict[str, Any]:
        return {key: value for key, value in properties.items() if key != "GroupId"}

    def make(api: Api, wanted: Wanted) -> Made:
        (rule,) = _authorize(api, wanted["GroupId"], direction, [rule_of(wanted.properties)])
        return Made(id=rule, attributes={"Id": rule})

    def remove(api: Api, made: Made, properties: Properties) -> None:
        api("ec2", f"RevokeSecurityGroup{direction}", GroupId=properties["GroupId"], SecurityGroupRuleIds=[made.id])

    def describe(api: Api, changed: Changed) -> Made:
        rule = {"Description": "", **rule_of(changed.wanted.properties)}
        group, operation = changed.wanted["GroupId"], f"UpdateSecurityGroupRuleDescriptions{direction}"
        api("ec2", operation, GroupId=group, IpPermissions=[permission(rule)])
        return changed.made

    peers = frozenset(
        peer for peer in _PEERS if not peer.startswith("Destination" if direction == "Ingress" else "Source")
    )
    known = names("GroupId IpProtocol FromPort ToPort Description") | peers
    return Kind(
        properties=known,
        attributes=names("Id"),
        fixed=known - {"Description"},
        make=make,
        update=describe,
        remove=remove,
    )


KINDS: Mapping[str, Kind] = {
    "AWS::EC2::SecurityGroup": Kind(
        attributes=names("GroupId VpcId"),
        properties=names("GroupName GroupDescription VpcId SecurityGroupIngress SecurityGroupEgress Tags"),
        fixed=names("GroupName GroupDescription VpcId"),
        name="GroupName",
        make=_make_group,
        update=_update_group,
        remove=deleted_by("DeleteSecurityGroup", "GroupId"),
    ),
    "AWS::EC2::SecurityGroupIngress": _rule_kind("Ingress"),
    "AWS::EC2::SecurityGroupEgress": _rule_kind("Egress"),
}
