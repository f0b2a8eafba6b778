"""Measures `make run` on the sample data: wall time, overhead of the state machine, memory, start of the local AWS.

    make bench            # three runs, writes benchmarks/pipeline.md and pipeline.json

Timings on shared machines are noisy: medians and ranges are reported, and the load average beside them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parent


def peak_memory(process: psutil.Process, stop: threading.Event, peak: list[int]) -> None:
    """Keep the largest sum of proportional set sizes of the whole process tree, in bytes, in `peak`."""
    while not stop.wait(0.5):
        total = 0
        for member in [process, *process.children(recursive=True)]:
            try:
                total += member.memory_full_info().pss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)


def one_run() -> dict[str, Any]:
    """Run the pipeline once, in a home of its own."""
    peak, stop = [0], threading.Event()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [sys.executable, "statemachine/run.py", "--json", "--home", home],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        watcher = threading.Thread(target=peak_memory, args=(psutil.Process(process.pid), stop, peak))
        watcher.start()
        printed, _ = process.communicate()
        wall = time.monotonic() - begun
        stop.set()
        watcher.join()
    result = json.loads(printed)
    assert result["status"] == "SUCCEEDED", result
    kinds = {
        name: state["Type"]
        for name, state in json.loads((ROOT / "statemachine/pipeline.asl.json").read_text())["States"].items()
    }
    seconds: dict[str, float] = {}
    for state in result["states"]:
        took = datetime.fromisoformat(state["ended"]) - datetime.fromisoformat(state["started"])
        seconds[state["name"]] = seconds.get(state["name"], 0.0) + took.total_seconds()
    execution = (datetime.fromisoformat(result["ended"]) - datetime.fromisoformat(result["started"])).total_seconds()
    in_tasks = sum(took for name, took in seconds.items() if kinds[name] == "Task")
    waiting = sum(took for name, took in seconds.items() if kinds[name] == "Wait")
    return {
        "wall_seconds": wall,
        "execution_seconds": execution,
        "tune_seconds": seconds["TuneHyperparameters"],
        "train_seconds": seconds["TrainModel"],
        "waiting_for_endpoint_seconds": waiting,
        "overhead_percent": 100 * (execution - in_tasks - waiting) / execution,
        "overhead_with_waiting_percent": 100 * (execution - in_tasks) / execution,
        "peak_memory_mib": peak[0] / 2**20,
        "test_accuracy": result["metrics"]["test:accuracy"],
    }


def first_answer() -> float:
    """Seconds from starting `python -m kennel.local` to its first answer."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "server.json"
        begun = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "kennel.local", "--port", "0", "--state-dir", folder], stdout=subprocess.DEVNULL
        )
        try:
            while not note.exists():
                time.sleep(0.01)
            with urlopen(f"{json.loads(note.read_text())['endpoint_url']}/_kennel") as answer:  # nosec B310  # our own URL
                answer.read()
            return time.monotonic() - begun
        finally:
            process.terminate()
            process.wait()


GOALS = {
    "wall_seconds": "< 180",
    "overhead_percent": "< 5",
    "peak_memory_mib": "< 6144",
    "test_accuracy": "≥ 0.90",
    "first_answer_seconds": "< 4",
}


def main() -> None:
    """Measure, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    load = os.getloadavg()[0]
    rows = [one_run() | {"first_answer_seconds": first_answer()} for _ in range(runs)]
    machine = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, load {load:.1f} before"
    )
    lines = [
        "# The pipeline on one machine",
        "",
        f"`make bench`, {runs} runs of `make run` on the sample data (4 trials, 2 at a time; 2 hosts; 1 instance).",
        f"Machine: {machine}, shared. Memory is the proportional set size of all processes together.",
        "",
        "| figure | median | lowest | highest | goal |",
        "|---|---:|---:|---:|---|",
    ]
    for name in rows[0]:
        values = [row[name] for row in rows]
        numbers = " | ".join(f"{value:.2f}" for value in (statistics.median(values), min(values), max(values)))
        lines.append(f"| {name} | {numbers} | {GOALS.get(name, '')} |")
    lines += [
        "",
        "`overhead_percent` is the execution's time outside Task and Wait states; with the Wait states, which poll for",
        "the endpoint, it is `overhead_with_waiting_percent`.",
    ]
    (HERE / "pipeline.md").write_text("\n".join(lines) + "\n")
    (HERE / "pipeline.json").write_text(json.dumps({"machine": machine, "runs": rows}, indent=2) + "\n")
    print((HERE / "pipeline.md").read_text())


if __name__ == "__main__":
    main()
