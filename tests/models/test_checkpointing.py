import contextlib
import copy

import pytest
import torch
from torch import nn

from hrseg.errors import ConfigError
from hrseg.losses import WeightedSum
from hrseg.models import create_model
from hrseg.models.checkpointing import Recomputed, parts_of, recompute, unchanged_buffers
from hrseg.models.cost import training_memory

LEVELS = ("blocks", "modules")


def network(level="none", head="v2"):
    torch.manual_seed(0)
    built = create_model("hrnet_w18_small_v1", head, num_classes=3)
    recompute(built, level)
    return built.train()


def two_steps(built, *, bf16=False, forward_all=None):
    """Return losses, gradients and state after two steps of SGD."""
    torch.manual_seed(1)
    image, mask = torch.randn(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    forward_all = forward_all or built.forward_all
    optimizer = torch.optim.SGD(built.parameters(), lr=0.01, momentum=0.9)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        half = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
        with half:
            loss = WeightedSum().total(forward_all(image), mask)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    grads = {name: parameter.grad.clone() for name, parameter in built.named_parameters()}
    return losses, grads, built.state_dict()


def assert_same(mine, theirs):
    assert mine[0] == theirs[0]
    for ours, plain in zip(mine[1:], theirs[1:], strict=True):
        assert list(ours) == list(plain)
        for name, value in plain.items():
            assert torch.equal(ours[name], value), name


@pytest.mark.parametrize(
    ("head", "level", "bf16"),
    [
        ("v2", "blocks", False),
        ("v2", "modules", True),
        ("ocr", "blocks", True),
        ("c1", "modules", False),
    ],
)
def test_two_steps_are_equal_to_the_bit(head, level, bf16):
    # Running means, counters and (in OCR) dropout are among what is compared.
    assert_same(two_steps(network(level, head), bf16=bf16), two_steps(network("none", head), bf16=bf16))


@pytest.mark.parametrize("level", LEVELS)
def test_a_batch_is_counted_once(level):
    built = network(level)
    two_steps(built)
    counters = {int(v) for k, v in built.state_dict().items() if k.endswith("num_batches_tracked")}
    assert counters == {2}


def test_less_is_kept_for_the_backward_pass():
    kept = [training_memory(network(level), (2, 64, 96), bf16=False).activations for level in ("none", *LEVELS)]
    assert kept[1] < 0.45 * kept[0]
    assert kept[2] < 0.8 * kept[1]


def test_what_is_computed_again_is_part_of_the_peak():
    plain, blocks, modules = (
        training_memory(network(level), (2, 64, 96), bf16=True, blocked=True) for level in ("none", *LEVELS)
    )
    # A module is larger than any block; the peak of the plain network is in the loss.
    assert plain.transient < blocks.transient < modules.transient
    assert modules.transient < plain.activations


def test_evaluation_and_copies_are_as_before():
    built, image = network("blocks").eval(), torch.randn(1, 3, 64, 64)
    plain = network().eval()
    with torch.no_grad():
        assert torch.equal(built(image), plain(image))
    copied = copy.deepcopy(built)
    owners = {id(module) for module in copied.modules()}
    assert parts_of(copied)
    assert all(id(part.owner) in owners for part in parts_of(copied))
    assert copied.rewrite()


def test_synchronised_norms_that_come_later_are_found():
    built = network("blocks")
    built = nn.SyncBatchNorm.convert_sync_batchnorm(built)
    block = built.backbone.layer1[0]
    part = vars(block)["forward"]
    assert isinstance(part, Recomputed)
    assert {type(norm) for norm in part._norms} == {nn.SyncBatchNorm}


def test_norms_without_statistics_pass():
    norm = nn.BatchNorm2d(2, track_running_stats=False)
    with unchanged_buffers([norm]):
        assert norm(torch.randn(2, 2, 2, 2)).shape == (2, 2, 2, 2)


def test_levels_and_networks_that_cannot_are_refused():
    with pytest.raises(ConfigError, match="level of checkpointing 'block'"):
        recompute(network(), "block")
    with pytest.raises(ConfigError, match="checkpointing=blocks is for networks with an HRNet"):
        recompute(create_model("resnet18", "unet", num_classes=2), "blocks")
