"""The arguments of `run.py`, and the configuration that they choose."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from kennel import config as configuration
from kennel.config import Config
from kennel.errors import InvalidArguments

ROOT = Path(__file__).resolve().parent.parent

VERBS = {
    "run": "tune, train, deploy, test (the default)",
    "plan": "say what would be made, and what it would cost",
    "deploy": "make what a run needs: roles, network, buckets, function",
    "images": "build the images",
    "push": "build the images and bring them to ECR",
    "rollout": "give the endpoint another image or another model",
    "resume": "go on where an execution failed",
    "train-on-ec2": "train on one instance of EC2",
    "status": "say what runs, and what ran last",
    "down": "take everything down",
}

# verb → the options that only it takes
_ONLY = {"image": ("rollout",), "model": ("rollout",), "execution": ("resume",)}


def parser() -> argparse.ArgumentParser:
    """What `run.py` takes."""
    made = argparse.ArgumentParser(
        prog="run.py",
        description="Run the pipeline on one machine, or on AWS.",
        epilog="verbs:\n" + "\n".join(f"  {verb:<13} {what}" for verb, what in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("verb", nargs="?", default="run", choices=tuple(VERBS), metavar="verb", help="see below")
    made.add_argument(
        "--target",
        choices=("local", "aws"),
        default="local",
        help="this machine, or AWS: config/local.toml or config/aws.toml (default: local)",
    )
    made.add_argument("--config", type=Path, help="a configuration of your own (default: that of the target)")
    made.add_argument("--data", help="a folder or s3:// prefix with train/ valid/ test/ (default: data.source)")
    made.add_argument("--endpoint-url", help="an AWS endpoint that runs already (default: aws.endpoint_url)")
    made.add_argument("--port", type=int, default=0, help="of the local AWS; 0, the default, takes any free one")
    made.add_argument(
        "--runtime",
        choices=("process", "docker"),
        help="what the local AWS runs jobs and instances in (default: aws.runtime)",
    )
    made.add_argument(
        "--image",
        help="rollout: a tag or digest in the serving repository, or a whole reference (default: this source's)",
    )
    made.add_argument(
        "--model", help="rollout: an s3:// URI, an earlier execution, or a model.tar.gz (default: the one that serves)"
    )
    made.add_argument("--execution", help="resume: its name (default: the latest)")
    made.add_argument("--max-cost", type=float, metavar="USD", help="refuse what may cost more, at most, in all")
    made.add_argument("--yes", action="store_true", help="on AWS: do not ask before it costs, or is deleted")
    made.add_argument("--keep", action="store_true", help="leave the local AWS and the endpoint up")
    made.add_argument(
        "--home", type=Path, default=ROOT / ".kennel", help="where results and the local AWS lie (default: .kennel)"
    )
    made.add_argument("--json", action="store_true", help="print the result as JSON, everything else on stderr")
    return made


def config(arguments: argparse.Namespace) -> Config:
    """The configuration, with what the arguments change in it. Raises InvalidArguments."""
    path: Path = arguments.config or ROOT / "config" / f"{arguments.target}.toml"
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidArguments(
            f"cannot read the configuration: {why}",
            where=str(path),
            hint="Name a file with --config; config/local.toml is one.",
        ) from error
    chosen = configuration.parse(text, where=str(path))
    if arguments.data:
        chosen = dataclasses.replace(chosen, data=dataclasses.replace(chosen.data, source=arguments.data))
    if arguments.endpoint_url:
        if problem := configuration.endpoint_url_problem(arguments.endpoint_url):
            raise InvalidArguments(problem, where="--endpoint-url")
        chosen = dataclasses.replace(chosen, aws=dataclasses.replace(chosen.aws, endpoint_url=arguments.endpoint_url))
    if arguments.runtime:
        chosen = dataclasses.replace(chosen, aws=dataclasses.replace(chosen.aws, runtime=arguments.runtime))
    for option, verbs in _ONLY.items():
        if getattr(arguments, option) is not None and arguments.verb not in verbs:
            raise InvalidArguments(f"only {verbs[0]} takes it", where=f"--{option}")
    if arguments.max_cost is not None and not arguments.max_cost >= 0:
        raise InvalidArguments("it is an amount of US dollars, such as 25", where="--max-cost")
    return chosen
