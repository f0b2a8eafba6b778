"""A training that is interrupted and started again ends with the bits of one that was not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from small_training import CPU, DATA, NONE, SETTINGS, double, place
from thread_group import on_hosts

from kennel.training.backbones import Network
from kennel.training.checkpoint import KEPT, Checkpoints, Parts, Progress, fill, fingerprint, to_bytes
from kennel.training.export import weights_digest
from kennel.training.group import Group
from kennel.training.loop import train
from kennel.training.normalization import globalize
from kennel.training.settings import Optimizer, Settings

FIVE = dataclasses.replace(SETTINGS, epochs=5)
JOB = "a" * 64
OTHER_JOB = "b" * 64


class _Interrupted(Exception):
    """The hosts were taken away."""


def job(
    group: Group,
    checkpoints: Checkpoints = NONE,
    *,
    settings: Settings = FIVE,
    layout: torch.memory_format = torch.contiguous_format,
    until: int = 99,
) -> tuple[str, list[str]]:
    """Train on one host of the group; the digest of the weights, and the lines. Interrupted at the end of `until`."""
    lines: list[str] = []

    def report(line: str) -> None:
        if f"epoch={until} " in line:
            raise _Interrupted
        lines.append(line)

    network = Network(model=double().to(memory_format=layout), head="fc")
    if group.world > 1:
        globalize(network.model, group)
    where = dataclasses.replace(place(group), memory_format=layout)
    train(
        network,
        DATA,
        settings,
        place=where,
        head_only=False,
        checkpoints=checkpoints,
        report=report,
        clock=lambda: 0.0,
    )
    return weights_digest(network.model), lines


def kept(folder: Path, *, lines: list[str] | None = None, name: str = JOB) -> Checkpoints:
    return Checkpoints(folder, job=name, report=print if lines is None else lines.append)


def interrupted(folder: Path, *, until: int = 4, **given) -> list[str]:
    """What a training leaves that never came to the end of epoch `until`: names, oldest first."""
    with pytest.raises(_Interrupted):
        job(Group(), kept(folder), until=until, **given)
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("optimizer", list(Optimizer))
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("world", [1, 2])
def test_an_interrupted_training_ends_with_the_weights_of_one_that_was_not(tmp_path, world, layout, optimizer):
    settings = dataclasses.replace(FIVE, optimizer=optimizer)

    def host(group: Group, *, until: int = 99) -> tuple[str, list[str]]:
        folder = kept(tmp_path) if group.rank == 0 else NONE
        return job(group, folder, settings=settings, layout=layout, until=until)

    whole = on_hosts(world, lambda group: job(group, settings=settings, layout=layout))
    for until in (2, 4):
        with pytest.raises(_Interrupted):
            on_hosts(world, lambda group, until=until: host(group, until=until))
    resumed = on_hosts(world, host)
    assert [digest for digest, _ in resumed] == [digest for digest, _ in whole]
    assert [lines for _, lines in resumed] == [lines[2:] for _, lines in whole]


def test_a_training_that_was_finished_says_its_last_metrics_again_and_trains_no_more(tmp_path):
    whole, lines = job(Group(), kept(tmp_path))
    digest, again = job(Group(), kept(tmp_path))
    assert (digest, again) == (whole, lines[-1:])


def test_checkpoints_of_one_host_are_good_for_two(tmp_path):
    interrupted(tmp_path)
    resumed = on_hosts(2, lambda group: job(group, kept(tmp_path) if group.rank == 0 else NONE))
    assert resumed[0][0] == resumed[1][0]
    assert resumed[0][1] == job(Group())[1][2:]


def test_the_last_ones_are_kept_and_nothing_else(tmp_path):
    (tmp_path / ".epoch-0001-left.safetensors.partial").write_bytes(b"of a host that is gone")
    names = interrupted(tmp_path, until=5)
    assert [name.split("-")[1] for name in names] == ["0003", "0004"]
    assert len(names) == KEPT


@pytest.mark.parametrize("harm", [lambda content: content[:-1], lambda content: content[:-9] + b"damaged!!"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(tmp_path, harm):
    lines: list[str] = []
    newest = tmp_path / interrupted(tmp_path)[-1]
    newest.write_bytes(harm(newest.read_bytes()))
    digest, log = job(Group(), kept(tmp_path, lines=lines))
    assert lines == [
        f"The checkpoint {newest.name} is damaged and is ignored.",
        "Going on from the checkpoint of epoch 2.",
    ]
    whole, metrics = job(Group())
    assert (digest, log) == (whole, metrics[1:])


def test_with_nothing_but_damaged_checkpoints_training_starts_anew(tmp_path):
    for name in interrupted(tmp_path):
        (tmp_path / name).write_bytes(b"")
    assert job(Group(), kept(tmp_path)) == job(Group())


def test_the_checkpoint_of_another_job_is_told_and_left_alone(tmp_path):
    lines: list[str] = []
    others = interrupted(tmp_path)
    assert job(Group(), kept(tmp_path, lines=lines, name=OTHER_JOB)) == job(Group())
    (line,) = lines
    assert line.startswith(f"2 checkpoint(s) of another job are ignored, {others[-1]} first: their hyperparameters")
    assert {path.name for path in tmp_path.iterdir()} > set(others)


def test_what_is_no_checkpoint_is_left_alone(tmp_path):
    for name in ("notes.txt", "epoch-0009-of-something-else.safetensors", "model.safetensors"):
        (tmp_path / name).touch()
    assert job(Group(), kept(tmp_path)) == job(Group())
    assert {"notes.txt", "model.safetensors"} < {path.name for path in tmp_path.iterdir()}


def test_only_the_first_hosts_disk_counts(tmp_path):
    folders = [tmp_path / "0", tmp_path / "1"]
    for folder, until in zip(folders, (3, 5), strict=True):
        folder.mkdir()
        interrupted(folder, until=until)
    lines: list[list[str]] = [[], []]
    resumed = on_hosts(2, lambda group: job(group, kept(folders[group.rank], lines=lines[group.rank])))
    assert [told[0] for told in lines] == ["Going on from the checkpoint of epoch 2."] * 2
    assert resumed[0][0] == resumed[1][0]


@pytest.mark.parametrize("first", [b"", b"\0", bytes(range(256)) * 5])
def test_bytes_of_the_first_host_are_the_same_everywhere(first):
    given = [first, b"", b"something else"]
    assert on_hosts(3, lambda group: group.bytes_from_first(given[group.rank], device=CPU)) == [first] * 3


def test_a_disk_that_takes_no_checkpoint_ends_no_training(tmp_path):
    lines: list[str] = []
    checkpoints = kept(tmp_path / "folder", lines=lines)
    (tmp_path / "folder").mkdir()

    class Gone(Checkpoints):
        def resume(self, parts, **given):
            progress = checkpoints.resume(parts, **given)
            (tmp_path / "folder").rmdir()
            return progress

        def keep(self, progress, parts):
            checkpoints.keep(progress, parts)

    assert job(Group(), Gone(None, job=JOB, report=print)) == job(Group())
    assert lines == [f"There is no checkpoint of epoch {epoch}: No such file or directory." for epoch in range(1, 6)]


def test_the_scale_of_half_precision_gradients_is_kept():
    def parts(scale: float) -> Parts:
        model = double()
        return Parts(
            model=model,
            optimizer=torch.optim.AdamW(model.parameters()),
            scaler=torch.amp.GradScaler("cpu", init_scale=scale),
        )

    progress = Progress(epoch=7, scores={"validation_loss": float("nan")})
    target = parts(4.0)
    read = fill(target, to_bytes(progress, parts(2.0)))
    assert target.scaler.get_scale() == 2.0
    assert (read.epoch, str(read.scores)) == (7, "{'validation_loss': nan}")


def test_the_fingerprint_is_of_all_that_changes_what_is_learned_and_of_nothing_else():
    def of(settings: Settings = SETTINGS, **changes) -> str:
        given = {"data_digest": "00", "head_only": False, "dtype": torch.float32, "versions": {"torch": "1"}}
        return fingerprint(settings, **{**given, **changes})

    others = [
        of(dataclasses.replace(SETTINGS, learning_rate=0.06)),
        of(dataclasses.replace(SETTINGS, epochs=4)),
        of(data_digest="01"),
        of(head_only=True),
        of(dtype=torch.float64),
        of(versions={"torch": "2"}),
    ]
    assert len({of(), *others}) == 7
    assert of(dataclasses.replace(SETTINGS, host_timeout=5.0)) == of()
