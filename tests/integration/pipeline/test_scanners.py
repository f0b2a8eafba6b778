"""The scan fails where it must: flaws put into the template are named, each by the scanner that looks for it."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCANNERS = ROOT / ".venv-scanners"
TEMPLATE = ROOT / "statemachine" / "infrastructure.yaml"
DEFINITION = ROOT / "statemachine" / "pipeline.asl.json"

pytestmark = pytest.mark.skipif(
    not (SCANNERS / "ready").exists(), reason="nothing about the scan was proven: `make scan` sets up what it needs"
)

FLAWS = {
    "EnableKeyRotation: true": "EnableKeyRotation: false",
    'Action: "states:StartExecution"\n                Resource: ': (
        'Action: ["states:Start", "s3:PutBucketPolicy", "iam:PutRolePolicy"]\n                Resource: "*"  # '
    ),
    "RetentionInDays: 90": "RetentionInDays: 91",
}
"""What stands in the template, and what is put there instead."""


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    text = TEMPLATE.read_text()
    for right, wrong in FLAWS.items():
        assert right in text, f"the template does not say {right} any more: choose another flaw"
        text = text.replace(right, wrong)
    flawed = tmp_path_factory.mktemp("flawed") / "infrastructure.yaml"
    flawed.write_text(text)
    states = flawed.with_name("pipeline.asl.json")
    states.write_text(DEFINITION.read_text().replace('"Type": "Task"', '"Type": "Tusk"'))
    chosen = ("cfn-lint", "checkov", "validate", "guard", "parliament", "cloudsplaining")
    return scan("--template", flawed, "--definition", states, *chosen)


def scan(*arguments):
    command = [SCANNERS / "bin" / "python", "-B", ROOT / "statemachine" / "scan.py", *arguments]
    environment = {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def findings_of(said, scanner):
    """The lines below a scanner's own."""
    lines = said.stdout.splitlines()
    [start] = [number for number, line in enumerate(lines) if line.startswith(f"{scanner} ")]
    rest = lines[start + 1 :]
    return rest[: next((number for number, line in enumerate(rest) if not line.startswith("  ")), len(rest))]


def test_any_finding_fails_the_scan(said):
    assert said.returncode == 1, said.stderr


@pytest.mark.parametrize(
    ("scanner", "finding"),
    [
        ("cfn-lint", "E3030"),
        ("cfn-lint", "E3601"),
        ("checkov", "CKV_AWS_7: AWS::KMS::Key.Key"),
        ("validate", "W3030"),
        ("guard", "kms_key_rotation_enabled_check"),
        ("parliament", "RolloutRole: UNKNOWN_ACTION: "),
        ("cloudsplaining", "RolloutRole: InfrastructureModification: s3:PutBucketPolicy"),
        ("cloudsplaining", "RolloutRole: ResourceExposure: iam:PutRolePolicy"),
    ],
)
def test_flaw_is_named(said, scanner, finding):
    assert any(finding in line for line in findings_of(said, scanner)), said.stdout


def test_template_that_no_scanner_can_read_is_no_success(tmp_path):
    broken = tmp_path / "infrastructure.yaml"
    broken.write_text("Resources: [")
    done = scan("--template", broken, "guard")
    assert done.returncode != 0
    assert str(broken) in done.stderr


def test_exception_that_excuses_nothing_is_a_finding(tmp_path):
    text = TEMPLATE.read_text()
    rule = "SuppressedRules: [sqs_dlq_check]"
    assert rule in text
    stale = tmp_path / "infrastructure.yaml"
    stale.write_text(text.replace(rule, "SuppressedRules: [sqs_dlq_check, sqs_queue_encrypted_check]"))
    done = scan("--template", stale, "guard")
    assert done.returncode == 1
    assert "FailureQueue: sqs_queue_encrypted_check: SuppressedRules: it does not fail" in done.stdout
