"""Endpoints over HTTP, whose instances are real HTTP servers."""

import itertools
import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from local_rig import IMAGE, ROLE, wait_for
from waiting import gone, until

NUMBERS = itertools.count()


class Hosting:
    """Models, configurations and endpoints with little to say."""

    def __init__(self, aws, folder):
        self.aws = aws
        self.folder = folder
        self.api = aws.sagemaker
        self.runtime = aws.client("sagemaker-runtime", read_timeout=30)
        self.names = []

    def config(self, *, data="model.tar.gz", count=1, start_seconds=60, isolated=False, **environment):
        name = self.aws.name("hosted")
        state = self.folder / name
        self.api.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            EnableNetworkIsolation=isolated,
            PrimaryContainer={
                "Image": IMAGE,
                "ModelDataUrl": f"s3://bucket/{data}",
                "Environment": {"STATE": str(state), **environment},
            },
        )
        self.api.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": name,
                    "InitialInstanceCount": count,
                    "InstanceType": "ml.m5.large",
                    "ContainerStartupHealthCheckTimeoutInSeconds": start_seconds,
                }
            ],
        )
        return name

    def create(self, config=None, **changes):
        name = self.aws.name("endpoint")
        self.api.create_endpoint(EndpointName=name, EndpointConfigName=config or self.config(**changes))
        self.names.append(name)
        return name

    def settled(self, name):
        return wait_for(
            lambda: self.api.describe_endpoint(EndpointName=name),
            lambda endpoint: endpoint["EndpointStatus"] in ("InService", "Failed"),
        )

    def in_service(self, **changes):
        name = self.create(**changes)
        assert self.settled(name)["EndpointStatus"] == "InService"
        return name

    def ask(self, name, body="hello"):
        answer = self.runtime.invoke_endpoint(EndpointName=name, Body=body.encode(), ContentType="text/plain")
        return answer["Body"].read().decode()

    def pids(self, config):
        return [int(line.split()[0]) for line in (self.folder / config).read_text().splitlines()]


@pytest.fixture
def hosting(aws, tmp_path):
    rig = Hosting(aws, tmp_path)
    yield rig
    for name in rig.names:
        until(lambda name=name: rig.api.describe_endpoint(EndpointName=name)["EndpointStatus"] != "Updating")
        rig.api.delete_endpoint(EndpointName=name)


def test_an_endpoint_is_created_and_answers(hosting):
    name = hosting.create(SAY="I am")
    assert hosting.api.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Creating"
    endpoint = hosting.settled(name)
    assert endpoint["EndpointStatus"] == "InService"
    (variant,) = endpoint["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
    assert re.fullmatch(r"I am \d+ w1", hosting.ask(name))


def test_the_runtime_is_told_what_the_model_and_the_variant_ask_for(hosting):
    name = hosting.in_service(isolated=True)
    (asked,) = (asked for asked in hosting.aws.runtime.asked if asked.get("endpoint") == name)
    assert (asked["isolated"], asked["instance_type"], asked["image"]) == (True, "ml.m5.large", IMAGE)


def test_what_an_instance_prints_is_in_cloudwatch_logs(hosting):
    name = hosting.in_service()
    group = f"/aws/sagemaker/Endpoints/{name}"
    logs = hosting.aws.logs

    def printed():
        if not logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]:
            return []
        return [event["message"] for event in logs.filter_log_events(logGroupName=group)["events"]]

    assert wait_for(printed, lambda lines: lines) == ["serving"]


def test_a_container_that_ends_before_it_answers_fails_the_endpoint(hosting):
    endpoint = hosting.settled(hosting.create(FAIL_STARTS="1"))
    assert endpoint["EndpointStatus"] == "Failed"
    assert "AllTraffic did not pass the ping health check" in endpoint["FailureReason"]
    assert "ended with exit code 1" in endpoint["FailureReason"]


def test_a_container_that_is_never_healthy_fails_the_endpoint_and_is_stopped(hosting):
    config = hosting.config(SICK="1", start_seconds=60)
    stored = hosting.aws.server._endpoints._configs[config]["ProductionVariants"][0]
    stored["ContainerStartupHealthCheckTimeoutInSeconds"] = 1  # AWS allows 60 at least; nobody waits that long here
    endpoint = hosting.settled(hosting.create(config))
    assert endpoint["EndpointStatus"] == "Failed"
    assert "did not answer /ping with 200 within 1 s" in endpoint["FailureReason"]
    assert [gone(pid) for pid in hosting.pids(config)] == [True]


def test_a_failed_endpoint_cannot_be_invoked_or_updated(hosting):
    name = hosting.create(FAIL_STARTS="1")
    hosting.settled(name)
    with pytest.raises(ClientError, match=r"ValidationException.*Failed"):
        hosting.ask(name)
    with pytest.raises(ClientError, match=r"ValidationException.*Failed"):
        hosting.api.update_endpoint(EndpointName=name, EndpointConfigName=hosting.config())


def test_an_update_loses_no_request(hosting):
    before, after = hosting.config(SLEEP="0.05"), hosting.config(data="model2.tar.gz", SLEEP="0.05")
    name = hosting.create(before)
    hosting.settled(name)
    done = threading.Event()

    def keep_asking():
        answers = []
        while not done.is_set():
            answers.append(hosting.ask(name))
        return answers

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(keep_asking) for _ in range(4)]
        hosting.api.update_endpoint(EndpointName=name, EndpointConfigName=after)
        endpoint = hosting.settled(name)
        time.sleep(0.3)
        done.set()
        answers = [answer for future in asking for answer in future.result()]
    assert endpoint["EndpointConfigName"] == after
    assert {answer.split()[-1] for answer in answers} == {"w1", "w2"}
    assert hosting.ask(name).endswith("w2")
    until(lambda: all(gone(pid) for pid in hosting.pids(before)))


def test_a_request_in_flight_is_answered_by_the_old_fleet(hosting, tmp_path):
    before = hosting.config()
    name = hosting.create(before)
    hosting.settled(name)
    release = tmp_path / "release.now"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hosting.ask, name, f"wait {release}")
        until(lambda: list(tmp_path.glob("release.[0-9]*")))
        hosting.api.update_endpoint(EndpointName=name, EndpointConfigName=hosting.config(data="model2.tar.gz"))
        hosting.settled(name)
        assert hosting.ask(name).endswith("w2")
        release.touch()
        assert waiting.result().endswith("w1")


@pytest.mark.parametrize(("state", "served"), [("ALARM", "old"), ("OK", "new")])
def test_an_update_is_rolled_back_while_an_alarm_of_it_is_on(hosting, state, served):
    cloudwatch, alarm = hosting.aws.cloudwatch, hosting.aws.name("alarm")
    watched = {"Namespace": "AWS/SageMaker", "MetricName": "Invocation5XXErrors", "Statistic": "Sum"}
    compared = {"Period": 60, "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold"}
    cloudwatch.put_metric_alarm(AlarmName=alarm, **watched, **compared)
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue=state, StateReason="a test")
    name = hosting.in_service(SAY="old")
    before = hosting.settled(name)["EndpointConfigName"]
    hosting.api.update_endpoint(
        EndpointName=name,
        EndpointConfigName=hosting.config(SAY="new"),
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]},
        },
    )
    after = hosting.settled(name)
    assert hosting.ask(name).startswith(served)
    assert (after["EndpointConfigName"] == before, alarm in after.get("FailureReason", "")) == (
        (True, True) if served == "old" else (False, False)
    )


def test_an_alarm_that_goes_off_while_the_old_instances_are_still_there_brings_them_back(hosting):
    cloudwatch, alarm = hosting.aws.cloudwatch, hosting.aws.name("alarm")
    watched = {"Namespace": "AWS/SageMaker", "MetricName": "Invocation5XXErrors", "Statistic": "Sum"}
    compared = {"Period": 60, "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold"}
    cloudwatch.put_metric_alarm(AlarmName=alarm, **watched, **compared)
    name = hosting.in_service(SAY="old")
    hosting.api.update_endpoint(
        EndpointName=name,
        EndpointConfigName=hosting.config(SAY="new"),
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 300}
            },
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": alarm}]},
        },
    )
    wait_for(lambda: hosting.ask(name), lambda said: said.startswith("new"))
    assert hosting.api.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating"
    cloudwatch.set_alarm_state(AlarmName=alarm, StateValue="ALARM", StateReason="a test")
    assert alarm in hosting.settled(name)["FailureReason"]
    assert hosting.ask(name).startswith("old")


def test_an_update_keeps_as_many_instances_as_there_are_if_it_is_asked_to(hosting):
    name = hosting.in_service(count=2)
    for retained, count in ((True, 2), (False, 1)):
        hosting.api.update_endpoint(
            EndpointName=name, EndpointConfigName=hosting.config(count=1), RetainAllVariantProperties=retained
        )
        (variant,) = hosting.settled(name)["ProductionVariants"]
        assert variant["CurrentInstanceCount"] == count


def test_a_failed_update_keeps_the_old_configuration_in_service(hosting):
    good = hosting.config()
    name = hosting.create(good)
    hosting.settled(name)
    bad = hosting.config(FAIL_STARTS="2", count=2)
    hosting.api.update_endpoint(EndpointName=name, EndpointConfigName=bad)
    assert hosting.api.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating"
    endpoint = hosting.settled(name)
    assert (endpoint["EndpointStatus"], endpoint["EndpointConfigName"]) == ("InService", good)
    assert "exit code 1" in endpoint["FailureReason"]
    assert hosting.ask(name).endswith("w1")
    until(lambda: all(gone(pid) for pid in hosting.pids(bad)))


def test_a_dead_instance_is_replaced_even_if_the_first_replacement_does_not_start(hosting):
    config = hosting.config(FAIL_STARTS="2,3")
    name = hosting.create(config)
    hosting.settled(name)
    os.kill(hosting.pids(config)[0], signal.SIGKILL)

    def answers():
        try:
            return hosting.ask(name)
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("ServiceUnavailable", "ServiceUnavailableException"), error
            return None

    assert int(until(answers).split()[0]) == hosting.pids(config)[3]


def test_requests_go_round_a_dead_instance_at_once(hosting):
    config = hosting.config(count=2)
    name = hosting.create(config)
    hosting.settled(name)
    first, second = hosting.pids(config)
    os.kill(first, signal.SIGKILL)
    until(lambda: gone(first))
    time.sleep(0.05)  # its guard notices
    assert {hosting.ask(name).split()[0] for _ in range(5)} == {str(second)}


def test_the_errors_of_the_container_are_model_errors(hosting):
    name = hosting.in_service()
    for status, whose in ((400, "client"), (503, "server")):
        with pytest.raises(ClientError) as caught:
            hosting.ask(name, f"status {status}")
        answer = caught.value.response
        assert (answer["Error"]["Code"], answer["OriginalStatusCode"]) == ("ModelError", status)
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
        assert answer["OriginalMessage"] == '{"error": "as asked"}'
        assert f"Received {whose} error ({status})" in answer["Error"]["Message"]


def test_a_request_goes_to_the_instance_with_the_fewest_outstanding(hosting, tmp_path):
    config = hosting.config(count=2)
    name = hosting.create(config)
    hosting.settled(name)
    release = tmp_path / "release.now"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hosting.ask, name, f"wait {release}")
        (mark,) = until(lambda: list(tmp_path.glob("release.[0-9]*")))
        busy = mark.suffix.removeprefix(".")
        others = {hosting.ask(name).split()[0] for _ in range(6)}
        release.touch()
        assert waiting.result().split()[0] == busy
    assert len(others) == 1
    assert busy not in others


def test_an_endpoint_that_is_deleted_while_it_is_created_leaves_nothing(hosting):
    config = hosting.config(SICK="1")
    name = hosting.create(config)
    until((hosting.folder / config).exists)
    begun = time.monotonic()
    hosting.api.delete_endpoint(EndpointName=name)
    hosting.names.remove(name)
    with pytest.raises(ClientError, match="Could not find endpoint"):
        hosting.api.describe_endpoint(EndpointName=name)
    until(lambda: gone(hosting.pids(config)[0]))
    assert time.monotonic() - begun < 10


def test_a_deleted_endpoint_is_gone_with_its_processes_and_its_name_is_free(hosting):
    config = hosting.config(count=2)
    name = hosting.create(config)
    hosting.settled(name)
    hosting.api.delete_endpoint(EndpointName=name)
    until(lambda: all(gone(pid) for pid in hosting.pids(config)))
    with pytest.raises(ClientError, match="not found"):
        hosting.ask(name)
    hosting.api.create_endpoint(EndpointName=name, EndpointConfigName=config)
    assert hosting.settled(name)["EndpointStatus"] == "InService"


def test_models_and_configurations_are_described_listed_and_deleted(hosting):
    name = hosting.config()
    assert hosting.api.describe_model(ModelName=name)["PrimaryContainer"]["Image"] == IMAGE
    variants = hosting.api.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"]
    assert [variant["ModelName"] for variant in variants] == [name]
    assert [model["ModelName"] for model in hosting.api.list_models(NameContains=name)["Models"]] == [name]
    assert len(hosting.api.list_endpoint_configs(NameContains=name)["EndpointConfigs"]) == 1
    hosting.api.delete_model(ModelName=name)
    hosting.api.delete_endpoint_config(EndpointConfigName=name)
    for call in (
        lambda: hosting.api.describe_model(ModelName=name),
        lambda: hosting.api.delete_endpoint_config(EndpointConfigName=name),
    ):
        with pytest.raises(ClientError, match=r"ValidationException.*Could not find"):
            call()


def variant(name="AllTraffic", model="model", **changes):
    plain = {"VariantName": name, "ModelName": model, "InitialInstanceCount": 1, "InstanceType": "ml.m5.large"}
    return plain | changes


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ([variant(model="nobody")], "Could not find model"),
        ([variant(InitialInstanceCount=0)], "initialInstanceCount"),
        ([variant(InitialVariantWeight=0.0)], "Weight"),
        ([variant("a"), variant("a")], "unique"),
        ([variant(InstanceType="ml.abacus")], "enum"),
        ([], "productionVariants"),
    ],
)
def test_a_configuration_that_cannot_serve_is_refused(hosting, variants, said):
    model = hosting.config()
    named = [item | {"ModelName": model} if item["ModelName"] == "model" else item for item in variants]
    with pytest.raises(ClientError, match=said) as caught:
        hosting.api.create_endpoint_config(EndpointConfigName=hosting.aws.name("config"), ProductionVariants=named)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_variants_take_traffic_by_their_weight(hosting):
    first, second = hosting.config(SAY="one"), hosting.config(SAY="two")
    config = hosting.aws.name("config")
    hosting.api.create_endpoint_config(
        EndpointConfigName=config,
        ProductionVariants=[
            variant("one", first, InitialVariantWeight=3.0),
            variant("two", second, InitialVariantWeight=1.0),
        ],
    )
    name = hosting.create(config)
    hosting.settled(name)
    said = [hosting.ask(name).split()[0] for _ in range(60)]
    assert 30 < said.count("one") < 58
    answer = hosting.runtime.invoke_endpoint(
        EndpointName=name, Body=b"x", ContentType="text/plain", TargetVariant="two"
    )
    assert answer["InvokedProductionVariant"] == "two"


def test_an_archive_that_leads_out_of_its_folder_fails_the_endpoint(hosting):
    from local_rig import packed

    hosting.aws.s3.put_object(Bucket="bucket", Key="evil.tar.gz", Body=packed(**{"../../evil": b"x"}))
    endpoint = hosting.settled(hosting.create(data="evil.tar.gz"))
    assert endpoint["EndpointStatus"] == "Failed"
    assert "evil" in endpoint["FailureReason"]
