"""One execution from its preparation to its kept result: deploys, uploads, starts, follows, gathers.

Knows nothing of where the AWS came from, nor of arguments and exit statuses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError
from rich.console import Console

from kennel import contract
from kennel.config import Config
from kennel.errors import PipelineFailed
from kennel.pipeline import data, display, document, function_package, resources, result, rollout, watch
from kennel.pipeline.aws import Aws
from kennel.pipeline.events import ExecutionEnded

_LOG_TAIL = 15
_POLL_SECONDS = 0.5


def client(config: Config, endpoint_url: str) -> Aws:
    """The AWS of the configuration's region; `endpoint_url` "" is AWS itself."""
    return Aws(region=config.region, endpoint_url=endpoint_url or None)


def run(
    config: Config, aws: Aws, *, root: Path, runs: Path, console: Console, now: Callable[[], datetime]
) -> tuple[dict[str, Any], Path]:
    """Prepare everything, run the state machine to its end, keep the result; return it and its folder.

    `root` is the project, `runs` the folder that takes a folder per execution. Raises PipelineFailed when AWS
    refuses a call; an execution that fails is a result like any other. On KeyboardInterrupt the execution is stopped.
    """
    found = _prepared(config, aws, root=root, console=console, serving=(config.images.serving,))
    asked = _input(config, aws, found, console)
    return _executed(config, aws, found, asked, runs=runs, console=console, now=now)


def roll_out(
    config: Config,
    aws: Aws,
    wanted: rollout.Serving,
    *,
    now_serving: rollout.Serving,
    root: Path,
    runs: Path,
    console: Console,
    now: Callable[[], datetime],
) -> tuple[dict[str, Any], Path]:
    """Likewise, but the endpoint gets the image and the model that are `wanted`, and nothing is trained.

    What is `now_serving` may still be pulled: until the new instances answer, and if they never do.
    """
    found = _prepared(config, aws, root=root, console=console, serving=(now_serving.image, wanted.image))
    asked = document.rollout_input(config, found, image=wanted.image, model_uri=wanted.model)
    return _executed(config, aws, found, asked, runs=runs, console=console, now=now)


def _executed(
    config: Config,
    aws: Aws,
    found: resources.Resources,
    asked: dict[str, Any],
    *,
    runs: Path,
    console: Console,
    now: Callable[[], datetime],
) -> tuple[dict[str, Any], Path]:
    name = f"{config.name}-{now():%Y%m%d-%H%M%S}"
    folder = runs / name
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    started = called(
        lambda: aws.client("stepfunctions").start_execution(
            stateMachineArn=found.state_machine_arn, name=name, input=json.dumps(asked)
        )
    )
    arn = started["executionArn"]
    console.print(f"Execution [bold]{name}[/]", highlight=False)
    shown = display.Display(console, now=now)
    watcher = watch.Watch(aws, execution_arn=arn, log_dir=logs)
    try:
        with shown.live():
            _follow(watcher, shown)
    except KeyboardInterrupt:
        _stop(aws, arn, console)
        console.print(f"Its logs are in {logs}", highlight=False, markup=False, soft_wrap=True)
        raise
    gathered = called(lambda: result.gather(aws, execution_arn=arn, runs=watcher.history()))
    if failure := gathered.get("failure"):
        failure["log"] = log_tail(logs, failure)
    called(lambda: result.save(gathered, aws, folder))
    return gathered, folder


def called(call: Callable[[], Any]) -> Any:
    """Make a call of AWS; what AWS refuses becomes an error that a person can read."""
    try:
        return call()
    except (ConnectionError, HTTPClientError) as error:
        raise PipelineFailed(
            f"AWS does not answer: {error}",
            hint="Check the endpoint URL and the network; a local AWS is started anew by `make down` and `make run`.",
        ) from error
    except (BotoCoreError, ClientError) as error:
        raise PipelineFailed(
            f"AWS refused a call: {error}",
            hint="Check the credentials, the region and the configuration; what exists already stays as it is.",
        ) from error


def log_tail(logs: Path, failure: dict[str, Any]) -> list[str]:
    """The last lines that the job, or the first trial of a tuning job, printed; without its progress."""
    found = sorted(logs.glob(f"{failure['job']}*.log")) if failure.get("job") else []
    blamed = [log for log in found if log.name.split(".")[-2] in failure["cause"]]  # the host that the cause names
    lines = (blamed or found)[0].read_text(errors="replace").splitlines() if found else []
    return [line for line in lines if contract.PROGRESS_PREFIX not in line][-_LOG_TAIL:]


def _prepared(
    config: Config, aws: Aws, *, root: Path, console: Console, serving: tuple[str, ...]
) -> resources.Resources:
    elsewhere = tuple(uri for uri in (config.data.source, config.data.pretrained) if uri.startswith("s3://"))
    with console.status("Preparing") as spinner:
        prepared: resources.Resources = called(
            lambda: resources.deploy(
                aws,
                name=config.name,
                function_zip=function_package.function_zip(root),
                definition=(root / "statemachine" / "pipeline.asl.json").read_text(encoding="utf-8"),
                images={"training": (config.images.training,), "serving": serving},
                reads=elsewhere,
                say=lambda what: spinner.update(f"Preparing {what}"),
            )
        )
    return prepared


def _input(config: Config, aws: Aws, found: resources.Resources, console: Console) -> dict[str, Any]:
    bucket = found.names.bucket
    with display.counting(console, "Uploading images") as advance:
        data_uri = called(lambda: data.upload_data(aws, source=config.data.source, bucket=bucket, advance=advance))
    pretrained_uri = called(lambda: data.upload_pretrained(aws, source=config.data.pretrained, bucket=bucket))
    console.print(f"Data {data_uri}", highlight=False, markup=False, soft_wrap=True)
    return document.execution_input(config, found, data_uri=data_uri, pretrained_uri=pretrained_uri)


def _follow(watcher: watch.Watch, shown: display.Display) -> None:
    while True:
        for event in called(watcher.poll):
            shown.show(event)
            if isinstance(event, ExecutionEnded):
                return
        time.sleep(_POLL_SECONDS)


def _stop(aws: Aws, arn: str, console: Console) -> None:
    """Ctrl-C: end the execution, and with it its jobs."""
    name = arn.rpartition(":")[2]
    with console.status("Stopping the execution and its jobs"):
        try:
            aws.client("stepfunctions").stop_execution(executionArn=arn, error="Interrupted", cause="Ctrl-C")
        except (BotoCoreError, ClientError) as error:
            console.print(f"{name} could not be stopped: {error}", highlight=False, markup=False, soft_wrap=True)
            return
    console.print(f"{name} was stopped, and its jobs with it.", highlight=False)
