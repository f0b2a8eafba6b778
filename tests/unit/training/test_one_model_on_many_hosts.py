"""N hosts train the model that one host would: proven in float64, where only a mistake makes a difference."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from small_training import CPU, DATA, NONE, SETTINGS, double, image_set, place
from thread_group import on_hosts
from torch import nn
from torch.nn import functional

from kennel.training.backbones import Network
from kennel.training.data import ImageSet, epoch_batches, shard
from kennel.training.export import weights_digest
from kennel.training.group import Group
from kennel.training.job import assert_same_weights
from kennel.training.loop import Diverged, evaluate, learning_rate, train
from kennel.training.normalization import globalize
from kennel.training.settings import Optimizer


def job(group: Group) -> tuple[list[str], str, dict[str, torch.Tensor]]:
    lines: list[str] = []
    network = Network(model=double(), head="fc")
    if group.world > 1:
        globalize(network.model, group)
    train(
        network,
        DATA,
        SETTINGS,
        place=place(group),
        head_only=False,
        checkpoints=NONE,
        report=lines.append,
        clock=lambda: 0.0,
    )
    return lines, weights_digest(network.model), network.model.state_dict()


@pytest.fixture(scope="module")
def alone() -> tuple[list[str], str, dict[str, torch.Tensor]]:
    return job(Group())


@pytest.mark.parametrize("world", [2, 3])
def test_hosts_end_with_the_weights_that_one_host_alone_would_have(world, alone):
    results = on_hosts(world, job)
    for _, _, weights in results:
        for name, tensor in alone[2].items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-6, atol=1e-8, msg=name)


def test_hosts_hold_bit_identical_weights():
    assert len({digest for _, digest, _ in on_hosts(3, job)}) == 1


def test_the_metrics_of_several_hosts_are_those_of_one(alone):
    lines = on_hosts(2, job)[1][0]
    assert len(lines) == SETTINGS.epochs
    assert lines == alone[0]


def test_independent_hosts_would_be_noticed(alone):
    """The classic mistake, made on purpose: everybody trains on its own shard and nobody talks."""

    def mute(group: Group) -> tuple[str, torch.Tensor]:
        silent = Group(rank=group.rank, world=1)
        silent.world = group.world
        silent.sum_ = lambda tensor: tensor
        silent.sum_gradients_ = lambda parameters: None
        silent.bytes_from_first = lambda content, device: content
        network = Network(model=double(), head="fc")
        train(
            network,
            DATA,
            SETTINGS,
            place=place(silent),
            head_only=False,
            checkpoints=NONE,
            report=lambda _: None,
            clock=lambda: 0.0,
        )
        return weights_digest(network.model), network.model.state_dict()["fc.weight"]

    (first, weights), (second, _) = on_hosts(2, mute)
    assert first != second
    assert not torch.allclose(weights, alone[2]["fc.weight"], rtol=1e-3)


def test_evaluation_counts_every_image_once_whatever_the_number_of_hosts():
    def scores(group: Group):
        return evaluate(Network(model=double(), head="fc"), DATA.splits["valid"], SETTINGS, place=place(group))

    one = scores(Group())
    for world in (2, 4):
        for many in on_hosts(world, scores):
            assert many.accuracy == one.accuracy
            assert many.loss == pytest.approx(one.loss, rel=1e-6)


def test_a_host_without_an_image_of_a_split_still_takes_part():
    tiny = ImageSet(items=DATA.splits["test"].items[:1], short_side=37, pixels=DATA.splits["test"].pixels[:1])

    def scores(group: Group):
        return evaluate(Network(model=double(), head="fc"), tiny, SETTINGS, place=place(group))

    assert on_hosts(3, scores) == [scores(Group())] * 3


def test_batch_normalization_over_hosts_is_batch_normalization_over_the_whole_batch():
    torch.manual_seed(1)
    images = torch.randn(7, 4, 5, 5, dtype=torch.float64) * 3 + 100
    target = torch.randn(7, 4, 5, 5, dtype=torch.float64)
    plain = nn.BatchNorm2d(4).double()
    nn.init.normal_(plain.weight)
    whole = images.clone().requires_grad_()
    functional.mse_loss(plain(whole), target, reduction="sum").backward()

    def part(group: Group):
        model = nn.Sequential(nn.BatchNorm2d(4).double())
        model[0].weight.data.copy_(plain.weight.data)
        globalize(model, group)
        own = images[group.rank :: group.world].clone().requires_grad_()
        functional.mse_loss(model(own), target[group.rank :: group.world], reduction="sum").backward()
        gradients = [group.gather(parameter.grad).sum(dim=0) for parameter in model.parameters()]
        return own.grad, gradients, model[0].running_mean, model[0].running_var

    for rank, (flow, gradients, mean, variance) in enumerate(on_hosts(3, part)):
        torch.testing.assert_close(flow, whole.grad[rank::3])
        torch.testing.assert_close(gradients, [parameter.grad for parameter in plain.parameters()])
        torch.testing.assert_close(mean, plain.running_mean)
        torch.testing.assert_close(variance, plain.running_var)


def test_batch_normalization_keeps_names_so_that_the_artefact_is_unchanged():
    model, wide = double(), double()
    globalize(wide, Group())
    assert list(wide.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize(
    ("count", "batch_size", "world"), [(23, 10, 2), (100, 32, 3), (5, 4, 1), (64, 64, 4), (17, 16, 4)]
)
def test_shards_are_disjoint_and_complete_and_even(count, batch_size, world):
    batches = epoch_batches(count=count, batch_size=batch_size, seed=0, epoch=1)
    shards = [[shard(batch, rank=rank, world=world) for batch in batches] for rank in range(world)]
    seen = np.concatenate([part for own in shards for part in own])
    assert sorted(seen.tolist()) == list(range(count))
    assert max(map(len, batches)) <= batch_size
    assert max(map(len, batches)) - min(map(len, batches)) <= 1
    for step in range(len(batches)):
        sizes = [len(own[step]) for own in shards]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1


def test_the_order_changes_with_epoch_and_seed_and_with_nothing_else():
    def order(**given):
        return np.concatenate(epoch_batches(**{"count": 50, "batch_size": 8, "seed": 1, "epoch": 1, **given})).tolist()

    assert order() == order() == order(batch_size=16)
    assert order() != order(epoch=2)
    assert order() != order(seed=2)


def test_hosts_with_different_weights_are_an_error_and_hosts_with_the_same_are_not():
    def check(group: Group, *, nudge: float) -> str:
        model = double()
        with torch.no_grad():
            model.fc.bias[0] += nudge * group.rank
        try:
            assert_same_weights(model, group, CPU)
        except RuntimeError as error:
            return str(error)
        return ""

    assert on_hosts(2, lambda group: check(group, nudge=0.0)) == ["", ""]
    assert all("different models" in text for text in on_hosts(2, lambda group: check(group, nudge=1e-12)))


def test_a_loss_that_is_no_number_ends_the_job_and_names_the_learning_rate():
    wild = dataclasses.replace(SETTINGS, learning_rate=1e300, optimizer=Optimizer.SGD, warmup=0.0)
    network = Network(model=double(), head="fc")
    with pytest.raises(Diverged, match="learning_rate"):
        train(
            network,
            DATA,
            wild,
            place=place(Group()),
            head_only=False,
            checkpoints=NONE,
            report=lambda _: None,
            clock=lambda: 0.0,
        )


def test_progress_is_told_by_the_clock_and_at_most_twenty_times_an_epoch():
    lines: list[str] = []
    ticks = itertools.count(0, 10)
    many = dataclasses.replace(SETTINGS, epochs=1, batch_size=4)
    held = dataclasses.replace(DATA, splits={**DATA.splits, "train": image_set(200, seed=5)})
    network = Network(model=double(), head="fc")
    train(
        network,
        held,
        many,
        place=place(Group()),
        head_only=False,
        checkpoints=NONE,
        report=lines.append,
        clock=lambda: next(ticks),
    )
    shown = [line for line in lines if line.startswith("kennel-progress")]
    assert 10 <= len(shown) <= 20
    assert shown[0] == "kennel-progress epoch=1/1 step=3/50"


def test_a_frozen_backbone_keeps_weights_and_statistics_while_the_head_learns():
    network = Network(model=double(), head="fc")
    network.freeze_backbone()
    before = {name: tensor.clone() for name, tensor in network.model.state_dict().items()}
    train(
        network,
        DATA,
        SETTINGS,
        place=place(Group()),
        head_only=True,
        checkpoints=NONE,
        report=lambda _: None,
        clock=lambda: 0.0,
    )
    changed = {name for name, tensor in network.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"fc.weight", "fc.bias"}


def test_the_learning_rate_rises_then_falls_to_nothing():
    rates = [learning_rate(SETTINGS, done=done, steps=100) for done in range(100)]
    assert max(rates) == SETTINGS.learning_rate == rates[10]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[0] == pytest.approx(SETTINGS.learning_rate / 10)
    assert rates[-1] < SETTINGS.learning_rate / 1000
