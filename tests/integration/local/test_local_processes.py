"""Processes that always end, with everything they started."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kennel.local.processes import Supervised
from waiting import gone, until

STUBBORN = """
import os, signal, sys, time
from pathlib import Path
folder = Path(sys.argv[1])
def forget_me(name):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            (folder / name).with_suffix(".tmp").write_text(str(os.getpid()))
            (folder / name).with_suffix(".tmp").rename(folder / name)
            time.sleep(300)
        os._exit(0)
forget_me("daemon1")
forget_me("daemon2")
(folder / "child").write_text(str(os.getpid()))
if "ignore" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
if "end" not in sys.argv:
    time.sleep(300)
while not ((folder / "daemon1").exists() and (folder / "daemon2").exists()): time.sleep(0.01)
"""


class Rig:
    def __init__(self, folder):
        self.folder = folder
        self.log = folder / "log"
        self.started = []

    def run(self, *argv, grace=5.0, **env):
        process = Supervised(argv, env={"PATH": os.defpath, **env}, cwd=self.folder, log=self.log, grace=grace)
        self.started.append(process)
        return process

    def stubborn(self, *options, **more):
        return self.run(sys.executable, "-IS", "-c", STUBBORN, str(self.folder), *options, **more)

    def pids(self):
        names = ("child", "daemon1", "daemon2")
        until(lambda: all((self.folder / name).exists() for name in names))
        return [int((self.folder / name).read_text()) for name in names]


@pytest.fixture
def rig(tmp_path):
    rig = Rig(tmp_path)
    yield rig
    for process in rig.started:
        process.stop()


@pytest.mark.parametrize(
    ("command", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)]
)
def test_the_exit_status_is_the_commands_own_or_128_and_the_signal(rig, command, status):
    process = rig.run("sh", "-c", command)
    assert process.wait(10) == status
    assert process.poll() == process.stop() == status


def test_output_is_appended_to_the_log(rig):
    rig.log.write_text("before\n")
    rig.run("sh", "-c", "echo out; echo error >&2").wait(10)
    assert rig.log.read_text() == "before\nout\nerror\n"


def test_a_missing_command_is_127_with_a_message(rig):
    assert rig.run("no-such-command").wait(10) == 127
    assert rig.log.read_text() == "cannot start no-such-command: No such file or directory\n"


def test_a_command_that_may_not_be_executed_is_126(rig):
    file = rig.folder / "plain.txt"
    file.touch()
    assert rig.run(str(file)).wait(10) == 126
    assert "Permission denied" in rig.log.read_text()


def test_a_missing_folder_leaves_no_pipe_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(FileNotFoundError):
        Supervised(["true"], env={}, cwd=tmp_path / "nowhere", log=tmp_path / "log")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("learn", [lambda process: process.wait(10), lambda process: process.poll() == 0])
def test_a_process_that_is_known_to_have_ended_leaves_no_pipe_open(rig, learn):
    before = len(list(Path("/proc/self/fd").iterdir()))
    process = rig.run("true")
    until(lambda: gone(process.pid))
    learn(process)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_the_command_starts_with_the_signals_of_a_fresh_process(rig):
    rig.run("grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status").wait(10)
    blocked_and_ignored = [int(line.split()[1], 16) for line in rig.log.read_text().splitlines()]
    # 1 to 31: what lies above is libc's own, and comes from whoever started the tests
    assert [mask & 0x7FFFFFFF for mask in blocked_and_ignored] == [0, 0]


def test_the_command_inherits_no_files_but_its_output(rig):
    rig.run("sh", "-c", "ls /proc/$$/fd").wait(10)
    assert rig.log.read_text().split() == ["0", "1", "2"]


def test_stop_ends_the_whole_tree_and_lets_the_command_end_by_itself(rig):
    process = rig.stubborn()
    pids = rig.pids()
    begun = time.monotonic()
    assert process.stop() == 143
    assert time.monotonic() - begun < 4
    assert all(gone(pid) for pid in pids)


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(rig):
    process = rig.stubborn("ignore", grace=0.5)
    pids = rig.pids()
    until(lambda: "ready" in rig.log.read_text())
    begun = time.monotonic()
    assert process.stop() == 137
    assert 0.4 < time.monotonic() - begun < 5
    assert all(gone(pid) for pid in pids)


def test_what_a_command_left_behind_ends_with_it(rig):
    process = rig.stubborn("end")
    assert process.wait(20) == 0
    assert all(gone(pid) for pid in rig.pids())


def test_a_sigterm_to_the_guard_stops_the_tree(rig):
    process = rig.stubborn()
    pids = rig.pids()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(10) == 143
    assert all(gone(pid) for pid in pids)


def test_the_tree_ends_when_its_starter_is_killed(rig):
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time; from pathlib import Path; from kennel.local.processes import Supervised\n"
            "folder = Path(sys.argv[1])\n"
            "command = [sys.executable, '-IS', '-c', sys.argv[2], str(folder)]\n"
            "Supervised(command, env={}, cwd=folder, log=folder / 'log', grace=1.0)\n"
            "time.sleep(300)",
            str(rig.folder),
            STUBBORN,
        ]
    )
    pids = rig.pids()
    starter.kill()
    starter.wait()
    until(lambda: all(gone(pid) for pid in pids))


def test_wait_gives_up_after_its_timeout(rig):
    with pytest.raises(TimeoutError, match="still runs"):
        rig.run("sleep", "60").wait(0.05)


def test_many_threads_may_ask_at_once_without_closing_each_others_files(rig):
    for _ in range(5):
        process = rig.run("true")
        threads = [threading.Thread(target=process.stop) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert process.poll() in (0, 143)
