import os
import zipfile

import pytest
import torch

from hrseg.errors import HrsegError, WeightsError
from hrseg.training import resume
from hrseg.training.build import build_run
from hrseg.training.fit import fit
from hrseg.training.resume import prepare_resume
from tests.shapes import STRANGE, changed, nodes
from tests.small import FINISHED, small
from tests.training.conftest import last


@pytest.fixture(scope="module")
def halfway(tmp_path_factory):
    """The folder of a run of which one epoch is done, with a moving average."""
    return fit(small(tmp_path_factory.mktemp("halfway"), *FINISHED, "trainer.max_epochs=1")).run_dir


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def one_paragraph(error) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 1500
    return text


@pytest.mark.slow
def test_a_checkpoint_of_any_shape_is_resumed_or_is_one_paragraph(halfway, monkeypatch):
    config = small(halfway.parent, *FINISHED)
    run = build_run(config, halfway, load=False)
    whole = last(halfway)
    # the weights are many and compared by torch itself
    lean = {key: value for key, value in whole.items() if key != "state_dict"}
    lean["optimizer_states"] = lean["lr_schedulers"] = [{}]
    messages, at = [], set()
    for path in nodes({**lean, "state_dict": {}}):
        for value in [*STRANGE, torch.zeros(3), {"world": [1]}]:
            content = changed({**lean, "state_dict": {}}, path, value)
            if not isinstance(content, dict):
                continue  # read_checkpoint refuses it
            monkeypatch.setattr(resume, "read_checkpoint", lambda _, content=content: content)
            try:
                prepare_resume(run.trainer, halfway / "last.ckpt", config, run.data.labels)
            except HrsegError as error:
                messages.append(str(error))
                at.add(path[:1])
    assert not [text for text in messages if len(text) >= 1500]
    assert not [text[:300] for text in messages if "\n" in text]
    assert {("hrseg",), ("loops",), ("callbacks",), ("global_step",), ("state_dict",)} <= at
    assert {("optimizer_states",), ("lr_schedulers",)} <= at


def group(**changes):
    def change(content):
        content["optimizer_states"][0]["param_groups"][0].update(changes)

    return change


def average(make):
    def change(content):
        state = content["optimizer_states"][0]["state"]
        state[1] = make(state[1])

    return change


def schedule(**changes):
    return lambda content: content["lr_schedulers"][0].update(changes)


HOSTILE = {
    "a rate that is a text": group(lr="fast"),
    "a rate that is no number": group(lr=float("nan")),
    "a flag that is a list": group(nesterov=["x"]),
    "other weights": group(params=[0, 1]),
    "a weight that is a text": group(params="abc"),
    "averages of another shape": average(lambda old: {"momentum_buffer": torch.zeros(3)}),
    "averages of one number": average(lambda old: {"momentum_buffer": torch.zeros(())}),
    "averages that are texts": average(lambda old: {"momentum_buffer": "x"}),
    "a list for averages": average(lambda old: [old]),
    "a schedule without lambdas": lambda content: content["lr_schedulers"][0].pop("lr_lambdas"),
    "a schedule whose method is a number": schedule(step=3),
    "a schedule of another optimizer": schedule(optimizer=3),
    "a schedule with other rates": schedule(base_lrs=[0.1] * 9),
    "a schedule with rates of zero": lambda content: content["lr_schedulers"][0].update(
        base_lrs=[0.0] * len(content["lr_schedulers"][0]["base_lrs"])
    ),
    "a schedule far away": schedule(last_epoch="x"),
    "no schedule": lambda content: content.update(lr_schedulers=[]),
    "no optimizer": lambda content: content.pop("optimizer_states"),
    "weights of another shape": lambda content: content["state_dict"].update(
        {"network.backbone.conv1.weight": torch.zeros(3)}
    ),
    "weights that are texts": lambda content: content["state_dict"].update({"network.backbone.conv1.weight": "x"}),
    "a version that is none": lambda content: content.update({"pytorch-lightning_version": "a b"}),
    "a callback that is a list": lambda content: content["callbacks"].update(KeepBestAndLast=[]),
}


def refused(halfway, how):
    """Resume from a changed last.ckpt; the other files must stay as they are."""
    sound = files(halfway)
    content = last(halfway)
    HOSTILE[how](content)
    torch.save(content, halfway / "last.ckpt")
    before = files(halfway)
    try:
        with pytest.raises(WeightsError, match=r"last\.ckpt cannot be resumed") as error:
            fit(small(halfway.parent, *FINISHED), resume="last")
        one_paragraph(error)
        assert files(halfway) == before
    finally:
        (halfway / "last.ckpt").write_bytes(sound["last.ckpt"])


def test_a_state_of_another_run_is_refused_and_changes_nothing(halfway):
    refused(halfway, "averages of another shape")


@pytest.mark.slow
@pytest.mark.parametrize("how", HOSTILE)
def test_every_hostile_state_is_refused_and_changes_nothing(halfway, how):
    refused(halfway, how)


@pytest.mark.parametrize("kind", ["folder", "pipe", "zip bomb", "other weights", "text"])
def test_what_is_no_checkpoint_is_one_paragraph(tmp_path, kind):
    folder = tmp_path / "small"
    folder.mkdir()
    path = folder / "last.ckpt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "zip bomb":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", bytes(1 << 26))
            archive.writestr("archive/version", b"3\n")
    elif kind == "other weights":
        torch.save({"state_dict": {}}, path)
    else:
        path.write_text("no weights")
    before = files(folder)
    for given in (str(path), str(folder)):
        with pytest.raises(HrsegError) as error:
            fit(small(tmp_path), resume=given)
        assert "last.ckpt" in one_paragraph(error)
    assert files(folder) == before
