"""The command line: plan the pipeline, run it, look at it, take it down; on this machine or on AWS.

With `session`, the only place that knows both the pipeline, which drives an AWS, and the local AWS, which is one. What
is heavy is imported where it is needed: --help and a wrong argument must not wait for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import arguments as command_line
import session as sessions
from arguments import ROOT
from rich.console import Console
from session import Session, Used

from kennel.errors import KennelError, PipelineFailed
from kennel.local import launcher

INTERRUPTED = 130


def main(argv: list[str]) -> int:
    """Do what the arguments say; return the exit status."""
    arguments = command_line.parser().parse_args(argv)
    console = Console(stderr=arguments.json)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _VERBS[arguments.verb](sessions.begin(arguments, console))
    except KennelError as error:
        complaints = Console(stderr=True)
        complaints.print("[bold red]error:[/]", end=" ")
        complaints.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        resumed = " `run.py resume` goes on where the execution stopped." if arguments.verb in ("run", "resume") else ""
        console.print(f"Interrupted. The same command may be given again.{resumed}")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read what we print has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def plan(session: Session) -> int:
    """Say what would be made and what it would cost; make nothing."""
    planned = session.planned()
    if session.arguments.json:
        print(json.dumps(planned.as_json(), indent=2))
    planned.refuse_wrong()
    if session.arguments.max_cost is not None:
        planned.refuse_above(session.arguments.max_cost)
    return 0


def deploy(session: Session) -> int:
    """Make what an execution needs; a local AWS stays up, or it would be gone at once."""
    sessions.writable(session.home.path)
    with session.alone():
        session.runtime()  # refuses a --runtime that the AWS does not have
        session.affordable("deployment")
        with session.aws(keep=True) as used:
            found = session.deployed(session.client(used.endpoint_url), in_lines=not session.arguments.json)
            session.say(f"Everything that an execution needs is there: {found.state_machine_arn}")
            if used.local:
                session.say(f"The local AWS stays up at {used.endpoint_url}; `make down` ends it.")
    if session.arguments.json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
    return 0


def run(session: Session) -> int:
    """Tune, train, deploy, scale, wire, test."""
    sessions.writable(session.home.runs)
    with session.alone():
        session = session.with_data()
        runtime = session.runtime()
        session.affordable()
        if runtime == "docker":
            session = session.with_built_images()
        with session.aws() as used:
            from kennel.pipeline import execution  # noqa: PLC0415

            aws = session.client(used.endpoint_url)
            found = session.deployed(aws)
            if runtime is None:
                session = session.with_pinned_images(aws)
            result, folder = execution.run(
                session.config, aws, found, runs=session.home.runs, console=session.console, now=datetime.now
            )
            _show(session, result, folder)
            if used.stays:
                _say_what_stays(session, used, result)
    return _status_of(result)


def resume(session: Session) -> int:
    """Go on where an execution failed."""
    sessions.writable(session.home.runs)
    session.must_be_up("nothing could have failed in it")
    session.runtime()
    with session.alone(), session.aws() as used:
        from kennel.pipeline import execution  # noqa: PLC0415
        from kennel.pipeline import resume as resuming  # noqa: PLC0415

        aws = session.client(used.endpoint_url)
        names, wanted = session.names(aws), session.arguments.execution or ""
        failed, asked = execution.called(lambda: resuming.asked(aws, names, wanted))
        session.affordable("run", asked)
        images = (
            asked["Model"]["Image"],
            asked.get("Training", {}).get("AlgorithmSpecification", {}).get("TrainingImage"),
        )
        found = session.deployed(aws, images=tuple(filter(None, images)))
        session.say(f"Going on where {failed} failed")
        result, folder = execution.resume(
            session.config, aws, found, asked, runs=session.home.runs, console=session.console, now=datetime.now
        )
        _show(session, result, folder)
    return _status_of(result)


def rollout(session: Session) -> int:
    """Give the endpoint another image or another model; train nothing."""
    config = session.config
    sessions.writable(session.home.runs)
    session.must_be_up("and so no endpoint")
    session.runtime()  # refuses a --runtime that the AWS does not have
    with session.alone(), session.aws() as used:
        from kennel.pipeline import execution  # noqa: PLC0415
        from kennel.pipeline import images as sources  # noqa: PLC0415
        from kennel.pipeline import rollout as rollouts  # noqa: PLC0415

        session.affordable("deployment")
        aws = session.client(used.endpoint_url)
        names = session.names(aws)
        with session.console.status(f"Looking at the endpoint {config.name}"):
            now = execution.called(lambda: rollouts.current(aws, config.name, sleep=time.sleep))
        wanted = execution.called(
            lambda: rollouts.wanted(
                aws,
                now,
                image=session.arguments.image or "",
                model=session.arguments.model or "",
                serving=config.images.serving,
                serving_tag=sources.tags(config, ROOT).get("serving", ""),
                names=names,
                runs=session.home.runs,
            )
        )
        if wanted == now and execution.called(lambda: rollouts.is_recorded(aws, names, now)):
            session.say(f"The endpoint {config.name} serves that already: nothing to roll out.")
            session.say(f"  image {now.image}\n  model {now.model}")
            if session.arguments.json:
                print(json.dumps({"status": "UNCHANGED", "image": now.image, "model": now.model}, indent=2))
            return 0
        # what serves now may still be pulled: until the new instances answer, and if they never do
        found = session.deployed(aws, images=(now.image, wanted.image))
        result, folder = execution.roll_out(
            config, aws, found, wanted, runs=session.home.runs, console=session.console, now=datetime.now
        )
        _show(session, result, folder)
    return _status_of(result)


def train_on_ec2(session: Session) -> int:
    """Train on one instance of EC2, and keep what it leaves."""
    sessions.writable(session.home.runs)
    with session.alone():
        session = session.with_data()
        runtime = session.runtime()
        session.affordable("ec2")
        if runtime == "docker":
            session = session.with_built_images()
        with session.aws() as used:
            from kennel.pipeline import ec2_request, ec2_training, execution  # noqa: PLC0415

            aws = session.client(used.endpoint_url)
            found = session.deployed(aws)
            if runtime is None:
                session = session.with_pinned_images(aws)
            data_uri, pretrained_uri = execution.uploaded(session.config, aws, found, session.console)
            name = f"{execution.new_name(session.config, datetime.now)}-ec2-train"
            job = ec2_request.job_of(session.config, found, name=name, data_uri=data_uri, pretrained_uri=pretrained_uri)
            script = (ROOT / ec2_request.SCRIPT).read_text(encoding="utf-8")
            result = ec2_training.follow(
                aws, job, script=script, folder=session.home.runs / name, console=session.console, now=datetime.now
            )
    session.say(f"{result.status} in {result.seconds:.0f} s {result.reason}".rstrip())
    if result.model:
        session.say(f"Model {result.model}")
    session.say(f"Results: {_shown(result.folder)}")
    if session.arguments.json:
        print(json.dumps(dataclasses.asdict(result), indent=2, default=str))
    return 0 if result.status == "Completed" else PipelineFailed.exit_code


def status(session: Session) -> int:
    """Say what runs, or what ran last."""
    config, console, runs = session.config, session.console, session.home.runs
    last, folder = max(_results(session), key=lambda found: str(found[0]["started"]), default=(None, runs))
    endpoint_url = config.aws.endpoint_url
    if endpoint_url == "local":
        found = launcher.find(session.home.state_dir)
        endpoint_url = found.endpoint_url if found else ""
    live: dict[str, Any] = {"executions": [], "endpoint": None, "console": {}}
    if endpoint_url or config.aws.endpoint_url != "local":
        from kennel.pipeline import execution  # noqa: PLC0415
        from kennel.pipeline import live as live_status  # noqa: PLC0415

        live = execution.called(lambda: live_status.read(session.client(endpoint_url), name=config.name))
    if session.arguments.json:
        print(json.dumps({"endpoint_url": endpoint_url or None, **live, "last_result": last}, indent=2, default=str))
        return 0
    console.print(f"AWS: {endpoint_url or ('no local AWS is up' if config.aws.endpoint_url == 'local' else 'AWS')}")
    for item in live["executions"]:
        console.print(f"  {item['name']}  {item['status']}", highlight=False)
    if endpoint := live["endpoint"]:
        console.print(f"  endpoint {endpoint['name']}  {endpoint['status']}", highlight=False)
    for what, link in live["console"].items():
        session.say(f"  {what}: {link}")
    if last is None:
        console.print("Nothing has run here yet: `make run` starts it.")
    else:
        from kennel.pipeline import display  # noqa: PLC0415

        console.print(display.summary(last, folder=_shown(folder)))
    return 0


def _results(session: Session) -> Iterator[tuple[dict[str, Any], Path]]:
    """Results that are kept, each with its folder."""
    for path in session.home.runs.glob("*/result.json"):
        try:
            yield json.loads(path.read_text()), path.parent
        except (OSError, ValueError) as error:
            session.say(f"{path} cannot be read: {error}")


def down(session: Session) -> int:
    """Take everything down, data and models included; then the local AWS itself, if it is ours."""
    config, console = session.config, session.console
    sessions.writable(session.home.path)
    local = launcher.find(session.home.state_dir) if config.aws.endpoint_url == "local" else None
    if config.aws.endpoint_url == "local" and local is None:
        console.print("No local AWS is up: there is nothing to take down.")
        return 0
    with session.alone():
        from kennel.pipeline import execution, stack_display, teardown  # noqa: PLC0415
        from kennel.pipeline.stack import Stack  # noqa: PLC0415

        aws = session.client(local.endpoint_url if local else config.aws.endpoint_url)
        names = session.names(aws)
        removed: list[str] = []
        session.agreed(f"Delete {config.name} in {names.account}, its data and models included?")
        with stack_display.progress(console, in_lines=local is None, doing="Taking down") as (say, told):
            stack = Stack(aws=aws, name=config.name, new_id=sessions.new_id, told=told, poll_seconds=aws.poll_seconds)

            def said(what: str) -> None:
                removed.append(what)
                say(what)
                if local is None:
                    session.say(f"  removed: {what}")

            execution.called(lambda: teardown.remove(aws, stack, names, say=said))
        remains = execution.called(lambda: teardown.what_remains(aws, names))
        if local:
            with console.status(f"Ending the local AWS at {local.endpoint_url}"):
                local.stop()
            console.print(f"The local AWS at {local.endpoint_url} has ended.", highlight=False)
            console.print(f"Results stay in {_shown(session.home.runs)}.", highlight=False, soft_wrap=True)
        else:
            session.say("Everything is taken down." if not remains else "Everything is taken down, but for:")
            for what in remains:
                session.say(f"  {what}")
    if session.arguments.json:
        print(json.dumps({"removed": removed, "remains": remains}, indent=2))
    return 0


def images(session: Session) -> int:
    """Build the images of this source."""
    with sessions.docker_engine() as engine:
        from kennel.pipeline import shipping  # noqa: PLC0415

        settings = sessions.build_settings()
        built = shipping.build_all(engine, session.config, root=ROOT, settings=settings, console=session.console)
    if session.arguments.json:
        listed = [
            {"part": one.image.part, "image": str(one.image), "id": one.id, "bytes": one.bytes, "seconds": one.seconds}
            for one in built
        ]
        print(json.dumps({"images": listed}, indent=2))
    return 0


def push(session: Session) -> int:
    """Bring the images of this source to the registry, built if need be; what is there already stays as it is."""
    sessions.writable(session.home.path)
    with sessions.docker_engine() as engine, session.alone():
        session.affordable("deployment")
        with session.aws() as used:
            from kennel.pipeline import shipping  # noqa: PLC0415

            aws = session.client(used.endpoint_url)
            session.deployed(aws)  # the repositories are the stack's
            pushed = shipping.push_all(
                aws,
                engine,
                session.config,
                root=ROOT,
                settings=sessions.build_settings(),
                hadolint=Path(sys.executable).with_name("hadolint"),
                console=session.console,
            )
    if session.arguments.json:
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


# --- what verbs have in common ----------------------------------------------------------------------


def _show(session: Session, result: dict[str, Any], folder: Path) -> None:
    if session.arguments.json:
        print(json.dumps(result, indent=2))
        return
    from kennel.pipeline import display  # noqa: PLC0415

    session.console.print(display.summary(result, folder=_shown(folder)))


def _status_of(result: dict[str, Any]) -> int:
    return 0 if result["status"] == "SUCCEEDED" else PipelineFailed.exit_code


def _say_what_stays(session: Session, used: Used, result: dict[str, Any]) -> None:
    url, config = used.endpoint_url, session.config
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
        session.say("\n".join(lines))


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


_VERBS: dict[str, Callable[[Session], int]] = {
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
