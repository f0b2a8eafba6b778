"""Rollouts to an endpoint that a run left up: what is asked for is deployed, what serves already is left alone."""

import json
import shutil

import pytest

import pipeline_runs

CONTAINER = "PrimaryContainer"


def rolled_out(kept, *arguments):
    code, out, err = pipeline_runs.run("rollout", "--config", kept.config, "--json", *arguments, home=kept.home)
    assert code == 0, out + err
    return json.loads(out)


def refused(kept, *arguments, status=2, config=None):
    code, out, err = pipeline_runs.run("rollout", "--config", config or kept.config, *arguments, home=kept.home)
    assert (code, "Traceback" in err) == (status, False), out + err
    return err


def served(kept):
    """Image and model of the endpoint now."""
    endpoint = kept.aws("sagemaker", "describe-endpoint", "--endpoint-name", "kennel")
    assert endpoint["EndpointStatus"] == "InService"
    config = kept.aws(
        "sagemaker", "describe-endpoint-config", "--endpoint-config-name", endpoint["EndpointConfigName"]
    )  # fmt: skip
    model = kept.aws("sagemaker", "describe-model", "--model-name", config["ProductionVariants"][0]["ModelName"])
    return model[CONTAINER]["Image"], model[CONTAINER]["ModelDataUrl"]


def test_file_then_the_model_of_an_earlier_execution_are_deployed_and_repeating_it_changes_nothing(kept, tmp_path):
    file = shutil.copy(kept.folder / "model.tar.gz", tmp_path / "mine.tar.gz")
    image, _ = served(kept)
    result = rolled_out(kept, "--model", file)
    assert (result["mode"], result["status"], result["endpoint"]) == ("rollout", "SUCCEEDED", "kennel")
    assert served(kept) == (image, result["model"])
    assert result["model"].startswith(f"s3://{kept.result['bucket']}/models/given/")
    assert result["images"] == {"serving": image}
    assert (result["trials"], result["metrics"]) == ([], {})
    names = [state["name"] for state in result["states"]]
    assert names[:4] == ["Mode?", "NameDeployment", "CreateModel", "CreateEndpointConfig"]
    assert "UpdateEndpoint" in names
    assert json.loads((kept.home / "runs" / result["execution"] / "result.json").read_text()) == result

    back = rolled_out(kept, "--model", kept.result["execution"])
    assert served(kept) == (image, kept.result["model"]) == (image, back["model"])

    before = kept.aws("sagemaker", "describe-endpoint", "--endpoint-name", "kennel")["EndpointConfigName"]
    again = rolled_out(kept, "--model", kept.result["model"])
    assert again == {"status": "UNCHANGED", "image": image, "model": kept.result["model"]}
    assert kept.aws("sagemaker", "describe-endpoint", "--endpoint-name", "kennel")["EndpointConfigName"] == before


def test_image_is_deployed_as_it_is_given_and_the_model_stays(kept):
    before = served(kept)
    image = "210987654321.dkr.ecr.us-east-1.amazonaws.com/kennel-serving:1"
    result = rolled_out(kept, "--image", image)
    assert served(kept) == (image, before[1])
    assert result["prediction"]


def test_image_must_have_been_pushed(kept):
    arguments = ("rollout", "--config", kept.config, "--image", "never-pushed")
    code, _, said = pipeline_runs.run(*arguments, home=kept.home)
    missing = (2, "kennel-serving:never-pushed has not been pushed" in said)
    nothing_answers = (1, "no registry answers at 127.0.0.1:5000" in said)  # where none is up
    assert (code, True) in (missing, nothing_answers), said


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("s3://nobody-s-bucket/model.tar.gz", "there is no such object"),
        ("kennel-19700101-000000", "there is no such execution"),
        ("nowhere/model.tar.gz", "there is no such file"),
        ("result.json", "not a readable gzipped tar"),
    ],
)
def test_model_that_is_none_is_refused_and_the_endpoint_stays_as_it_is(kept, model, why):
    before = served(kept)
    given = kept.folder / model if model == "result.json" else model
    said = refused(kept, "--model", given)
    assert f"--model {given}: " in said
    assert why in said
    assert served(kept) == before


def test_image_that_is_no_reference_is_refused(kept):
    assert "--image: 'No Reference' is no reference to an image" in refused(kept, "--image", "No Reference")


def test_other_runtime_than_that_of_the_local_aws_is_refused(kept):
    assert "its runtime is process" in refused(kept, "--runtime", "docker")


def test_endpoint_of_another_name_is_missing(kept, small_data, tmp_path):
    config = pipeline_runs.configuration(tmp_path / "c.toml", data=small_data, changes={"name": "other"})
    code, _, err = pipeline_runs.run("rollout", "--config", config, home=kept.home)
    assert (code, "there is no endpoint other" in err) == (2, True), err
