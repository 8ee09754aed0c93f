import contextlib

import pytest
import torch
import torch.nn.functional as F

from hrseg.models import create_model
from hrseg.models.cost import training_memory
from hrseg.ops.fused_head import using


def kept_for_backward(network, batch, bf16):
    """Add up what a real forward pass saves."""
    own = {value.untyped_storage().data_ptr() for value in network.state_dict().values()}
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    half = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
    count, height, width = batch
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, half, using("plain"):  # the estimate is of the form that keeps the most
        mask = torch.zeros(count, height, width, dtype=torch.int64)
        for output in network.train().forward_all(torch.randn(count, 3, height, width)).values():
            F.cross_entropy(network.upsample(output, (height, width)), mask)
    return sum(storage.nbytes() for place, storage in kept.items() if place not in own)


@pytest.mark.parametrize(("head", "bf16"), [("v2", False), ("v2", True), ("ocr", False), ("ocr", True)])
def test_activations_equal_those_of_a_real_pass(head, bf16):
    network = create_model("hrnet_w18_small_v1", head, num_classes=3)
    estimate = training_memory(network, (2, 64, 96), bf16=bf16).activations
    assert estimate == pytest.approx(kept_for_backward(network, (2, 64, 96), bf16), rel=0.01)


def test_weights_and_slots_are_four_bytes_each():
    network = create_model("hrnet_w18_small_v1", num_classes=3)
    count = sum(parameter.numel() for parameter in network.parameters())
    memory = training_memory(network, (2, 32, 32), bf16=False, slots=3)
    assert (memory.weights, memory.optimizer) == (8 * count, 12 * count)
    assert memory.transient == 2 * 4 * (2 * 3 * 32 * 32)
    assert network.backbone.conv1.weight.grad is None
