import pytest
import torch
from torch import nn

from hrseg.errors import ExportError
from hrseg.export.graph import Pipeline, trace

MEAN, STD = (0.5, 0.25, 0.0), (0.5, 0.25, 1.0)


class Plain(nn.Module):
    """Three classes by the three colors."""

    def forward(self, image):
        return image * 1.0


def test_pixels_become_labels_and_probabilities_by_hand():
    pipeline = Pipeline(Plain(), MEAN, STD, ("probability", "labels", "logits"))
    image = torch.tensor([[[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]], dtype=torch.uint8)
    probability, labels, logits = pipeline(image)
    # (x / 255 - mean) / std
    assert logits[0, :, 0].T.tolist() == [[1, -1, 0], [-1, 3, 0], [-1, -1, 1]]
    assert (labels.dtype, labels[0, 0].tolist()) == (torch.uint8, [0, 1, 2])
    assert torch.allclose(probability, logits.softmax(dim=1).amax(dim=1))


def test_the_plain_profile_normalizes_channels_first_and_gives_all_probabilities():
    pixels = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    (logits,) = Pipeline(Plain(), MEAN, STD, ("logits",))(pixels)
    plain = Pipeline(Plain(), MEAN, STD, ("labels", "probability", "probabilities"), profile="plain")
    labels, probability, probabilities = plain(pixels.permute(0, 3, 1, 2) / 255)
    assert probabilities.shape == (2, 3, 5, 7)
    assert torch.allclose(probabilities, logits.exp() / logits.exp().sum(dim=1, keepdim=True), atol=1e-6)
    assert torch.equal(labels, probabilities.argmax(dim=1))
    assert torch.allclose(probability, probabilities.amax(dim=1))


def test_the_network_is_copied_and_frozen():
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).train()
    pipeline = Pipeline(network, MEAN, STD, ("labels",), dtype=torch.bfloat16)
    assert network.training
    assert network[0].weight.dtype == torch.float32
    assert pipeline.network[0].weight.dtype == torch.bfloat16
    assert pipeline.network[1].weight.dtype == torch.float32
    assert not any(p.requires_grad for p in pipeline.parameters())


def test_one_trace_holds_for_any_batch_and_size_and_names_no_file_of_this_machine():
    pipeline = Pipeline(nn.Conv2d(3, 2, 3, padding=1, stride=1), MEAN, STD, ("labels",))
    program = trace(pipeline)
    for shape in ((1, 40, 50, 3), (3, 65, 33, 3)):
        image = torch.randint(0, 256, shape, dtype=torch.uint8)
        assert torch.equal(program.module()(image)[0], pipeline(image)[0])
    assert not any("stack_trace" in node.meta for node in program.graph.nodes)


def test_a_trace_of_one_size_takes_any_batch_of_it_alone():
    pipeline = Pipeline(nn.Conv2d(3, 2, 3, padding=1), MEAN, STD, ("logits",), profile="plain")
    module = trace(pipeline, (40, 48)).module()
    image = torch.rand(3, 3, 40, 48)
    assert torch.equal(module(image)[0], pipeline(image)[0])
    with pytest.raises((AssertionError, RuntimeError)):
        module(torch.rand(1, 3, 48, 40))


def test_a_network_that_decides_by_its_pixels_is_refused():
    class Deciding(nn.Module):
        def forward(self, image):
            return image if image.sum() > 0 else -image

    with pytest.raises(ExportError, match=r"This Deciding cannot be exported: .*another encoder"):
        trace(Pipeline(Deciding(), MEAN, STD, ("labels",)))
