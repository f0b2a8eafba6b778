"""Endpoints over HTTP, whose instances are real containers."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from runtime_rig import TINY, described, left, local_aws

from local_rig import ROLE, Aws, wait_for
from waiting import until

pytestmark = pytest.mark.docker


@pytest.fixture(scope="module")
def hosting(engine, image, tmp_path_factory):
    folder = tmp_path_factory.mktemp("aws")
    with local_aws(folder, serving_grace=1) as (server, runtime):
        rig = Hosting(server.endpoint_url, server, runtime)
        rig.server_dir, rig.image, rig.engine = folder, image, engine
        yield rig
    assert left(engine, folder) == []


class Hosting(Aws):
    def config(self, *, image=None, instance_type="ml.m5.large", isolated=False, count=1, data="model", **environment):
        name = self.name("hosted")
        self.sagemaker.create_model(
            ModelName=name,
            ExecutionRoleArn=ROLE,
            EnableNetworkIsolation=isolated,
            PrimaryContainer={
                "Image": image or self.image,
                "ModelDataUrl": f"s3://bucket/{data}.tar.gz",
                "Environment": environment,
            },
        )
        variant = {"VariantName": "AllTraffic", "ModelName": name, "InitialInstanceCount": count}
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=[{**variant, "InstanceType": instance_type}]
        )
        return name

    def endpoint(self, **config):
        name = self.name("endpoint")
        self.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=self.config(**config))
        return name, self.settled(name)

    def in_service(self, **config):
        name, endpoint = self.endpoint(**config)
        assert endpoint["EndpointStatus"] == "InService", endpoint["FailureReason"]
        return name

    def settled(self, name):
        return wait_for(
            lambda: self.sagemaker.describe_endpoint(EndpointName=name),
            lambda endpoint: endpoint["EndpointStatus"] in ("InService", "Failed"),
        )

    def ask(self, name, body=b"?"):
        answer = self.sagemaker_runtime.invoke_endpoint(EndpointName=name, Body=body, ContentType="text/plain")
        return answer["Body"].read().decode().split()

    def who_answers_two(self, name):
        """Names of the instances that answer two requests which arrive together."""
        with ThreadPoolExecutor(2) as pool:
            return {answer[0] for answer in pool.map(lambda _: self.ask(name, b"slowly"), range(2))}

    def failed(self, **config):
        """Why an endpoint failed, which must leave nothing on the engine."""
        name, endpoint = self.endpoint(**config)
        assert endpoint["EndpointStatus"] == "Failed"
        until(lambda: not left(self.engine, self.server_dir, f"kennel.endpoint={name}"))
        return endpoint["FailureReason"]

    def delete(self, name):
        self.sagemaker.delete_endpoint(EndpointName=name)
        until(lambda: not left(self.engine, self.server_dir, f"kennel.endpoint={name}"))


def test_a_killed_instance_is_replaced_and_its_end_is_in_the_log(hosting, engine):
    name = hosting.in_service(count=2, SAY="one")
    assert hosting.ask(name)[1:] == ["one", "w1", "read-only"]
    until(lambda: hosting.who_answers_two(name) == {"instance-1", "instance-2"})
    networks = [each for each in left(engine, hosting.server_dir, f"kennel.endpoint={name}") if each[0] != "/"]
    assert len(networks) == 2, "instances have nothing to say to one another"
    killed = described(engine, hosting.server_dir, f"kennel.endpoint={name}")["instance-1"]
    engine.api.kill(killed["Id"])
    until(lambda: "instance-3" in described(engine, hosting.server_dir, f"kennel.endpoint={name}"))
    endpoint = wait_for(
        lambda: hosting.sagemaker.describe_endpoint(EndpointName=name),
        lambda endpoint: endpoint["ProductionVariants"][0]["CurrentInstanceCount"] == 2,
    )
    assert endpoint["EndpointStatus"] == "InService"
    assert hosting.ask(name)[1:] == ["one", "w1", "read-only"]
    events = hosting.logs.filter_log_events(logGroupName=f"/aws/sagemaker/Endpoints/{name}")["events"]
    assert "kennel: the instance ended with exit code 137; another replaces it" in [each["message"] for each in events]
    hosting.delete(name)


def test_an_isolated_instance_answers_and_has_no_port_of_this_machine(hosting, engine):
    names = {isolated: hosting.in_service(isolated=isolated, SAY="here") for isolated in (True, False)}
    for isolated, name in names.items():
        assert hosting.ask(name)[1:] == ["here", "w1", "read-only"]
        (instance,) = described(engine, hosting.server_dir, f"kennel.endpoint={name}").values()
        (network,) = instance["NetworkSettings"]["Networks"].values()
        assert engine.networks.get(network["NetworkID"]).attrs["Internal"] is isolated
        bound = [port for ports in instance["NetworkSettings"]["Ports"].values() for port in ports or []]
        assert [port["HostIp"] for port in bound] == ([] if isolated else ["127.0.0.1"])
        hosting.delete(name)


def test_an_instance_runs_as_strictly_as_its_image_promises(hosting, engine):
    name = hosting.in_service()
    (instance,) = described(engine, hosting.server_dir, f"kennel.endpoint={name}").values()
    limits = instance["HostConfig"]
    assert limits["ReadonlyRootfs"] is True
    assert (limits["CapDrop"], limits["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert limits["Memory"] == limits["MemorySwap"] == 8 << 30
    assert limits["PidsLimit"] > 0
    assert not limits.get("Tmpfs")
    (mount,) = instance["Mounts"]
    assert (mount["Destination"], mount["RW"]) == ("/opt/ml/model", False)
    hosting.delete(name)


def test_an_update_swaps_the_containers_and_removes_the_old_ones(hosting, engine):
    name = hosting.in_service(SAY="old")
    before = set(left(engine, hosting.server_dir, f"kennel.endpoint={name}"))
    config = hosting.config(SAY="new", data="model2")
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    assert hosting.settled(name)["EndpointConfigName"] == config
    assert hosting.ask(name)[1:3] == ["new", "w2"]
    until(lambda: before.isdisjoint(left(engine, hosting.server_dir, f"kennel.endpoint={name}")))
    hosting.delete(name)


def test_an_update_whose_containers_do_not_start_leaves_the_old_ones_in_service(hosting, engine):
    name = hosting.in_service(SAY="old")
    before = left(engine, hosting.server_dir, f"kennel.endpoint={name}")
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=hosting.config(EXIT="4"))
    endpoint = hosting.settled(name)
    assert "AllTraffic did not pass the ping health check: it ended with exit code 4" in endpoint["FailureReason"]
    assert hosting.ask(name)[1] == "old"
    until(lambda: left(engine, hosting.server_dir, f"kennel.endpoint={name}") == before)
    hosting.delete(name)


def test_an_endpoint_whose_image_is_nowhere_says_so(hosting):
    reason = hosting.failed(image="127.0.0.1:5000/kennel-test-no-such:1")
    assert "AllTraffic did not start: cannot find or pull image 127.0.0.1:5000/kennel-test-no-such:1" in reason


def test_an_instance_that_runs_out_of_memory_says_so_with_its_limit(hosting):
    reason = hosting.failed(instance_type=TINY, EAT="1")
    assert reason.endswith(f"AllTraffic was killed: out of memory; the limit of {TINY} is 64 MiB")
