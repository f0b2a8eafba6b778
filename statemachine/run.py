"""The command line: run the pipeline, look at it, take it down.

The only place that knows both the pipeline, which drives an AWS, and the local AWS, which is one.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import json
import signal
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from kennel import config as configuration
from kennel import contract, tree
from kennel.config import Config
from kennel.errors import InvalidArguments, KennelError, PipelineFailed
from kennel.local import launcher

ROOT = Path(__file__).resolve().parent.parent
HOME = ROOT / ".kennel"
STATE_DIR = HOME / "local"
DEFINITION = ROOT / "statemachine" / "pipeline.asl.json"
INTERRUPTED = 130
_LOG_TAIL = 15


def main(argv: list[str]) -> int:
    """Do what the arguments say; return the exit status."""
    arguments = _parser().parse_args(argv)
    console = Console(stderr=arguments.json)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        match arguments.verb:
            case "status":
                return status(arguments, console)
            case "down":
                return down(arguments, console)
            case _:
                return run(arguments, console)
    except KennelError as error:
        console.print(f"[bold red]error[/] {type(error).__name__}", highlight=False)
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def run(arguments: argparse.Namespace, console: Console) -> int:
    """Tune, train, deploy, scale, wire, test."""
    config = _config(arguments)
    runs = _writable(HOME / "runs")
    config = _with_data(config, console)
    with _alone(), _aws(config, arguments, console) as (endpoint_url, local):
        result, folder = _execute(config, endpoint_url, runs, console)
        from kennel.pipeline import display

        if arguments.json:
            print(json.dumps(result, indent=2))
        else:
            console.print(display.summary(result, folder=_shown(folder)))
        if result["status"] != "SUCCEEDED":
            return PipelineFailed.exit_code
        if arguments.keep:
            _say_how_to_call(console, config, endpoint_url, local)
    return 0


def status(arguments: argparse.Namespace, console: Console) -> int:
    """Say what runs, or what ran last."""
    config = _config(arguments)
    kept = sorted((HOME / "runs").glob("*/result.json"))
    last = json.loads(kept[-1].read_text()) if kept else None
    endpoint_url = config.aws.endpoint_url
    if endpoint_url == "local":
        found = launcher.find(STATE_DIR)
        endpoint_url = found.endpoint_url if found else ""
    live: dict[str, Any] = {}
    if endpoint_url or config.aws.endpoint_url != "local":
        from kennel.pipeline import live as live_status

        live = _called(lambda: live_status.read(_client(config, endpoint_url), name=config.name))
    if arguments.json:
        print(json.dumps({"endpoint_url": endpoint_url or None, **live, "last_result": last}, indent=2, default=str))
        return 0
    console.print(f"AWS: {endpoint_url or ('no local AWS is up' if config.aws.endpoint_url == 'local' else 'AWS')}")
    for execution in live.get("executions", []):
        console.print(f"  {execution['name']}  {execution['status']}", highlight=False)
    if endpoint := live.get("endpoint"):
        console.print(f"  endpoint {endpoint['name']}  {endpoint['status']}", highlight=False)
    if last is None:
        console.print("Nothing has run here yet: `make run` starts it.")
    else:
        from kennel.pipeline import display

        console.print(display.summary(last, folder=_shown(kept[-1].parent)))
    return 0


def down(arguments: argparse.Namespace, console: Console) -> int:
    """End the local AWS; elsewhere, remove what costs money by the hour."""
    config = _config(arguments)
    if config.aws.endpoint_url == "local":
        if found := launcher.find(STATE_DIR):
            with console.status(f"Ending the local AWS at {found.endpoint_url}"):
                found.stop()
            console.print(f"The local AWS at {found.endpoint_url} has ended. Results stay in {_shown(HOME / 'runs')}.")
        else:
            console.print("No local AWS is up: there is nothing to end.")
        return 0
    from kennel.pipeline import resources

    aws = _client(config, config.aws.endpoint_url)
    _called(lambda: resources.remove_what_costs(aws, name=config.name, say=lambda text: console.print(text)))
    return 0


# --- the steps of a run ---------------------------------------------------------------------------


def _execute(config: Config, endpoint_url: str, runs: Path, console: Console) -> tuple[dict[str, Any], Path]:
    """Prepare everything, run the state machine to its end, keep the result."""
    from kennel.pipeline import data, display, document, function_package, resources, result, watch

    aws = _client(config, endpoint_url)
    definition = DEFINITION.read_text()
    with console.status("Preparing") as spinner:
        found = _called(
            lambda: resources.deploy(
                aws,
                name=config.name,
                function_zip=function_package.function_zip(ROOT),
                definition=definition,
                say=lambda what: spinner.update(f"Preparing {what}"),
            )
        )
    bucket = found.names.bucket
    with display.counting(console, "Uploading images") as advance:
        data_uri = _called(lambda: data.upload_data(aws, source=config.data.source, bucket=bucket, advance=advance))
    pretrained_uri = _called(lambda: data.upload_pretrained(aws, source=config.data.pretrained, bucket=bucket))
    execution_input = document.execution_input(
        config, found, data_uri=data_uri, pretrained_uri=pretrained_uri
    )

    name = f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}"
    folder = _writable(runs / name)
    logs = _writable(folder / "logs")
    started = _called(
        lambda: aws.client("stepfunctions").start_execution(
            stateMachineArn=found.state_machine_arn, name=name, input=json.dumps(execution_input)
        )
    )
    arn = started["executionArn"]
    console.print(f"Execution [bold]{name}[/], data {data_uri}", highlight=False)
    shown = display.Display(console)
    watcher = watch.Watch(aws, execution_arn=arn, log_dir=logs)
    try:
        with shown.live():
            _follow(watcher, shown)
    except KeyboardInterrupt:
        _stop(aws, arn, name, folder, console)
        raise
    gathered = _called(lambda: result.gather(aws, execution_arn=arn, runs=watcher.history()))
    if failure := gathered.get("failure"):
        failure["log"] = _log_tail(logs, failure.get("job"))
    _called(lambda: result.save(gathered, aws, folder))
    return gathered, folder


def _follow(watcher: Any, shown: Any) -> None:
    from kennel.pipeline.events import ExecutionEnded

    while True:
        for event in _called(watcher.poll):
            shown.show(event)
            if isinstance(event, ExecutionEnded):
                return
        time.sleep(0.5)


def _stop(aws: Any, arn: str, name: str, folder: Path, console: Console) -> None:
    """Ctrl-C: end the execution and its jobs, and say how to go on."""
    with contextlib.suppress(Exception), console.status("Stopping the execution and its jobs"):
        aws.client("stepfunctions").stop_execution(executionArn=arn, error="Interrupted", cause="Ctrl-C")
    console.print(f"Interrupted. {name} was stopped; its logs are in {_shown(folder / 'logs')}.")
    console.print("Go on with `make run`: the data is kept, the execution starts anew.")


@contextlib.contextmanager
def _aws(
    config: Config, arguments: argparse.Namespace, console: Console
) -> Iterator[tuple[str, launcher.LocalAwsProcess | None]]:
    """The endpoint URL of the AWS to use; a local one that we started ends with us, unless it is to be kept."""
    if config.aws.endpoint_url != "local":
        yield config.aws.endpoint_url, None
        return
    if local := launcher.find(STATE_DIR):
        console.print(f"Using the local AWS that is up at {local.endpoint_url}", highlight=False)
        yield local.endpoint_url, local
        return
    with console.status("Starting the local AWS"):
        local = launcher.start(STATE_DIR, region=config.region, port=arguments.port, outlive_us=arguments.keep)
    done = False
    try:
        yield local.endpoint_url, local
        done = True
    finally:
        if not (arguments.keep and done):
            with console.status("Ending the local AWS and every process it started"):
                local.stop()


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Refuse to run twice at once in one checkout: they would end each other's local AWS."""
    with (HOME / "run.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidArguments(
                "another run is under way in this checkout", hint="Wait for it, or stop it with Ctrl-C."
            ) from None
        yield


def _with_data(config: Config, console: Console) -> Config:
    """Make the sample if it is asked for; check a folder before anything starts."""
    source = config.data.source
    if source == "sample":
        from kennel import sample

        folder = HOME / "sample"
        with console.status("Drawing the sample data (generated pictures, not photographs)"):
            sample.generate(folder, seed=config.seed)
        source = str(folder)
    if not source.startswith("s3://"):
        tree.find(Path(source))
    return dataclasses.replace(config, data=dataclasses.replace(config.data, source=source))


def _say_how_to_call(
    console: Console, config: Config, endpoint_url: str, local: launcher.LocalAwsProcess | None
) -> None:
    bucket = f"{config.name}-123456789012-{config.region}"
    lines = [
        "",
        f"The local AWS stays up at {endpoint_url}; `make down` ends it. With any credentials:",
        "  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local",
        f"  export AWS_DEFAULT_REGION={config.region} AWS_ENDPOINT_URL={endpoint_url}",
        f"  aws sagemaker describe-endpoint --endpoint-name {config.name}",
        f"  aws sagemaker-runtime invoke-endpoint --endpoint-name {config.name} \\",
        "      --content-type image/jpeg --body fileb://image.jpg answer.json",
        f"  aws s3 cp image.jpg s3://{bucket}/uploads/",
        f"  aws s3 cp s3://{bucket}/predictions/image.jpg.json -",
    ]
    if local is not None:
        for url in local.addresses().get(config.name, []):
            lines.append(f"  curl -H 'Content-Type: image/jpeg' --data-binary @image.jpg {url}/invocations")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


# --- small things -----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description="Run the pipeline on one machine, or on AWS.")
    parser.add_argument(
        "verb",
        nargs="?",
        default="run",
        choices=("run", "status", "down"),
        help="run (default): tune, train, deploy, test; status: what runs; down: end it",
    )
    parser.add_argument("--config", type=Path, default=ROOT / "config" / "local.toml", help="default: config/local.toml")
    parser.add_argument("--data", help="a folder or s3:// prefix with train/ valid/ test/ (default: data.source)")
    parser.add_argument("--endpoint-url", help="an AWS endpoint that runs already (default: aws.endpoint_url)")
    parser.add_argument("--port", type=int, default=0, help="of the local AWS; 0, the default, takes any free one")
    parser.add_argument("--keep", action="store_true", help="leave the local AWS and the endpoint up")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, everything else on stderr")
    return parser


def _config(arguments: argparse.Namespace) -> Config:
    path: Path = arguments.config
    try:
        text = path.read_text()
    except OSError as error:
        raise InvalidArguments(f"cannot read it: {error.strerror}", where=str(path), hint="See --config.") from error
    config = configuration.parse(text, where=str(path))
    if arguments.data:
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, source=arguments.data))
    if arguments.endpoint_url:
        config = dataclasses.replace(config, aws=configuration.Aws(endpoint_url=arguments.endpoint_url))
    return config


def _client(config: Config, endpoint_url: str) -> Any:
    from kennel.pipeline.aws import Aws

    return Aws(region=config.region, endpoint_url=endpoint_url or None)


def _called(call: Any) -> Any:
    """Make a call of AWS; what AWS refuses becomes an error that a person can read."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return call()
    except (BotoCoreError, ClientError) as error:
        raise PipelineFailed(
            f"AWS refused a call: {error}",
            hint="Check the endpoint URL, the credentials and the region; what exists already stays as it is.",
        ) from error


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


def _log_tail(logs: Path, job: str | None) -> list[str]:
    """The last lines that the job, or the first trial of a tuning job, printed; without its progress."""
    found = sorted(logs.glob(f"{job}*.log")) if job else []
    lines = found[0].read_text(errors="replace").splitlines() if found else []
    return [line for line in lines if contract.PROGRESS_PREFIX not in line][-_LOG_TAIL:]


def _shown(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


def _interrupt(_signal: int, _frame: Any) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
