import io
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hrseg
from hrseg.errors import WeightsError
from hrseg.inference.load_model import open_model
from hrseg.labels import load_labels, table_names
from hrseg.models import BACKBONES, create_model
from hrseg.weights import catalog
from hrseg.weights.catalog import (
    COLUMNS,
    cached_tags,
    find,
    known,
    list_weights,
    resolve,
    resolve_all,
    row_of,
    rows,
    verify,
)
from hrseg.weights.formats import FORMATS
from tests.weights import server as serve
from tests.weights import spellings

MMSEG = "hrnet_w18_small_v2.mmseg_potsdam_80k"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in (
        "HRSEG_OFFLINE",
        "HF_HUB_OFFLINE",
        "HF_ENDPOINT",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HRSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


# The rows


def test_tags_are_unique_and_follow_the_grammar():
    tags = [row.tag for row in rows()]
    assert len(set(tags)) == len(tags) > 100
    for row in rows():
        architecture = row.tag.split(".")[0]
        assert re.fullmatch(r"hrnet_w\d+(_small(_v[12])?)?(_(ocr|c1|ssld))?\.[a-z0-9_]+", row.tag), row.tag
        assert row.backbone.removesuffix("_v1").startswith(
            re.sub(r"_(ocr|c1|ssld)$", "", architecture).removesuffix("_v1")
        )


def test_rows_name_what_hrseg_builds():
    policies = {"nearest", "bilinear", "bilinear_aligned", "bilinear_scaled"}
    for row in rows():
        assert row.backbone in BACKBONES, row.tag
        assert row.head in ("v2", "ocr", "c1", "classification")
        assert row.resize in policies
        assert row.padding == ("same" if row.source == "paddle" else "symmetric")
        assert len(row.mean) == len(row.std) == 3
        assert row.licence
        assert "http" in row.reference or row.packaged
        assert row.data_terms


def test_class_counts_are_those_of_the_label_tables():
    tables = {"voc": "voc2012", "vaihingen": "potsdam"}
    for row in rows():
        table = tables.get(row.data, row.data)
        if row.data == "in1k":
            assert (row.num_classes, row.head) == (1000, "classification")
        else:
            assert table in table_names(), row.tag
            assert load_labels(table).num_classes == row.num_classes, row.tag


def test_addresses_are_stable_ones():
    dead = ("1drv.ms", "onedrive", "baidu", "drive.google")
    for row in rows():
        for url in row.urls:
            assert url.startswith(("https://", "http://sceneparsing.csail.mit.edu/", "package:")), url
            assert not any(place in url for place in dead)
    urls = [url for row in rows() for url in row.urls]
    assert len(set(urls)) == len(urls)


def test_names_that_carry_a_digest_are_checked_against_it():
    carrying = [row for row in rows() if "openmmlab" in row.urls[0]]
    assert len(carrying) == 63
    for row in carrying:
        assert row.urls[0].endswith(f"-{row.sha256}.pth")


def test_known_facts():
    # by hand, from the publishers' pages
    row = row_of("hrnet_w48_ocr.official_cityscapes")
    assert (row.score, row.resize, row.num_classes) == (81.6, "bilinear_aligned", 19)
    assert row.urls[0].endswith("/HRNet-OCR/hrnet_ocr_cs_8162_torch11.pth")
    assert row_of("hrnet_w48.official_lip").resize == "bilinear"
    assert row_of("hrnet_w48.official_ade20k").resize == "bilinear_aligned"
    assert row_of("hrnet_w48.mmseg_ade20k_160k").score == 42.02
    assert row_of("hrnet_w48_ocr.paddle_cityscapes").mean == (0.5, 0.5, 0.5)
    assert row_of("hrnet_w18_small_v2_ocr.mmseg_ade20k_160k").score == 37.19
    assert row_of("hrnet_w48_c1.csail_ade20k").score == 42.03
    assert "82.70" not in row_of("hrnet_w48.ms_in1k").protocol


def test_means_are_those_the_importer_assumes():
    for row in rows():
        if row.source == "paddle":
            known_means = {f.mean for f in FORMATS if f.name.startswith("PaddleSeg ") and "backbone" not in f.name}
            assert known_means == {row.mean}


def test_all_packaged_models_have_a_row():
    assert {row.tag for row in rows() if row.packaged} == set(hrseg.weights.packaged_models())
    assert COLUMNS[0] == "tag"


# Finding


def test_words_must_all_match():
    assert [row.tag for row in find(["W48", "ocr", "official", "lip"])] == ["hrnet_w48_ocr.official_lip"]
    assert {row.data for row in find(["imagenet"])} == {"in1k"}
    assert find(["nothing of the kind"]) == []
    assert len(list_weights()) == len(rows())
    assert hrseg.list_weights("timm") == list_weights("timm")


def test_an_unknown_tag_is_one_sentence_with_the_nearest():
    with pytest.raises(
        WeightsError,
        match=r"Unknown tag 'hrnet_w48\.ms_in2k'\. Did you mean 'hrnet_w48\.ms_in1k'\?",
    ):
        row_of("hrnet_w48.ms_in2k")


def test_files_are_not_taken_for_tags(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve("some/file.pth") == Path("some/file.pth")
    assert resolve("hrnet_w48.pth") == Path("hrnet_w48.pth")
    Path("hrnet_w48.best_one").write_text("")
    assert resolve("hrnet_w48.best_one") == Path("hrnet_w48.best_one")
    with pytest.raises(WeightsError, match="Unknown tag"):
        resolve("hrnet_w48.worst_one")


# Files


@pytest.fixture
def published(monkeypatch):
    """Publish one small mmsegmentation file on loopback, in the place of its row's."""
    torch.manual_seed(0)
    network = create_model("hrnet_w18_small_v2", num_classes=6)
    buffer = io.BytesIO()
    torch.save({"state_dict": spellings.as_mmseg(network.state_dict()), "meta": {}}, buffer)
    with serve.serving(buffer.getvalue()) as server:
        row = replace(row_of(MMSEG), urls=(f"{server.url}/w.pth",), sha256=server.sha256[:8])
        monkeypatch.setattr(catalog, "rows", lambda: (row,))
        monkeypatch.setattr("hrseg.weights.catalog.rows", lambda: (row,))
        yield server, network


def test_a_tag_opens_after_one_fetch(published):
    server, network = published
    for _ in range(2):
        opened = open_model(MMSEG)
    assert len(server.asked) == 1
    assert opened.network.spec["resize"] == "bilinear_scaled"
    assert opened.labels.name == "potsdam"
    mine = opened.network.state_dict()["backbone.conv1.weight"]
    assert torch.equal(mine, network.state_dict()["backbone.conv1.weight"])
    assert cached_tags() == [MMSEG]
    assert verify(MMSEG) == [f"{MMSEG} w.pth: verified: its sha256 begins as published; unchanged since it was fetched"]


def test_a_changed_file_is_noticed(published, cache, tmp_path):
    path = resolve(MMSEG)
    copy = tmp_path / "copy.pth"
    shutil.copy(path, copy)
    assert verify(str(copy)) == [f"{copy}: {MMSEG}, as published"]
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(WeightsError, match=r"Remove .* and fetch it again: hrseg weights pull"):
        verify(MMSEG)
    path.with_name("write_hint").mkdir()
    same_name = path.with_name("write_hint") / "w.pth"
    shutil.copy(path, same_name)
    with pytest.raises(WeightsError, match="is called like the file of"):
        verify(str(same_name))
    (tmp_path / "other.pth").write_bytes(b"x")
    assert "no such digest is in the catalog" in verify(str(tmp_path / "other.pth"))[0]


def test_verify_asks_for_something_that_exists():
    with pytest.raises(WeightsError, match="is neither a file nor a tag"):
        known("nowhere.pth")
    with pytest.raises(WeightsError, match="is not in the cache"):
        verify("hrnet_w48.ms_in1k")
    assert verify("hrnet_w18_small_v1.camvid") == ["hrnet_w18_small_v1.camvid: part of hrseg, verified"]
    assert cached_tags() == []


def test_a_pair_is_two_files(cache, monkeypatch):
    with serve.serving(b"half of a network") as server:
        tag = "hrnet_w48_c1.csail_ade20k"
        urls = tuple(f"{server.url}/{part}_epoch_30.pth" for part in ("encoder", "decoder"))
        row = replace(row_of(tag), urls=urls)
        monkeypatch.setattr(catalog, "rows", lambda: (row,))
        files = resolve_all(tag)
        assert [path.name for path in files] == ["encoder_epoch_30.pth", "decoder_epoch_30.pth"]
        with pytest.raises(WeightsError, match="is a pair of files"):
            resolve(tag)


def test_a_mirror_of_the_hub_moves_the_hub_only(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    (remote,) = row_of("hrnet_w48.ms_in1k").remotes()
    assert remote.url == "https://mirror.example/timm/hrnet_w48.ms_in1k/resolve/main/model.safetensors"
    (remote,) = row_of("hrnet_w48.official_cityscapes").remotes()
    assert remote.url.startswith("https://github.com/")
