"""What compose prepares, without compose: folders in, folders out."""

import json
from pathlib import Path

import pytest

from kennel import archive, contract, tree
from kennel.errors import InvalidData, InvalidModel
from kennel.local import compose
from serving_artefacts import write_artefact

CONFIGURATION = Path(__file__).parents[3] / "config" / "local.toml"


class Folders:
    def __init__(self, root):
        self.root = root
        self.runs, self.model, self.hosts = root / "runs", root / "model", root / "hosts"
        for folder in (self.runs, self.model, *(self.hosts / host for host in compose.HOSTS)):
            folder.mkdir(parents=True)

    def prepare(self):
        return compose.prepare(runs=self.runs, model=self.model, hosts=self.hosts, configuration=CONFIGURATION)

    def keep(self, name, *, started, status="SUCCEEDED", labels=("red", "green", "blue")):
        """A result as an execution leaves it; the model's directory."""
        (self.runs / name).mkdir()
        model = write_artefact(self.root / f"model-{name}", labels=labels)
        archive.pack(model, self.runs / name / contract.ARTEFACT_NAME)
        (self.runs / name / "result.json").write_text(json.dumps({"status": status, "started": started}))
        return model


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.startswith(".")}


def test_without_a_model_there_is_a_job_for_two_hosts_with_the_configured_hyperparameters(folders):
    assert "2 hosts will train one" in folders.prepare()
    assert files(folders.model) == {}
    for host in compose.HOSTS:
        config = folders.hosts / host / "input" / "config"
        resources = json.loads((config / "resourceconfig.json").read_text())
        assert (resources["current_host"], resources["hosts"]) == (host, ["algo-1", "algo-2"])
        assert json.loads((config / "hyperparameters.json").read_text())["backbone"] == "resnet18"
        assert len(tree.find(folders.hosts / host / "input/data/training").classes) == 10


def test_the_newest_execution_that_succeeded_is_taken_and_only_once(folders):
    folders.keep("a", started="2026-01-02", labels=("x", "y"))
    wanted = folders.keep("b", started="2026-01-03")
    folders.keep("c", started="2026-01-04", status="FAILED", labels=("x", "z"))
    assert "took the model of execution b" in folders.prepare()
    assert files(folders.model) == files(wanted)
    assert folders.prepare() == "the model is that of execution b"


def test_a_newer_model_replaces_all_of_the_older_one(folders):
    folders.keep("a", started="2026-01-02")
    folders.prepare()
    (folders.model / "stale.txt").write_text("of an older format")
    wanted = folders.keep("b", started="2026-01-03", labels=("x", "green", "z"))
    assert "took the model of execution b" in folders.prepare()
    assert files(folders.model) == files(wanted)


@pytest.mark.parametrize("harm", ["missing", "changed", "no manifest"])
def test_a_model_that_is_not_whole_is_taken_again(folders, harm):
    wanted = folders.keep("a", started="2026-01-02")
    folders.prepare()
    match harm:
        case "missing":
            (folders.model / contract.LABELS_FILE).unlink()
        case "changed":
            (folders.model / contract.MODEL_FILE).write_bytes(b"half")
        case _:
            (folders.model / contract.MANIFEST_FILE).unlink()
    assert "took" in folders.prepare()
    assert files(folders.model) == files(wanted)


def test_a_model_that_was_trained_here_stays(folders):
    write_artefact(folders.model)
    before = files(folders.model)
    assert folders.prepare() == "the model is the one that was trained here"
    assert files(folders.model) == before
    assert not (folders.hosts / "algo-1" / "input").exists()


def test_what_an_interrupted_training_left_is_cleared(folders):
    (folders.model / contract.MODEL_FILE).write_bytes(b"half")
    assert "will train" in folders.prepare()
    assert files(folders.model) == {}


def test_an_artefact_that_is_none_leaves_the_model_that_is_there(folders):
    folders.keep("a", started="2026-01-02")
    folders.prepare()
    before = files(folders.model)
    folders.keep("b", started="2026-01-03")
    (folders.runs / "b" / contract.ARTEFACT_NAME).write_bytes(b"no tar")
    with pytest.raises(InvalidModel, match=r"b/model\.tar\.gz"):
        folders.prepare()
    assert files(folders.model) == before


def test_a_result_that_is_none_is_named(folders):
    (folders.runs / "a").mkdir()
    (folders.runs / "a" / "result.json").write_text("{")
    with pytest.raises(InvalidData, match=r"a/result\.json: this is no result"):
        folders.prepare()
