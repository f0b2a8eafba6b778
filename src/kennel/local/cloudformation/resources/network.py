"""AWS::EC2::VPC, Subnet, RouteTable, SubnetRouteTableAssociation, VPCEndpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Properties, Wanted, names


def tag(api: Api, resource: str, wanted: Iterable[Mapping[str, Any]], old: Iterable[Mapping[str, Any]] = ()) -> None:
    """Give an EC2 resource its tags, and take those that it no longer has."""
    new = {item["Key"]: item["Value"] for item in wanted}
    if dropped := [item["Key"] for item in old if item["Key"] not in new]:
        api("ec2", "DeleteTags", Resources=[resource], Tags=[{"Key": key} for key in dropped])
    if new:
        api("ec2", "CreateTags", Resources=[resource], Tags=[{"Key": key, "Value": new[key]} for key in new])


def update_tags(api: Api, changed: Changed) -> Made:
    """Of resources of which nothing else can change."""
    tag(api, changed.id, changed.get("Tags", []), changed.old.get("Tags", []))
    return changed.made


_DNS = ("EnableDnsSupport", "EnableDnsHostnames")


def _make_vpc(api: Api, wanted: Wanted) -> Made:
    vpc = api("ec2", "CreateVpc", CidrBlock=wanted["CidrBlock"])["Vpc"]["VpcId"]
    _set_dns(api, vpc, {name: wanted.get(name) for name in _DNS})
    tag(api, vpc, wanted.get("Tags", []))
    return Made(id=vpc, attributes={"VpcId": vpc, "CidrBlock": wanted["CidrBlock"]})


def _set_dns(api: Api, vpc: str, values: Mapping[str, Any]) -> None:
    for name, value in values.items():  # one attribute a call, says the API
        if value is not None:
            api("ec2", "ModifyVpcAttribute", VpcId=vpc, **{name: {"Value": value}})


def _update_vpc(api: Api, changed: Changed) -> Made:
    defaults = {"EnableDnsSupport": True, "EnableDnsHostnames": False}
    _set_dns(api, changed.id, {name: changed.get(name, defaults[name]) for name in _DNS if changed.differs(name)})
    return update_tags(api, changed)


def _make_subnet(api: Api, wanted: Wanted) -> Made:
    subnet = api(
        "ec2",
        "CreateSubnet",
        VpcId=wanted["VpcId"],
        CidrBlock=wanted["CidrBlock"],
        AvailabilityZone=wanted.get("AvailabilityZone"),
    )["Subnet"]
    tag(api, subnet["SubnetId"], wanted.get("Tags", []))
    attributes = {"SubnetId": subnet["SubnetId"], "AvailabilityZone": subnet["AvailabilityZone"]}
    return Made(id=subnet["SubnetId"], attributes=attributes)


def _make_route_table(api: Api, wanted: Wanted) -> Made:
    table = api("ec2", "CreateRouteTable", VpcId=wanted["VpcId"])["RouteTable"]["RouteTableId"]
    tag(api, table, wanted.get("Tags", []))
    return Made(id=table, attributes={"RouteTableId": table})


def _associate(api: Api, wanted: Wanted) -> Made:
    made = api("ec2", "AssociateRouteTable", SubnetId=wanted["SubnetId"], RouteTableId=wanted["RouteTableId"])
    return Made(id=made["AssociationId"], attributes={"Id": made["AssociationId"]})


def _make_endpoint(api: Api, wanted: Wanted) -> Made:
    endpoint = api("ec2", "CreateVpcEndpoint", **wanted.properties)["VpcEndpoint"]["VpcEndpointId"]
    return Made(id=endpoint, attributes={"Id": endpoint})


def _update_endpoint(api: Api, changed: Changed) -> Made:
    sent: dict[str, Any] = {}
    for many, one in (("RouteTableIds", "RouteTable"), ("SubnetIds", "Subnet"), ("SecurityGroupIds", "SecurityGroup")):
        old, new = changed.old.get(many, []), changed.get(many, [])
        sent[f"Add{one}Ids"] = [item for item in new if item not in old] or None
        sent[f"Remove{one}Ids"] = [item for item in old if item not in new] or None
    if changed.differs("PolicyDocument"):
        policy = changed.get("PolicyDocument")
        sent |= {"PolicyDocument": policy} if policy else {"ResetPolicy": True}
    if changed.differs("PrivateDnsEnabled"):
        sent["PrivateDnsEnabled"] = changed.get("PrivateDnsEnabled", False)
    api("ec2", "ModifyVpcEndpoint", VpcEndpointId=changed.id, **sent)
    return changed.made


def _remove_endpoint(api: Api, made: Made, _properties: Properties) -> None:
    api("ec2", "DeleteVpcEndpoints", VpcEndpointIds=[made.id])


def deleted_by(operation: str, parameter: str) -> Callable[[Api, Made, Properties], None]:
    """Removes an EC2 resource by an operation that wants its id and nothing else."""

    def remove(api: Api, made: Made, _properties: Properties) -> None:
        api("ec2", operation, **{parameter: made.id})

    return remove


KINDS: Mapping[str, Kind] = {
    "AWS::EC2::VPC": Kind(
        attributes=names("VpcId CidrBlock"),
        properties=names("CidrBlock EnableDnsSupport EnableDnsHostnames Tags"),
        fixed=names("CidrBlock"),
        make=_make_vpc,
        update=_update_vpc,
        remove=deleted_by("DeleteVpc", "VpcId"),
    ),
    "AWS::EC2::Subnet": Kind(
        attributes=names("SubnetId AvailabilityZone"),
        properties=names("VpcId CidrBlock AvailabilityZone Tags"),
        fixed=names("VpcId CidrBlock AvailabilityZone"),
        make=_make_subnet,
        update=update_tags,
        remove=deleted_by("DeleteSubnet", "SubnetId"),
    ),
    "AWS::EC2::RouteTable": Kind(
        attributes=names("RouteTableId"),
        properties=names("VpcId Tags"),
        fixed=names("VpcId"),
        make=_make_route_table,
        update=update_tags,
        remove=deleted_by("DeleteRouteTable", "RouteTableId"),
    ),
    "AWS::EC2::SubnetRouteTableAssociation": Kind(
        attributes=names("Id"),
        properties=names("SubnetId RouteTableId"),
        fixed=names("SubnetId RouteTableId"),
        make=_associate,
        remove=deleted_by("DisassociateRouteTable", "AssociationId"),
    ),
    "AWS::EC2::VPCEndpoint": Kind(
        attributes=names("Id"),
        properties=names(
            "VpcId VpcEndpointType ServiceName PolicyDocument RouteTableIds SubnetIds SecurityGroupIds "
            "PrivateDnsEnabled"
        ),
        fixed=names("VpcId VpcEndpointType ServiceName"),
        make=_make_endpoint,
        update=_update_endpoint,
        remove=_remove_endpoint,
    ),
}
