import pytest
import torch

from hrseg.data.class_mix import mix_classes
from hrseg.data.datamodule import SegmentationData
from hrseg.training.fit import fit
from tests.small import small


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Three images whose pixels say which image and class they come from."""
    mask = torch.tensor([[[0, 1], [2, 3]], [[4, 4], [5, 255]], [[6, 255], [255, 255]]])
    number = torch.arange(3).view(3, 1, 1)
    return (1000.0 * number + mask).unsqueeze(1), mask


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", range(8))
def test_pixels_and_labels_move_together_from_the_next_image(seed):
    image, mask = batch()
    mixed, labels = mix_classes(image, mask, 1.0, generator(seed))
    assert torch.equal(mixed[:, 0] % 1000, labels.float())
    source = mixed[:, 0].div(1000, rounding_mode="floor")
    for i in range(3):
        moved = source[i] != i
        assert set(source[i][moved].tolist()) <= {(i + 1) % 3}
        pasted = mask[(i + 1) % 3][moved].unique()
        assert len(pasted) == [1, 1, 2][i]  # half of 2, 1 and 4 classes, rounded up; 255 never
        assert torch.equal(moved, torch.isin(mask[(i + 1) % 3], pasted))


def test_a_share_of_the_images_changes_and_the_batch_given_does_not():
    image, mask = torch.rand(400, 1, 2, 2), torch.arange(400).view(-1, 1, 1).expand(-1, 2, 2) % 200
    before = image.clone()
    mixed, _ = mix_classes(image, mask, 0.25, generator())
    assert torch.equal(image, before)
    changed = (mixed != image).flatten(1).any(1).float().mean()
    assert changed == pytest.approx(0.25, abs=0.07)  # three standard deviations


def test_nothing_labeled_is_nothing_pasted():
    image, mask = torch.rand(2, 3, 4, 4), torch.full((2, 4, 4), 255)
    mixed, labels = mix_classes(image, mask, 1.0, generator())
    assert torch.equal(mixed, image)
    assert torch.equal(labels, mask)


def test_training_mixes_and_validation_does_not(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("hrseg.data.datamodule.mix_classes", lambda *given: seen.append(given[2:]) or given[:2])
    fit(small(tmp_path, "data.class_mix=0.5", "trainer.max_epochs=1"))
    assert [share for share, _ in seen] == [0.5, 0.5]  # two steps; one validation image
    assert len({drawn.initial_seed() for _, drawn in seen}) == 2
    assert SegmentationData(layout="synthetic").config.class_mix == 0
