"""kennel.pipeline.images: what an engine is asked to build, and what its words become."""

from pathlib import Path

import pytest
from fake_engine import FakeEngine
from requests.exceptions import ConnectionError as EngineGone

import configurations
from kennel import config
from kennel.errors import InvalidArguments, KennelError, Unavailable
from kennel.pipeline import images
from kennel.pipeline.images import Image

STEPS = ({"stream": "Step 1/2 : FROM a\n"}, {"stream": " ---> 123\n"}, {"stream": "Step 2/2 : RUN b\n"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "containers/serving").mkdir(parents=True)
    (tmp_path / "containers/serving/Dockerfile").write_text("FROM a")
    (tmp_path / ".dockerignore").write_text("")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    return tmp_path


def serving(root: Path, **changes: object) -> Image:
    return Image(**{"part": "serving", "name": "k-serving", "revision": images.revision(root, "serving")} | changes)


def built(engine: FakeEngine, root: Path, **changes: object) -> tuple[images.Built, list[str]]:
    said: list[str] = []
    return images.build(
        engine, serving(root, **changes), root=root, say=said.append, settings={"PIP_INDEX_URL": "u"}
    ), said


def names(engine: FakeEngine) -> dict[str, str]:
    """What the engine has under a name."""
    return {name: image for name, image in engine.api.images.items() if not name.startswith("sha256:")}


def test_image_is_built_with_its_revision_and_version_and_is_the_latest(root):
    engine, image = FakeEngine(*STEPS), serving(root)
    done, said = built(engine, root)
    (asked,) = engine.api.builds
    assert (asked["dockerfile"], asked["path"]) == ("containers/serving/Dockerfile", str(root))
    assert asked["buildargs"] == {
        "PIP_INDEX_URL": "u",
        "PIP_EXTRA_INDEX_URL": "",
        "REVISION": image.tag,
        "VERSION": "1.2.3",
    }
    assert (done.id, done.bytes, done.seconds is None) == ("sha256:built", 1000, False)
    assert names(engine) == {str(image): "sha256:built", "k-serving:latest": "sha256:built"}
    assert said == ["1/2 : FROM a", "2/2 : RUN b"]


def test_image_that_the_engine_has_is_not_built_and_becomes_the_latest(root):
    engine = FakeEngine()
    engine.api.images |= {str(serving(root)): "sha256:old", "k-serving:latest": "sha256:other"}
    done, said = built(engine, root)
    assert (engine.api.builds, done.id, done.seconds, said) == ([], "sha256:old", None, [])
    assert engine.api.images["k-serving:latest"] == "sha256:old"


def test_build_that_fails_names_the_step_and_ends_with_the_log(root):
    log = [{"stream": f"line {number}\n"} for number in range(30)]
    engine = FakeEngine(*STEPS, *log, {"errorDetail": {}, "error": "returned a non-zero code: 1\n"})
    with pytest.raises(KennelError) as caught:
        built(engine, root)
    said = str(caught.value)
    assert "containers/serving/Dockerfile: the build failed at step 2/2 : RUN b: returned a non-zero code: 1" in said
    assert "    line 29" in said
    assert "    line 9\n" not in said
    assert names(engine) == {}


def test_engine_that_goes_away_is_an_error_without_a_traceback(root):
    with pytest.raises(Unavailable, match="the engine cannot build the image: gone"):
        built(FakeEngine(*STEPS, fails=EngineGone("gone")), root)


def test_source_that_changes_under_way_is_not_built_under_the_wrong_revision(root):
    engine = FakeEngine(*STEPS)
    engine.api.on_build = lambda: (root / "containers/serving/Dockerfile").write_text("FROM b")
    with pytest.raises(KennelError, match="its source changed while it was read"):
        built(engine, root)
    assert names(engine) == {}


def test_missing_dockerfile_is_named(root):
    with pytest.raises(InvalidArguments, match="containers/training/Dockerfile: there is no Dockerfile"):
        built(FakeEngine(), root, part="training")


def test_only_plain_names_are_images_of_this_source(root):
    text = configurations.text({"images.training": "123456789012.dkr.ecr.us-east-1.amazonaws.com/t:1"})
    (found,) = images.of(config.parse(text, where=""), root)
    assert (found.part, found.name) == ("serving", "kennel-serving")


def test_training_image_for_gpus_is_another_image_than_that_for_cpus(root):
    def tags(torch: str) -> dict[str, str]:
        return images.tags(config.parse(configurations.text({"images.torch": torch}), where=""), root)

    cpu, cuda = tags("cpu"), tags("cuda")
    assert cuda == {"training": f"{cpu['training']}-cuda", "serving": cpu["serving"]}
    engine = FakeEngine()
    (root / "containers/training").mkdir()
    (root / "containers/training/Dockerfile").write_text("FROM a")
    (training, _) = images.of(config.parse(configurations.text({"images.torch": "cuda"}), where=""), root)
    images.build(engine, training, root=root, say=lambda _: None)
    assert engine.api.builds[0]["buildargs"]["TORCH"] == "cuda"
