"""Asks moto what it does, in a process of its own; `patched` as the first argument applies our changes first.

Prints one JSON object: probe → what was seen.
"""

import io
import json
import os
import sys
import threading
import time
import zipfile

import boto3
from moto.awslambda.models import LambdaFunction
from moto.core.config import default_user_config
from moto.server import ThreadedMotoServer

ROLE = "arn:aws:iam::123456789012:role/role"


class Probe:
    def __init__(self, url):
        self.url = url
        self.numbers = iter(range(1000))
        self.states = self.client("stepfunctions")

    def client(self, service):
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
        )

    def run(self, *states, given=None):
        """Run the states one after the other; what the execution ended with, or why there is none."""
        names = [f"S{number}" for number in range(len(states))]
        chain = {
            name: {**state, **({"End": True} if name == names[-1] else {"Next": following})}
            for name, state, following in zip(names, states, [*names[1:], ""], strict=True)
        }
        try:
            machine = self.states.create_state_machine(
                name=f"m{next(self.numbers)}",
                definition=json.dumps({"StartAt": "S0", "States": chain}),
                roleArn=ROLE,
            )
            arn = self.states.start_execution(
                stateMachineArn=machine["stateMachineArn"], input=json.dumps(given or {})
            )["executionArn"]
            deadline = time.monotonic() + 1.5
            while (found := self.states.describe_execution(executionArn=arn))["status"] == "RUNNING":
                if time.monotonic() > deadline:
                    return {"status": "RUNNING"}
                time.sleep(0.02)
        except Exception as error:
            return {"status": "REFUSED", "error": type(error).__name__}
        seen = {"status": found["status"], "error": found.get("error", "")}
        return seen | ({"output": json.loads(found["output"])} if found.get("output") else {})

    def task(self, resource, **parameters):
        return {"Type": "Task", "Resource": f"arn:aws:states:::{resource}", "Parameters": parameters}


def put_with_notification(probe):
    """Which thread runs a function that an S3 notification invokes, if it is moto that invokes it."""
    seen = []
    LambdaFunction.invoke = lambda *_, **__: seen.append(threading.current_thread().name)
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("f.py", "def handler(*_): pass")
    probe.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument="{}")
    arn = probe.client("lambda").create_function(
        FunctionName="f", Runtime="python3.11", Role=ROLE, Handler="f.handler", Code={"ZipFile": code.getvalue()}
    )["FunctionArn"]
    s3 = probe.client("s3")
    s3.put_bucket_notification_configuration(
        Bucket="bucket",
        NotificationConfiguration={
            "LambdaFunctionConfigurations": [{"LambdaFunctionArn": arn, "Events": ["s3:ObjectCreated:*"]}]
        },
    )
    seen.clear()
    s3.put_object(Bucket="bucket", Key="k", Body=b"x")
    return {"invoked by moto": len(seen)}


class Instances:
    """What takes EC2's instances: it notes them, and is slow to end them."""

    def __init__(self):
        self.launched = []
        self.ending = []

    def launch(self, launch):
        self.launched.append(launch)

    def end(self, instance_id, finished):
        self.ending.append(finished)

    def console(self, instance_id):
        return "what it printed"


def instances(probe, taken):
    """What becomes of an instance that is launched twice from a template and terminated."""
    ec2, iam = probe.client("ec2"), probe.client("iam")
    profile = iam.create_instance_profile(InstanceProfileName="p")["InstanceProfile"]["Arn"]
    iam.add_role_to_instance_profile(InstanceProfileName="p", RoleName="role")
    subnet = ec2.create_subnet(VpcId=ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"], CidrBlock="10.0.0.0/24")
    data = {
        "ImageId": "ami-12345678",
        "IamInstanceProfile": {"Arn": profile},
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {"HttpTokens": "required"},
        "NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": subnet["Subnet"]["SubnetId"]}],
    }
    ec2.create_launch_template(LaunchTemplateName="t", LaunchTemplateData=data)
    asked = {"LaunchTemplate": {"LaunchTemplateName": "t"}, "MinCount": 1, "MaxCount": 1, "ClientToken": "token"}
    instance, again = (ec2.run_instances(**asked, UserData="#!/bin/sh")["Instances"][0] for _ in range(2))
    known = {"InstanceIds": [instance["InstanceId"]]}
    described = ec2.describe_instances(**known)["Reservations"][0]["Instances"][0]
    behavior = ec2.describe_instance_attribute(
        InstanceId=instance["InstanceId"], Attribute="instanceInitiatedShutdownBehavior"
    )
    console = ec2.get_console_output(InstanceId=instance["InstanceId"])["Output"]
    states = []
    for _ in range(2):
        ec2.terminate_instances(**known)
        states.append(ec2.describe_instances(**known)["Reservations"][0]["Instances"][0]["State"]["Name"])
    for finished in taken.ending:
        finished()
    states.append(ec2.describe_instances(**known)["Reservations"][0]["Instances"][0]["State"]["Name"])
    return {
        "launched": [(launch.user_data, launch.role_arn) for launch in taken.launched],
        "same": instance["InstanceId"] == again["InstanceId"],
        "profile": described.get("IamInstanceProfile", {}).get("Arn") == profile,
        "tokens": described["MetadataOptions"]["HttpTokens"],
        "in the subnet": described.get("SubnetId") == data["NetworkInterfaces"][0]["SubnetId"],
        "behavior": behavior["InstanceInitiatedShutdownBehavior"]["Value"],
        "console": console,
        "states": states,
    }


def main():
    patched = sys.argv[1:] == ["patched"]
    taken = Instances()
    events = []
    signing = []
    if patched:
        from kennel.local.iam.sessions import Credentials
        from kennel.local.moto_patches import ec2, ecr, s3, step_functions

        keys = ("access_key_id", "secret_access_key", "session_token")
        step_functions.apply(lambda role: Credentials(**dict.fromkeys(keys, signing[0] if role == ROLE else "other")))
        ec2.hand_instances_to(taken)
        ecr.keep_images_at("127.0.0.1:5999")
        s3.send_notifications_to(lambda arn, payload: events.append((arn, json.loads(payload))))
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    os.environ["MOTO_PORT"] = str(port)
    probe = Probe(f"http://127.0.0.1:{port}")
    probe.client("s3").create_bucket(Bucket="bucket")
    iam = probe.client("iam")
    iam.create_user(UserName="signer")
    signing.append(iam.create_access_key(UserName="signer")["AccessKey"]["AccessKeyId"])
    seen = {"execution": probe.run({"Type": "Pass", "Result": {"ran": True}})}
    default_user_config["stepfunctions"] = {"execute_state_machine": True}  # so that the others can be asked at all
    seen["signer"] = probe.run(probe.task("aws-sdk:sts:getCallerIdentity"))["output"]["Arn"]
    seen["sync"] = probe.run(
        probe.task(
            "sagemaker:createTrainingJob.sync",
            TrainingJobName="job",
            AlgorithmSpecification={"TrainingImage": "image", "TrainingInputMode": "File"},
            RoleArn=ROLE,
            OutputDataConfig={"S3OutputPath": "s3://bucket/out"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 60},
        )
    )
    seen["autoscaling"] = probe.run(
        probe.task("aws-sdk:applicationautoscaling:describeScalableTargets", ServiceNamespace="sagemaker")
    )
    seen["keyword"] = probe.run({"Type": "Pass", "Parameters": {"RoleArn.$": "$.role"}}, given={"role": "it"})
    seen["index"] = probe.run({"Type": "Pass", "InputPath": "$.a[0].b"}, given={"a": [{"b": 1}]})
    seen["names"] = {
        service: probe.run(probe.task(f"aws-sdk:{action}", **parameters))["error"]
        for service, action, parameters in (
            ("SageMaker", "sagemaker:describeModel", {"ModelName": "nobody"}),
            ("Lambda", "lambda:getFunction", {"FunctionName": "nobody"}),
            ("S3", "s3:getBucketPolicy", {"Bucket": "nobody"}),
            (
                "ApplicationAutoScaling",
                "applicationautoscaling:deregisterScalableTarget",
                {
                    "ServiceNamespace": "sagemaker",
                    "ResourceId": "endpoint/e/variant/v",
                    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
                },
            ),
        )
    }
    seen["timestamps"] = probe.run(
        probe.task("aws-sdk:s3:listBuckets"),
        {"Type": "Pass", "Parameters": {"text.$": "States.Format('{}', $.Buckets[0].CreationDate)"}},
    )
    seen["notification"] = put_with_notification(probe) | {"given to us": len(events)}
    seen["repository"] = probe.client("ecr").create_repository(repositoryName="repo")["repository"]["repositoryUri"]
    seen["instances"] = instances(probe, taken)
    print(json.dumps(seen))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
