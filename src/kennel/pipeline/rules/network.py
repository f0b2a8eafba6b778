"""The network: no way in, no way out but to S3 and to the endpoints. The original's VPC was never finished. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Resource, Template

_WAYS_OUT = (
    "AWS::EC2::InternetGateway",
    "AWS::EC2::EgressOnlyInternetGateway",
    "AWS::EC2::NatGateway",
    "AWS::EC2::EIP",
    "AWS::EC2::VPCGatewayAttachment",
    "AWS::EC2::VPCPeeringConnection",
    "AWS::EC2::TransitGatewayAttachment",
    "AWS::EC2::VPNGateway",
    "AWS::EC2::Route",  # without one a table holds the VPC's own range, and what gateway endpoints add
)
_LAYERS = "arn:${AWS::Partition}:s3:::prod-${AWS::Region}-starport-layer-bucket/*"
"""Where ECR keeps layers of images: its own bucket, whoever's images they are."""


def two_subnets(template: Template) -> Iterator[Fault]:
    """An endpoint in one zone goes down with it; SageMaker spreads its instances over the subnets that it is given."""
    subnets = template.of_type("AWS::EC2::Subnet")
    zones = Counter(subnet.text("AvailabilityZone") for subnet in subnets)
    where = ", ".join(subnet.where for subnet in subnets) or "Resources"
    yield from unless(
        len(zones) >= 2 and len(zones) == len(subnets) and "" not in zones,
        where,
        f"{len(subnets)} subnet(s) in {len(zones)} zone(s)",
        hint="Make two subnets or more, each with an AvailabilityZone of its own.",
    )
    wanted = {f"${{{subnet.id}}}" for subnet in subnets}
    for resource, path in _placed(template):
        yield from unless(
            set(resource.texts(path)) == wanted,
            resource.where,
            f"is in {', '.join(resource.texts(path)) or 'no subnet'}",
            hint="Put it in every subnet.",
        )


def private_subnets(template: Template) -> Iterator[Fault]:
    """What cannot be reached from outside, and reaches nothing outside, can neither be attacked nor leak."""
    for resource in template.of_type(*_WAYS_OUT):
        yield from unless(
            False, resource.where, f"a {resource.type} leads outside", hint="Reach AWS through VPC endpoints."
        )
    for subnet in template.of_type("AWS::EC2::Subnet"):
        yield from unless(
            subnet.get("MapPublicIpOnLaunch") in (None, False),
            subnet.where,
            "gives instances public addresses",
            hint="Leave MapPublicIpOnLaunch out.",
        )


def closed_security_groups(template: Template) -> Iterator[Fault]:
    """Groups let each other in and S3's prefix list out: a range of addresses says nothing about who is there."""
    for resource in template.of_type("AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress"):
        yield from _ranges(resource, resource.body["Properties"])
    for group in template.of_type("AWS::EC2::SecurityGroup"):
        for path in ("SecurityGroupIngress", "SecurityGroupEgress"):
            for rule in group.items(path):
                yield from _ranges(group, rule)


def explicit_egress(template: Template) -> Iterator[Fault]:
    """A group without an egress rule of its own gets AWS's: everything may leave, to everywhere."""
    for group in template.of_type("AWS::EC2::SecurityGroup"):
        yield from unless(
            bool(group.items("SecurityGroupEgress")),
            group.where,
            "has no egress rule, so that everything may leave",
            hint="List what may leave in SecurityGroupEgress.",
        )


def s3_endpoint(template: Template) -> Iterator[Fault]:
    """Data and models reach the subnets through S3's gateway endpoint, or not at all."""
    gateways = [
        endpoint
        for endpoint in template.of_type("AWS::EC2::VPCEndpoint")
        if endpoint.text("VpcEndpointType") == "Gateway" and endpoint.text("ServiceName").endswith(".s3")
    ]
    routed = {table for gateway in gateways for table in gateway.texts("RouteTableIds")}
    reached = {
        association.text("SubnetId")
        for association in template.of_type("AWS::EC2::SubnetRouteTableAssociation")
        if association.text("RouteTableId") in routed
    }
    for subnet in template.of_type("AWS::EC2::Subnet"):
        yield from unless(
            f"${{{subnet.id}}}" in reached,
            subnet.where,
            "has no route to S3",
            hint="Associate it with a route table that S3's gateway endpoint names.",
        )


def endpoint_policies(template: Template) -> Iterator[Fault]:
    """Without a policy of its own an endpoint lets anybody's data through, that of a stranger's bucket, too."""
    for endpoint in template.of_type("AWS::EC2::VPCEndpoint"):
        allowing = [found for found in endpoint.statements("PolicyDocument") if found.allows]
        yield from unless(
            bool(allowing),
            endpoint.where,
            "has no policy, so that it lets everything through",
            hint="Give it a PolicyDocument with the calls, resources and roles that need it.",
        )
        for statement in allowing:
            anybody = "*" in statement.principals or "AWS:*" in statement.principals
            ours = statement.conditions.get("StringEquals aws:PrincipalAccount") == ("${AWS::AccountId}",)
            narrow = (
                ours or not anybody or (statement.resources == (_LAYERS,) and statement.actions == ("s3:GetObject",))
            )
            yield from unless(
                narrow and not any("*" in action for action in statement.actions),
                statement.where,
                f"lets {'anybody' if anybody else ', '.join(statement.principals)} call {', '.join(statement.actions)}",
                hint="Name calls in full, and the roles; or add the condition StringEquals aws:PrincipalAccount.",
            )
            yield from unless(
                not (anybody and "*" in statement.resources),
                statement.where,
                "lets everything through to every resource",
                hint="Name the resources.",
            )


def _placed(template: Template) -> Iterator[tuple[Resource, str]]:
    """What stands in subnets, and the path of its property that names them."""
    for function in template.of_type("AWS::Lambda::Function"):
        yield function, "VpcConfig.SubnetIds"
    for endpoint in template.of_type("AWS::EC2::VPCEndpoint"):
        if endpoint.text("VpcEndpointType") == "Interface":
            yield endpoint, "SubnetIds"


def _ranges(resource: Resource, rule: dict[str, object]) -> Iterator[Fault]:
    for kind in ("CidrIp", "CidrIpv6"):
        yield from unless(
            kind not in rule,
            resource.where,
            f"lets {rule.get(kind)} through",
            hint="Name a security group or a prefix list.",
        )
