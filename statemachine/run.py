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
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import arguments as command_line
from arguments import ROOT
from rich.console import Console

from kennel import tree
from kennel.config import Config
from kennel.errors import InvalidArguments, KennelError, PipelineFailed
from kennel.local import launcher

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
    arguments = command_line.parser().parse_args(argv)
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
    config, home = command_line.config(arguments), Home(path=arguments.home.resolve())
    _writable(home.runs)
    with _alone(home):
        config = _with_data(config, home, console)
        runtime = _runtime(config, home, arguments)
        _affordable(config, home, arguments, console)
        if runtime == "docker":
            config = _with_built_images(config, console)
        with _aws(config, home, arguments, console) as used:
            from kennel.pipeline import execution, shipping  # noqa: PLC0415

            aws = execution.client(config, used.endpoint_url)
            found = _deployed(config, aws, console)
            if runtime is None:
                config = shipping.with_pinned(aws, config, root=ROOT)
            result, folder = execution.run(config, aws, found, runs=home.runs, console=console, now=datetime.now)
            _show(result, folder, arguments, console)
            if used.stays:
                _say_what_stays(console, config, used, result)
    return _status_of(result)


def plan(arguments: argparse.Namespace, console: Console) -> int:
    """Say what would be made and what it would cost; make nothing."""
    config, home = command_line.config(arguments), Home(path=arguments.home.resolve())
    planned = _planned(config, home, arguments, console)
    if arguments.json:
        print(json.dumps(planned.as_json(), indent=2))
    planned.refuse_wrong()
    return 0


def deploy(arguments: argparse.Namespace, console: Console) -> int:
    """Make what an execution needs; a local AWS stays up, or it would be gone at once."""
    arguments.keep = True
    config, home = command_line.config(arguments), Home(path=arguments.home.resolve())
    _writable(home.path)
    with _alone(home):
        _runtime(config, home, arguments)  # refuses a --runtime that the AWS does not have
        _affordable(config, home, arguments, console)
        with _aws(config, home, arguments, console) as used:
            from kennel.pipeline import execution  # noqa: PLC0415

            aws = execution.client(config, used.endpoint_url)
            found = _deployed(config, aws, console, in_lines=not arguments.json)
            _say(console, f"Everything that an execution needs is there: {found.state_machine_arn}")
            if used.local:
                _say(console, f"The local AWS stays up at {used.endpoint_url}; `make down` ends it.")
    if arguments.json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
    return 0


def resume(arguments: argparse.Namespace, console: Console) -> int:
    """Go on where an execution failed."""
    config, home = command_line.config(arguments), Home(path=arguments.home.resolve())
    _writable(home.runs)
    _must_be_up(config, home, "nothing could have failed in it")
    _runtime(config, home, arguments)
    with _alone(home), _aws(config, home, arguments, console) as used:
        from kennel.pipeline import execution, resources  # noqa: PLC0415
        from kennel.pipeline import resume as resuming  # noqa: PLC0415

        aws = execution.client(config, used.endpoint_url)
        names = execution.called(lambda: resources.Names(name=config.name, account=aws.account, region=aws.region))
        failed, asked = execution.called(lambda: resuming.asked(aws, names, arguments.execution or ""))
        _affordable(config, home, arguments, console)
        found = _deployed(config, aws, console)
        _say(console, f"Going on where {failed} failed")
        result, folder = execution.resume(config, aws, found, asked, runs=home.runs, console=console, now=datetime.now)
        _show(result, folder, arguments, console)
    return _status_of(result)


def train_on_ec2(arguments: argparse.Namespace, console: Console) -> int:
    """Train on one instance of EC2, and keep what it leaves."""
    config, home = command_line.config(arguments), Home(path=arguments.home.resolve())
    _writable(home.runs)
    with _alone(home):
        config = _with_data(config, home, console)
        runtime = _runtime(config, home, arguments)
        from kennel.pipeline import ec2_request, planning  # noqa: PLC0415

        cost = planning.ec2_cost(config, root=ROOT, minutes=ec2_request.MINUTES_AROUND)
        _say(console, cost.text)
        if arguments.max_cost is not None:
            cost.refuse_above(arguments.max_cost)
        _agreed(config, arguments, "Go on?")
        if runtime == "docker":
            config = _with_built_images(config, console)
        with _aws(config, home, arguments, console) as used:
            from kennel.pipeline import display, ec2_training, execution, shipping  # noqa: PLC0415

            aws = execution.client(config, used.endpoint_url)
            found = _deployed(config, aws, console)
            if runtime is None:
                config = shipping.with_pinned(aws, config, root=ROOT)
            data_uri, pretrained_uri = execution.uploaded(config, aws, found, console)
            name = f"{execution.new_name(config, datetime.now)}-ec2-train"
            job = ec2_request.job_of(config, found, name=name, data_uri=data_uri, pretrained_uri=pretrained_uri)
            shown = display.Display(console, now=datetime.now)
            folder = home.runs / name
            folder.mkdir(parents=True, exist_ok=True)
            with shown.live():
                result = execution.called(
                    lambda: ec2_training.run(
                        aws,
                        job,
                        script=(ROOT / ec2_request.SCRIPT).read_text(encoding="utf-8"),
                        folder=folder,
                        show=shown.show,
                        say=lambda what: _say(console, what),
                        sleep=time.sleep,
                        clock=time.monotonic,
                    )
                )
    _say(console, f"{result.status} in {result.seconds:.0f} s {result.reason}".rstrip())
    if result.model:
        _say(console, f"Model {result.model}")
    _say(console, f"Results: {_shown(folder)}")
    if arguments.json:
        print(json.dumps(dataclasses.asdict(result), indent=2, default=str))
    return 0 if result.status == "Completed" else PipelineFailed.exit_code


def status(arguments: argparse.Namespace, console: Console) -> int:
    """Say what runs, or what ran last."""
    config, home = command_line.config(arguments), Home(path=arguments.home.resolve())
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
    for what, link in live.get("console", {}).items():
        _say(console, f"  {what}: {link}")
    if last is None:
        console.print("Nothing has run here yet: `make run` starts it.")
    else:
        from kennel.pipeline import display  # noqa: PLC0415

        console.print(display.summary(last, folder=_shown(folder)))
    return 0


def down(arguments: argparse.Namespace, console: Console) -> int:
    """Take everything down, data and models included; then the local AWS itself, if it is ours."""
    config, home = command_line.config(arguments), Home(path=arguments.home.resolve())
    _writable(home.path)
    local = launcher.find(home.state_dir) if config.aws.endpoint_url == "local" else None
    if config.aws.endpoint_url == "local" and local is None:
        console.print("No local AWS is up: there is nothing to take down.")
        return 0
    with _alone(home):
        from kennel.pipeline import execution, resources, stack_display, teardown  # noqa: PLC0415
        from kennel.pipeline.stack import Stack  # noqa: PLC0415

        aws = execution.client(config, local.endpoint_url if local else config.aws.endpoint_url)
        names = execution.called(lambda: resources.Names(name=config.name, account=aws.account, region=aws.region))
        _agreed(config, arguments, f"Delete {config.name} in {names.account}, its data and models included?")
        with stack_display.progress(console, in_lines=local is None, doing="Taking down") as (say, told):
            stack = Stack(aws=aws, name=config.name, new_id=_new_id, told=told)

            def said(what: str) -> None:
                say(what)
                if local is None:
                    _say(console, f"  removed: {what}")

            execution.called(lambda: teardown.remove(aws, stack, names, say=said))
        remains = execution.called(lambda: teardown.what_remains(aws, names))
        if local:
            with console.status(f"Ending the local AWS at {local.endpoint_url}"):
                local.stop()
            console.print(f"The local AWS at {local.endpoint_url} has ended.", highlight=False)
            console.print(f"Results stay in {_shown(home.runs)}.", highlight=False, soft_wrap=True)
        else:
            _say(console, "Everything is taken down." if not remains else "Everything is taken down, but for:")
            for what in remains:
                _say(console, f"  {what}")
    return 0


def images(arguments: argparse.Namespace, console: Console) -> int:
    """Build the images of this source."""
    config = command_line.config(arguments)
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
    config, home = command_line.config(arguments), Home(path=arguments.home.resolve())
    _writable(home.path)
    with _engine() as engine, _alone(home):
        _affordable(config, home, arguments, console)
        with _aws(config, home, arguments, console) as used:
            pushed = _pushed(config, engine, used, console)
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


def _pushed(config: Config, engine: Any, used: _Used, console: Console) -> Any:
    """The images of this source in their repositories, which are the stack's."""
    from kennel.pipeline import execution, shipping  # noqa: PLC0415

    aws = execution.client(config, used.endpoint_url)
    _deployed(config, aws, console)
    return shipping.push_all(
        aws,
        engine,
        config,
        root=ROOT,
        settings=_build_settings(),
        hadolint=Path(sys.executable).with_name("hadolint"),
        console=console,
    )


def rollout(arguments: argparse.Namespace, console: Console) -> int:
    """Give the endpoint another image or another model; train nothing."""
    config, home = command_line.config(arguments), Home(path=arguments.home.resolve())
    _writable(home.runs)
    _must_be_up(config, home, "and so no endpoint")
    _runtime(config, home, arguments)  # refuses a --runtime that the AWS does not have
    with _alone(home), _aws(config, home, arguments, console) as used:
        from kennel.pipeline import execution, resources  # noqa: PLC0415
        from kennel.pipeline import images as sources  # noqa: PLC0415
        from kennel.pipeline import rollout as rollouts  # noqa: PLC0415

        aws = execution.client(config, used.endpoint_url)
        names = execution.called(lambda: resources.Names(name=config.name, account=aws.account, region=aws.region))
        with console.status(f"Looking at the endpoint {config.name}"):
            now = execution.called(lambda: rollouts.current(aws, config.name, sleep=time.sleep))
        wanted = execution.called(
            lambda: rollouts.wanted(
                aws,
                now,
                image=arguments.image or "",
                model=arguments.model or "",
                serving=config.images.serving,
                serving_tag=sources.tags(config, ROOT).get("serving", ""),
                names=names,
                runs=home.runs,
            )
        )
        if wanted == now and execution.called(lambda: rollouts.is_recorded(aws, names, now)):
            _say(console, f"The endpoint {config.name} serves that already: nothing to roll out.")
            _say(console, f"  image {now.image}\n  model {now.model}")
            if arguments.json:
                print(json.dumps({"status": "UNCHANGED", "image": now.image, "model": now.model}, indent=2))
            return 0
        _affordable(config, home, arguments, console)
        # what serves now may still be pulled: until the new instances answer, and if they never do
        found = _deployed(config, aws, console, images=(now.image, wanted.image))
        result, folder = execution.roll_out(
            config, aws, found, wanted, runs=home.runs, console=console, now=datetime.now
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


def _deployed(
    config: Config, aws: Any, console: Console, *, images: tuple[str, ...] = (), in_lines: bool | None = None
) -> Any:
    """What the stack made, once it is as this source says."""
    from kennel.pipeline import execution  # noqa: PLC0415

    lines = config.aws.endpoint_url == "" if in_lines is None else in_lines
    return execution.deploy(config, aws, root=ROOT, console=console, new_id=_new_id, images=images, in_lines=lines)


def _planned(config: Config, home: Home, arguments: argparse.Namespace, console: Console) -> Any:
    """The plan, shown. Raises InvalidArguments if it may cost more than is allowed."""
    from kennel.pipeline import planning  # noqa: PLC0415

    endpoint_url: str | None = config.aws.endpoint_url
    if endpoint_url == "local":
        found = launcher.find(home.state_dir)
        endpoint_url = found.endpoint_url if found else None
    planned = planning.plan(config, endpoint_url, root=ROOT, new_id=_new_id)
    if not arguments.json:
        console.print(planned)
    if arguments.max_cost is not None:
        planned.refuse_above(arguments.max_cost)
    return planned


def _affordable(config: Config, home: Home, arguments: argparse.Namespace, console: Console) -> None:
    """On AWS, show the plan and ask: nothing that costs begins before. Raises InvalidArguments if it is not to."""
    if config.aws.endpoint_url and arguments.max_cost is None:
        return
    _planned(config, home, arguments, console).refuse_wrong()
    _agreed(config, arguments, "Go on?")


def _agreed(config: Config, arguments: argparse.Namespace, question: str) -> None:
    """Raises InvalidArguments unless a person at a terminal agrees, or it is not AWS, or `--yes` was given."""
    if config.aws.endpoint_url or arguments.yes:
        return
    if not sys.stdin.isatty():
        raise InvalidArguments("nobody is there to be asked", where="standard input", hint="--yes agrees beforehand.")
    if input(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
        raise InvalidArguments("it was not agreed to, and nothing was begun")


def _must_be_up(config: Config, home: Home, why: str) -> None:
    if config.aws.endpoint_url == "local" and launcher.find(home.state_dir) is None:
        raise InvalidArguments(
            f"no local AWS is up, {why}",
            where=str(home.path),
            hint='`make run ARGS="--keep"` leaves one up.',
        )


def _new_id() -> str:
    return uuid.uuid4().hex[:8]


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
    "plan": plan,
    "deploy": deploy,
    "images": images,
    "push": push,
    "rollout": rollout,
    "resume": resume,
    "train-on-ec2": train_on_ec2,
    "status": status,
    "down": down,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
