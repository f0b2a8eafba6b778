"""An image's revision: the commit that last touched what it is built from, and never the same for other content."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kennel.errors import InvalidArguments
from kennel.pipeline import images

FILES = {
    ".dockerignore": "# what is built from\n*\n!pyproject.toml\n!src\n!containers\n**/__pycache__\n",
    ".gitignore": "__pycache__/\n",
    "README.md": "read me",
    "pyproject.toml": '[project]\nversion = "1.2.3"\n',
    "src/kennel/code.py": "code",
    "containers/install.sh": "install",
    "containers/training/Dockerfile": "FROM a",
    "containers/serving/Dockerfile": "FROM b",
}


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def git(root: Path, *arguments: str) -> str:
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    person = ["-c", "user.name=n", "-c", "user.email=e@example.com"]
    done = subprocess.run(
        ["git", *person, *arguments], cwd=root, env=os.environ | own, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def commit(root: Path) -> str:
    """Commit everything; its revision."""
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "m")
    return git(root, "rev-parse", "HEAD")[:12]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A project without git."""
    for name, text in FILES.items():
        write(tmp_path / "project", name, text)
    return tmp_path / "project"


@pytest.fixture
def root(bare: Path) -> Path:
    """A project with one commit."""
    git(bare, "init", "--quiet")
    commit(bare)
    return bare


def both(root: Path) -> tuple[str, str]:
    return images.revision(root, "training"), images.revision(root, "serving")


def test_committed_source_has_its_commit(root):
    head = git(root, "rev-parse", "HEAD")[:12]
    assert both(root) == (head, head)
    assert not images.is_dirty(head)


def test_commit_that_touches_no_input_changes_no_revision(root):
    before = both(root)
    write(root, "README.md", "other")
    assert both(root) == before, "not even before it is committed"
    commit(root)
    assert both(root) == before


def test_commit_of_code_changes_both_revisions(root):
    write(root, "src/kennel/code.py", "other")
    head = commit(root)
    assert both(root) == (head, head)


def test_commit_of_one_dockerfile_changes_that_image_alone(root):
    before = both(root)
    write(root, "containers/serving/Dockerfile", "FROM c")
    head = commit(root)
    assert both(root) == (before[0], head)


def test_commit_that_only_deletes_changes_the_revision(root):
    write(root, "src/kennel/more.py", "more")
    commit(root)
    (root / "src/kennel/more.py").unlink()
    head = commit(root)
    assert both(root) == (head, head)


@pytest.mark.parametrize("change", ["edited", "added", "deleted", "executable", "staged"])
def test_source_that_differs_from_its_commit_is_dirty_by_its_content(root, change):
    before, path = images.revision(root, "serving"), root / "src/kennel/code.py"
    if change == "deleted":
        path.unlink()
    elif change == "executable":
        path.chmod(0o755)
    else:
        write(root, "src/kennel/new.py" if change == "added" else "src/kennel/code.py", "changed")
    if change == "staged":
        git(root, "add", "--all")
    found = images.revision(root, "serving")
    assert found.startswith(f"{before}-dirty-")
    assert len(found.removeprefix(f"{before}-dirty-")) == 8
    assert images.is_dirty(found)


def test_other_changes_are_another_revision_and_the_same_ones_the_same(root):
    def changed(text: str) -> str:
        write(root, "src/kennel/code.py", text)
        return images.revision(root, "serving")

    assert changed("one") != changed("two")
    assert changed("one") == changed("one")


def test_what_dockerignore_leaves_out_does_not_count(root):
    before = both(root)
    write(root, "src/kennel/__pycache__/code.pyc", "bytes")
    assert both(root) == before


def test_file_that_git_ignores_and_the_build_reads_is_dirt(root):
    write(root, ".gitignore", "__pycache__/\n*.local\n")
    before = both(root)
    write(root, "src/kennel/secret.local", "read by the build")
    assert before != both(root)
    assert "-dirty-" in images.revision(root, "serving")


def test_without_git_it_is_the_content(bare, tmp_path):
    first = both(bare)
    assert all(revision.startswith("content-") and images.is_dirty(revision) for revision in first)
    shutil.copytree(bare, tmp_path / "copy")
    assert both(tmp_path / "copy") == first
    write(bare, "src/kennel/code.py", "other")
    assert not {*both(bare)} & {*first}


def test_repository_without_a_commit_is_as_none(bare):
    first = both(bare)
    git(bare, "init", "--quiet")
    assert both(bare) == first


def test_missing_list_of_inputs_is_named(bare):
    (bare / ".dockerignore").unlink()
    with pytest.raises(InvalidArguments, match=r"\.dockerignore: cannot read"):
        images.revision(bare, "serving")
