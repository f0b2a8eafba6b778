"""The input of an execution: the configuration and the resources as the AWS requests they end up in. Pure."""

from __future__ import annotations

from typing import Any

from kennel import contract
from kennel.config import Config, Range, Training, Tuning
from kennel.pipeline.instance_types import has_local_storage
from kennel.pipeline.resources import FUNCTION_ALIAS, VARIANT, Resources, uploads_notification

_UPDATE_SECONDS = 1800 + 3600
"""An update that takes longer is rolled back: instances start in at most an hour, and the old ones stay a while."""

_CONTINUOUS, _INTEGER, _CATEGORICAL = "continuous", "integer", "categorical"


def execution_input(
    config: Config, resources: Resources, *, execution: str, data_uri: str, pretrained_uri: str
) -> dict[str, Any]:
    """What `statemachine/pipeline.asl.json` takes. `data_uri` and `pretrained_uri` (or "") are s3:// prefixes.

    `execution` is the name that it will have: its checkpoints lie below it.
    """
    names = resources.names
    hyperparameters = {**config.training.hyperparameters, "seed": str(config.seed)}
    return {
        "Mode": "train",
        "Tuning": {
            "Config": _tuning_config(config),
            "HyperParameters": {k: v for k, v in hyperparameters.items() if k not in config.tuning.ranges},
            **_hosts(config.tuning, resources),
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
            "OutputUri": f"s3://{names.bucket}/models",
            "CheckpointsUri": f"s3://{names.bucket}/checkpoints/{execution}",
            **_hosts(config.training, resources),
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
            "Subnets": list(resources.subnets),
            "TrainingSecurityGroupIds": [resources.training_security_group],
            "ServingSecurityGroupIds": [resources.serving_security_group],
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
                    "TrafficRoutingConfiguration": {
                        "Type": "ALL_AT_ONCE",
                        "WaitIntervalInSeconds": config.endpoint.bake_seconds,
                    },
                    "TerminationWaitInSeconds": 0,
                    "MaximumExecutionTimeoutInSeconds": _UPDATE_SECONDS,
                },
                "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": name} for name in resources.endpoint_alarms]},
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


def _hosts(settings: Tuning | Training, resources: Resources) -> dict[str, Any]:
    """What a trial or the final training runs on, and for how long."""
    encrypted_by_hardware = has_local_storage(settings.instance_type)
    stop = {"MaxRuntimeInSeconds": settings.max_runtime_seconds}
    return {
        "ResourceConfig": {
            "InstanceType": settings.instance_type,
            "InstanceCount": settings.instance_count,
            "VolumeSizeInGB": settings.volume_gb,
        },
        "VolumeEncryption": {} if encrypted_by_hardware else {"VolumeKmsKeyId": resources.kms_key_arn},
        "Spot": settings.spot,
        "StoppingCondition": stop | ({"MaxWaitTimeInSeconds": settings.max_wait_seconds} if settings.spot else {}),
    }


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
