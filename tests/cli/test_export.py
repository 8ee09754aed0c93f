"""hrseg models: what there is, and what one costs."""

import pytest

from hrseg.cli import EXIT_OK, EXIT_USAGE, main


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hrnet_w18_small_v1", "--size", "1024", "2048"], ["1,540,819", "33.39 G"]),
        (["hrnet_w18_small_v1", "--head", "ocr", "--classes", "3"], ["with head ocr, 3 classes"]),
        (["hrnet_w18_small_v1", "--exchange", "final"], ["19 classes, exchange final\n"]),
        (["hrnet_w18_small_v1", "--branches-from-start"], ["19 classes, branches_from_start\n"]),
        (["resnet18", "--head", "unet"], ["resnet18 with head unet"]),
    ],
)
def test_the_cost_of_a_network(words, told, capsys):
    assert main(["models", *words]) == EXIT_OK
    page = capsys.readouterr().out
    assert all(text in page for text in told)


def test_heads_and_backbones_are_listed(capsys):
    assert main(["models"]) == EXIT_OK
    page = capsys.readouterr().out
    assert all(name in page for name in ("hrnet_w64", "ocr", "v2p", "classification", "unet"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["hrnet_w48", "--exchange", "finall"], "Did you mean 'final'?"),
        (["resnet18", "--head", "unet", "--exchange", "final"], "stands on no HRNet"),
    ],
)
def test_what_cannot_be_built_is_explained(words, told, capsys):
    assert main(["models", *words]) == EXIT_USAGE
    assert told in " ".join(capsys.readouterr().err.split())
