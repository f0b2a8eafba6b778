"""One execution from its preparation to its kept result: deploys, uploads, starts, follows, gathers.

Knows nothing of where the AWS came from, nor of arguments and exit statuses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    NoCredentialsError,
    TokenRetrievalError,
)
from rich.console import Console

from kennel import contract
from kennel.config import Config
from kennel.errors import PipelineFailed
from kennel.pipeline import data, display, document, infrastructure, result, rollout, stack_display, watch
from kennel.pipeline.aws import Aws
from kennel.pipeline.events import ExecutionEnded
from kennel.pipeline.resources import Resources
from kennel.pipeline.stack import Stack

_LOG_TAIL = 15
_POLL_SECONDS = 0.5


def client(config: Config, endpoint_url: str) -> Aws:
    """The AWS of the configuration's region; `endpoint_url` "" is AWS itself."""
    return Aws(region=config.region, endpoint_url=endpoint_url or None)


def deploy(
    config: Config,
    aws: Aws,
    *,
    root: Path,
    console: Console,
    new_id: Callable[[], str],
    images: Iterable[str] = (),
    in_lines: bool = False,
) -> Resources:
    """Make everything exist that an execution needs. Raises PipelineFailed.

    `images` are those that the roles must be able to pull beside the configuration's; `in_lines` shows a line per
    resource instead of one that changes.
    """
    with stack_display.progress(console, in_lines=in_lines) as (say, told):
        stack = Stack(aws=aws, name=config.name, new_id=new_id, told=told, poll_seconds=aws.poll_seconds)
        pulled = (config.images.training, config.images.serving, *images)
        found: Resources = called(
            lambda: infrastructure.deploy(aws, stack, config, infrastructure.source(root), images=pulled, say=say)
        )
    return found


def run(
    config: Config, aws: Aws, found: Resources, *, runs: Path, console: Console, now: Callable[[], datetime]
) -> tuple[dict[str, Any], Path]:
    """Run the state machine from tuning to its end, keep the result; return it and its folder.

    `runs` is the folder that takes a folder per execution. Raises PipelineFailed when AWS refuses a call; an execution
    that fails is a result like any other. On KeyboardInterrupt the execution is stopped.
    """
    called(lambda: rollout.must_keep_its_type(aws, config.name, config.endpoint.instance_type))
    name = new_name(config, now)
    data_uri, pretrained_uri = uploaded(config, aws, found, console)
    asked = document.execution_input(config, found, execution=name, data_uri=data_uri, pretrained_uri=pretrained_uri)
    return execute(name, aws, found, asked, runs=runs, console=console, now=now)


def roll_out(
    config: Config,
    aws: Aws,
    found: Resources,
    wanted: rollout.Serving,
    *,
    runs: Path,
    console: Console,
    now: Callable[[], datetime],
) -> tuple[dict[str, Any], Path]:
    """Likewise, but the endpoint gets the image and the model that are `wanted`, and nothing is trained."""
    called(lambda: rollout.must_keep_its_type(aws, config.name, config.endpoint.instance_type))
    asked = document.rollout_input(config, found, image=wanted.image, model_uri=wanted.model)
    return execute(new_name(config, now), aws, found, asked, runs=runs, console=console, now=now)


def resume(
    config: Config,
    aws: Aws,
    found: Resources,
    asked: dict[str, Any],
    *,
    runs: Path,
    console: Console,
    now: Callable[[], datetime],
) -> tuple[dict[str, Any], Path]:
    """Likewise, from where an earlier execution failed; `asked` is what `kennel.pipeline.resume` made of it."""
    return execute(new_name(config, now), aws, found, asked, runs=runs, console=console, now=now)


def new_name(config: Config, now: Callable[[], datetime]) -> str:
    """Of an execution, or of another training, that begins now."""
    return f"{config.name}-{now():%Y%m%d-%H%M%S}"


def uploaded(config: Config, aws: Aws, found: Resources, console: Console) -> tuple[str, str]:
    """The s3:// URIs of the data and of the pretrained weights ("" for none), once they are there."""
    bucket = found.names.bucket
    with display.counting(console, "Uploading images") as advance:
        data_uri = called(lambda: data.upload_data(aws, source=config.data.source, bucket=bucket, advance=advance))
    pretrained_uri = called(lambda: data.upload_pretrained(aws, source=config.data.pretrained, bucket=bucket))
    display.line(console, f"Data {data_uri}")
    return data_uri, pretrained_uri


def execute(
    name: str,
    aws: Aws,
    found: Resources,
    asked: dict[str, Any],
    *,
    runs: Path,
    console: Console,
    now: Callable[[], datetime],
) -> tuple[dict[str, Any], Path]:
    """Start the execution `name` with the input `asked`, follow it to its end, keep what it came to."""
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
        local = "127.0.0.1" in str(error) or "localhost" in str(error)
        again = "A local AWS is started anew by `make down` and `make run`." if local else "Check the network."
        raise PipelineFailed(f"AWS does not answer: {error}", hint=again) from error
    except (NoCredentialsError, TokenRetrievalError) as error:
        raise PipelineFailed(
            f"there are no credentials for AWS: {error}",
            hint="`aws configure` or `aws sso login` gives some; plan needs none.",
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
