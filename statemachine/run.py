"""The command line: run the pipeline, look at it, take it down.

The only place that knows both the pipeline, which drives an AWS, and the local AWS, which is one. What is heavy
is imported where it is needed: --help and a wrong argument must not wait for it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from kennel import config as configuration
from kennel import tree
from kennel.config import Config
from kennel.errors import InvalidArguments, KennelError, PipelineFailed
from kennel.local import launcher

ROOT = Path(__file__).resolve().parent.parent
INTERRUPTED = 130


@dataclasses.dataclass(frozen=True, kw_only=True)
class Home:
    """The folder in which everything that is kept lies."""

    path: Path

    @property
    def runs(self) -> Path:
        """Results, a folder per execution."""
        return self.path / "runs"

    @property
    def state_dir(self) -> Path:
        """What the local AWS works in."""
        return self.path / "local"

    @property
    def sample(self) -> Path:
        """The generated data."""
        return self.path / "sample"


def main(argv: list[str]) -> int:
    """Do what the arguments say; return the exit status."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=arguments.json)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _VERBS[arguments.verb](arguments, console)
    except KennelError as error:
        complaints = Console(stderr=True)
        complaints.print("[bold red]error:[/]", end=" ")
        complaints.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        console.print("Interrupted. Go on with the same command: data and earlier results are kept.")
        return INTERRUPTED


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Tune, train, deploy, scale, wire, test."""
    config, home = _config(arguments), Home(path=arguments.home.resolve())
    _writable(home.runs)
    with _alone(home):
        config = _with_data(config, home, console)
        runtime = _runtime(config, home, arguments)
        if runtime == "docker":
            config = _with_built_images(config, console)
        with _aws(config, home, arguments, console) as used:
            from kennel.pipeline import execution, shipping  # noqa: PLC0415

            aws = execution.client(config, used.endpoint_url)
            if runtime is None:
                config = shipping.with_pinned(aws, config, root=ROOT)
            result, folder = execution.run(config, aws, root=ROOT, runs=home.runs, console=console, now=datetime.now)
            _show(result, folder, arguments, console)
            if used.stays:
                _say_what_stays(console, config, used, result)
    return _status_of(result)


def status(arguments: argparse.Namespace, console: Console) -> int:
    """Say what runs, or what ran last."""
    config, home = _config(arguments), Home(path=arguments.home.resolve())
    results = [(json.loads(path.read_text()), path.parent) for path in home.runs.glob("*/result.json")]
    last, folder = max(results, key=lambda found: str(found[0]["started"]), default=(None, home.runs))
    endpoint_url = config.aws.endpoint_url
    if endpoint_url == "local":
        found = launcher.find(home.state_dir)
        endpoint_url = found.endpoint_url if found else ""
    live: dict[str, Any] = {}
    if endpoint_url or config.aws.endpoint_url != "local":
        from kennel.pipeline import execution  # noqa: PLC0415
        from kennel.pipeline import live as live_status  # noqa: PLC0415

        live = execution.called(lambda: live_status.read(execution.client(config, endpoint_url), name=config.name))
    if arguments.json:
        print(json.dumps({"endpoint_url": endpoint_url or None, **live, "last_result": last}, indent=2, default=str))
        return 0
    console.print(f"AWS: {endpoint_url or ('no local AWS is up' if config.aws.endpoint_url == 'local' else 'AWS')}")
    for item in live.get("executions", []):
        console.print(f"  {item['name']}  {item['status']}", highlight=False)
    if endpoint := live.get("endpoint"):
        console.print(f"  endpoint {endpoint['name']}  {endpoint['status']}", highlight=False)
    if last is None:
        console.print("Nothing has run here yet: `make run` starts it.")
    else:
        from kennel.pipeline import display  # noqa: PLC0415

        console.print(display.summary(last, folder=_shown(folder)))
    return 0


def down(arguments: argparse.Namespace, console: Console) -> int:
    """End the local AWS; elsewhere, remove what costs money by the hour."""
    config, home = _config(arguments), Home(path=arguments.home.resolve())
    if config.aws.endpoint_url == "local":
        if found := launcher.find(home.state_dir):
            with console.status(f"Ending the local AWS at {found.endpoint_url}"):
                found.stop()
            console.print(f"The local AWS at {found.endpoint_url} has ended.", highlight=False)
            console.print(f"Results stay in {_shown(home.runs)}.", highlight=False, soft_wrap=True)
        else:
            console.print("No local AWS is up: there is nothing to end.")
        return 0
    from kennel.pipeline import execution, resources  # noqa: PLC0415

    aws = execution.client(config, config.aws.endpoint_url)
    execution.called(lambda: resources.remove_what_costs(aws, name=config.name, say=console.print))
    return 0


def images(arguments: argparse.Namespace, console: Console) -> int:
    """Build the images of this source."""
    config = _config(arguments)
    with _engine() as engine:
        from kennel.pipeline import shipping  # noqa: PLC0415

        built = shipping.build_all(engine, config, root=ROOT, settings=_build_settings(), console=console)
    if arguments.json:
        listed = [
            {"part": one.image.part, "image": str(one.image), "id": one.id, "bytes": one.bytes, "seconds": one.seconds}
            for one in built
        ]
        print(json.dumps({"images": listed}, indent=2))
    return 0


def push(arguments: argparse.Namespace, console: Console) -> int:
    """Bring the images of this source to the registry, built if need be; what is there already stays as it is."""
    config, home = _config(arguments), Home(path=arguments.home.resolve())
    _writable(home.path)
    with _engine() as engine, _alone(home), _aws(config, home, arguments, console) as used:
        from kennel.pipeline import execution, shipping  # noqa: PLC0415

        pushed = shipping.push_all(
            execution.client(config, used.endpoint_url),
            engine,
            config,
            root=ROOT,
            settings=_build_settings(),
            hadolint=Path(sys.executable).with_name("hadolint"),
            console=console,
        )
    if arguments.json:
        listed = [
            {
                "part": one.image.part,
                "image": one.pinned,
                "tag": one.image.tag,
                "digest": one.digest,
                "bytes_sent": one.sent,
            }
            for one in pushed
        ]
        print(json.dumps({"images": listed}, indent=2))
    return 0


def rollout(arguments: argparse.Namespace, console: Console) -> int:
    """Give the endpoint another image or another model; train nothing."""
    config, home = _config(arguments), Home(path=arguments.home.resolve())
    _writable(home.runs)
    if config.aws.endpoint_url == "local" and launcher.find(home.state_dir) is None:
        raise InvalidArguments(
            "no local AWS is up, and so no endpoint",
            where=str(home.path),
            hint='`make run ARGS="--keep"` leaves both up.',
        )
    _runtime(config, home, arguments)  # refuses a --runtime that the AWS does not have
    with _alone(home), _aws(config, home, arguments, console) as used:
        from kennel.pipeline import execution, resources  # noqa: PLC0415
        from kennel.pipeline import images as sources  # noqa: PLC0415
        from kennel.pipeline import rollout as rollouts  # noqa: PLC0415

        aws = execution.client(config, used.endpoint_url)
        now = execution.called(lambda: rollouts.current(aws, config.name))
        wanted = execution.called(
            lambda: rollouts.wanted(
                aws,
                now,
                image=arguments.image or "",
                model=arguments.model or "",
                serving=config.images.serving,
                serving_tag=sources.tags(config, ROOT).get("serving", ""),
                names=resources.Names(name=config.name, account=aws.account, region=aws.region),
                runs=home.runs,
            )
        )
        if wanted == now:
            _say(console, f"The endpoint {config.name} serves that already: nothing to roll out.")
            _say(console, f"  image {now.image}\n  model {now.model}")
            if arguments.json:
                print(json.dumps({"status": "UNCHANGED", "image": now.image, "model": now.model}, indent=2))
            return 0
        result, folder = execution.roll_out(
            config, aws, wanted, now_serving=now, root=ROOT, runs=home.runs, console=console, now=datetime.now
        )
        _show(result, folder, arguments, console)
    return _status_of(result)


# --- the steps of a run ---------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Used:
    """The AWS of a run. `stays`: it is there when the run is over."""

    endpoint_url: str
    local: launcher.LocalAwsProcess | None
    stays: bool


def _runtime(config: Config, home: Home, arguments: argparse.Namespace) -> str | None:
    """What jobs and instances are in the local AWS that will be used; None where AWS is not a local one."""
    if config.aws.endpoint_url != "local":
        if arguments.runtime:
            raise InvalidArguments(
                "only the local AWS that is started here has a runtime to choose",
                where=f"--runtime {arguments.runtime}",
                hint=f"Leave it out: the endpoint is {config.aws.endpoint_url or 'AWS'}.",
            )
        return launcher.runtime_at(config.aws.endpoint_url)
    if local := launcher.find(home.state_dir):
        if arguments.runtime and local.runtime != arguments.runtime:
            raise InvalidArguments(
                f"a local AWS is up already at {local.endpoint_url}, and its runtime is {local.runtime}",
                where=f"--runtime {arguments.runtime}",
                hint="Leave --runtime out to use that one, or end it first: `make down`.",
            )
        return local.runtime
    return config.aws.runtime


@contextlib.contextmanager
def _aws(config: Config, home: Home, arguments: argparse.Namespace, console: Console) -> Iterator[_Used]:
    """The AWS to use; a local one that we started ends with us, unless it is to be kept."""
    if config.aws.endpoint_url != "local":
        yield _Used(endpoint_url=config.aws.endpoint_url, local=None, stays=True)
        return
    if local := launcher.find(home.state_dir):
        if arguments.port and not local.endpoint_url.endswith(f":{arguments.port}"):
            raise InvalidArguments(
                f"a local AWS is up already at {local.endpoint_url}",
                where=f"--port {arguments.port}",
                hint="Leave --port out to use that one, or end it first: `make down`.",
            )
        console.print(f"Using the local AWS that is up at {local.endpoint_url}", highlight=False)
        yield _Used(endpoint_url=local.endpoint_url, local=local, stays=True)
        return
    with console.status("Starting the local AWS"):
        local = launcher.start(
            home.state_dir,
            region=config.region,
            port=arguments.port,
            outlive_us=arguments.keep,
            runtime=config.aws.runtime,
        )
    done = False
    try:
        yield _Used(endpoint_url=local.endpoint_url, local=local, stays=arguments.keep)
        done = True
    finally:
        if not (arguments.keep and done):
            with console.status("Ending the local AWS and every process it started"):
                local.stop()


@contextlib.contextmanager
def _alone(home: Home) -> Iterator[None]:
    """Refuse to run twice at once in one home: they would end each other's local AWS."""
    with (home.path / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidArguments(
                "another run is under way here",
                where=str(home.path),
                hint="Wait for it, stop it with Ctrl-C, or keep the results of this one elsewhere: --home DIR.",
            ) from None
        yield


def _with_data(config: Config, home: Home, console: Console) -> Config:
    """Make the sample if it is asked for; check a folder before anything starts."""
    source = config.data.source
    if source == "sample":
        from kennel import sample  # noqa: PLC0415

        with console.status("Drawing the sample data (generated pictures, not photographs)"):
            sample.generate(home.sample, seed=config.seed)
        source = str(home.sample)
    if not source.startswith("s3://"):
        tree.find(Path(source))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, source=source))


def _show(result: dict[str, Any], folder: Path, arguments: argparse.Namespace, console: Console) -> None:
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    from kennel.pipeline import display  # noqa: PLC0415

    console.print(display.summary(result, folder=_shown(folder)))


def _status_of(result: dict[str, Any]) -> int:
    return 0 if result["status"] == "SUCCEEDED" else PipelineFailed.exit_code


def _say_what_stays(console: Console, config: Config, used: _Used, result: dict[str, Any]) -> None:
    url = used.endpoint_url
    lines = [""]
    if used.local is not None:
        lines += [f"The local AWS stays up at {url}; `make down` ends it."]
    if result["endpoint"]:
        lines += ["Call the endpoint, or put a picture where the function finds it:"]
        if url:
            lines += [
                "  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local  # any will do",
                f"  export AWS_DEFAULT_REGION={config.region} AWS_ENDPOINT_URL={url}",
            ]
        lines += [
            f"  aws sagemaker describe-endpoint --endpoint-name {config.name}",
            f"  aws sagemaker-runtime invoke-endpoint --endpoint-name {config.name} \\",
            "      --content-type image/jpeg --body fileb://image.jpg answer.json",
            f"  aws s3 cp image.jpg s3://{result['bucket']}/uploads/",
            f"  aws s3 cp s3://{result['bucket']}/predictions/image.jpg.json -",
        ]
        for address in used.local.addresses().get(config.name, []) if used.local else []:
            lines.append("  curl -H 'Content-Type: image/jpeg' --data-binary @image.jpg \\")
            lines.append(f"      {address}/invocations")
    if len(lines) > 1:
        console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


# --- images -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _engine() -> Iterator[Any]:
    """The Docker engine, whose builds and pushes end with this block."""
    from kennel import engine as engines  # noqa: PLC0415

    with contextlib.closing(engines.connect()) as engine:
        yield engine


def _with_built_images(config: Config, console: Console) -> Config:
    """The images as this machine's engine has them."""
    with _engine() as engine:
        from kennel.pipeline import shipping  # noqa: PLC0415

        return shipping.with_built(engine, config, root=ROOT, settings=_build_settings(), console=console)


def _build_settings() -> dict[str, str]:
    """Package indexes of the user's own, as pip itself would find them."""
    return {name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if os.environ.get(name)}


# --- small things -----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description="Run the pipeline on one machine, or on AWS.")
    parser.add_argument(
        "verb",
        nargs="?",
        default="run",
        choices=tuple(_VERBS),
        help="run (default): tune, train, deploy, test; status: what runs; down: end it; images: build them; "
        "push: and bring them to ECR; rollout: give the endpoint another image or model",
    )
    parser.add_argument(
        "--config", type=Path, default=ROOT / "config" / "local.toml", help="default: config/local.toml"
    )
    parser.add_argument("--data", help="a folder or s3:// prefix with train/ valid/ test/ (default: data.source)")
    parser.add_argument("--endpoint-url", help="an AWS endpoint that runs already (default: aws.endpoint_url)")
    parser.add_argument("--port", type=int, default=0, help="of the local AWS; 0, the default, takes any free one")
    parser.add_argument(
        "--runtime",
        choices=("process", "docker"),
        help="what the local AWS runs jobs and instances in (default: aws.runtime)",
    )
    parser.add_argument(
        "--image",
        help="rollout: a tag or digest in the serving repository, or a whole reference (default: this source's)",
    )
    parser.add_argument(
        "--model", help="rollout: an s3:// URI, an earlier execution, or a model.tar.gz (default: the one that serves)"
    )
    parser.add_argument("--keep", action="store_true", help="leave the local AWS and the endpoint up")
    parser.add_argument(
        "--home", type=Path, default=ROOT / ".kennel", help="where results and the local AWS lie (default: .kennel)"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON, everything else on stderr")
    return parser


def _config(arguments: argparse.Namespace) -> Config:
    path: Path = arguments.config
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidArguments(
            f"cannot read the configuration: {why}",
            where=str(path),
            hint="Name a file with --config; config/local.toml is one.",
        ) from error
    config = configuration.parse(text, where=str(path))
    if arguments.data:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, source=arguments.data))
    if arguments.endpoint_url:
        if problem := configuration.endpoint_url_problem(arguments.endpoint_url):
            raise InvalidArguments(problem, where="--endpoint-url")
        aws = dataclasses.replace(config.aws, endpoint_url=arguments.endpoint_url)
        config = dataclasses.replace(config, aws=aws)
    if arguments.runtime:
        config = dataclasses.replace(config, aws=dataclasses.replace(config.aws, runtime=arguments.runtime))
    for option in ("image", "model"):
        if getattr(arguments, option) is not None and arguments.verb != "rollout":
            raise InvalidArguments("only rollout takes it", where=f"--{option}")
    return config


def _writable(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InvalidArguments(
            f"cannot write there: {error.strerror}", where=str(folder), hint="Results are kept there; mend its rights."
        ) from error
    return folder


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


_VERBS: dict[str, Callable[[argparse.Namespace, Console], int]] = {
    "run": run,
    "status": status,
    "down": down,
    "images": images,
    "push": push,
    "rollout": rollout,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
