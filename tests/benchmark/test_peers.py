"""The table of peers: its ratios, what is missing, and where it is written."""

import numpy as np
import pytest

from tools import bench_peers
from tools.bench_peers import Found, agreement, table
from tools.peers import Job


def job(name, precision, folder=""):
    return Job(name, precision, "hrnet_w48", "labels", "cpu", str(folder), None, 2)


def test_ratios_are_medians_within_rounds():
    facts = {"version": "1", "memory": 5_000_000}
    own = Found(job("hrseg", "auto"), facts, [0.1, 0.2, 0.1], 1.0)
    peer = Found(job("official", "fp32"), facts, [0.3, 0.4, 0.5], 0.9999)
    lost = Found(job("mmsegmentation", "fp32"), {}, [], missing="no --mmseg PYTHON")
    rows = table([own, peer, lost])[2:]
    assert rows[0].startswith("| hrseg | default | 1 | 100 ms | 1.00 |")
    assert "| official | fp32 | 1 | 400 ms | 3.00 |" in rows[1]  # of 3, 2 and 5
    assert rows[1].endswith("| 5 MB | 99.99 % |")
    assert rows[2] == "| mmsegmentation | fp32 | missing: no --mmseg PYTHON |" + "  |" * 5


def test_a_peer_that_answers_otherwise_is_not_timed(tmp_path):
    answer = np.zeros((1, 100, 100), np.float32)
    np.savez(tmp_path / "plain torch-fp32.npz", answer=answer)
    answer[0, 0, 0] = 1
    np.savez(tmp_path / "official-fp32.npz", answer=answer)
    assert agreement(tmp_path, job("official", "fp32", tmp_path)) == pytest.approx(0.9999)
    answer[0, 0, 1] = 1
    np.savez(tmp_path / "official-fp32.npz", answer=answer)
    with pytest.raises(SystemExit, match=r"only 99\.98 % of the pixels"):
        agreement(tmp_path, job("official", "fp32", tmp_path))


def test_the_table_takes_the_place_of_the_older_one(tmp_path, monkeypatch):
    page = tmp_path / "results.md"
    page.write_text("a\n<!-- m: begin -->\nold\n<!-- m: end -->\nb\n", encoding="utf-8")
    monkeypatch.setattr(bench_peers, "PAGE", page)
    bench_peers.write_table("new", "m")
    assert page.read_text(encoding="utf-8") == "a\n<!-- m: begin -->\nnew\n<!-- m: end -->\nb\n"
    with pytest.raises(SystemExit, match="no place for this table"):
        bench_peers.write_table("new", "other")
