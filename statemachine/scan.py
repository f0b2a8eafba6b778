"""Hands the template, its policies, the state machine and the code to scanners; their own environment runs it.

    PYTHONPATH=src .venv-scanners/bin/python statemachine/scan.py [--template FILE] [--definition FILE] [SCANNER …]

Prints a line for each scanner, then every finding in full; exits with 1 if there is one. Nothing is fetched. What is
accepted stands with its reason beside the resource (checkov, guard), in the code (bandit) or in
scan-exceptions.toml (parliament, cloudsplaining); an exception that excuses nothing is a finding, too.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cloudformation_validate as validation
import example_values
import parliament
from cloudsplaining.output.policy_finding import PolicyFinding
from cloudsplaining.scan.policy_document import PolicyDocument
from cloudsplaining.scan.resource_policy_document import ResourcePolicyDocument

from kennel.errors import KennelError
from kennel.pipeline import template as templates
from kennel.pipeline.template import Template

ROOT: Final = Path(__file__).resolve().parent.parent
BIN: Final = Path(sys.executable).parent
CODE: Final = ("src", "statemachine", "lambda", "containers", "docs", "benchmarks")
GUARD_RULES: Final = "cdklabs.cdk-validator-cfnguard"
"""The package that holds AWS Control Tower's rules for Guard, in an archive for the CDK."""


class ScanFailed(KennelError):
    """A scanner gave no answer: nothing is known about what it would have found."""

    code = "ScanFailed"


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """`where` is a logical id or a file with its line, `subject` the action or property that it is about."""

    where: str
    rule: str
    subject: str
    text: str = ""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.rule, self.subject, self.text) if part)


@dataclass(frozen=True, kw_only=True)
class Scanned:
    """What is looked at. `document` is the template without intrinsic functions."""

    path: Path
    template: Template
    document: Mapping[str, Any]
    definition: str
    """The state machine as JSON in one line."""
    exceptions: Mapping[str, list[dict[str, str]]]
    """By scanner; each has `owner`, `rule`, `subject` (a pattern) and `reason`."""


def cfn_lint(scanned: Scanned) -> Iterator[Finding]:
    """The template, and once more with the state machine in it: it is not looked at where it lies."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / scanned.path.name
        text, count = re.subn(
            r"(?m)^( +)DefinitionS3Location:.*$",
            lambda found: f"{found[1]}Definition: {scanned.definition}",
            scanned.path.read_text(encoding="utf-8"),
        )
        if count != 1:
            raise ScanFailed(
                f"{count} lines begin with DefinitionS3Location",
                where=str(scanned.path),
                hint="Give it one line: the state machine is put there to be looked at.",
            )
        whole.write_text(text, encoding="utf-8")
        found = _answer("cfn-lint", "--format", "json", "--include-checks", "I", "--template", scanned.path, whole)
    yield from {
        Finding(
            where=f"{scanned.path.name}:{match['Location']['Start']['LineNumber']}",
            rule=match["Rule"]["Id"],
            subject="/".join(str(part) for part in match["Location"]["Path"] or ()),
            text=match["Message"],
        )
        for match in found
    }


def checkov(scanned: Scanned) -> Iterator[Finding]:
    """The template as it is; it knows intrinsic functions."""
    arguments = ("--framework", "cloudformation", "--skip-download", "--quiet", "--output", "json")
    found = _answer("checkov", *arguments, "--file", scanned.path)
    if found["summary"]["parsing_errors"] or not found["summary"]["passed"]:
        raise ScanFailed("checkov could not read it", where=str(scanned.path), hint="Mend what cfn-lint says.")
    for check in found["results"]["failed_checks"]:
        where = f"{scanned.path.name}:{check['file_line_range'][0]}"
        yield Finding(where=where, rule=check["check_id"], subject=check["resource"], text=check["check_name"])


def validate(scanned: Scanned) -> Iterator[Finding]:
    """CloudFormation's own rules and schemas; not its advice (I…), which wants tags everywhere."""
    config = validation.ValidateConfig(severity_level=validation.Severity.WARN)
    report = validation.CelEngine().validate_template(str(scanned.path), config)
    for found in report.diagnostics:
        subject = ".".join(part for part in (found.entity and found.entity.logical_id, found.property_path) if part)
        yield Finding(
            where=f"{scanned.path.name}:{found.start_line}", rule=found.rule_id, subject=subject, text=found.message
        )


def guard(scanned: Scanned) -> Iterator[Finding]:
    """Control Tower's rules; what `Metadata: guard: SuppressedRules` of a resource names is left out."""
    engine = validation.CelEngine(validation.EngineConfig(guard_rules=list(_guard_rules())))
    source = validation.TemplateContent(json.dumps(scanned.document))
    report = engine.validate_template(source, validation.ValidateConfig(disable_builtin_rules=True))
    suppressed = {
        (name, rule)
        for name, resource in scanned.document["Resources"].items()
        for rule in resource.get("Metadata", {}).get("guard", {}).get("SuppressedRules", ())
    }
    placed = [found for found in report.diagnostics if found.entity]
    for found in placed:
        owner = found.entity.logical_id
        if (owner, found.rule_id) not in suppressed:
            where, text = scanned.template.resources[owner].where, " ".join(found.message.split())
            yield Finding(where=where, rule=found.rule_id, subject=found.property_path or "", text=text)
    failed = {(found.entity.logical_id, found.rule_id) for found in placed}
    for rule in {found.rule_id for found in report.diagnostics} - {rule for _, rule in failed}:
        yield Finding(where=scanned.path.name, rule=rule, subject="", text="it fails, and does not say where")
    for owner, rule in suppressed - failed:
        yield Finding(where=owner, rule=rule, subject="SuppressedRules", text="it does not fail: take it out")


def parliament_(scanned: Scanned) -> Iterator[Finding]:
    """Every policy but those of who may assume a role: it takes a statement without Resource for malformed."""
    for policy in example_values.policies(scanned.document):
        if policy.kind != "trust":
            for found in parliament.analyze_policy_string(json.dumps(policy.document)).findings:
                for subject in _subjects(found.detail):
                    yield Finding(where=policy.owner, rule=found.issue, subject=subject)


def cloudsplaining(scanned: Scanned) -> Iterator[Finding]:
    """What the holder of a policy could do beyond its purpose; and what anybody could do to a resource."""
    for policy in example_values.policies(scanned.document):
        if policy.kind == "identity":
            results = PolicyFinding(PolicyDocument(policy.document)).results
            found = [
                (rule, subject)
                for rule, result in results.items()
                if isinstance(result, dict)
                for subject in _subjects(result["findings"])
            ]
        else:
            open_to_all = ResourcePolicyDocument(policy.document).internet_accessible_actions
            found = [("InternetAccessible", subject) for subject in open_to_all]
        yield from (Finding(where=policy.owner, rule=rule, subject=subject) for rule, subject in found)


def bandit(_scanned: Scanned) -> Iterator[Finding]:
    """Our Python; what is skipped, and why, is in pyproject.toml."""
    found = _answer("bandit", "--quiet", "--configfile", "pyproject.toml", "--format", "json", "--recursive", *CODE)
    for error in found["errors"]:
        yield Finding(where=error["filename"], rule="unread", subject="", text=error["reason"])
    for result in found["results"]:
        where = f"{result['filename']}:{result['line_number']}"
        yield Finding(where=where, rule=result["test_id"], subject="", text=result["issue_text"])


SCANNERS: Final[Mapping[str, Callable[[Scanned], Iterator[Finding]]]] = {
    "cfn-lint": cfn_lint,
    "checkov": checkov,
    "validate": validate,
    "guard": guard,
    "parliament": parliament_,
    "cloudsplaining": cloudsplaining,
    "bandit": bandit,
}


def main(argv: list[str]) -> int:
    """Scan; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("scanners", nargs="*", metavar="SCANNER", help=", ".join(SCANNERS))
    parser.add_argument("--template", type=Path, default=ROOT / "statemachine/infrastructure.yaml")
    parser.add_argument("--definition", type=Path, default=ROOT / "statemachine/pipeline.asl.json")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.scanners) - SCANNERS.keys():
        parser.error(f"there is no scanner {', '.join(sorted(unknown))}")
    chosen = arguments.scanners or list(SCANNERS)
    failed = False
    try:
        scanned = _scanned(arguments.template.resolve(), arguments.definition)
        with ThreadPoolExecutor(max_workers=2) as pool:
            for name, (findings, seconds) in zip(
                chosen, pool.map(lambda name: _timed(name, scanned), chosen), strict=True
            ):
                print(
                    "\n  ".join([f"{name:15} {_count(findings):12} {seconds:5.1f} s", *map(str, findings)]), flush=True
                )
                failed = failed or bool(findings)
    except KennelError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 1 if failed else 0


def _timed(name: str, scanned: Scanned) -> tuple[list[Finding], float]:
    started = time.monotonic()
    findings = sorted(excused(SCANNERS[name](scanned), scanned.exceptions.get(name, [])))
    return findings, time.monotonic() - started


def _count(findings: list[Finding]) -> str:
    return {0: "no findings", 1: "1 finding"}.get(len(findings), f"{len(findings)} findings")


def excused(findings: Iterable[Finding], exceptions: list[dict[str, str]]) -> list[Finding]:
    """The findings that no exception covers, and one more for each exception that covers none."""
    left, used = [], set()
    for finding in findings:
        covering = {number for number, exception in enumerate(exceptions) if _covers(exception, finding)}
        used |= covering
        if not covering:
            left.append(finding)
    return left + [
        Finding(where=each["owner"], rule=each["rule"], subject=each["subject"], text="excuses nothing: take it out")
        for number, each in enumerate(exceptions)
        if number not in used
    ]


def _covers(exception: Mapping[str, str], finding: Finding) -> bool:
    same = (exception["owner"], exception["rule"]) == (finding.where, finding.rule)
    return same and fnmatch.fnmatchcase(finding.subject, exception["subject"])


def _scanned(path: Path, definition: Path) -> Scanned:
    template = templates.read(path.read_text(encoding="utf-8"), where=str(path))
    return Scanned(
        path=path,
        template=template,
        document=example_values.with_examples(template),
        definition=json.dumps(json.loads(definition.read_text(encoding="utf-8"))),
        exceptions=tomllib.loads((ROOT / "statemachine/scan-exceptions.toml").read_text(encoding="utf-8")),
    )


def _answer(tool: str, *arguments: str | Path) -> Any:
    """The JSON that a tool of this environment writes; its exit status only repeats what is in it."""
    offline = {**os.environ, "CKV_SKIP_PACKAGE_UPDATE_CHECK": "true", "LOG_LEVEL": "ERROR"}
    done = subprocess.run([BIN / tool, *arguments], cwd=ROOT, env=offline, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)
    except ValueError as error:
        said = (done.stderr or done.stdout).strip()[-2000:]
        raise ScanFailed(f"{tool} ended with {done.returncode}: {said}", hint="`make clean` and try again.") from error


def _guard_rules() -> Iterator[Any]:
    files = importlib.metadata.files(GUARD_RULES) or ()
    [archive] = [file for file in files if file.suffix == ".tgz"]
    with tarfile.open(str(archive.locate())) as members:
        for member in members:
            content = members.extractfile(member) if member.name.endswith(".guard") else None
            if content:
                yield validation.ExternalRuleSource(name=member.name, content=content.read().decode())


def _subjects(detail: Any) -> list[str]:
    """What a finding is about: an action of each of its details, else the detail itself."""
    details = detail if isinstance(detail, list) else [detail]
    return [str(each.get("action", each)) if isinstance(each, dict) else str(each) for each in details]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
