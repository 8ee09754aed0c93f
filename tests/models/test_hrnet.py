import pytest
import torch

from hrseg.errors import ConfigError
from hrseg.models import create_model, list_models, summary
from hrseg.models.hrnet import VARIANTS, HRNet

# Counted on the official implementation: parameters with a 19-class head, multiply-adds at 1024x2048 in
# units of 1e9, and parameters of the backbone alone.
OFFICIAL = {
    "hrnet_w18_small_v1": (1_540_819, 33.39, 1_477_920),
    "hrnet_w18_small_v2": (3_939_579, 76.86, 3_860_720),
    "hrnet_w18": (9_641_119, 147.40, 9_562_260),
    "hrnet_w30": (26_024_695, 323.58, 25_812_276),
    "hrnet_w32": (29_546_515, 361.23, 29_305_536),
    "hrnet_w40": (45_894_435, 535.45, 45_521_216),
    "hrnet_w44": (55_424_779, 636.75, 54_974_640),
    "hrnet_w48": (65_859_379, 747.51, 65_325_120),
    "hrnet_w60": (102_588_715, 1136.57, 101_758_896),
    "hrnet_w64": (116_640_339, 1285.18, 115_697_600),
}


def test_every_published_width_is_listed():
    assert set(list_models()) == set(OFFICIAL) == set(VARIANTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFICIAL)
def test_cost_equals_the_official_count(name):
    with torch.device("meta"):
        network = create_model(name, num_classes=19)
    cost = summary(network, (1024, 2048))
    backbone = sum(p.numel() for p in network.backbone.parameters())
    counted = (cost.parameters, round(cost.multiply_adds / 1e9, 2), backbone)
    assert counted == OFFICIAL[name]


def test_w48_has_the_published_1830_backbone_tensors():
    with torch.device("meta"):
        keys = HRNet(VARIANTS["hrnet_w48"]).state_dict().keys()
    assert len(keys) == 1830
    for key in (
        "conv1.weight",
        "layer1.0.downsample.1.running_mean",
        "transition1.0.0.weight",
        "transition1.1.0.1.bias",
        "transition3.3.0.0.weight",
        "stage3.2.branches.1.3.bn2.num_batches_tracked",
        "stage4.2.fuse_layers.0.3.0.weight",
        "stage4.0.fuse_layers.3.0.2.1.running_var",
    ):
        assert key in keys


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (64, 64), (97, 101), (125, 203)])
def test_branches_halve_and_round_up_for_any_size(size):
    network = create_model("hrnet_w18_small_v1", num_classes=2).eval()
    branches = network.forward_branches(torch.rand(1, 3, *size))
    for i, branch in enumerate(branches):
        stride = 4 * 2**i
        assert branch.shape == (1, 16 * 2**i, -(-size[0] // stride), -(-size[1] // stride))


def test_stages_open_one_branch_after_the_other():
    stages = create_model("hrnet_w18_small_v1").eval().backbone.forward_stages(torch.rand(1, 3, 64, 64))
    assert [len(maps) for maps in stages.values()] == [1, 1, 2, 3, 4]
    assert list(stages) == ["stem", "stage1", "stage2", "stage3", "stage4"]


def test_each_resize_policy_is_another_function_on_the_same_weights():
    image = torch.rand(1, 3, 64, 96)
    outputs = []
    for policy in ("bilinear", "bilinear_aligned", "nearest"):
        torch.manual_seed(0)
        network = create_model("hrnet_w18_small_v1", num_classes=3, resize=policy).eval()
        outputs.append(network.forward_all(image)["main"])
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)
    assert not torch.allclose(outputs[0], outputs[2], atol=1e-3)


def test_two_networks_of_different_policy_live_side_by_side():
    torch.manual_seed(0)
    first = create_model("hrnet_w18_small_v1", num_classes=2, resize="bilinear").eval()
    image = torch.rand(1, 3, 40, 40)
    before = first(image)
    create_model("hrnet_w18_small_v1", num_classes=2, resize="bilinear_aligned")
    assert torch.equal(first(image), before)


def test_scratch_initialization_lets_gradients_through_and_official_is_tiny():
    scratch = create_model("hrnet_w18_small_v1", num_classes=2)
    official = create_model("hrnet_w18_small_v1", num_classes=2, init="official")
    assert official.backbone.conv1.weight.std() < 0.002
    # fan out of the first convolution is 64 * 9, so Kaiming's std is sqrt(2 / 576)
    assert abs(scratch.backbone.conv1.weight.std().item() - (2 / 576) ** 0.5) < 0.005


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backbone": "hrnet_w49"}, "Did you mean 'hrnet_w"),
        ({"backbone": "hrnet_w48", "head": "v3"}, "Unknown head 'v3'"),
        ({"backbone": "hrnet_w48", "resize": "bicubic"}, "Resize policies: bilinear"),
        ({"backbone": "hrnet_w48", "num_classes": 0}, "num_classes is 0"),
        ({"backbone": "hrnet_w48", "head": "unet"}, "Use head 'v2'"),
        ({"backbone": "resnet19", "head": "fpn"}, "Did you mean 'resnet1"),
        ({"backbone": "hrnet_w48", "encoder_weights": "imagenet"}, "is for baselines"),
    ],
)
def test_wrong_names_are_explained(arguments, words):
    with pytest.raises(ConfigError, match=words):
        create_model(**arguments)
