"""AWS::EC2::LaunchTemplate."""

from __future__ import annotations

from collections.abc import Mapping

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Wanted, names
from kennel.local.cloudformation.resources.network import deleted_by


def _make(api: Api, wanted: Wanted) -> Made:
    template = api(
        "ec2",
        "CreateLaunchTemplate",
        LaunchTemplateName=wanted.name("LaunchTemplateName"),
        LaunchTemplateData=wanted["LaunchTemplateData"],
    )["LaunchTemplate"]
    return _made(template["LaunchTemplateId"], 1)


def _made(template: str, latest: int) -> Made:
    versions = {"LatestVersionNumber": str(latest), "DefaultVersionNumber": "1"}
    return Made(id=template, attributes={"LaunchTemplateId": template, **versions})


def _update(api: Api, changed: Changed) -> Made:
    # AWS leaves the default version where it was: whoever wants the new one says $Latest
    made = api(
        "ec2",
        "CreateLaunchTemplateVersion",
        LaunchTemplateId=changed.id,
        LaunchTemplateData=changed.wanted["LaunchTemplateData"],
    )
    return _made(changed.id, int(made["LaunchTemplateVersion"]["VersionNumber"]))


KINDS: Mapping[str, Kind] = {
    "AWS::EC2::LaunchTemplate": Kind(
        attributes=names("LaunchTemplateId LatestVersionNumber DefaultVersionNumber"),
        properties=names("LaunchTemplateName LaunchTemplateData"),
        fixed=names("LaunchTemplateName"),
        name="LaunchTemplateName",
        make=_make,
        update=_update,
        remove=deleted_by("DeleteLaunchTemplate", "LaunchTemplateId"),
    ),
}
