"""Training on EC2: the launch template. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from kennel.pipeline.rules.fault import Fault, unless
from kennel.pipeline.template import Resource, Template

_DATA = "LaunchTemplateData"
_TRAINING_ROLE = "${AWS::StackName}-training"


def instance_metadata(template: Template) -> Iterator[Fault]:
    """IMDSv1 hands the role's keys to whoever makes the instance fetch a URL; a second hop, to its containers."""
    for launch in _launch_templates(template):
        options = f"{_DATA}.MetadataOptions"
        yield from unless(
            launch.get(f"{options}.HttpTokens") == "required" and launch.get(f"{options}.HttpPutResponseHopLimit") == 1,
            launch.where,
            "gives out its role's keys without IMDSv2, or over more than one hop",
            hint="Set HttpTokens to required and HttpPutResponseHopLimit to 1.",
        )


def instance_disk(template: Template) -> Iterator[Fault]:
    """Training data lies on the disk, and must be gone with the instance."""
    for launch in _launch_templates(template):
        disks = launch.items(f"{_DATA}.BlockDeviceMappings")
        for number in range(len(disks)):
            disk = f"{_DATA}.BlockDeviceMappings.{number}.Ebs"
            yield from unless(
                launch.get(f"{disk}.Encrypted") is True
                and template.refers(launch.text(f"{disk}.KmsKeyId"), "AWS::KMS::Key")
                and launch.get(f"{disk}.DeleteOnTermination") is True,
                launch.where,
                f"disk {number + 1} is not encrypted with the stack's key, or is left behind",
                hint="Set Encrypted, KmsKeyId and DeleteOnTermination.",
            )
        yield from unless(
            bool(disks), launch.where, "leaves the disk to the image's settings", hint="Add BlockDeviceMappings."
        )


def instance_network(template: Template) -> Iterator[Fault]:
    """An instance that trains is reached by nobody, and is in the same network as a training job."""
    for launch in _launch_templates(template):
        interfaces = launch.items(f"{_DATA}.NetworkInterfaces")
        for number in range(len(interfaces)):
            interface = f"{_DATA}.NetworkInterfaces.{number}"
            groups = launch.texts(f"{interface}.Groups")
            yield from unless(
                launch.get(f"{interface}.AssociatePublicIpAddress") is False
                and template.refers(launch.text(f"{interface}.SubnetId"), "AWS::EC2::Subnet")
                and bool(groups)
                and all(template.refers(group, "AWS::EC2::SecurityGroup") for group in groups),
                launch.where,
                "has a public address, or is outside the network",
                hint="Set AssociatePublicIpAddress to false, SubnetId and Groups to those of this stack.",
            )
        yield from unless(bool(interfaces), launch.where, "is in the default network", hint="Add NetworkInterfaces.")


def instance_ends(template: Template) -> Iterator[Fault]:
    """An instance that shuts itself down must not stay, and cost."""
    for launch in _launch_templates(template):
        yield from unless(
            launch.get(f"{_DATA}.InstanceInitiatedShutdownBehavior") == "terminate",
            launch.where,
            "stays when it has shut itself down",
            hint="Set InstanceInitiatedShutdownBehavior to terminate.",
        )


def instance_rights(template: Template) -> Iterator[Fault]:
    """An instance that trains may do what a training job may, and nothing else."""
    training = {role.id for role in template.of_type("AWS::IAM::Role") if role.text("RoleName") == _TRAINING_ROLE}
    jobs = [list(template.identity_statements(role)) for role in training]
    for launch in _launch_templates(template):
        profile = template.referred(launch.text(f"{_DATA}.IamInstanceProfile.Arn"))
        role = template.referred(profile.text("Roles.0")) if profile else None
        yield from unless(
            role is not None and list(template.identity_statements(role.id)) in jobs,
            launch.where,
            "has other rights than a training job",
            hint="Give it an instance profile whose role has the training policy alone.",
        )


def _launch_templates(template: Template) -> list[Resource]:
    return template.of_type("AWS::EC2::LaunchTemplate")
