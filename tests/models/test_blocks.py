import torch
import torch.nn.functional as F

from hrseg.models.blocks import SameConv2d, enlarge, resize


def test_scaled_resizing_goes_by_the_whole_factor_first():
    row = torch.tensor([[[[0.0, 1.0]]]])
    # 2 → 4 gives 0, 1/4, 3/4, 1; its samples at 1/6, 3/2 and 17/6 follow
    scaled = enlarge(row, (1, 3), 1, "bilinear_scaled").flatten()
    assert torch.allclose(scaled, torch.tensor([1 / 24, 1 / 2, 23 / 24]))
    direct = enlarge(row, (1, 3), 1, "bilinear").flatten()
    assert torch.allclose(direct, torch.tensor([0, 1 / 2, 1]))
    assert torch.equal(enlarge(row, (2, 4), 1, "bilinear_scaled"), resize(row, (2, 4), "bilinear"))


def test_same_padding_looks_ahead_on_even_sizes_only():
    conv = SameConv2d(1, 1, 3, 2, padding=1, bias=False)
    torch.nn.init.ones_(conv.weight)
    assert conv(torch.ones(1, 1, 4, 4)).flatten().tolist() == [9, 6, 6, 4]
    assert conv(torch.ones(1, 1, 3, 3)).flatten().tolist() == [4, 4, 4, 4]
    odd = torch.rand(1, 1, 7, 5)
    assert torch.equal(conv(odd), F.conv2d(odd, conv.weight, stride=2, padding=1))


def test_resize_gives_hand_worked_values():
    row = torch.tensor([[[[0.0, 1.0]]]])
    assert resize(row, (1, 4), "nearest").flatten().tolist() == [0, 0, 1, 1]
    assert resize(row, (1, 4), "bilinear").flatten().tolist() == [0, 0.25, 0.75, 1]
    aligned = resize(row, (1, 4), "bilinear_aligned").flatten()
    assert torch.allclose(aligned, torch.tensor([0, 1 / 3, 2 / 3, 1]))
