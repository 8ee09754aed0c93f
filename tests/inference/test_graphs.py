"""Graphs of fixed buffers, without capture: the code that a GPU would run, but for the capture."""

import torch

from hrseg.inference.graphs import Graphs
from hrseg.inference.prepare import prepare
from hrseg.kernels.lanes import side_by_side


def test_answers_are_the_functions_own_and_do_not_change_later(tiny_network):
    run = prepare(tiny_network, "cpu", "fp32").coarse
    graphs = Graphs(run, capture=False)
    images = [torch.randn(1, 3, 64, 96) for _ in range(2)]
    answers = [graphs(image) for image in images]
    for image, answer in zip(images, answers, strict=True):
        assert torch.equal(answer, run(image))


def test_the_shape_used_longest_ago_is_forgotten():
    seen = []
    graphs = Graphs(lambda x: (seen.append(x), x)[1], capture=False, most=2)
    for side in (1, 2, 1, 3):
        graphs(torch.zeros(1, 3, side, 4))
    assert [key[0][2] for key in graphs.kept] == [1, 3]


def test_tasks_side_by_side_keep_their_order():
    assert [int(x) for x in side_by_side([lambda i=i: torch.tensor(i) for i in range(4)])] == [
        *range(4)
    ]
