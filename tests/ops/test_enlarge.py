import pytest
import torch
import torch.nn.functional as F

from hrseg.ops.enlarge import blocks, enlarged_rows


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("sizes", [((6, 9), (24, 35)), ((7, 5), (27, 20)), ((1, 1), (4, 3))])
def test_rows_are_those_of_the_whole_map(sizes, layout, aligned):
    small, large = sizes
    maps = torch.randn(2, 5, *small).contiguous(memory_format=layout)
    whole = F.interpolate(maps, large, mode="bilinear", align_corners=aligned)
    for first in range(0, large[0], 3):
        last = min(first + 3, large[0])
        rows = enlarged_rows(maps, (first, last), large, aligned)
        assert torch.allclose(rows, whole[:, :, first:last], atol=1e-5)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_power_of_two_keeps_every_bit(factor):
    maps = torch.randn(1, 7, 11, 13).contiguous(memory_format=torch.channels_last)
    size = (11 * factor, 13 * factor - 1)
    whole = F.interpolate(maps, size, mode="bilinear")
    for first in range(0, size[0], 5):
        last = min(first + 5, size[0])
        assert torch.equal(enlarged_rows(maps, (first, last), size), whole[:, :, first:last])


def test_the_same_size_is_the_map_itself():
    maps = torch.randn(1, 2, 4, 4)
    assert torch.equal(enlarged_rows(maps, (1, 3), (4, 4), True), maps[:, :, 1:3])


@pytest.mark.parametrize(("small", "large"), [(10, 40), (10, 37), (3, 3), (1, 4)])
def test_blocks_cover_every_row_once(small, large):
    covered = [row for first, last in blocks(small, large, 100, 900) for row in range(first, last)]
    assert covered == list(range(large))
