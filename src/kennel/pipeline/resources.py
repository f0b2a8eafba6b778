"""What everything is called, and what an execution needs to know of what `infrastructure.yaml` made. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kennel import contract

FUNCTION_ALIAS = "live"
VARIANT = "AllTraffic"


@dataclass(frozen=True, kw_only=True)
class Names:
    """What everything is called."""

    name: str
    account: str
    region: str

    @property
    def bucket(self) -> str:
        """Data, models, uploads and predictions, each under its prefix."""
        return f"{self.name}-{self.account}-{self.region}"

    @property
    def logs_bucket(self) -> str:
        """Access logs of the bucket."""
        return f"{self.name}-logs-{self.account}-{self.region}"

    @property
    def function(self) -> str:
        """The Lambda function."""
        return f"{self.name}-classify"

    @property
    def state_machine(self) -> str:
        """The state machine."""
        return f"{self.name}-pipeline"

    def repository(self, part: str) -> str:
        """The ECR repository of a part's image: training or serving."""
        return f"{self.name}-{part}"

    def arn(self, service: str, resource: str) -> str:
        """The ARN of a resource of ours."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    @property
    def function_arn(self) -> str:
        """Of the function, without a qualifier."""
        return self.arn("lambda", f"function:{self.function}")

    @property
    def state_machine_arn(self) -> str:
        """Of the state machine."""
        return self.arn("states", f"stateMachine:{self.state_machine}")

    def role_arn(self, part: str) -> str:
        """Of the role of one part: training, serving, function, states."""
        return f"arn:aws:iam::{self.account}:role/{self.name}-{part}"


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What exists now."""

    names: Names
    kms_key_arn: str
    subnets: tuple[str, ...]
    training_security_group: str
    serving_security_group: str
    topic_arn: str
    endpoint_alarms: tuple[str, ...]
    launch_template: str
    state_machine_arn: str


def from_outputs(names: Names, outputs: Mapping[str, str]) -> Resources:
    """The resources of a stack with these outputs."""
    return Resources(
        names=names,
        kms_key_arn=outputs["KeyArn"],
        subnets=tuple(outputs["Subnets"].split(",")),
        training_security_group=outputs["TrainingSecurityGroupId"],
        serving_security_group=outputs["ServingSecurityGroupId"],
        topic_arn=outputs["TopicArn"],
        endpoint_alarms=tuple(outputs["EndpointAlarms"].split(",")),
        launch_template=outputs["LaunchTemplateId"],
        state_machine_arn=outputs["StateMachineArn"],
    )


def imagined(name: str, region: str) -> Resources:
    """As they would be called in an account 000000000000: for what is checked before anything exists."""
    names = Names(name=name, account="0" * 12, region=region)
    return Resources(
        names=names,
        kms_key_arn=names.arn("kms", "key/00000000-0000-0000-0000-000000000000"),
        subnets=("subnet-00000000000000000", "subnet-00000000000000001"),
        training_security_group="sg-00000000000000000",
        serving_security_group="sg-00000000000000001",
        topic_arn=names.arn("sns", f"{name}-failures"),
        endpoint_alarms=(f"{name}-endpoint-5xx", f"{name}-endpoint-latency"),
        launch_template="lt-00000000000000000",
        state_machine_arn=names.state_machine_arn,
    )


def uploads_notification(names: Names) -> dict[str, Any]:
    """S3's notification of the function's alias about new objects under uploads/."""
    return {
        "LambdaFunctionConfigurations": [
            {
                "Id": "uploads",
                "LambdaFunctionArn": f"{names.function_arn}:{FUNCTION_ALIAS}",
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": contract.UPLOADS_PREFIX}]}},
            }
        ]
    }
