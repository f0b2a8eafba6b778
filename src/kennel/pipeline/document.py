"""The input of an execution: the configuration and the resources as the AWS requests they end up in. Pure."""

from __future__ import annotations

from typing import Any

from kennel import contract
from kennel.config import Config, Range
from kennel.pipeline.resources import FUNCTION_ALIAS, VARIANT, Resources, uploads_notification

_CONTINUOUS, _INTEGER, _CATEGORICAL = "continuous", "integer", "categorical"


def execution_input(config: Config, resources: Resources, *, data_uri: str, pretrained_uri: str) -> dict[str, Any]:
    """What `statemachine/pipeline.asl.json` takes. `data_uri` and `pretrained_uri` (or "") are s3:// prefixes."""
    names = resources.names
    hyperparameters = {**config.training.hyperparameters, "seed": str(config.seed)}
    return {
        "Mode": "train",
        "Tuning": {
            "Config": _tuning_config(config),
            "HyperParameters": {k: v for k, v in hyperparameters.items() if k not in config.tuning.ranges},
            "ResourceConfig": _hosts(
                config.tuning.instance_type, config.tuning.instance_count, config.tuning.volume_gb
            ),
            "StoppingCondition": {"MaxRuntimeInSeconds": config.tuning.max_runtime_seconds},
        },
        "Training": {
            "AlgorithmSpecification": {
                "TrainingImage": config.images.training,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": name, "Regex": regex} for name, regex in config.metrics.items()],
            },
            "HyperParameters": hyperparameters,
            "InputDataConfig": [
                _channel(name, uri)
                for name, uri in (
                    (contract.TRAINING_CHANNEL, data_uri),
                    (contract.PRETRAINED_CHANNEL, pretrained_uri),
                )
                if uri
            ],
            "OutputDataConfig": {"S3OutputPath": f"s3://{names.bucket}/models"},
            "ResourceConfig": _hosts(
                config.training.instance_type, config.training.instance_count, config.training.volume_gb
            ),
            "StoppingCondition": {"MaxRuntimeInSeconds": config.training.max_runtime_seconds},
            "RoleArn": names.role_arn("training"),
        },
        "Quality": {"MinimumValidationAccuracy": config.quality.minimum_validation_accuracy},
        **_deployment(config, resources, image=config.images.serving),
    }


def rollout_input(config: Config, resources: Resources, *, image: str, model_uri: str) -> dict[str, Any]:
    """What it takes in Mode `rollout`: nothing about training, and the model that is there already."""
    deployment = _deployment(config, resources, image=image)
    return {"Mode": "rollout", **deployment, "Model": {**deployment["Model"], "ModelDataUrl": model_uri}}


def _deployment(config: Config, resources: Resources, *, image: str) -> dict[str, Any]:
    """What both modes take: the endpoint and all that comes after it."""
    names, endpoint = resources.names, config.name
    return {
        "Network": {
            "VpcConfig": {
                "Subnets": list(resources.subnets),
                "SecurityGroupIds": list(resources.security_groups),
            },
            "KmsKeyId": resources.kms_key_arn,
        },
        "Model": {"Image": image, "Environment": {}, "RoleArn": names.role_arn("serving")},
        "Endpoint": {
            "Name": endpoint,
            "Variant": VARIANT,
            "InstanceType": config.endpoint.instance_type,
            "InstanceCount": config.endpoint.instance_count,
            "StartSeconds": config.endpoint.start_seconds,
            "PollSeconds": config.endpoint.poll_seconds,
            "MaxPolls": config.endpoint.max_polls,
            "DeploymentConfig": {
                "BlueGreenUpdatePolicy": {
                    "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0},
                    "TerminationWaitInSeconds": 0,
                    "MaximumExecutionTimeoutInSeconds": 1800,
                }
            },
        },
        "Scaling": {
            "ResourceId": f"endpoint/{endpoint}/variant/{VARIANT}",
            "MinCapacity": config.scaling.min_capacity,
            "MaxCapacity": config.scaling.max_capacity,
            "Policy": {
                "TargetValue": config.scaling.target_invocations_per_minute,
                "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
                "ScaleInCooldown": config.scaling.scale_in_cooldown,
                "ScaleOutCooldown": config.scaling.scale_out_cooldown,
            },
        },
        "Function": {
            "Name": names.function,
            "Alias": FUNCTION_ALIAS,
            "AliasArn": f"{names.function_arn}:{FUNCTION_ALIAS}",
            "Environment": {
                "ENDPOINT_NAME": endpoint,
                "BUCKET": names.bucket,
                "ALLOWED_URL_HOSTS": ",".join(config.function.allowed_url_hosts),
            },
            "Timeout": config.function.timeout_seconds,
            "MemorySize": config.function.memory_mb,
            "ReservedConcurrency": config.function.reserved_concurrency,
            "ProvisionedConcurrency": config.function.provisioned_concurrency,
            "PollSeconds": config.function.poll_seconds,
            "MaxPolls": config.function.max_polls,
        },
        "Uploads": {"Bucket": names.bucket, "NotificationConfiguration": uploads_notification(names)},
        "Notification": {"TopicArn": resources.topic_arn},
    }


def _hosts(instance_type: str, count: int, volume_gb: int) -> dict[str, Any]:
    return {"InstanceType": instance_type, "InstanceCount": count, "VolumeSizeInGB": volume_gb}


def _channel(name: str, uri: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, "InputMode": "File"}


def _tuning_config(config: Config) -> dict[str, Any]:
    tuning = config.tuning

    def ranges(kind: str) -> list[tuple[str, Range]]:
        return [(name, item) for name, item in tuning.ranges.items() if item.type == kind]

    def between(name: str, item: Range, kind: type[int] | type[float]) -> dict[str, str]:
        low, high = (str(kind(bound)) for bound in (item.min, item.max) if bound is not None)  # config checks it
        return {"Name": name, "MinValue": low, "MaxValue": high, "ScalingType": item.scaling}

    return {
        "Strategy": tuning.strategy,
        "HyperParameterTuningJobObjective": {"Type": tuning.objective_type, "MetricName": tuning.objective},
        "ResourceLimits": {
            "MaxNumberOfTrainingJobs": tuning.max_jobs,
            "MaxParallelTrainingJobs": tuning.max_parallel_jobs,
        },
        "ParameterRanges": {
            "ContinuousParameterRanges": [between(n, item, float) for n, item in ranges(_CONTINUOUS)],
            "IntegerParameterRanges": [between(n, item, int) for n, item in ranges(_INTEGER)],
            "CategoricalParameterRanges": [
                {"Name": name, "Values": list(item.values)} for name, item in ranges(_CATEGORICAL)
            ],
        },
        "TrainingJobEarlyStoppingType": "Off",
        "RandomSeed": config.seed,
    }
