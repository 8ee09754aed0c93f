"""Heads against their sources and answers worked by hand."""

import pytest
import timm
import torch

from hrseg.errors import ConfigError
from hrseg.models import HEADS, create_model, summary
from hrseg.models.heads import Attend, HeadC1, HeadOCR, HeadV2p, gather

SMALL = "hrnet_w18_small_v1"
WIDE = [16, 32, 64, 128]


def on_meta(backbone, head, classes=19):
    with torch.device("meta"):
        return create_model(backbone, head, classes)


def branches_of(channels, size=(16, 24)):
    torch.manual_seed(0)
    return [torch.rand(2, wide, size[0] // 2**i, size[1] // 2**i) for i, wide in enumerate(channels)]


# Counted on the official implementation: parameters, and multiply-adds at 1024x2048 in units of 1e9.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "parameters", "multiply_adds"),
    [(19, 70_372_678, 1297.9), (59, 70_422_038, 1309.7), (150, 70_534_332, 1336.7)],
)
def test_ocr_costs_what_the_official_code_costs(classes, parameters, multiply_adds):
    cost = summary(on_meta("hrnet_w48", "ocr", classes), (1024, 2048))
    assert (cost.parameters, round(cost.multiply_adds / 1e9, 1)) == (parameters, multiply_adds)


def test_ocr_has_the_official_1890_names():
    keys = on_meta("hrnet_w48", "ocr").state_dict().keys()
    assert len(keys) == 1890
    block = "head.ocr_distri_head.object_context_block"
    for key in (
        "head.conv3x3_ocr.0.bias",
        "head.conv3x3_ocr.1.running_var",
        "head.aux_head.3.weight",
        f"{block}.f_pixel.0.weight",
        f"{block}.f_pixel.1.0.weight",
        f"{block}.f_object.2.weight",
        f"{block}.f_object.3.0.bias",
        f"{block}.f_down.1.0.running_mean",
        f"{block}.f_up.0.weight",
        "head.ocr_distri_head.conv_bn_dropout.1.0.weight",
        "head.cls_head.bias",
    ):
        assert key in keys
    assert f"{block}.f_up.0.bias" not in keys


def test_gather_averages_the_pixels_of_each_class():
    pixels = torch.tensor([[[[1.0, 3.0, 10.0, 20.0]], [[0.0, 2.0, 4.0, 8.0]]]])  # (1, 2, 1, 4)
    sure = torch.tensor([[[[99.0, 99.0, -99.0, -99.0]], [[-99.0, -99.0, -99.0, 99.0]]]])
    objects = gather(pixels, sure)
    assert objects.shape == (1, 2, 2, 1)
    assert torch.allclose(objects[0, :, 0, 0], torch.tensor([2.0, 1.0]))  # mean of pixels 0 and 1
    assert torch.allclose(objects[0, :, 1, 0], torch.tensor([20.0, 8.0]))  # pixel 3 alone


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_gather_of_many_pixels_keeps_its_sum_in_half_precision(half):
    pixels = torch.ones(1, 2, 500, 1000, dtype=half)
    with torch.autocast("cpu", torch.bfloat16):
        objects = gather(pixels, torch.zeros(1, 3, 500, 1000, dtype=half))
    assert objects.dtype == half
    # one share is 2e-6, which float16 rounds up by more than one per cent
    assert (objects.float() - 1).abs().max() < 2e-3


def test_attention_to_a_single_class_gives_its_vector_to_every_pixel():
    attend = Attend(8, 4).eval()
    pixels, objects = torch.rand(2, 8, 3, 5), torch.rand(2, 8, 1, 1)
    expected = attend.f_up(attend.f_down(objects)).expand(2, 8, 3, 5)
    assert torch.allclose(attend(pixels, objects), expected, atol=1e-6)


def test_attention_is_float32_under_autocast(monkeypatch):
    seen = []
    softmax = torch.Tensor.softmax
    monkeypatch.setattr(torch.Tensor, "softmax", lambda x, dim: (seen.append(x.dtype), softmax(x, dim))[1])
    head = HeadOCR(WIDE, 3, "bilinear").eval()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head(branches_of(WIDE))
    assert seen == [torch.float32, torch.float32]
    assert outputs["main"].dtype == torch.bfloat16


def test_ocr_drops_whole_channels_while_it_learns_only():
    head = HeadOCR(WIDE, 3, "bilinear")
    dropout = head.ocr_distri_head.conv_bn_dropout[-1]
    assert isinstance(dropout, torch.nn.Dropout2d)
    assert dropout.p == 0.05


def test_official_start_leaves_ocr_to_torch_and_scratch_does_not():
    torch.manual_seed(0)
    official, scratch = (create_model(SMALL, "ocr", 3, init=init) for init in ("official", "kaiming"))
    weights = [network.head.conv3x3_ocr[0].weight for network in (official, scratch)]
    fan = 240 * 9
    assert weights[0].abs().max() <= fan**-0.5  # torch's uniform rule
    assert weights[1].std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.05)
    assert official.backbone.conv1.weight.std() < 0.002


def test_c1_has_the_names_and_shapes_of_its_source():
    shapes = {key: tuple(value.shape) for key, value in HeadC1([48, 96, 192, 384], 150, "bilinear").named_parameters()}
    assert shapes == {
        "cbr.0.weight": (180, 720, 3, 3),
        "cbr.1.weight": (180,),
        "cbr.1.bias": (180,),
        "conv_last.weight": (150, 180, 1, 1),
        "conv_last.bias": (150,),
    }


def test_v1_reads_the_finest_branch_alone():
    network = create_model(SMALL, "v1", 3).eval()
    branches = network.forward_branches(torch.rand(1, 3, 64, 64))
    logits = network.head(branches)["main"]
    assert torch.equal(network.head([branches[0], *(torch.rand_like(x) for x in branches[1:])])["main"], logits)
    assert network.head.last_layer[0].weight.shape == (16, 16, 1, 1)


@pytest.mark.slow
def test_v1_takes_every_published_backbone_and_learns_only_what_it_reads():
    v1, v2 = on_meta("hrnet_w18_small_v2", "v1"), on_meta("hrnet_w18_small_v2", "v2")
    assert v1.backbone.state_dict().keys() == v2.backbone.state_dict().keys()
    frozen = {name for name, p in v1.named_parameters() if not p.requires_grad}
    last = "backbone.stage4.1.fuse_layers"
    unread = {name for name, _ in v1.named_parameters() if name.startswith((f"{last}.1", f"{last}.2", f"{last}.3"))}
    assert frozen == unread
    assert unread
    assert summary(v1, (64, 64)).multiply_adds < summary(v2, (64, 64)).multiply_adds
    assert all(p.requires_grad for p in v2.parameters())


def test_v1_and_v2_share_what_the_backbone_gives_on_the_finest_branch():
    torch.manual_seed(0)
    v2, v1 = (create_model(SMALL, head, 3).eval() for head in ("v2", "v1"))
    v1.backbone.load_state_dict(v2.backbone.state_dict())
    image = torch.rand(1, 3, 64, 64)
    ours, theirs = v1.forward_branches(image), v2.forward_branches(image)
    assert torch.equal(ours[0], theirs[0])
    assert not torch.allclose(ours[1], theirs[1])  # before the fusion, which nobody reads


@pytest.mark.parametrize(("name", "ours"), [("hrnet_w18_small", SMALL), ("hrnet_w18_small_v2", "hrnet_w18_small_v2")])
def test_classification_equals_timm(name, ours):
    torch.manual_seed(0)
    theirs = timm.create_model(name, pretrained=False).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    network = create_model(ours, "classification", 1000, "nearest").eval()
    heads = tuple(name for name, _ in network.head.named_children())
    network.load_state_dict(
        {
            f"{'head' if key.startswith(heads) else 'backbone'}.{key}": value
            for key, value in theirs.state_dict().items()
        }
    )
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected, logits = theirs(image), network(image)
    assert logits.shape == (2, 1000)
    assert (logits - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.slow
def test_classification_costs_what_timm_costs():
    cost = summary(on_meta("hrnet_w48", "classification", 1000), (224, 224))
    assert (round(cost.parameters / 1e6, 2), round(cost.multiply_adds / 1e9, 2)) == (77.47, 17.28)


def test_v2p_is_a_pyramid_of_five_levels():
    network = create_model(SMALL, "v2p").eval()
    levels = network(torch.rand(1, 3, 97, 101))
    sizes = [(25, 26), (13, 13), (7, 7), (4, 4), (2, 2)]
    assert [tuple(level.shape) for level in levels] == [(1, 256, *size) for size in sizes]


def test_v2p_pools_plain_means_also_at_the_border():
    head = HeadV2p([1, 1, 1, 1], 0, "bilinear").eval()
    torch.nn.init.constant_(head.reduction_conv.weight, 0.25)
    torch.nn.init.zeros_(head.reduction_conv.bias)
    for conv in head.fpn_convs:
        torch.nn.init.dirac_(conv.weight)
        torch.nn.init.zeros_(conv.bias)
    ones = [torch.ones(1, 1, -(-5 // 2**i), -(-7 // 2**i)) for i in range(4)]
    for level in head(ones):
        assert torch.equal(level, torch.ones_like(level))


@pytest.mark.parametrize("head", [name for name, row in HEADS.items() if row.gives != "pixels"])
def test_other_heads_build_again_from_their_spec(head):
    network = create_model(SMALL, head, 7).eval()
    twin = create_model(**network.spec).eval()
    twin.load_state_dict(network.state_dict())
    image = torch.rand(1, 3, 40, 40)
    one, two = network(image), twin(image)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert len(network.forward_branches(image)) == 4
    assert not hasattr(network, "forward_all")


def test_options_of_an_hrnet_are_refused_under_an_encoder():
    with pytest.raises(ConfigError, match="exchange is final, but head 'unet' stands on no HRNet"):
        create_model("resnet18", "unet", 3, exchange="final")
