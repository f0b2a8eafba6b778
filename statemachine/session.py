"""What a command works with: its arguments, its configuration, its folder, its AWS, and how it asks and tells.

Environment variables are read here and nowhere else; what is heavy is imported where it is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import arguments as command_line
from arguments import ROOT
from rich.console import Console

from kennel import tree
from kennel.config import Config
from kennel.errors import InvalidArguments
from kennel.local import launcher

if TYPE_CHECKING:
    from kennel.pipeline.aws import Aws
    from kennel.pipeline.plans.planning import Planned, Purpose
    from kennel.pipeline.resources import Names, Resources


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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Used:
    """The AWS of a run. `stays`: it is there when the run is over."""

    endpoint_url: str
    local: launcher.LocalAwsProcess | None
    stays: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """One command."""

    arguments: argparse.Namespace
    console: Console
    config: Config
    home: Home

    def with_config(self, config: Config) -> Self:
        """The same with another configuration."""
        return dataclasses.replace(self, config=config)

    def say(self, text: str) -> None:
        """Tell it as it is."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def client(self, endpoint_url: str) -> Aws:
        """The AWS at that URL; "" is AWS itself."""
        from kennel.pipeline import execution  # noqa: PLC0415

        return execution.client(self.config, endpoint_url)

    def names(self, aws: Aws) -> Names:
        """What everything is called there. Raises PipelineFailed if nobody answers."""
        from kennel.pipeline import execution, resources  # noqa: PLC0415

        account: str = execution.called(lambda: aws.account)
        return resources.Names(name=self.config.name, account=account, region=aws.region)

    def deployed(self, aws: Aws, *, images: tuple[str, ...] = (), in_lines: bool | None = None) -> Resources:
        """What the stack made, once it is as this source says."""
        from kennel.pipeline import execution  # noqa: PLC0415

        lines = self.config.aws.endpoint_url == "" if in_lines is None else in_lines
        return execution.deploy(
            self.config, aws, root=ROOT, console=self.console, new_id=new_id, images=images, in_lines=lines
        )

    def planned(self, of: Purpose = "run", asked: Mapping[str, Any] | None = None) -> Planned:
        """The plan, shown; where the result is JSON, beside it."""
        from kennel.pipeline.plans import planning  # noqa: PLC0415

        endpoint_url: str | None = self.config.aws.endpoint_url
        if endpoint_url == "local":
            found = launcher.find(self.home.state_dir)
            endpoint_url = found.endpoint_url if found else None
        planned = planning.plan(self.config, endpoint_url, root=ROOT, new_id=new_id, of=of, asked=asked)
        self.console.print(planned)
        return planned

    def affordable(self, of: Purpose = "run", asked: Mapping[str, Any] | None = None) -> None:
        """On AWS, show the plan and ask: nothing that costs begins before. Raises InvalidArguments if it is not to."""
        limit = self.arguments.max_cost
        if self.config.aws.endpoint_url and limit is None:
            return
        if not self.config.aws.endpoint_url:
            self.names(self.client(""))  # without an account there is nothing to agree to
        planned = self.planned(of, asked)
        planned.refuse_wrong()
        if limit is not None:
            planned.refuse_above(limit)
        self.agreed("Go on?")

    def agreed(self, question: str) -> None:
        """Raises InvalidArguments unless a person at a terminal agrees, or it is not AWS, or `--yes` was given."""
        if self.config.aws.endpoint_url or self.arguments.yes:
            return
        if not sys.stdin.isatty():
            raise InvalidArguments(
                "nobody is there to be asked", where="standard input", hint="--yes agrees beforehand."
            )
        self.console.print(f"{question} [y/N] ", end="", markup=False, highlight=False)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise InvalidArguments("it was not agreed to, and nothing was begun")

    def must_be_up(self, why: str) -> None:
        """Raises InvalidArguments where a local AWS is meant and none is up."""
        if self.config.aws.endpoint_url == "local" and launcher.find(self.home.state_dir) is None:
            raise InvalidArguments(
                f"no local AWS is up, {why}",
                where=str(self.home.path),
                hint='`make run ARGS="--keep"` leaves one up.',
            )

    def runtime(self) -> str | None:
        """What jobs and instances are in the local AWS that will be used; None where AWS is not a local one."""
        if self.config.aws.endpoint_url != "local":
            if self.arguments.runtime:
                raise InvalidArguments(
                    "only the local AWS that is started here has a runtime to choose",
                    where=f"--runtime {self.arguments.runtime}",
                    hint=f"Leave it out: the endpoint is {self.config.aws.endpoint_url or 'AWS'}.",
                )
            return launcher.runtime_at(self.config.aws.endpoint_url)
        if local := launcher.find(self.home.state_dir):
            if self.arguments.runtime and local.runtime != self.arguments.runtime:
                raise InvalidArguments(
                    f"a local AWS is up already at {local.endpoint_url}, and its runtime is {local.runtime}",
                    where=f"--runtime {self.arguments.runtime}",
                    hint="Leave --runtime out to use that one, or end it first: `make down`.",
                )
            return local.runtime
        return self.config.aws.runtime

    @contextlib.contextmanager
    def aws(self, *, keep: bool = False) -> Iterator[Used]:
        """The AWS to use; a local one that we started ends with us, unless it is to be kept."""
        keep = keep or self.arguments.keep
        if self.config.aws.endpoint_url != "local":
            yield Used(endpoint_url=self.config.aws.endpoint_url, local=None, stays=True)
            return
        if local := launcher.find(self.home.state_dir):
            if self.arguments.port and not local.endpoint_url.endswith(f":{self.arguments.port}"):
                raise InvalidArguments(
                    f"a local AWS is up already at {local.endpoint_url}",
                    where=f"--port {self.arguments.port}",
                    hint="Leave --port out to use that one, or end it first: `make down`.",
                )
            self.console.print(f"Using the local AWS that is up at {local.endpoint_url}", highlight=False)
            yield Used(endpoint_url=local.endpoint_url, local=local, stays=True)
            return
        with self.console.status("Starting the local AWS"):
            local = launcher.start(
                self.home.state_dir,
                region=self.config.region,
                port=self.arguments.port,
                outlive_us=keep,
                runtime=self.config.aws.runtime,
            )
        done = False
        try:
            yield Used(endpoint_url=local.endpoint_url, local=local, stays=keep)
            done = True
        finally:
            if not (keep and done):
                with self.console.status("Ending the local AWS and every process it started"):
                    local.stop()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Refuse to run twice at once in one home: they would end each other's local AWS."""
        with (self.home.path / "run.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidArguments(
                    "another run is under way here",
                    where=str(self.home.path),
                    hint="Wait for it, stop it with Ctrl-C, or keep the results of this one elsewhere: --home DIR.",
                ) from None
            yield

    def with_data(self) -> Self:
        """Make the sample if it is asked for; check a folder before anything starts."""
        source = self.config.data.source
        if source == "sample":
            from kennel import sample  # noqa: PLC0415

            with self.console.status("Drawing the sample data (generated pictures, not photographs)"):
                sample.generate(self.home.sample, seed=self.config.seed)
            source = str(self.home.sample)
        if not source.startswith("s3://"):
            tree.find(Path(source))
        data = dataclasses.replace(self.config.data, source=source)
        return self.with_config(dataclasses.replace(self.config, data=data))

    def with_built_images(self) -> Self:
        """The same with the images as this machine's engine has them, built if need be."""
        from kennel.pipeline import shipping  # noqa: PLC0415

        with docker_engine() as engine:
            settings = build_settings()
            built = shipping.with_built(engine, self.config, root=ROOT, settings=settings, console=self.console)
        return self.with_config(built)

    def with_pinned_images(self, aws: Aws) -> Self:
        """The same with the images by their digests in the registry."""
        from kennel.pipeline import shipping  # noqa: PLC0415

        return self.with_config(shipping.with_pinned(aws, self.config, root=ROOT))


def begin(arguments: argparse.Namespace, console: Console) -> Session:
    """The session of these arguments. Raises InvalidArguments."""
    config = command_line.config(arguments)
    return Session(arguments=arguments, console=console, config=config, home=Home(path=arguments.home.resolve()))


@contextlib.contextmanager
def docker_engine() -> Iterator[Any]:
    """The Docker engine, whose builds and pushes end with this block."""
    from kennel import engine as engines  # noqa: PLC0415

    with contextlib.closing(engines.connect()) as engine:
        yield engine


def build_settings() -> dict[str, str]:
    """Package indexes of the user's own, as pip itself would find them."""
    return {name: os.environ[name] for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL") if os.environ.get(name)}


def new_id() -> str:
    """Of a change set: eight letters and digits that were never used."""
    return uuid.uuid4().hex[:8]


def writable(folder: Path) -> Path:
    """The folder, made if need be. Raises InvalidArguments if nothing can be written there."""
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
