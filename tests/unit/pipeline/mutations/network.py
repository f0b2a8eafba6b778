"""Subnets, groups, endpoints."""

from deployed import appends, both, drops, sets

from mutations.mutation import REF, SUB, allow, infra, resource

INTERFACES = ("SageMakerRuntimeEndpoint", "EcrApiEndpoint", "EcrDockerEndpoint")
ANYWHERE = {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443}

NETWORK = [
    infra(
        "one subnet",
        "two-subnets own-resources",
        both(
            drops("/Resources/SubnetB"),
            drops("/Resources/RoutesOfSubnetB"),
            sets("Function/VpcConfig/Fn::If/1/SubnetIds", [{REF: "SubnetA"}]),
            *(sets(f"{name}/SubnetIds", [{REF: "SubnetA"}]) for name in INTERFACES),
        ),
    ),
    infra(
        "both subnets in one zone",
        "two-subnets",
        sets("SubnetB/AvailabilityZone", {"Fn::Select": [0, {"Fn::GetAZs": ""}]}),
    ),
    infra("a subnet in any zone", "two-subnets", drops("SubnetB/AvailabilityZone")),
    infra(
        "the function in one subnet", "two-subnets", sets("Function/VpcConfig/Fn::If/1/SubnetIds", [{REF: "SubnetA"}])
    ),
    infra("an endpoint in one subnet", "two-subnets", sets("SageMakerRuntimeEndpoint/SubnetIds", [{REF: "SubnetA"}])),
    infra("public addresses in a subnet", "private-subnets", sets("SubnetA/MapPublicIpOnLaunch", True)),
    infra("an internet gateway", "private-subnets known-types", resource("Gateway", "AWS::EC2::InternetGateway")),
    infra("a NAT gateway", "private-subnets known-types", resource("Nat", "AWS::EC2::NatGateway")),
    infra("a public address", "private-subnets known-types", resource("Address", "AWS::EC2::EIP")),
    infra(
        "a route to the internet",
        "private-subnets known-types",
        resource(
            "Out",
            "AWS::EC2::Route",
            RouteTableId={REF: "RouteTable"},
            DestinationCidrBlock="0.0.0.0/0",
            GatewayId="igw-1",
        ),
    ),
    infra(
        "everybody may come in",
        "closed-security-groups",
        appends("EndpointsSecurityGroup/SecurityGroupIngress", {**ANYWHERE, "CidrIp": "0.0.0.0/0"}),
    ),
    infra(
        "everything may leave",
        "closed-security-groups",
        appends("TrainingSecurityGroup/SecurityGroupEgress", {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}),
    ),
    infra(
        "everything may leave by IPv6",
        "closed-security-groups",
        appends("ServingSecurityGroup/SecurityGroupEgress", {"IpProtocol": "-1", "CidrIpv6": "::/0"}),
    ),
    infra("hosts of jobs from anywhere", "closed-security-groups", sets("TrainingFromItself/CidrIp", "0.0.0.0/0")),
    infra("half of the internet", "closed-security-groups", sets("FunctionToEndpoints/CidrIp", "0.0.0.0/1")),
    infra("egress is AWS's default", "explicit-egress", drops("EndpointsSecurityGroup/SecurityGroupEgress")),
    infra(
        "three subnets in two zones",
        "two-subnets",
        both(
            resource(
                "SubnetC",
                "AWS::EC2::Subnet",
                AvailabilityZone={"Fn::Select": [0, {"Fn::GetAZs": ""}]},
                Tags=[{REF: "AWS::StackName"}],
            ),
            resource(
                "RoutesOfSubnetC",
                "AWS::EC2::SubnetRouteTableAssociation",
                SubnetId={REF: "SubnetC"},
                RouteTableId={REF: "RouteTable"},
            ),
            appends("Function/VpcConfig/Fn::If/1/SubnetIds", {REF: "SubnetC"}),
            *(appends(f"{name}/SubnetIds", {REF: "SubnetC"}) for name in INTERFACES),
        ),
    ),
    infra(
        "an endpoint of DynamoDB instead of S3",
        "s3-endpoint",
        sets("S3Endpoint/ServiceName", {SUB: "com.amazonaws.${AWS::Region}.dynamodb"}),
    ),
    infra("S3's endpoint without routes", "s3-endpoint two-subnets", sets("S3Endpoint/VpcEndpointType", "Interface")),
    infra("no endpoint of S3", "s3-endpoint", drops("/Resources/S3Endpoint")),
    infra("a subnet without a way to S3", "s3-endpoint", drops("/Resources/RoutesOfSubnetB")),
    infra("S3's endpoint on no route table", "s3-endpoint", sets("S3Endpoint/RouteTableIds", [])),
    infra("S3's endpoint without a policy", "endpoint-policies", drops("S3Endpoint/PolicyDocument")),
    infra(
        "anybody calls anything through S3's endpoint",
        "endpoint-policies",
        sets("S3Endpoint/PolicyDocument/Statement", [allow("*", "*", Principal="*")]),
    ),
    infra(
        "our account, through S3's endpoint, to every bucket",
        "endpoint-policies",
        sets("S3Endpoint/PolicyDocument/Statement/Sid=OurBucketForOurRoles/Resource", "*"),
    ),
    infra(
        "any account through S3's endpoint",
        "endpoint-policies",
        drops("S3Endpoint/PolicyDocument/Statement/Sid=OurBucketForOurRoles/Condition"),
    ),
    infra(
        "anybody through S3's endpoint, by another name",
        "endpoint-policies",
        both(
            sets("S3Endpoint/PolicyDocument/Statement/Sid=OurBucketForOurRoles/Principal", {"AWS": "*"}),
            drops("S3Endpoint/PolicyDocument/Statement/Sid=OurBucketForOurRoles/Condition"),
        ),
    ),
    infra(
        "anybody reads another bucket through S3's endpoint",
        "endpoint-policies",
        sets("S3Endpoint/PolicyDocument/Statement/Sid=LayersOfImages/Resource", "arn:aws:s3:::theirs/*"),
    ),
    infra(
        "layers of images may be written",
        "endpoint-policies",
        sets("S3Endpoint/PolicyDocument/Statement/Sid=LayersOfImages/Action", ["s3:GetObject", "s3:PutObject"]),
    ),
    infra(
        "any call through SageMaker's endpoint",
        "endpoint-policies",
        sets("SageMakerRuntimeEndpoint/PolicyDocument/Statement/0/Action", "sagemaker:*"),
    ),
]
