"""What the documents show is true: JSON parses, log lines match, links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from kennel import contract

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md"))
CODE = [
    (document.name, language, body)
    for document in DOCUMENTS
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("body", [body for _, language, body in CODE if language == "json"])
def test_json_examples_parse(body: str) -> None:
    assert json.loads(body)


@pytest.mark.parametrize("name", contract.METRICS)
def test_the_example_log_has_every_metric_as_the_contract_reads_it(name: str) -> None:
    log = "".join(body for document, language, body in CODE if (document, language) == ("2-training.md", "text"))
    assert re.search(contract.metric_regex(name), log)


def test_every_language_of_an_example_is_known_to_a_test() -> None:
    assert {language for _, language, _ in CODE} == {"json", "text"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_of_a_document_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
        assert (document.parent / link).exists(), link


def test_the_drawn_state_machine_shows_every_state_that_does_something() -> None:
    states = json.loads((ROOT / "statemachine/pipeline.asl.json").read_text())["States"]
    drawn = (ROOT / "docs/pictures/state-machine.svg").read_text()
    loops = ("DescribeEndpoint", "DescribeFunction")  # drawn as the waiting that they are part of
    missing = [name for name, state in states.items() if state["Type"] == "Task" and name not in loops]
    assert [name for name in missing if f">{name}</text>" not in drawn] == []
