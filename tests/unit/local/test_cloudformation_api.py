"""What a template says is brought into the shapes of an API."""

import json

import pytest
from moto.core.utils import get_service_model

from kennel.local.cloudformation.api import Refused, shaped
from kennel.local.cloudformation.steps import handler_message

SCANNED = {"imageScanningConfiguration": {"scanOnPush": True}}


def shape(service, operation):
    return get_service_model(service).operation_model(operation).input_shape


@pytest.mark.parametrize(
    ("service", "operation", "said", "sent"),
    [
        ("stepfunctions", "CreateStateMachine", {"RoleArn": "arn"}, {"roleArn": "arn"}),
        ("ecr", "PutImageScanningConfiguration", {"ImageScanningConfiguration": {"ScanOnPush": "true"}}, SCANNED),
        ("logs", "PutRetentionPolicy", {"retentionInDays": "30"}, {"retentionInDays": 30}),
        ("sqs", "CreateQueue", {"Attributes": {"DelaySeconds": 30}}, {"Attributes": {"DelaySeconds": "30"}}),
        ("cloudwatch", "PutMetricAlarm", {"Threshold": 5}, {"Threshold": 5.0}),
        ("sqs", "CreateQueue", {"Attributes": {"FifoQueue": True}}, {"Attributes": {"FifoQueue": "true"}}),
        ("kms", "CreateKey", {"Policy": {"Version": "v"}}, {"Policy": json.dumps({"Version": "v"})}),
    ],
)
def test_names_and_types_become_the_apis(service, operation, said, sent):
    assert shaped(shape(service, operation), said) == sent


@pytest.mark.parametrize(
    ("operation", "said", "message"),
    [
        ("PutMetricAlarm", {"Treshold": 5}, r"#: extraneous key \[Treshold\] is not permitted"),
        ("PutMetricAlarm", {"Threshold": "much"}, "#/Threshold: expected type: Number, found: String"),
        ("PutMetricAlarm", {"Period": "long"}, "#/Period: expected type: Integer, found: String"),
        ("PutMetricAlarm", {"ActionsEnabled": "yes"}, "#/ActionsEnabled: expected type: Boolean, found: String"),
        ("PutMetricAlarm", {"AlarmActions": "one"}, "#/AlarmActions: expected type: JSONArray, found: String"),
        ("PutMetricAlarm", {"Dimensions": [1]}, "#/Dimensions/0: expected type: JSONObject, found: Integer"),
    ],
)
def test_what_an_api_does_not_take_is_refused_with_its_place(operation, said, message):
    with pytest.raises(Refused, match=message):
        shaped(shape("cloudwatch", operation), said)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("AccessDeniedException", "AccessDenied"),
        ("InvalidGroup.NotFound", "NotFound"),
        ("BucketAlreadyOwnedByYou", "AlreadyExists"),
        ("InvalidParameterValueException", "InvalidRequest"),
        ("Throttling", "GeneralServiceException"),
    ],
)
def test_a_failed_resource_has_a_handlers_error_code(code, told):
    assert handler_message(Refused("why", code), "T").endswith(f'"why" (RequestToken: T, HandlerErrorCode: {told})')
