"""How an invocation takes an instance, so that no update can take it away."""

import contextlib
import threading

from kennel.local.sagemaker.arns import arns_of
from kennel.local.sagemaker.endpoints import Endpoints, _Endpoint, _Variant
from kennel.local.sagemaker.fleet import Answer
from kennel.local.sagemaker.tags import Tags


class FakeFleet:
    urls = ("http://instance",)

    def __init__(self, while_taking):
        self.while_taking = while_taking
        self.events = []

    @contextlib.contextmanager
    def least_busy(self):
        self.while_taking()
        self.events.append("taken")
        yield "http://instance"
        self.events.append("given back")

    def ask(self, url, body, *, content_type, accept):
        self.events.append((url, body, content_type, accept))
        return Answer(status=200, content_type="text/plain", body=b"answer")


def endpoints_with(fleet, tmp_path):
    endpoints = Endpoints(
        arn=arns_of("us-east-1"),
        storage=None,
        roles=None,
        runtime=None,
        state_dir=tmp_path,
        tags=Tags(),
    )
    variant = _Variant(name="v", weight=1.0, count=1, image="image", fleet=fleet)
    description = {"EndpointName": "e", "EndpointStatus": "InService"}
    endpoints._endpoints["e"] = _Endpoint(description=description, variants=[variant])
    return endpoints


def test_an_instance_is_taken_before_its_endpoint_can_change(tmp_path):
    changed = threading.Event()

    def change():
        endpoints.describe_endpoint({"EndpointName": "e"})  # as every change, it waits for its turn
        changed.set()

    def while_taking():
        threading.Thread(target=change, daemon=True).start()
        assert not changed.wait(0.2)

    fleet = FakeFleet(while_taking)
    endpoints = endpoints_with(fleet, tmp_path)
    answer = endpoints.invoke({"EndpointName": "e", "Body": b"x", "ContentType": "a/b", "Accept": "c/d"})
    assert (answer["Body"], answer["InvokedProductionVariant"]) == (b"answer", "v")
    assert changed.wait(5)
    assert fleet.events == ["taken", ("http://instance", b"x", "a/b", "c/d"), "given back"]


def test_the_endpoint_is_free_to_change_while_the_instance_works(tmp_path):
    class SlowFleet(FakeFleet):
        def ask(self, url, body, **more):
            thread = threading.Thread(target=lambda: endpoints.describe_endpoint({"EndpointName": "e"}), daemon=True)
            thread.start()
            thread.join(5)
            assert not thread.is_alive()
            return super().ask(url, body, **more)

    fleet = SlowFleet(lambda: None)
    endpoints = endpoints_with(fleet, tmp_path)
    assert endpoints.invoke({"EndpointName": "e"})["Body"] == b"answer"
