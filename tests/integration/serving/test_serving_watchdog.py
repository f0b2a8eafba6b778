"""The watchdog with real processes that misbehave as multi-model-server's workers do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kennel.serving import watchdog

# A child that ignores SIGTERM, leaves its group, and is orphaned at once: the worst that workers do.
STUBBORN = """
import os, signal, sys, time
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(sys.argv[1] + "/orphan", "w").write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
open(sys.argv[1] + "/child.tmp", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + "/child.tmp", sys.argv[1] + "/child")
time.sleep(float(sys.argv[2]))
sys.exit(7)
"""


def start(pids: Path, seconds: float, owned: Path) -> subprocess.Popen:
    pids.mkdir()
    owned.mkdir()
    command = [sys.executable, "-I", "-S", watchdog.__file__, str(owned), sys.executable, "-c", STUBBORN, str(pids)]
    process = subprocess.Popen([*command, str(seconds)], stdin=subprocess.PIPE, start_new_session=True)
    until(lambda: all((pids / name).exists() and (pids / name).read_text() for name in ("child", "orphan")))
    return process


def until(condition, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pid(pids: Path, name: str) -> int:
    return int((pids / name).read_text())


def test_when_its_parent_is_gone_everything_below_ends_and_the_directory_goes(tmp_path):
    process = start(tmp_path / "pids", 600, tmp_path / "owned")
    process.stdin.close()
    assert process.wait(10) == 0
    assert not alive(pid(tmp_path / "pids", "child"))
    assert not alive(pid(tmp_path / "pids", "orphan"))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_ends_everything(tmp_path, number):
    process = start(tmp_path / "pids", 600, tmp_path / "owned")
    process.send_signal(number)
    assert process.wait(10) == 0
    assert not alive(pid(tmp_path / "pids", "orphan"))
    process.stdin.close()


def test_when_the_command_ends_its_orphans_end_and_its_status_is_ours(tmp_path):
    process = start(tmp_path / "pids", 0.2, tmp_path / "owned")
    assert process.wait(10) == 7
    assert not alive(pid(tmp_path / "pids", "orphan"))
    process.stdin.close()


def test_a_command_that_is_killed_gives_the_shells_status(tmp_path):
    process = start(tmp_path / "pids", 600, tmp_path / "owned")
    os.kill(pid(tmp_path / "pids", "child"), signal.SIGKILL)
    assert process.wait(10) == 128 + 9
    process.stdin.close()


def test_when_the_watchdog_itself_is_killed_the_command_dies_with_it(tmp_path):
    process = start(tmp_path / "pids", 600, tmp_path / "owned")
    process.kill()
    process.wait(10)
    until(lambda: not alive(pid(tmp_path / "pids", "child")))
    process.stdin.close()
    os.kill(pid(tmp_path / "pids", "orphan"), signal.SIGKILL)


def test_a_command_that_does_not_exist_is_said(tmp_path):
    (tmp_path / "owned").mkdir()
    done = subprocess.run(
        [sys.executable, "-I", "-S", watchdog.__file__, str(tmp_path / "owned"), "no-such-command"],
        check=False,
        stdin=subprocess.PIPE,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert "no-such-command" in done.stderr
    assert not (tmp_path / "owned").exists()
