"""The tables for the day a GPU is there: their places on the page, resuming, and a whole run in small on the CPU."""

from pathlib import Path

import pytest

from tools import bench_gpu

PAGE = Path(__file__).parents[2] / "docs" / "results.md"


def test_every_table_has_its_place_on_the_page():
    page = PAGE.read_text(encoding="utf-8")
    marks = bench_gpu.tables(bench_gpu.parser().parse_args(["--out", "x", "--official", "c", "--mmseg", "p"]))
    assert len(marks) == 6
    for mark, command in marks.items():
        assert f"<!-- {mark}: begin -->" in page
        assert command[-4:] == ["--official", "c", "--mmseg", "p"]


def test_what_is_missing_is_made_and_what_is_there_is_not(tmp_path, monkeypatch, capsys):
    ran = []

    def pretend(command, seconds):
        ran.append((command[command.index("--device") + 1], round(seconds)))
        return ("", "out of memory") if len(ran) == 2 else (f"table {len(ran)}\n", "")

    monkeypatch.setattr(bench_gpu, "run", pretend)
    words = ["--out", str(tmp_path), "--seconds", "600"]
    assert bench_gpu.main(words) == 1
    assert ran[0] == ("cuda", 100)  # a sixth of the time
    assert "is missing: out of memory" in capsys.readouterr().err
    assert bench_gpu.main(words) == 0
    assert len(ran) == 7
    assert "table 7" in capsys.readouterr().out


@pytest.mark.long
def test_everything_runs_in_small_on_the_cpu(tmp_path, capsys):
    words = ["--out", str(tmp_path), "--device", "cpu", "--networks", "hrnet_w18_small_v1", "--size", "64", "96"]
    words += ["--only", "plain loop", "--batches", "2", "--seconds", "100"]
    assert bench_gpu.main(words) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert printed.count("| hrseg | default |") == 1
    assert printed.count("| plain loop, fp32 |") == 1
