import argparse
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from hrseg.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, main
from hrseg.cli.main import _parser
from tests.cli.conftest import fake, run_python

VERBS = ["fit", "validate", "test", "compare", "predict", "reproduce", "models", "completion"]
VERBS += ["version", "study", "evaluate", "explain", "submit", "export", "serve"]
VERBS += ["benchmark"]
NOUNS = {
    "config": ["list", "show", "explain"],
    "data": ["check", "demo", "convert", "split", "stats", "browse"],
    "weights": ["list", "info", "pull", "import", "push", "verify"],
}
PAGES = [[], *([v] for v in [*VERBS, *NOUNS]), *([n, v] for n in NOUNS for v in NOUNS[n])]


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_every_verb_has_a_help_page(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == EXIT_OK
    page = capsys.readouterr().out
    assert page.startswith(f"usage: {' '.join(['hrseg', *words])}")
    assert max(map(len, page.splitlines())) <= 100
    assert page.count("\n") > 4
    if words not in ([], ["config"], ["data"], ["weights"], ["version"], ["config", "list"]):
        assert "\n  " + " ".join(["hrseg", *words]) in page or 'eval "$(hrseg' in page


def test_help_and_config_verbs_import_neither_torch_nor_lightning() -> None:
    code = """
import sys
from hrseg.cli import main
for words in (["--help"], ["fit", "--help"], ["config", "list"], ["config", "show", "demo"],
              ["config", "explain", "data"], ["fit", "--config", "demo", "--print-config"],
              ["completion", "bash"], ["version"], ["predict"]):
    main(words)
heavy = {"torch", "lightning", "numpy", "PIL", "cv2", "albumentations"} & set(sys.modules)
sys.exit(f"imported {heavy}" if heavy else 0)
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_no_verb_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main(["config"]) == main(["data"]) == EXIT_OK
    assert "usage: hrseg" in capsys.readouterr().out


def test_python_m_hrseg_is_the_same_program() -> None:
    result = subprocess.run([sys.executable, "-m", "hrseg", "fti"], capture_output=True, text=True, timeout=60)
    assert result.returncode == EXIT_USAGE
    assert "Did you mean 'fit'?" in " ".join(result.stderr.split())  # whatever lines it was cut into


# Words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fti"], "Unknown verb 'fti'."),
        (["config", "shwo"], "Did you mean 'show'?"),
        (["fit"], "No recipe given"),
        (["fit", "demo"], "No recipe given, try: hrseg fit --config demo."),
        (["fit", "--confg", "demo"], "Did you mean '--config'?"),
        (["fit", "--config"], "Argument -c/--config: expected one argument."),
        (["fit", "-c", "dmo"], "Did you mean 'demo'?"),
        (["fit", "-c", "demo", "lr=3"], "lr is not an option. Did you mean 'optim.lr'?"),
        (["fit", "lr=3", "-c", "demo"], "lr is not an option. Did you mean 'optim.lr'?"),
        (["fit", "-c", "demo", "--data.crop"], "--data.crop needs a value"),
        (["predict"], "No image given."),
        (
            ["predict", "x.png", "--precision", "fp17"],
            "--precision does not take 'fp17'. It takes: ",
        ),
        (["predict", "x.png", "--window", "0", "8"], "'0' is not a whole number above 0"),
        (["predict", "x.png", "--zoom"], "hrseg predict has no argument '--zoom'."),
        (["version", "now"], "hrseg version has no argument 'now'."),
        (["config", "explain", "data.corp"], "Did you mean 'data.crop'?"),
    ],
)
def test_a_mistake_is_one_paragraph_and_exit_code_two(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hrseg: ")
    assert message in captured.err.replace("\n", " ")
    assert max(map(len, captured.err.splitlines())) <= 100


# Exits


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def plan(config: Any) -> None:
        raise KeyboardInterrupt

    fake(monkeypatch, "training.dry_run", plan=plan)
    assert main(["fit", "-c", "demo", "--dry-run"]) == EXIT_INTERRUPTED
    assert capsys.readouterr().err == "hrseg: interrupted\n"


def test_a_bug_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "training.dry_run", plan=lambda config: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["fit", "-c", "demo", "--dry-run"])


def test_a_reader_that_stops_early_is_no_error() -> None:
    command = f"set -o pipefail; '{sys.executable}' -m hrseg config explain data | true"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stderr) == (0, "")


def test_only_the_first_of_several_processes_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main(["config", "list"]) == EXIT_OK
    assert capsys.readouterr().out == ""


def test_errors_are_red_on_a_terminal_only() -> None:
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "60"}
    environment.pop("NO_COLOR", None)
    words = [sys.executable, "-m", "hrseg", "fti"]
    subprocess.run(words, stderr=writer, timeout=60, env=environment, check=False)
    text = os.read(reader, 4096)
    os.close(reader)
    os.close(writer)
    assert b"\x1b[1;31mhrseg: " in text


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["train"], "Here it is: hrseg fit."),
        (["val"], "Here it is: hrseg validate."),
        (["infer", "x.png"], "Here it is: hrseg predict."),
        (["check", "folder"], "Here it is: hrseg data check."),
        (["fit", "--epochs", "5"], "Here it is trainer.max_epochs=N."),
        (["fit", "--batch_size", "5"], "Here it is data.batch_size=N."),
        (["predict", "--source", "x.png"], "Here it is the images as arguments"),
        (["predict", "x.png", "--weights", "best.ckpt"], "Here it is --model."),
    ],
)
def test_words_of_other_toolkits_are_answered_with_ours(
    words: list[str], answer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == EXIT_USAGE
    assert answer in " ".join(capsys.readouterr().err.split())


def test_every_verb_stands_under_one_heading(capsys: pytest.CaptureFixture[str]) -> None:
    from hrseg.cli.main import GROUPS

    main(["--help"])
    text = capsys.readouterr().out
    verbs = next(a for a in _parser()._actions if isinstance(a, argparse._SubParsersAction))
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(verbs.choices)
    assert text.index("\n  measure\n") < text.index("    validate ") < text.index("\n  data\n")
