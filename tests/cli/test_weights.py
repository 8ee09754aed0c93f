import json
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hrseg.cli import EXIT_OK, EXIT_PARTIAL, EXIT_USAGE, main
from hrseg.weights import catalog, download
from hrseg.weights.catalog import row_of
from tests.weights import server as serve
from tools.weights_page import PAGE, page

TAG = "hrnet_w48.mmseg_cityscapes_160k"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in [*os.environ]:
        if name.lower().endswith("_proxy") or name in ("HRSEG_OFFLINE", "HF_HUB_OFFLINE"):
            monkeypatch.delenv(name)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HRSEG_CACHE", str(tmp_path))
    monkeypatch.setattr(download, "WAITS", (0.01,) * 4)
    return tmp_path / "weights"


@pytest.fixture
def published(monkeypatch):
    """Publish a few bytes on loopback in the place of a row's file."""
    with serve.serving(b"PK weights" * 30_000) as server:
        row = replace(row_of(TAG), urls=(f"{server.url}/w48.pth",), sha256=server.sha256[:8])
        everything = tuple(row if other.tag == TAG else other for other in catalog.rows())
        monkeypatch.setattr(catalog, "rows", lambda: everything)
        monkeypatch.setattr("hrseg.weights.catalog.rows", lambda: everything)
        yield server


def test_list_groups_by_publisher_and_takes_words(capsys):
    assert main(["weights", "list", "cityscapes", "w48", "ocr"]) == EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    headings = [line for line in lines if line and " " not in line]
    assert headings == ["official", "mmseg", "paddle"]
    assert lines[0].split()[:4] == ["tag", "classes", "score", "MB"]
    assert "   hrnet_w48_ocr.mmseg_cityscapes_160k        " in "\n".join(lines)
    assert any(
        line.split()[:6] == ["hrnet_w48_ocr.official_cityscapes", "19", "81.60", "281", "MIT", "research"]
        for line in lines
    )
    assert len({line.index(" 19 ") for line in lines if " 19 " in line}) == 1


def test_list_marks_what_is_here(published, capsys):
    main(["weights", "list", "--here"])
    assert " + hrnet_w18_small_v1.camvid" in capsys.readouterr().out
    main(["weights", "pull", TAG])
    capsys.readouterr()
    main(["weights", "list", "--here", "w48"])
    assert f"+ {TAG}" in capsys.readouterr().out


@pytest.mark.slow
def test_list_fits_the_terminal():
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "72", "NO_COLOR": "1"}
    words = [sys.executable, "-m", "hrseg", "weights", "list", "official", "lip"]
    subprocess.run(words, stdout=writer, stderr=writer, timeout=120, env=environment, check=True)
    text = os.read(reader, 8192).decode()
    os.close(reader)
    os.close(writer)
    assert max(map(len, text.splitlines())) <= 72
    assert "mIoU, LIP val" in text


def test_list_knows_data_sets_and_what_may_be_sold(capsys):
    assert main(["weights", "list", "--for", "ade20k", "--json"]) == EXIT_OK
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["data"] for row in found} == {"ade20k"}
    assert main(["weights", "list", "--for", "imagenet", "w48"]) == EXIT_OK
    assert "hrnet_w48.ms_in1k" in capsys.readouterr().out
    assert main(["weights", "list", "--commercial", "--json"]) == EXIT_OK
    terms = [json.loads(line)["data_terms"] for line in capsys.readouterr().out.splitlines()]
    assert terms
    assert not [text for text in terms if "research" in text or "academic" in text]
    assert main(["weights", "list", "--for", "cityscape"]) == EXIT_USAGE
    assert "Did you mean 'cityscapes'?" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("cityscapes", "hrnet_w48_ocr.paddle_cityscapes (82.2)"),
        ("hrnet_w64", "hrnet_w64.ms_in1k"),
        ("ade20k_w48_ocr", "hrnet_w48_ocr.official_ade20k (44.5)"),
        ("cityscapes_w48.yaml", "hrnet_w48.official_cityscapes (80.9)"),
        ("hrnet_w48.ms_in1", "Did you mean 'hrnet_w48.ms_in1k'?"),
    ],
)
def test_a_name_that_is_no_tag_is_answered_with_tags(name, tag, capsys, tmp_path):
    (tmp_path / "x.png").touch()
    assert main(["predict", str(tmp_path / "x.png"), "--model", name]) == EXIT_USAGE
    assert tag in " ".join(capsys.readouterr().err.split())


def test_json_is_one_object_a_line(capsys):
    main(["weights", "list", "lip", "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["score"] for row in found] == [55.83, 56.48]
    assert found[0]["urls"][0].endswith("hrnet_lip_5583_torch04.pth")
    main(["weights", "info", "hrnet_w48.official_lip", "--json"])
    assert json.loads(capsys.readouterr().out) == found[0]


def test_words_that_match_nothing_are_told_so(capsys):
    assert main(["weights", "list", "w47"]) == EXIT_OK
    assert "No weights match 'w47'" in capsys.readouterr().err


def test_info_tells_all(capsys):
    assert main(["weights", "info", "hrnet_w48_c1.csail_ade20k"]) == EXIT_OK
    text = capsys.readouterr().out
    for part in (
        "hrnet_w48, head c1, 150 classes",
        "42.03 %",
        "BSD-3-Clause",
        "encoder_epoch_30.pth",
    ):
        assert part in text
    assert "served without encryption" in text
    assert "hrseg weights pull hrnet_w48_c1.csail_ade20k" in text


def test_pull_prints_the_path_and_nothing_else(published, cache, capsys):
    for _ in range(2):
        assert main(["weights", "pull", TAG]) == EXIT_OK
        assert capsys.readouterr().out == f"{cache / TAG / 'w48.pth'}\n"
    assert len(published.asked) == 1
    main(["weights", "info", TAG])
    assert "verified: its sha256 begins as published" in " ".join(capsys.readouterr().out.split())


def test_a_bar_is_drawn_on_a_terminal(published, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    published.plan.extend([serve.cut(100_000), serve.status(503)])
    assert main(["weights", "pull", TAG]) == EXIT_OK
    said = capsys.readouterr()
    assert said.out.endswith("w48.pth\n")
    assert "the connection broke after" in " ".join(said.err.split())


def test_pull_offline_is_one_paragraph_and_exit_code_two(published, monkeypatch, capsys):
    monkeypatch.setenv("HRSEG_OFFLINE", "1")
    assert main(["weights", "pull", TAG]) == EXIT_USAGE
    said = " ".join(capsys.readouterr().err.split())
    assert f"{published.url}/w48.pth" in said
    assert f"{TAG}/w48.pth" in said


def test_an_unknown_tag_is_refused_before_anything_is_fetched(published, capsys):
    assert main(["weights", "pull", TAG, "hrnet_w48.mmseg_cityscapes_161k"]) == EXIT_USAGE
    assert "Did you mean" in capsys.readouterr().err
    assert published.asked == []


def test_verify_names_what_is_wrong_and_goes_on(published, cache, capsys):
    assert main(["weights", "verify"]) == EXIT_OK
    assert "Nothing is in the cache" in capsys.readouterr().err
    main(["weights", "pull", TAG])
    assert main(["weights", "verify"]) == EXIT_OK
    assert f"ok  {TAG} w48.pth: verified" in capsys.readouterr().out
    (cache / TAG / "w48.pth").write_bytes(b"other")
    assert main(["weights", "verify", TAG, "hrnet_w18_small_v1.camvid"]) == EXIT_PARTIAL
    said = capsys.readouterr()
    assert "Remove" in said.err
    assert "ok  hrnet_w18_small_v1.camvid" in said.out
    assert main(["weights", "verify", "no/such.pth"]) == EXIT_USAGE


def test_the_page_of_weights_is_current():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tools.weights_page"


def test_bash_completes_tags(tmp_path, capsys):
    assert main(["completion", "bash"]) == EXIT_OK
    script = (
        capsys.readouterr().out
        + """
    try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _hrseg_complete; echo "${COMPREPLY[*]}"; }
    try hrseg weights info hrnet_w48.official_l
    try hrseg weights pull hrnet_w64
    try hrseg predict --model hrnet_w18_small_v1.c
    """
    )
    (tmp_path / "complete.sh").write_text(script)
    words = ["bash", str(tmp_path / "complete.sh")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == [
        "hrnet_w48.official_lip",
        "hrnet_w64.ms_in1k",
        "hrnet_w18_small_v1.camvid",
    ]
    assert Path(catalog.__file__).with_name("catalog.csv").is_file()
