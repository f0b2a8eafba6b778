"""The two images that the project ships: which source they are of, and how an engine builds them.

Knows no AWS and no registry. An image's tag is the revision of what it is built from, so that the same tag always
means the same source, and a commit that touches none of it changes no tag.
"""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import time
import tomllib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker
from docker.errors import DockerException, ImageNotFound
from docker.utils.build import exclude_paths

from kennel import references
from kennel.config import Config
from kennel.errors import InvalidArguments, KennelError, Unavailable

PARTS: Final = ("training", "serving")
LATEST: Final = "latest"
_DOCKERIGNORE = ".dockerignore"
_LOG_LINES = 20
_REVISION_CHARACTERS = 12

_INDEXES: Final = {"PIP_INDEX_URL": "", "PIP_EXTRA_INDEX_URL": ""}
_AS_COMPOSE: Final[Mapping[str, Mapping[str, str]]] = {
    "training": {**_INDEXES, "TORCH": "cpu"},
    "serving": _INDEXES,
}
"""Build arguments that docker-compose.yml always gives: with the same ones, each finds the other's layers."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image of ours at one revision of its source. `part` is training or serving, `name` its repository."""

    part: str
    name: str
    revision: str
    arguments: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Build arguments that make it another image than without them."""

    @property
    def tag(self) -> str:
        """The revision, and what the image was built with beyond it."""
        return "-".join([self.revision, *(value for _, value in sorted(self.arguments.items()))])

    @property
    def dockerfile(self) -> str:
        """Path of its Dockerfile in the project."""
        return f"containers/{self.part}/Dockerfile"

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"


@dataclass(frozen=True, kw_only=True)
class Built:
    """An image that the engine has. `seconds` is None if it was there already."""

    image: Image
    id: str
    bytes: int
    seconds: float | None


def of(config: Config, root: Path) -> Iterator[Image]:
    """The images of the configuration that are built from the project at `root`: those given by a plain name.

    Each is of the source as it is when it is asked for: what one is built from may change while another is pushed.
    """
    for part, name in (("training", config.images.training), ("serving", config.images.serving)):
        if references.parse(name).is_plain:
            cuda = part == "training" and config.images.torch == "cuda"
            arguments = {"TORCH": "cuda"} if cuda else {}
            yield Image(part=part, name=name, revision=revision(root, part), arguments=arguments)


def tags(config: Config, root: Path) -> dict[str, str]:
    """The tags of these images, by part."""
    return {image.part: image.tag for image in of(config, root)}


def revision(root: Path, part: str) -> str:
    """The commit that last touched what the image is built from, or a name for that content where there is none.

    `1234567890ab` is a commit; `1234567890ab-dirty-12345678` is one with changes, told by their content;
    `content-1234567890ab` is content that no commit has, or whose commit a shallow clone does not know.
    """
    patterns = _dockerignore(root)
    inputs, paths = _inputs(root, part, patterns), _pathspecs(part, patterns)
    content = _content(root, inputs)
    commit = (_git(root, "log", "-1", "--format=%H", "--", *paths) or "").strip()[:_REVISION_CHARACTERS]
    # a clone without history takes its newest commit for the one that touched everything
    if not commit or (_git(root, "rev-parse", "--is-shallow-repository") or "").strip() == "true":
        return f"content-{content[:_REVISION_CHARACTERS]}"
    changed = _git(root, "diff", "--name-only", "HEAD", "--", *paths)
    tracked = set((_git(root, "ls-files", "-z", "--", *paths) or "").split("\0"))
    if changed or not tracked.issuperset(inputs):
        return f"{commit}-dirty-{content[:8]}"
    return commit


def is_dirty(revision: str) -> bool:
    """Whether the revision names its source by content, for no commit that is known here has it."""
    return "-dirty-" in revision or revision.startswith("content-")


def version(root: Path) -> str:
    """The version of the package."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def find(engine: docker.DockerClient, image: Image) -> Built | None:
    """The image if the engine has it."""
    try:
        found = engine.api.inspect_image(str(image))
    except ImageNotFound:
        return None
    return Built(image=image, id=str(found["Id"]), bytes=int(found["Size"]), seconds=None)


def build(
    engine: docker.DockerClient, image: Image, *, root: Path, say: Say, settings: Mapping[str, str] | None = None
) -> Built:
    """Build the image, unless the engine has it; `<name>:latest` is then the same image.

    `say` hears each step and the last line of its output. `settings` are build arguments that change nothing in the
    image, such as pip's index. Raises KennelError with the end of the log when a step fails.
    """
    if not (root / image.dockerfile).is_file():
        raise InvalidArguments("there is no Dockerfile", where=str(root / image.dockerfile))
    try:
        built = find(engine, image) or _built(engine, image, root=root, say=say, settings=settings or {})
        engine.api.tag(built.id, image.name, LATEST, force=True)
    except (DockerException, OSError) as error:  # requests' errors are OSErrors, and so are unreadable files
        raise Unavailable(f"the engine cannot build the image: {error}", where=image.dockerfile) from error
    return built


def _built(engine: docker.DockerClient, image: Image, *, root: Path, say: Say, settings: Mapping[str, str]) -> Built:
    began = time.monotonic()
    # the SDK leaves out what .dockerignore names; the engine would not
    events = engine.api.build(
        path=str(root),
        dockerfile=image.dockerfile,
        buildargs={
            **_AS_COMPOSE[image.part],
            **settings,
            **image.arguments,
            "REVISION": image.tag,
            "VERSION": version(root),
        },
        rm=True,
        forcerm=True,
        decode=True,
    )
    with closing(events):
        if revision(root, image.part) != image.revision:  # the source has been sent by now
            raise KennelError(
                "its source changed while it was read", where=str(image), hint="Try again when the files are at rest."
            )
        built = _follow(events, image, say)
    # named only now: an engine goes on with what it was sent, whoever listens
    engine.api.tag(built, image.name, image.tag, force=True)
    size = int(engine.api.inspect_image(built)["Size"])
    return Built(image=image, id=built, bytes=size, seconds=time.monotonic() - began)


def _follow(events: Iterator[dict[str, Any]], image: Image, say: Say) -> str:
    """Hear the engine out; return the id of what it built. Raises KennelError when a step fails."""
    log: deque[str] = deque(maxlen=_LOG_LINES)
    step, built = "", ""
    for event in events:
        for line in str(event.get("stream", "")).splitlines():
            if not line.strip():
                continue
            log.append(line.rstrip())
            if line.startswith("Step "):
                step = line.removeprefix("Step ").strip()
                say(step)
            elif not line.startswith(" ---> "):
                say(f"{step.partition(' : ')[0]} {line.strip()}")
        if "error" in event:
            said = "\n".join(f"    {line}" for line in log)
            raise KennelError(
                f"the build failed at step {step or '0'}: {event['error'].strip()}",
                where=image.dockerfile,
                hint=f"The end of its log:\n{said}" if said else "",
            )
        built = str((event.get("aux") or {}).get("ID", built))
    if not built:
        raise KennelError("the engine ended without an image and without a reason", where=image.dockerfile)
    return built


def _dockerignore(root: Path) -> list[str]:
    try:
        lines = (root / _DOCKERIGNORE).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InvalidArguments(
            f"cannot read what the images are built from: {error.strerror}", where=str(root / _DOCKERIGNORE)
        ) from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _inputs(root: Path, part: str, patterns: list[str]) -> list[str]:
    """Files that the build can read, relative to `root`: what .dockerignore leaves, without the other image's."""
    others = tuple(f"containers/{other}/" for other in PARTS if other != part)
    found = exclude_paths(str(root), patterns, dockerfile=f"containers/{part}/Dockerfile")
    return sorted(path for path in found if not path.startswith(others) and (root / path).is_file())


def _pathspecs(part: str, patterns: list[str]) -> list[str]:
    """The same in git's words: not the files themselves, for a commit that deletes one counts, too."""
    kept = [pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")]
    others = [f":(exclude)containers/{other}" for other in PARTS if other != part]
    return [*(kept if "*" in patterns else ["."]), _DOCKERIGNORE, *others]


def _content(root: Path, inputs: list[str]) -> str:
    """A hash over names, rights to execute, and bytes of the files."""
    digest = hashlib.sha256()
    for name in inputs:
        path = root / name
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{name}\0{bool(path.stat().st_mode & 0o100)}\0{content}\n".encode())
    return digest.hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None where there is no git, or no repository."""
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
