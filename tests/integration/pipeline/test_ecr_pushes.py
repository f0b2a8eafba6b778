"""Pushes and pinned references, against an ECR whose images and registry are ours: no engine is needed."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from fake_push_engine import PushEngine

import configurations
import fake_registry
from kennel import config, references
from kennel.errors import InvalidArguments, PipelineFailed, Unavailable
from kennel.pipeline import ecr, push
from kennel.pipeline.aws import Aws
from kennel.pipeline.images import Image

HADOLINT = Path(sys.executable).with_name("hadolint")
ONE = f"sha256:{'1' * 64}"
REPOSITORIES = ("k-serving", "kennel-training", "kennel-serving")


class Ecr:
    """The local AWS's client, but what is there and where the registry is, is given."""

    def __init__(self, aws: Aws, registry: str) -> None:
        self.aws = aws
        self.address = f"http://{registry}"
        self.images: dict[tuple[str, str], str] = {}
        self.account, self.region = aws.account, aws.region

    def client(self, service: str) -> Any:
        assert service == "ecr"
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.aws.client("ecr"), name)

    def get_authorization_token(self) -> dict[str, Any]:
        return {"authorizationData": [{"authorizationToken": "QVdTOnNlY3JldA==", "proxyEndpoint": self.address}]}

    def describe_images(self, *, repositoryName: str, imageIds: list[dict[str, str]]) -> dict[str, Any]:
        (image,) = imageIds
        found = self.images.get((repositoryName, image.get("imageTag", "")))
        if image.get("imageDigest") in self.images.values():
            found = image["imageDigest"]
        if found is None:
            told = {"Error": {"Code": "ImageNotFoundException", "Message": "no such image"}}
            raise self.aws.client("ecr").exceptions.ImageNotFoundException(told, "DescribeImages")
        return {"imageDetails": [{"imageDigest": found}]}


@pytest.fixture
def aws(local_aws: Aws) -> Iterator[Ecr]:
    ecr_of_test = local_aws.client("ecr")
    for name in REPOSITORIES:
        ecr_of_test.create_repository(repositoryName=name)
    with fake_registry.serving() as registry:
        yield Ecr(local_aws, registry.address)
    for name in REPOSITORIES:
        ecr_of_test.delete_repository(repositoryName=name, force=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "containers/serving").mkdir(parents=True)
    (tmp_path / "containers/serving/Dockerfile").write_text("FROM a:1\n")
    return tmp_path


IMAGE = Image(part="serving", name="k-serving", revision="r1")


def pushed(aws: Ecr, engine: PushEngine, root: Path, image: Image = IMAGE) -> tuple[push.Pushed, list[Image]]:
    built: list[Image] = []
    engine.on_pushed = lambda digest: aws.images.update({(image.name, image.tag): digest})
    found = push.push(
        aws,
        engine,
        image,
        root=root,
        hadolint=HADOLINT,
        build=built.append,
        sending=lambda: nullcontext(lambda *_: None),
    )
    return found, built


def test_image_is_built_tagged_and_sent_with_ecr_s_credentials(aws, root):
    engine = PushEngine(digest=ONE)
    found, built = pushed(aws, engine, root)
    uri = aws.describe_repositories(repositoryNames=["k-serving"])["repositories"][0]["repositoryUri"]
    assert built == [IMAGE]
    assert engine.tags == [("k-serving:r1", uri, "r1")]
    assert engine.asked == [(uri, "r1", {"username": "AWS", "password": "secret"})]
    assert (found.pinned, found.sent) == (f"{uri}@{ONE}", 30)


def test_repository_that_is_not_there_is_the_stack_s_to_make(aws, root):
    engine = PushEngine(digest=ONE)
    with pytest.raises(InvalidArguments, match="there is no repository elsewhere") as caught:
        pushed(aws, engine, root, Image(part="serving", name="elsewhere", revision="r1"))
    assert "run.py deploy" in str(caught.value)
    assert engine.tags == []


def test_tag_that_is_there_is_neither_built_nor_pushed_again(aws, root):
    pushed(aws, PushEngine(digest=ONE), root)
    engine = PushEngine(digest=f"sha256:{'2' * 64}")
    found, built = pushed(aws, engine, root)
    assert (found.digest, found.sent) == (ONE, None)
    assert (built, engine.asked) == ([], [])


def test_missing_registry_is_an_error_before_anything_is_built(aws, root):
    aws.address = "http://127.0.0.1:9"
    engine = PushEngine(digest=ONE)
    with pytest.raises(Unavailable, match=r"no registry answers at http://127\.0\.0\.1:9") as caught:
        pushed(aws, engine, root)
    assert "--publish 127.0.0.1:9:5000 registry:2" in str(caught.value)
    assert engine.tags == []


def test_findings_of_hadolint_stop_a_push_before_the_build(aws, root):
    (root / "containers/serving/Dockerfile").write_text("FROM a\nRUN cd /tmp\nMAINTAINER me\n")
    engine = PushEngine(digest=ONE)
    with pytest.raises(InvalidArguments, match="containers/serving/Dockerfile: hadolint has 4 findings") as caught:
        pushed(aws, engine, root)
    for finding in ("line 1: DL3006 warning", "line 2: DL3003 warning", "line 3: DL4000 error"):
        assert finding in str(caught.value)
    assert engine.tags == []


def test_exceptions_that_the_project_makes_are_honoured(aws, root):
    (root / "containers/serving/Dockerfile").write_text("FROM a\n")
    (root / ".hadolint.yaml").write_text("ignored: [DL3006]\n")
    assert pushed(aws, PushEngine(digest=ONE), root)[0].digest == ONE


def test_push_that_breaks_off_can_be_repeated(aws, root):
    with pytest.raises(Unavailable, match="the push broke off: connection reset") as caught:
        pushed(aws, PushEngine(digest=ONE, error="connection reset"), root)
    assert "Push again" in str(caught.value)
    assert pushed(aws, PushEngine(digest=ONE), root)[0].digest == ONE


def test_digest_that_the_registry_does_not_confirm_is_an_error(aws, root):
    engine, other = PushEngine(digest=ONE), f"sha256:{'2' * 64}"

    def moved(*_: int) -> None:
        aws.images["k-serving", "r1"] = other

    with pytest.raises(PipelineFailed, match=f"the engine pushed {ONE}, and the repository has {other}"):
        push.push(
            aws,
            engine,
            IMAGE,
            root=root,
            hadolint=HADOLINT,
            build=lambda image: None,
            sending=lambda: nullcontext(moved),
        )


def test_password_is_not_in_the_words_of_a_login(aws):
    assert "secret" not in repr(ecr.login(aws))


# --- pinned references -----------------------------------------------------------------------------


def test_plain_names_are_pinned_by_the_tag_of_the_source(aws):
    uris = {name: ecr.repository_uri(aws, name) for name in ("kennel-training", "kennel-serving")}
    aws.images = {("kennel-training", "t"): ONE, ("kennel-serving", "s"): ONE}
    parsed = config.parse(configurations.text(), where="")
    found = ecr.with_pinned(aws, parsed, tags={"training": "t", "serving": "s"})
    assert found.images.training == f"{uris['kennel-training']}@{ONE}"
    assert found.images.serving == f"{uris['kennel-serving']}@{ONE}"


def test_tag_in_our_registry_is_pinned_and_a_digest_is_checked(aws):
    uri = ecr.repository_uri(aws, "kennel-serving")
    aws.images = {("kennel-serving", "s"): ONE}
    for given in (f"{uri}:s", "kennel-serving:s", f"{uri}@{ONE}"):
        assert ecr.pinned(aws, references.parse(given)) == f"{uri}@{ONE}"
    with pytest.raises(InvalidArguments, match=r"kennel-serving@sha256:2+ has not been pushed"):
        ecr.pinned(aws, references.parse(f"{uri}@sha256:{'2' * 64}"))


def test_image_of_another_registry_is_taken_as_it_is(aws):
    given = "210987654321.dkr.ecr.eu-west-1.amazonaws.com/kennel-serving:1"
    assert ecr.pinned(aws, references.parse(given)) == given


def test_image_that_was_not_pushed_says_how_it_is(aws):
    with pytest.raises(InvalidArguments, match="kennel-serving:s has not been pushed") as caught:
        ecr.pinned(aws, references.parse("kennel-serving"), default_tag="s")
    assert "run.py push" in str(caught.value)


def test_role_is_granted_the_repository_that_the_image_is_in(aws):
    def arn(image: str) -> str:
        return ecr.repository_arn(references.parse(image), account="123456789012", region="us-east-1")

    assert arn("127.0.0.1:5000/k@" + ONE) == "arn:aws:ecr:us-east-1:123456789012:repository/k"
    assert arn("210987654321.dkr.ecr.eu-west-1.amazonaws.com/k:1") == "arn:aws:ecr:eu-west-1:210987654321:repository/k"
