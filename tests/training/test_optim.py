import copy

import pytest
import torch
from torch import nn

from hrseg.config import load_config
from hrseg.errors import ConfigError, TrainingError
from hrseg.labels import load_labels
from hrseg.models import create_model
from hrseg.training.dry_run import plan
from hrseg.training.optim import (
    Ema,
    build_optimizer,
    build_scheduler,
    can_fuse,
    freeze_backbone,
    norms_and_biases,
    parameter_groups,
    poly_factor,
    set_frozen_to_eval,
)
from hrseg.training.task import SegmentationTask
from tests.small import WORDS, small


def weight(value: float, lr: float = 0.1, **group: float) -> dict[str, object]:
    """Return a group of one weight whose gradient is 1."""
    parameter = nn.Parameter(torch.tensor([value]))
    parameter.grad = torch.ones(1)
    return {"params": [parameter], "lr": lr, **group}


def rates_of(optimizer, scheduler, steps: int) -> list[list[float]]:
    """Return the learning rates that each of the next optimizer steps uses."""
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


# Parameter groups


@pytest.mark.parametrize("head_lr_factor", [1.0, 10.0])
@pytest.mark.parametrize("no_decay_norms", [False, True])
def test_every_parameter_is_in_exactly_one_group(tiny_network, head_lr_factor, no_decay_norms):
    groups = parameter_groups(
        tiny_network,
        lr=0.1,
        weight_decay=0.01,
        head_lr_factor=head_lr_factor,
        no_decay=norms_and_biases(tiny_network) if no_decay_norms else (),
    )
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in tiny_network.parameters()}


def test_official_recipe_is_one_group_with_decay_on_norms_too(tiny_network):
    (group,) = parameter_groups(tiny_network, lr=0.1, weight_decay=0.01)
    assert (group["name"], group["lr"], group["weight_decay"]) == ("network", 0.1, 0.01)


def test_head_factor_and_no_decay_set_four_groups_apart(tiny_network):
    groups = parameter_groups(
        tiny_network,
        lr=0.1,
        weight_decay=0.01,
        head_lr_factor=10.0,
        no_decay=norms_and_biases(tiny_network),
    )
    settings = {group["name"]: (group["lr"], group["weight_decay"]) for group in groups}
    assert settings == {
        "backbone": (0.1, 0.01),
        "backbone_no_decay": (0.1, 0.0),
        "head": (1.0, 0.01),
        "head_no_decay": (1.0, 0.0),
    }
    members = {group["name"]: group["params"] for group in groups}
    assert all(parameter.ndim == 4 for parameter in members["backbone"] + members["head"])
    assert all(parameter.ndim == 1 for parameter in members["backbone_no_decay"] + members["head_no_decay"])
    head = {id(parameter) for parameter in tiny_network.head_parameters()}
    assert {id(parameter) for parameter in members["head"] + members["head_no_decay"]} == head


def test_smp_networks_are_grouped_alike():
    network = create_model("resnet18", head="fpn", num_classes=3)
    groups = parameter_groups(
        network,
        lr=0.1,
        weight_decay=0.01,
        head_lr_factor=2.0,
        no_decay=norms_and_biases(network),
    )
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))
    assert {group["lr"] for group in groups} == {0.1, 0.2}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr": 0.0}, "optim.lr is 0.0"),
        ({"lr": float("nan")}, "optim.lr is nan"),
        ({"weight_decay": -1.0}, "optim.weight_decay is -1.0"),
        ({"head_lr_factor": 0.0}, "optim.head_lr_factor is 0.0"),
    ],
)
def test_rates_that_cannot_work_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        parameter_groups(nn.Linear(1, 1), **{"lr": 0.1, "weight_decay": 0.0, **settings})


# Optimizers


def test_two_sgd_steps_by_hand():
    group = weight(1.0, weight_decay=0.1)
    optimizer = build_optimizer("sgd", [group], lr=0.1, momentum=0.9)
    optimizer.step()  # velocity 1 + 0.1 x 1 = 1.1; weight 1 - 0.11 = 0.89
    optimizer.step()  # velocity 0.9 x 1.1 + 1 + 0.089 = 2.079; weight 0.89 - 0.2079
    assert group["params"][0].item() == pytest.approx(0.6821)


def test_first_adamw_step_by_hand():
    group = weight(1.0, weight_decay=0.1)
    optimizer = build_optimizer("adamw", [group], lr=0.1, momentum=0.8)
    optimizer.step()  # decay 1 - 0.1 x 0.1, then the rate times the gradient's sign
    assert group["params"][0].item() == pytest.approx(0.99 - 0.1)
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.999)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_fused_steps_go_where_plain_ones_go(tiny_network, name):
    networks = [tiny_network, copy.deepcopy(tiny_network)]
    for network, fused in zip(networks, (None, True), strict=True):
        torch.manual_seed(0)
        groups = parameter_groups(network, lr=0.1, weight_decay=0.01, head_lr_factor=10.0)
        assert can_fuse(groups) is True
        optimizer = build_optimizer(name, groups, lr=0.1, fused=fused)
        for _ in range(3):
            for parameter in network.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()
    for mine, plain in zip(networks[1].parameters(), networks[0].parameters(), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-5, atol=1e-6)


def test_parameters_on_other_devices_are_not_fused():
    assert can_fuse([{"params": [nn.Parameter(torch.ones(1, device="meta"))]}]) is None


def test_unknown_optimizer_and_momentum_are_refused():
    with pytest.raises(ConfigError, match=r"Unknown optimizer 'adam'.*Did you mean 'adamw'"):
        build_optimizer("adam", [weight(1.0)], lr=0.1)
    with pytest.raises(ConfigError, match=r"optim.momentum is 1.0"):
        build_optimizer("sgd", [weight(1.0)], lr=0.1, momentum=1.0)


# Schedule


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1.0), (1, 0.9095325), (5, 0.5358867), (9, 0.1258925), (10, 0.0), (11, 0.0)],
)
def test_poly_by_hand(step, expected):
    # (1 - step / 10) ^ 0.9
    assert poly_factor(step, max_steps=10) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.001), (1, 0.25075), (2, 0.5005), (4, 1.0), (7, 0.5), (10, 0.0)])
def test_warm_up_by_hand(step, expected):
    # 0.001 to 1 in four steps, then a straight line over the six that are left
    factor = poly_factor(step, max_steps=10, power=1.0, warmup_steps=4)
    assert factor == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (5, 0.6), (10, 0.2), (20, 0.2)])
def test_floor_by_hand(step, expected):
    assert poly_factor(step, max_steps=10, power=1.0, min_factor=0.2) == pytest.approx(expected)


def test_scheduler_gives_each_optimizer_step_its_rate_and_all_groups_the_same_end():
    optimizer = build_optimizer("sgd", [weight(1.0, lr=0.1), weight(1.0, lr=1.0)], lr=0.1)
    scheduler = build_scheduler(optimizer, max_steps=4, power=1.0, min_lr=0.02)
    rates = rates_of(optimizer, scheduler, 6)
    assert [rate[0] for rate in rates] == pytest.approx([0.1, 0.08, 0.06, 0.04, 0.02, 0.02])
    assert [rate[1] for rate in rates] == pytest.approx([1.0, 0.755, 0.51, 0.265, 0.02, 0.02])


def test_resumed_schedule_goes_on_where_it_was():
    def fresh():
        optimizer = build_optimizer("sgd", [weight(1.0)], lr=0.1)
        return optimizer, build_scheduler(optimizer, max_steps=8, warmup_steps=3)

    expected = rates_of(*fresh(), 8)
    first, second = fresh(), fresh()
    rates_of(*first, 5)
    for resumed, saved in zip(second, first, strict=True):
        resumed.load_state_dict(saved.state_dict())
    assert rates_of(*second, 3) == expected[5:]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_steps": 0}, "The run has 0 optimizer steps"),
        ({"warmup_steps": 10}, "optim.warmup_steps is 10, the run has 10 optimizer steps"),
        ({"power": -1.0}, "optim.poly_power is -1.0"),
        ({"min_lr": 0.2}, "optim.min_lr is 0.2, the lowest learning rate 0.1"),
    ],
)
def test_schedules_that_cannot_work_are_refused(settings, words):
    optimizer = build_optimizer("sgd", [weight(1.0)], lr=0.1)
    with pytest.raises(ConfigError, match=words):
        build_scheduler(optimizer, **{"max_steps": 10, **settings})


# Moving average


def fill(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def test_average_by_hand():
    network = nn.Linear(1, 1)
    fill(network, 1.0)
    ema = Ema(network, decay=0.15)
    fill(network, 2.0)
    ema.update(network)  # decay 1/10: 0.1 x 1 + 0.9 x 2
    assert ema.module.weight.item() == pytest.approx(1.9)
    fill(network, 3.0)
    ema.update(network)  # 2/11 exceeds 0.15: 0.15 x 1.9 + 0.85 x 3
    assert ema.module.weight.item() == pytest.approx(2.835)
    assert network.weight.item() == 3


def test_average_takes_running_means_and_copies_counters():
    network = nn.BatchNorm2d(2)
    ema = Ema(network, decay=0.999)
    network(torch.full((1, 2, 2, 2), 10.0))  # running mean 0.1 x 10 = 1
    ema.update(network)
    assert ema.module.running_mean.tolist() == pytest.approx([0.9, 0.9])
    assert ema.module.num_batches_tracked.item() == 1


def test_average_is_not_trained_and_stays_in_evaluation_mode():
    ema = Ema(nn.BatchNorm2d(2), decay=0.9)
    task = nn.ModuleList([ema]).train()
    assert not ema.module.training
    assert not any(parameter.requires_grad for parameter in task.parameters())


@pytest.mark.slow
def test_average_predicts(tiny_network):
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(Ema(tiny_network, decay=0.9)(image), tiny_network(image))


def test_average_goes_on_after_a_checkpoint(tmp_path):
    network = nn.Linear(2, 2)
    first, second = Ema(network, decay=0.999), Ema(network, decay=0.999)
    fill(network, 5.0)
    first.update(network)
    torch.save(first.state_dict(), tmp_path / "ema.pt")
    second.load_state_dict(torch.load(tmp_path / "ema.pt", weights_only=True))
    fill(network, 7.0)
    for ema in (first, second):
        ema.update(network)
    assert second.updates == 2
    assert torch.equal(first.module.weight, second.module.weight)


def test_average_keys_are_the_network_s_under_module():
    network = nn.Linear(2, 2)
    keys = [key for key in Ema(network, decay=0.9).state_dict() if key.startswith("module.")]
    assert keys == [f"module.{key}" for key in network.state_dict()]


def test_average_of_sharded_weights_is_refused():
    ema = Ema(nn.Linear(4, 4), decay=0.9)
    with pytest.raises(TrainingError, match=r"optim.ema_decay=null"):
        ema.update(nn.Linear(2, 4))


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decay_outside_zero_to_one_is_refused(decay):
    with pytest.raises(ConfigError, match=r"optim.ema_decay is"):
        Ema(nn.Linear(1, 1), decay)


def test_a_schedule_that_comes_a_step_late_repeats_the_base_rate() -> None:
    """The official loop sets the rate after step i to (1 - i / N)^0.9, so step 1 still has the base rate."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = build_scheduler(optimizer, max_steps=10, lag_steps=1)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    theirs = [0.01] + [0.01 * (1 - i / 10) ** 0.9 for i in range(9)]
    assert rates == pytest.approx(theirs)


def test_minimum_rate_follows_mmengine() -> None:
    """mmengine's PolyLR with eta_min 1e-4 at half way: (0.01 - 1e-4) * 0.5^0.9 + 1e-4."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = build_scheduler(optimizer, max_steps=4, min_lr=1e-4)
    for _ in range(2):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx((0.01 - 1e-4) * 0.5**0.9 + 1e-4)


# Freezing


def test_a_frozen_backbone_is_in_no_group_and_keeps_its_statistics(tiny_network):
    freeze_backbone(tiny_network, "backbone")
    task = SegmentationTask(tiny_network, load_labels("camvid"))
    frozen = [name for name, p in tiny_network.named_parameters() if not p.requires_grad]
    assert all(name.startswith("backbone.") for name in frozen)
    assert all(p.requires_grad for p in tiny_network.head_parameters())
    (group,) = parameter_groups(tiny_network, lr=0.1, weight_decay=0.0)
    assert {id(p) for p in group["params"]} == {id(p) for p in tiny_network.head_parameters()}
    for mode in (True, False, True):
        task.train(mode)
        assert not any(module.training for module in tiny_network.backbone.modules())
        assert all(module.training is mode for module in tiny_network.head.modules())


def test_frozen_norms_keep_weights_and_statistics_while_convolutions_learn(tiny_network):
    freeze_backbone(tiny_network, "norms")
    task = SegmentationTask(tiny_network, load_labels("camvid"))
    before = copy.deepcopy(tiny_network.state_dict())
    groups = parameter_groups(tiny_network, lr=0.1, weight_decay=0.1)
    optimizer = build_optimizer("sgd", groups, lr=0.1)
    task.train()
    tiny_network(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimizer.step()
    changed = {k for k, v in tiny_network.state_dict().items() if not torch.equal(v, before[k])}
    norms = {name for name, m in tiny_network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    of_norms = {key for key in changed if key.rpartition(".")[0] in norms}
    assert of_norms
    assert all(key.startswith("head.") for key in of_norms)
    assert "backbone.conv1.weight" in changed


def test_norms_stay_frozen_after_lightning_makes_them_synchronized(tiny_network):
    freeze_backbone(tiny_network, "norms")
    network = nn.SyncBatchNorm.convert_sync_batchnorm(tiny_network).train()
    set_frozen_to_eval(network)
    norms = [m for m in network.backbone.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)


def test_freezing_needs_weights_to_start_from():
    with pytest.raises(ConfigError, match=r"would keep random weights. Set model\.weights"):
        load_config(None, [*WORDS, "model.freeze=norms"])


@pytest.mark.slow
def test_a_dry_run_counts_the_parameters_that_train(tmp_path):
    network = create_model("hrnet_w18_small_v1", num_classes=9)
    head = sum(p.numel() for p in network.head_parameters())
    config = small(tmp_path, "model.freeze=backbone", "model.weights=hrnet_w18_small_v1.camvid")
    assert plan(config).trained == head
    assert f", {head:,} of them trained" in plan(config).text()
