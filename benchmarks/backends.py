"""Compares what could run model.onnx in the serving image: ONNX Runtime and OpenVINO, by size and by time per image.

    python benchmarks/backends.py     # writes benchmarks/backends.md; installs both into a folder of its own

Each is asked one image at a time, by turns in one process, so that a noisy machine is noisy for both.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
RUNTIMES = {"onnxruntime": "onnxruntime==1.32.0", "openvino": "openvino==2026.4.0"}
NETWORKS = (("resnet18", 224), ("resnet50", 224), ("mobilenet_v3_small", 224))
THREADS = (1, 2)
ROUNDS = 40


def installed_mb(requirement: str, folder: Path) -> float:
    """What a package and what only it needs take, without numpy, which serving has anyway."""
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, requirement], check=True, text=True
    )
    listed = subprocess.run(["du", "-sk", *folder.iterdir()], check=True, capture_output=True, text=True).stdout
    sizes = [line.split("\t") for line in listed.splitlines()]
    return sum(int(size) for size, path in sizes if not Path(path).name.startswith("numpy")) / 1e3


def model(backbone: str, side: int) -> bytes:
    """A network as training exports it; its weights do not matter here."""
    from kennel.training import backbones, export

    network = backbones.build(backbones.Backbone(backbone), classes=133, seed=1, pretrained=None).model
    return export.to_onnx(network.eval(), image_size=side)


def with_onnxruntime(onnx: bytes, threads: int) -> Callable[[object], object]:
    """Answers one image."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})


def with_openvino(onnx: bytes, threads: int) -> Callable[[object], object]:
    """Answers one image."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(onnx), "CPU", settings)
    return lambda image: compiled([image])


def main() -> None:
    """Measure and write."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folders = {runtime: Path(name) / runtime for runtime in RUNTIMES}
        sizes = {runtime: installed_mb(RUNTIMES[runtime], folders[runtime]) for runtime in RUNTIMES}
        sys.path.append(str(folders["openvino"]))
        import numpy as np

        rows = []
        for backbone, side in NETWORKS:
            onnx = model(backbone, side)
            image = np.random.default_rng(0).standard_normal((1, 3, side, side), dtype=np.float32)
            for threads in THREADS:
                answer = {"onnxruntime": with_onnxruntime(onnx, threads), "openvino": with_openvino(onnx, threads)}
                spent: dict[str, list[float]] = {runtime: [] for runtime in answer}
                for number in range(ROUNDS + 5):
                    for runtime, ask in answer.items():
                        began = time.perf_counter()
                        ask(image)
                        if number >= 5:
                            spent[runtime].append((time.perf_counter() - began) * 1e3)
                medians = {runtime: statistics.median(values) for runtime, values in spent.items()}
                ratio = statistics.median(a / b for a, b in zip(spent["onnxruntime"], spent["openvino"], strict=True))
                shown = " | ".join(f"{medians[runtime]:.1f}" for runtime in RUNTIMES)
                rows.append(f"| {backbone} {side}² | {threads} | {shown} | {ratio:.2f} |")
    lines = [
        "# ONNX Runtime or OpenVINO in the serving image",
        "",
        f"`python benchmarks/backends.py`. Machine: {platform.machine()}, {os.cpu_count()} cores, shared. float32, one",
        f"image at a time, by turns, {ROUNDS} rounds; medians in ms, and the median of the ratios of neighbours.",
        "",
        "| network | threads | ONNX Runtime | OpenVINO | ratio |",
        "|---|---:|---:|---:|---:|",
        *rows,
        "",
        f"Unpacked, with what only they need: {RUNTIMES['onnxruntime']} {sizes['onnxruntime']:.0f} MB, "
        f"{RUNTIMES['openvino']} {sizes['openvino']:.0f} MB.",
    ]
    (HERE / "backends.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
