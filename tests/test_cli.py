import importlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hrseg
from hrseg.cli import EXIT_INTERRUPTED, EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, main
from hrseg.config import load_config
from hrseg.errors import DataError

VERBS = ["fit", "validate", "test", "compare", "predict", "reproduce", "models", "completion"]
VERBS += ["version", "study", "evaluate", "explain", "submit", "export", "serve"]
VERBS += ["benchmark"]
NOUNS = {
    "config": ["list", "show", "explain"],
    "data": ["check", "demo", "convert", "split", "stats", "browse"],
    "weights": ["list", "info", "pull", "import", "push", "verify"],
}
PAGES = [[], *([v] for v in [*VERBS, *NOUNS]), *([n, v] for n in NOUNS for v in NOUNS[n])]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("PYTHONPATH", str(Path(hrseg.__file__).parents[1]))  # for subprocesses
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def fake(monkeypatch: pytest.MonkeyPatch, module: str, **functions: Any) -> None:
    """Put functions in the place of a module's own, so that only the command line is tested."""
    real = importlib.import_module(f"hrseg.{module}")
    for name, function in functions.items():
        monkeypatch.setattr(real, name, function)


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


# Help


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
    result = subprocess.run(
        [sys.executable, "-m", "hrseg", "fti"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == EXIT_USAGE
    assert "Did you mean 'fit'?" in " ".join(
        result.stderr.split()
    )  # whatever lines it was cut into


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
        (["predict", "x.png", "--device", "gpu"], "--device does not take 'gpu'. It takes: "),
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


@pytest.mark.parametrize(
    "words",
    [
        ["data.batch_size=2", "--config", "demo", "optim.lr=0.5"],
        ["--config", "demo", "--data.batch_size=2", "--optim.lr", "0.5"],
        ["--data.batch_size", "2", "--config=demo", "optim.lr=0.1", "optim.lr=5e-1"],
    ],
)
def test_key_value_words_stand_anywhere(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, Any] = {}

    def fit(config: Any, **options: Any) -> SimpleNamespace:
        seen.update(config=config, **options)
        return SimpleNamespace(table="the table", best_score=0.8125, run_dir=Path("runs/demo"))

    fake(monkeypatch, "training.fit", fit=fit)
    assert main(["fit", *words, "--resume", "last"]) == EXIT_OK
    assert seen["config"] == load_config("demo", ["data.batch_size=2", "optim.lr=0.5"])
    assert seen["resume"] == "last"
    first, _, rest = seen["config_text"].partition("\n")
    assert first.startswith("# hrseg fit ")
    Path("again.yaml").write_text(rest)
    assert load_config("again.yaml") == seen["config"]
    printed = capsys.readouterr().out
    assert printed.startswith(
        "the table\nThe table is of the best weights, mIoU 81.25 %. To use them: hrseg predict IMAGE"
    )
    assert printed.endswith("--model runs/demo/best.ckpt\n")


def test_a_path_with_an_equals_sign_is_not_an_override(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    result = SimpleNamespace(text="")
    fake(
        monkeypatch,
        "evaluation.validate",
        evaluate=lambda *words: seen.append(words) or result,
        evaluation_config=None,
    )
    assert main(["validate", "--model", "runs/lr=0.1/best.ckpt", "data.flip=0"]) == EXIT_OK
    assert main(["test", "-o", "masks"]) == EXIT_OK
    assert seen[0] == ("runs/lr=0.1/best.ckpt", "val", ["data.flip=0"], None, None)
    assert seen[1] == (None, "test", [], Path("masks"), None)


def test_dry_run_prints_the_plan_and_trains_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = SimpleNamespace(text=lambda: "3 steps")
    fake(monkeypatch, "training.dry_run", plan=lambda config: plan)
    assert main(["fit", "--config", "demo", "--dry-run"]) == EXIT_OK
    assert capsys.readouterr().out == "3 steps\n"


def test_printed_configs_are_recipes_again(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["fit", "--config", "demo", "--print-config", "run.seed=3"],
        ["config", "show", "demo", "run.seed=3"],
        ["config", "show", "demo", "run.seed=3", "--origin"],
    ):
        assert main(words) == EXIT_OK
        Path("demo.yaml").write_text(capsys.readouterr().out)
        assert load_config("demo.yaml") == load_config("demo", ["run.seed=3"])
        Path("demo.yaml").unlink()


def test_origin_names_file_line_and_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show", "demo", "--origin", "optim.lr=0.5"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("  lr: 0.5 ") and line.endswith("# command line") for line in lines)
    assert any("# packaged configs/demo.yaml:" in line for line in lines)


# Predict


class Result(SimpleNamespace):
    """What predict_files yields, reduced to what the command line uses."""

    def __str__(self) -> str:
        return f"{self.path}: road 60 %"

    def to_dict(self) -> dict[str, Any]:
        return {"image": self.path, "error": self.error and str(self.error)}


def prepare_predict(monkeypatch: pytest.MonkeyPatch, results: list[Result]) -> dict[str, Any]:
    seen: dict[str, Any] = {}

    def open_predictor(model: str | None, **options: Any) -> str:
        seen.update(model=model, **options)
        return "predictor"

    class Sources(list[Path]):
        def covers(self, path: Path) -> bool:
            return False

    def open_sources(words: list[str], **options: Any) -> Sources:
        return Sources(map(Path, words))

    fake(monkeypatch, "inference.sources", open_sources=open_sources, Every=None)
    fake(
        monkeypatch,
        "inference.predict_files",
        open_predictor=open_predictor,
        predict_files=lambda *words, **options: iter(results),
    )
    return seen


def test_predict_passes_its_options_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = prepare_predict(monkeypatch, [Result(path="ü b.png", error=None)])
    words = ["--model", "m.ckpt", "--device", "cpu", "--precision", "fp32"]
    words += ["--window", "64", "96", "--overlap", "0.25"]
    assert main(["predict", "ü b.png", *words]) == EXIT_OK
    assert seen == {
        "model": "m.ckpt",
        "device": "cpu",
        "precision": "fp32",
        "window": (64, 96),
        "overlap": 0.25,
        "protocol": "whole",
        "scales": (),
        "flip": None,
        "merge": None,
        "keep": (),
        "classes": (),
        "blend": None,
        "bits": None,
        "engine": "auto",
    }
    assert capsys.readouterr().out == "ü b.png: road 60 %\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--tta"], {"protocol": "tta"}),
        (["--protocol", "lip"], {"protocol": "lip"}),
        (
            ["--scales", "0.5", "1", "1.5", "--flip", "--merge", "softmax"],
            {"scales": [0.5, 1.0, 1.5], "flip": True, "merge": "softmax", "protocol": "whole"},
        ),
        (["--tta", "--no-flip"], {"protocol": "tta", "flip": False}),
    ],
)
def test_predict_says_how_to_look(words, expected, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = prepare_predict(monkeypatch, [Result(path="x.png", error=None)])
    assert main(["predict", "x.png", *words]) == EXIT_OK
    assert {name: seen[name] for name in expected} == expected


def test_the_kinds_of_results_are_those_of_the_table() -> None:
    from hrseg.cli.predict import KINDS
    from hrseg.inference.outputs import OUTPUTS

    assert tuple(OUTPUTS) == KINDS


def test_predict_saves_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = prepare_predict(monkeypatch, [Result(path="x.png", error=None)])
    words = ["--save", "entropy", "probabilities", "geojson", "--classes", "road", "car"]
    assert main(["predict", "x.png", *words, "--tolerance", "1.5"]) == EXIT_OK
    assert (seen["keep"], seen["classes"]) == (
        ("entropy", "probabilities", "confidence"),
        ["road", "car"],
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--save", "masks"], "Did you mean 'mask"),
        (["--pixel-size", "0"], "is no length"),
        (["--tolerance", "-1"], "below 0"),
        (["--shard", "0/2"], "Of 8 shards the first is 1/8"),
        (["--save", "video", "--resume"], "A video cannot be resumed"),
    ],
)
def test_results_that_cannot_be(words, message, monkeypatch, capsys) -> None:
    prepare_predict(monkeypatch, [])
    assert main(["predict", "x.png", *words]) == EXIT_USAGE
    assert message in " ".join(capsys.readouterr().err.split())


# Reproduce


def fake_reproduce(monkeypatch: pytest.MonkeyPatch, missing: str | None, close: bool) -> list[Any]:
    seen: list[Any] = []
    plan = SimpleNamespace(
        recipe="r",
        title="t",
        missing=missing,
        rows=lambda: [("published", "80.9 mIoU")],
        to_dict=lambda: {"published": 80.9},
    )

    class Outcome(SimpleNamespace):
        def __str__(self) -> str:
            return "expected 80.90, got 80.91"

    outcome = Outcome(
        close=close,
        result=SimpleNamespace(text="the table"),
        to_dict=lambda: {"got": 80.91},
    )
    fake(
        monkeypatch,
        "evaluation.published",
        plan_reproduction=lambda *words, **options: seen.append((words, options)) or plan,
        reproduce=lambda plan: seen.append("ran") or outcome,
    )
    return seen


def test_reproduce_prints_expected_beside_got(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = fake_reproduce(monkeypatch, None, close=True)
    words = ["reproduce", "r", "--protocol", "p", "data.root=/x"]
    assert main(words) == EXIT_OK
    assert seen[0] == (("r", ["data.root=/x"]), {"protocol": "p", "model": None})
    printed = capsys.readouterr().out
    assert printed.startswith("r: t\n  published  80.9 mIoU\n")
    assert printed.endswith("the table\n\nexpected 80.90, got 80.91\n")
    assert main([*words, "--json"]) == EXIT_OK
    assert json.loads(capsys.readouterr().out) == {"got": 80.91}


def test_reproduce_fails_where_the_score_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_reproduce(monkeypatch, None, close=False)
    assert main(["reproduce", "r"]) == EXIT_PARTIAL


def test_reproduce_without_data_is_a_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = fake_reproduce(monkeypatch, "Put x.zip there.", close=False)
    assert main(["reproduce", "r"]) == EXIT_OK
    assert main(["reproduce", "r", "--json"]) == EXIT_OK
    assert "ran" not in seen
    printed = capsys.readouterr().out
    assert "Put x.zip there." in printed
    assert json.loads(printed.splitlines()[-1]) == {"published": 80.9}


def test_reproduce_runs_nothing_when_only_a_plan_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fake_reproduce(monkeypatch, None, close=True)
    assert main(["reproduce", "r", "--plan"]) == EXIT_OK
    assert "ran" not in seen


@pytest.mark.slow
def test_reproduce_without_a_recipe_lists_those_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == EXIT_USAGE
    assert "camvid_w18_small_v1" in capsys.readouterr().err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_broken_image_is_reported_and_the_others_are_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    broken = Result(path="b.png", error=DataError("b.png is truncated."))
    prepare_predict(monkeypatch, [Result(path="a.png", error=None), broken])
    assert main(["predict", "a.png", "b.png", *(["--json"] if as_json else [])]) == EXIT_PARTIAL
    captured = capsys.readouterr()
    assert "hrseg: b.png is truncated.\n" in captured.err
    assert "1 of 2 images failed" in captured.err
    if as_json:
        rows = [json.loads(line) for line in captured.out.splitlines()]
        assert [row["error"] for row in rows] == [None, "b.png is truncated."]
    else:
        assert captured.out == "a.png: road 60 %\n"


# Exits


def test_interrupt_is_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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


# Completion


def test_completion_knows_verbs_recipes_and_keys(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert main(["completion", shell]) == EXIT_OK
        script = capsys.readouterr().out
        for word in ("validate", "cityscapes_w48_ohem", "data.batch_size=", "resume"):
            assert word in script, f"{shell} lacks {word}"


def test_bash_completes_a_recipe_and_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == EXIT_OK
    script = (
        capsys.readouterr().out
        + """
    try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hrseg_complete; echo "${COMPREPLY[*]}"; }
    try hrseg va
    try hrseg fit --config fold
    try hrseg fit --config demo data.bat
    try hrseg config explain optim.lr
    try hrseg predict --precision ""
    """
    )
    Path("complete.sh").write_text(script)
    result = subprocess.run(["bash", "complete.sh"], capture_output=True, text=True, timeout=60)
    assert result.stdout.splitlines() == [
        "validate",
        "folder_w18",
        "data.batch_size=",
        "optim.lr",
        "auto fp32 bf16",
    ]
