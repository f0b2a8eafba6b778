"""From an API call to what its caller must be allowed, as the Service Authorization Reference has it. Pure.

A service or an operation that is in no table here is unknown, and whoever asks must take that for a denial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kennel.local.iam import functions, others, s3, sagemaker, scaling
from kennel.local.iam.access import Access, Call
from kennel.local.iam.facts import Facts

_SERVICES: Mapping[str, Callable[[Call, Facts], list[Access] | None]] = {
    "sagemaker": sagemaker.accesses,
    "sagemaker-runtime": sagemaker.accesses,
    "lambda": functions.accesses,
    "s3": s3.accesses,
    "application-autoscaling": scaling.accesses,
    "sns": others.sns,
    "sqs": others.sqs,
    "logs": others.logs,
    "cloudwatch": others.cloudwatch,
    "events": others.events,
    "stepfunctions": others.states,
    "kms": others.kms,
    "ec2": others.ec2,
    "ecr": others.ecr,
    "xray": others.xray,
    "sts": others.sts,
}


def needed(call: Call, facts: Facts) -> list[Access] | None:
    """What the caller must be allowed, all of it; None for an operation that is not known here."""
    service = _SERVICES.get(call.service)
    return None if service is None else service(call, facts)
