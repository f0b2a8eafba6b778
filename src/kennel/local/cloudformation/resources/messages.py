"""AWS::SQS::Queue, AWS::SQS::QueuePolicy, AWS::SNS::Topic, AWS::SNS::TopicPolicy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from kennel.local.cloudformation.api import Api
from kennel.local.cloudformation.kinds import Changed, Kind, Made, Properties, Wanted, must_not_exist, names

_QUEUE_DEFAULTS: Final = {"KmsMasterKeyId": "", "MessageRetentionPeriod": 345_600, "VisibilityTimeout": 30}


def _make_queue(api: Api, wanted: Wanted) -> Made:
    name = wanted.name("QueueName")
    attributes = {key: wanted.properties[key] for key in _QUEUE_DEFAULTS if key in wanted.properties}
    must_not_exist(api, "sqs", "GetQueueUrl", QueueName=name)
    url = api("sqs", "CreateQueue", QueueName=name, Attributes=attributes)["QueueUrl"]
    return Made(id=url, attributes={"Arn": wanted.arn("sqs", name), "QueueName": name, "QueueUrl": url})


def _update_queue(api: Api, changed: Changed) -> Made:
    attributes = {key: changed.get(key, _QUEUE_DEFAULTS[key]) for key in _QUEUE_DEFAULTS if changed.differs(key)}
    api("sqs", "SetQueueAttributes", QueueUrl=changed.id, Attributes=attributes)
    return changed.made


def _remove_queue(api: Api, made: Made, _properties: Properties) -> None:
    api("sqs", "DeleteQueue", QueueUrl=made.id)


def _set_queue_policy(api: Api, queues: list[str], policy: Any) -> None:
    for queue in queues:
        api("sqs", "SetQueueAttributes", QueueUrl=queue, Attributes={"Policy": policy})


def _make_queue_policy(api: Api, wanted: Wanted) -> Made:
    _set_queue_policy(api, wanted["Queues"], wanted["PolicyDocument"])
    return Made(id=wanted.name())


def _update_queue_policy(api: Api, changed: Changed) -> Made:
    _set_queue_policy(api, changed.wanted["Queues"], changed.wanted["PolicyDocument"])
    _set_queue_policy(api, [queue for queue in changed.old["Queues"] if queue not in changed.wanted["Queues"]], "")
    return changed.made


def _remove_queue_policy(api: Api, _made: Made, properties: Properties) -> None:
    _set_queue_policy(api, properties["Queues"], "")


def _make_topic(api: Api, wanted: Wanted) -> Made:
    name = wanted.name("TopicName")
    attributes = {key: wanted.properties[key] for key in ("KmsMasterKeyId", "DisplayName") if key in wanted.properties}
    must_not_exist(api, "sns", "GetTopicAttributes", TopicArn=wanted.arn("sns", name))
    arn = api("sns", "CreateTopic", Name=name, Attributes=attributes)["TopicArn"]
    return Made(id=arn, attributes={"TopicArn": arn, "TopicName": name})


def _update_topic(api: Api, changed: Changed) -> Made:
    for key in ("KmsMasterKeyId", "DisplayName"):
        if changed.differs(key):
            value = changed.get(key, "")
            api("sns", "SetTopicAttributes", TopicArn=changed.id, AttributeName=key, AttributeValue=value)
    return changed.made


def _remove_topic(api: Api, made: Made, _properties: Properties) -> None:
    api("sns", "DeleteTopic", TopicArn=made.id)


def _set_topic_policy(api: Api, topics: list[str], policy: Any) -> None:
    for topic in topics:
        api("sns", "SetTopicAttributes", TopicArn=topic, AttributeName="Policy", AttributeValue=policy)


def _make_topic_policy(api: Api, wanted: Wanted) -> Made:
    _set_topic_policy(api, wanted["Topics"], wanted["PolicyDocument"])
    return Made(id=wanted.name())


def _update_topic_policy(api: Api, changed: Changed) -> Made:
    _set_topic_policy(api, changed.wanted["Topics"], changed.wanted["PolicyDocument"])
    return changed.made


def _remove_topic_policy(_api: Api, _made: Made, _properties: Properties) -> None:
    """Nothing: a topic always has a policy. (AWS puts its default one back.)"""


KINDS: Mapping[str, Kind] = {
    "AWS::SQS::Queue": Kind(
        attributes=names("Arn QueueName QueueUrl"),
        properties=frozenset(_QUEUE_DEFAULTS) | {"QueueName"},
        fixed=names("QueueName"),
        name="QueueName",
        make=_make_queue,
        update=_update_queue,
        remove=_remove_queue,
    ),
    "AWS::SQS::QueuePolicy": Kind(
        properties=names("Queues PolicyDocument"),
        make=_make_queue_policy,
        update=_update_queue_policy,
        remove=_remove_queue_policy,
    ),
    "AWS::SNS::Topic": Kind(
        attributes=names("TopicArn TopicName"),
        properties=names("TopicName KmsMasterKeyId DisplayName"),
        fixed=names("TopicName"),
        name="TopicName",
        make=_make_topic,
        update=_update_topic,
        remove=_remove_topic,
    ),
    "AWS::SNS::TopicPolicy": Kind(
        properties=names("Topics PolicyDocument"),
        fixed=names("Topics"),
        make=_make_topic_policy,
        update=_update_topic_policy,
        remove=_remove_topic_policy,
    ),
}
