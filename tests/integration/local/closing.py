"""Starts one of everything in a local AWS, closes it in the midst, and prints what is left running."""

import json
import sys
import time
from pathlib import Path

import psutil
from fake_runtime import FakeRuntime

from kennel.local.server import LocalAws
from local_rig import IMAGE, REGION, ROLE, Aws, wait_for


def main():
    folder = Path(sys.argv[1])
    runtime = FakeRuntime()
    server = LocalAws(port=0, state_dir=folder, region=REGION, runtime=runtime)
    server.start()
    aws = Aws(server.endpoint_url, server, runtime)
    script = "forked(); time.sleep(300)"
    user_data = f"#!/bin/bash\nsetsid sleep 300 &\nshutdown -h +60\ntouch {folder}/instance-runs\nsleep 300\n"
    aws.start_job(script, hosts=2)
    aws.sagemaker.create_hyper_parameter_tuning_job(
        HyperParameterTuningJobName="tune",
        HyperParameterTuningJobConfig={
            "Strategy": "Random",
            "HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"},
            "ResourceLimits": {"MaxNumberOfTrainingJobs": 9, "MaxParallelTrainingJobs": 2},
            "ParameterRanges": {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "0", "MaxValue": "1"}]},
        },
        TrainingJobDefinition=aws.definition(script, metrics=[("loss", "loss=(.*)")]),
    )
    for name, environment in (("up", {}), ("creating", {"SICK": "1"})):
        aws.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataUrl": "s3://bucket/model.tar.gz",
                "Environment": {"STATE": str(folder / name), **environment},
            },
        )
        variant = {"VariantName": "v", "ModelName": name, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
        aws.sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        aws.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    wait_for(lambda: aws.sagemaker.describe_endpoint(EndpointName="up")["EndpointStatus"], "InService".__eq__)
    aws.ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1, UserData=user_data)
    wait_for((folder / "instance-runs").exists, bool)
    me = psutil.Process()
    wait_for(lambda: len(runtime.started), lambda count: count >= 6)
    before = len(me.children(recursive=True))
    begun = time.monotonic()
    server.close()
    left = [" ".join(child.cmdline())[:80] for child in me.children(recursive=True)]
    print(json.dumps({"before": before, "left": left, "seconds": time.monotonic() - begun}))


if __name__ == "__main__":
    main()
