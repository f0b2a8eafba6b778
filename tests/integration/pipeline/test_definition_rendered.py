"""The state machine as checked in is what its source renders; and nothing heavy is imported to say --help."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
AUTHORING = ROOT / ".venv-authoring" / "bin" / "python"


def test_checked_in_definition_is_what_its_source_renders(tmp_path):
    assert AUTHORING.exists(), "there is no authoring environment: `make definition` makes it"
    # to a file: the SDK says things on standard output
    script = "import pathlib, sys, definition; pathlib.Path(sys.argv[1]).write_text(definition.render())"
    environment = {"PYTHONPATH": str(ROOT / "statemachine"), "SAGEMAKER_SUPPRESS_V2_WARNING": "1"}
    rendered = subprocess.run(
        [AUTHORING, "-Bc", script, tmp_path / "rendered.json"],
        env=environment,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert rendered.returncode == 0, rendered.stderr.decode()
    checked_in = (ROOT / "statemachine" / "pipeline.asl.json").read_bytes()
    assert (tmp_path / "rendered.json").read_bytes() == checked_in, "`make definition` renders it again"


def test_help_imports_nothing_heavy():
    script = (
        "import runpy, sys\n"
        f"sys.path.insert(0, {str(ROOT / 'statemachine')!r})\n"  # as Python does for a script
        "sys.argv = ['run.py', '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'statemachine' / 'run.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "heavy = {'torch', 'moto', 'boto3', 'stepfunctions', 'sagemaker', 'PIL', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: run.py" in done.stdout
