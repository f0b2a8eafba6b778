"""`python -m kennel.pipeline.rules`, as `make check` calls it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kennel.pipeline.rules", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_found_in_what_is_checked_in():
    done = check()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("rules, no findings\n")


def test_finding_is_told_with_rule_place_and_what_to_do(tmp_path: Path):
    source = (ROOT / "statemachine" / "infrastructure.yaml").read_text()
    spoiled = tmp_path / "infrastructure.yaml"
    spoiled.write_text(source.replace("EnableKeyRotation: true", "EnableKeyRotation: false"))
    done = check("--template", str(spoiled))
    line = source[: source.index("\n  Key:\n")].count("\n") + 2
    assert done.returncode == 1
    assert f"key-rotates  Key (line {line})  is never rotated\n    Set EnableKeyRotation to true.\n" in done.stdout
    assert done.stdout.endswith("rules, 1 finding\n")


@pytest.mark.parametrize(
    ("option", "text"), [("--template", "Resources: ["), ("--definition", "{"), ("--definition", "[]")]
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, option: str, text: str):
    broken = tmp_path / "broken"
    broken.write_text(text)
    done = check(option, str(broken))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert str(broken) in done.stderr


def test_file_that_is_not_there_is_named(tmp_path: Path):
    done = check("--template", str(tmp_path / "gone.yaml"))
    assert done.returncode == 2
    assert "gone.yaml" in done.stderr
