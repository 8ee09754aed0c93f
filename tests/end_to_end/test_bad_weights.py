"""`hrseg weights import` on files that must stay shut: exit code 2, one paragraph, nothing written, no code run."""

import pytest

from hrseg.cli import EXIT_USAGE, main
from tests.weights.bad_files import MARK, write_all


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("zoo")
    return folder, write_all(folder)


@pytest.mark.slow
def test_every_bad_file_ends_in_one_paragraph(zoo, tmp_path, monkeypatch, capsys):
    folder, words = zoo
    monkeypatch.chdir(folder)
    for name, word in words.items():
        code = main(["weights", "import", name, "--out", str(tmp_path / "out.safetensors")])
        said = capsys.readouterr()
        assert (code, said.out) == (EXIT_USAGE, ""), (name, said)
        assert said.err.count("hrseg: ") == 1, (name, said.err)
        assert "Traceback" not in said.err, name
        assert "".join(word.split()) in "".join(said.err.split()), (name, said.err)
    assert list(tmp_path.iterdir()) == []
    assert not (folder / MARK).exists()


def test_a_bad_half_of_a_pair_is_refused_as_well(zoo, tmp_path, capsys):
    folder, _ = zoo
    files = [str(folder / name) for name in ("evil_zip.pth", "evil_meta.pth")]
    assert main(["weights", "import", *files, "--out", str(tmp_path / "c1.safetensors")]) == EXIT_USAGE
    assert "system" in capsys.readouterr().err


def test_predict_and_fit_refuse_them_too(zoo, tmp_path, monkeypatch, capsys):
    folder, _ = zoo
    monkeypatch.chdir(tmp_path)
    image = str(folder / "photo.pth")
    assert main(["predict", image, "--model", str(folder / "evil_zip.pth")]) == EXIT_USAGE
    assert "system" in capsys.readouterr().err
    words = ["--config", "demo", "data.scenes=4"]
    words += [f"model.weights={folder / 'page.pth'}", "trainer.accelerator=cpu"]
    assert main(["fit", *words]) == EXIT_USAGE
    assert "is a web page" in " ".join(capsys.readouterr().err.split())
