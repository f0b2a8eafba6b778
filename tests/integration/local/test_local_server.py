"""The server as a whole: it leaves nothing running."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("closing.py")


def test_close_ends_jobs_trials_and_endpoints_in_whatever_state_they_are(tmp_path):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])},  # where the rig lies
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["before"] >= 12
    assert seen["left"] == []
    assert seen["seconds"] < 15
