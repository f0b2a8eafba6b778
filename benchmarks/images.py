"""Measures the two images: sizes, build times cold and after a change of code, seconds to a container's first answer.

    make bench-images     # needs a Docker engine; writes benchmarks/images.md and images.json

With a registry on 127.0.0.1:5000 it also reports what a push sends. Nothing is left on the engine but the build cache.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import docker

from kennel import config, engine
from kennel.local.runtimes.process import ProcessRuntime
from kennel.pipeline import images

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path.append(str(ROOT / "tests"))

from serving_artefacts import RED, write_artefact  # noqa: E402  (a small artefact, made as the tests make theirs)

BASE = "python:3.11-slim-bookworm"
REGISTRY = "127.0.0.1:5000"
AWS_CPU_INFERENCE_MB = 4900
"""AWS's own deep-learning container for inference on CPUs, unpacked."""

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@contextlib.contextmanager
def copied() -> Iterator[Path]:
    """A copy of what the images are built from."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("pyproject.toml", "constraints.txt", ".dockerignore"):
            shutil.copy(ROOT / name, root)
        for name in ("src", "containers"):
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        yield root


def cold_seconds(client: docker.DockerClient, root: Path, part: str) -> float:
    """How long a build without any cache takes."""
    tag, began = f"kennel-bench-{part}:cold", time.monotonic()
    dockerfile = f"containers/{part}/Dockerfile"
    for event in client.api.build(path=str(root), dockerfile=dockerfile, tag=tag, nocache=True, rm=True, decode=True):
        if "error" in event:
            raise SystemExit(event["error"])
    took = time.monotonic() - began
    client.images.remove(tag)
    return took


def builds(client: docker.DockerClient, part: str, *, cold_runs: int, runs: int) -> dict[str, list[float]]:
    """Build times in seconds: as `run.py images` builds, but for the cold ones."""

    def build(root: Path) -> float:
        began = time.monotonic()
        image = images.Image(part=part, name=f"kennel-bench-{part}", revision=images.revision(root, part))
        images.build(client, image, root=root, say=lambda _: None)
        return time.monotonic() - began

    with copied() as root:
        cold = [cold_seconds(client, root, part) for _ in range(cold_runs)]
        changed, unchanged = [], []
        for number in range(runs):
            with (root / "src/kennel/contract.py").open("a") as file:
                file.write(f"# change {number} of {os.getpid()}\n")
            changed.append(build(root))
            unchanged.append(build(root))
    for image in client.images.list(f"kennel-bench-{part}"):
        for tag in image.tags:
            client.images.remove(tag)
    return {"cold": cold, "after a change of code": changed, "unchanged": unchanged}


def pushed(client: docker.DockerClient, built: images.Built, part: str) -> list[int] | None:
    """Compressed bytes of the layers in a registry, the base's first; None where there is no registry."""
    name = f"kennel-bench-{part}"
    try:
        urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=2).close()  # nosec B310  # our own URL
    except OSError:
        return None
    client.api.tag(built.id, f"{REGISTRY}/{name}", "bench")
    for event in client.api.push(f"{REGISTRY}/{name}", tag="bench", stream=True, decode=True):
        if "error" in event:
            raise SystemExit(event["error"])
    client.images.remove(f"{REGISTRY}/{name}:bench")
    request = urllib.request.Request(f"http://{REGISTRY}/v2/{name}/manifests/bench", headers={"Accept": MANIFEST})
    with urllib.request.urlopen(request, timeout=10) as answer:  # nosec B310  # our own URL
        return [int(layer["size"]) for layer in json.loads(answer.read())["layers"]]


def seconds_to_answer(url: str, began: float) -> float:
    """Seconds from `began` until a picture has been classified."""
    request = urllib.request.Request(f"{url}/invocations", RED, {"Content-Type": "image/jpeg"})
    while time.monotonic() < began + 60:
        try:
            with urllib.request.urlopen(request, timeout=10):  # nosec B310  # our own URL
                return time.monotonic() - began
        except (urllib.error.URLError, OSError):
            time.sleep(0.02)
    raise SystemExit(f"{url} did not answer within 60 s")


def container_start(client: docker.DockerClient, image: str, model: Path) -> float:
    """From `docker run` of the serving image, as strict as can be, to its first answer."""
    began = time.monotonic()
    container = client.containers.run(
        image,
        ["serve"],
        detach=True,
        read_only=True,
        cap_drop=["ALL"],
        volumes={str(model): {"bind": "/opt/ml/model", "mode": "ro"}},
        ports={"8080/tcp": ("127.0.0.1", None)},
    )
    try:
        container.reload()
        return seconds_to_answer(f"http://127.0.0.1:{container.ports['8080/tcp'][0]['HostPort']}", began)
    finally:
        container.remove(force=True)


def process_start(folder: Path, model: Path) -> float:
    """The same `serve` as a process of this environment, for comparison."""
    runtime = ProcessRuntime(random=Random(), environment=dict(os.environ))
    began = time.monotonic()
    process, where = runtime.start_instance(
        endpoint="e",
        image="",
        instance_type="",
        isolated=True,
        model_dir=model,
        log=folder / "serve.log",
        environment={},
    )
    try:
        return seconds_to_answer(where(), began)
    finally:
        process.stop()


def starts(client: docker.DockerClient, image: str, runs: int) -> dict[str, list[float]]:
    """Seconds from start to first answer, container and process by turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)  # the image's user reads the model
        model = write_artefact(folder / "model")
        found: dict[str, list[float]] = {"container": [], "process": []}
        for _ in range(runs):
            found["container"].append(container_start(client, image, model))
            found["process"].append(process_start(folder, model))
    return found


def largest(client: docker.DockerClient, image: str) -> list[tuple[str, int]]:
    """The largest packages of an image, in kB."""
    listed = client.containers.run(image, ["sh", "-c", "du -sk /opt/venv/lib/python3*/site-packages/*"], remove=True)
    sizes = [line.split("\t") for line in listed.decode().splitlines()]
    return sorted(((Path(path).name, int(size)) for size, path in sizes), key=lambda item: -item[1])[:6]


def row(name: str, values: list[float]) -> str:
    """Median and range of some seconds."""
    return f"| {name} | {statistics.median(values):.1f} | {min(values):.1f} | {max(values):.1f} | {len(values)} |"


def report(found: dict[str, Any]) -> str:
    """The document."""
    base = found["base_mb"]
    lines = [
        "# The images",
        "",
        f"`make bench-images`. Machine: {found['machine']}, shared; engine {found['engine']}; load {found['load']:.1f}",
        f"The base is {BASE}, {base:.0f} MB on this machine"
        + (
            f", of which {found['wheels_mb']:.0f} MB are wheels that its builder left in it"
            if found["wheels_mb"]
            else ""
        )
        + "; the official one has about 130 MB.",
        "",
        "| image | above the base, MB | on 130 MB | goal | above the base, compressed | of which code |",
        "|---|---:|---:|---|---:|---:|",
    ]
    for part, item in found["images"].items():
        goal = "< 600" if part == "serving" else ""
        layers = item["compressed_mb"]
        sent = f"{sum(layers[1:]):.0f} | {layers[-1]:.1f}" if layers else "no registry | "
        lines.append(f"| {part} | {item['added_mb']:.0f} | {item['added_mb'] + 130:.0f} | {goal} | {sent} |")
    times = AWS_CPU_INFERENCE_MB / (found["images"]["serving"]["added_mb"] + 130)
    lines += [
        "",
        f"AWS's own image for inference on CPUs has {AWS_CPU_INFERENCE_MB} MB, {times:.0f} times the serving image.",
        "",
        "Largest in the serving image, MB: " + ", ".join(f"{n} {kb / 1000:.0f}" for n, kb in found["largest"]) + ".",
        "",
        "| build, seconds | median | lowest | highest | runs |",
        "|---|---:|---:|---:|---:|",
    ]
    for part, item in found["images"].items():
        lines += [row(f"{part}, {kind}", values) for kind, values in item["builds"].items()]
    lines += ["", "| start to first answer, seconds | median | lowest | highest | runs |", "|---|---:|---:|---:|---:|"]
    lines += [row(kind, values) for kind, values in found["starts"].items()]
    lines += [
        "",
        "Cold builds take their packages from an index and use no cache at all. The container is started with a",
        "read-only root and no capabilities; the process is the same `serve` in this environment, by turns.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cold-runs", type=int, default=2, help="builds without a cache, each (default: 2)")
    parser.add_argument("--runs", type=int, default=5, help="of everything else (default: 5)")
    arguments = parser.parse_args()
    client = engine.connect()
    load = os.getloadavg()[0]
    chosen = config.parse((ROOT / "config/local.toml").read_text(), where="config/local.toml")
    built = {i.part: images.build(client, i, root=ROOT, say=print) for i in images.of(chosen, ROOT)}
    base = client.images.get(BASE).attrs["Size"] / 1e6
    wheels = client.containers.run(BASE, ["sh", "-c", "du -sk /wheels 2>/dev/null || true"], remove=True).split()
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "engine": client.version()["Version"],
        "load": load,
        "base_mb": base,
        "wheels_mb": int(wheels[0]) / 1e3 if wheels else 0,
        "starts": starts(client, built["serving"].id, arguments.runs),
        "largest": largest(client, built["serving"].id),
        "images": {},
    }
    for part, one in built.items():
        layers = pushed(client, one, part)
        found["images"][part] = {
            "added_mb": client.images.get(one.id).attrs["Size"] / 1e6 - base,
            "compressed_mb": [size / 1e6 for size in layers] if layers else None,
            "builds": builds(client, part, cold_runs=arguments.cold_runs, runs=arguments.runs),
        }
    (HERE / "images.json").write_text(json.dumps(found, indent=2) + "\n")
    (HERE / "images.md").write_text(report(found))
    print(report(found))


if __name__ == "__main__":
    main()
