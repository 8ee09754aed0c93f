"""Jobs on a simulated cluster: workers run in this process, and die when the test says so."""

import pickle
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hrseg.cli import EXIT_PARTIAL, EXIT_USAGE, main
from hrseg.cluster import RayJob
from hrseg.cluster.job import MAX_TASK_IMAGES, portable, split
from hrseg.cluster.worker import Worker
from hrseg.errors import ConfigError, DataError, WeightsError
from hrseg.inference.outputs.class_areas import read_table
from hrseg.inference.outputs.manifest import Job, read_manifests
from hrseg.inference.predict_files import open_predictor, predict_files
from hrseg.inference.sources import Clip, Picture, open_sources
from tests.cluster.models import PLAIN, content, write_model, write_photos

KINDS = ("mask", "areas")
NODES = [{"Alive": True, "Resources": {"CPU": 1.0}}] * 2


@pytest.fixture(autouse=True)
def stage(monkeypatch):
    """Plays the cluster; `dying(task)` says when a worker dies, and `said` keeps the sizes of the rounds."""
    acts = SimpleNamespace(dying=lambda task: False, rounds=[], half=lambda worker, task: None)

    def played(self, ray, tasks, resources):
        acts.rounds.append([len(task.images) for task in tasks])
        worker = Worker(**self.worker_options)
        for task in tasks:
            if acts.dying(task):
                acts.half(worker, task)
                continue
            yield worker.run(task)

    monkeypatch.setattr("hrseg.cluster.job.import_ray", lambda: None)
    ray = SimpleNamespace(nodes=lambda: NODES)
    monkeypatch.setattr("hrseg.cluster.job.connected", lambda address: nullcontext(ray))
    monkeypatch.setattr(RayJob, "_round", played)
    return acts


@pytest.fixture
def model(tiny_network, tmp_path):
    torch.manual_seed(0)
    return write_model(tiny_network, tmp_path / "m.safetensors")


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", 18)


def run(photos, out, model, **words):
    job = RayJob(out, KINDS, model=model, **PLAIN, **words)
    return list(job.run(open_sources([photos], skip=out))), job


@pytest.fixture
def whole(photos, model, tmp_path):
    """What one machine makes of the photos."""
    out = tmp_path / "whole"
    predictor = open_predictor(model, **PLAIN)
    job = Job(out, KINDS, settings=predictor.settings())
    pictures = job.pictures(open_sources([photos]))
    list(job.results(predict_files(predictor, pictures, out, KINDS)))
    return out


def names(out):
    return sorted(line["name"] for line in read_manifests(out) if "name" in line)


def lines(out):
    return {line["name"]: line for line in read_manifests(out) if "name" in line}


def test_files_lines_and_totals_are_those_of_one_machine(photos, model, whole, tmp_path, stage):
    results, job = run(photos, tmp_path / "out", model)
    assert content(tmp_path / "out") == content(whole)
    assert lines(tmp_path / "out") == lines(whole)
    assert stage.rounds == [[2] * 9]
    assert (len(results), job.summary) == (18, "")
    assert {result.image for result in results} == set(photos.rglob("*.png"))
    assert all(path.is_relative_to(tmp_path / "out") for r in results for path in r.files.values())
    results, job = run(photos, tmp_path / "out", model)
    assert (results, job.summary) == ([], "18 images done before and skipped")
    assert read_table(tmp_path / "out" / "areas.json")["images"] == 18


def test_nothing_is_lost_or_doubled_where_workers_die(photos, model, whole, tmp_path, stage):
    out, deaths = tmp_path / "out", []

    def dying(task):
        deaths.append(task.number in (2, 5, 9))  # 9 is the first task of the second round
        return deaths[-1]

    def half(worker, task):
        """What it did is there, and the next file was begun; no answer came."""
        worker.run(task)
        name = task.images[0].name
        (out / name).with_name(f".{task.images[0].path.stem}_mask-0123456789ab.png").touch()

    stage.dying, stage.half = dying, half
    results, job = run(photos, out, model)
    assert stage.rounds == [[2] * 9, [1] * 4, [1]]
    assert sorted(result.name for result in results) == names(whole) == names(out)
    assert len({result.name for result in results}) == 18
    assert content(out) == content(whole)
    assert job.summary == "handed out again, as a worker died: 5"


@pytest.mark.slow
def test_a_picture_that_kills_each_worker_is_found_and_the_others_are_done(photos, model, whole, tmp_path, stage):
    stage.dying = lambda task: any(one.name == "a/06" for one in task.images)
    results, _ = run(photos, tmp_path / "out", model)
    [broken] = [result for result in results if result.error is not None]
    assert str(broken.error).startswith(f"{photos / 'a/06.png'}: the worker that had it died, 3")
    assert len(results) == 18
    assert names(tmp_path / "out") == [name for name in names(whole) if name != "a/06"]
    assert stage.rounds == [[2] * 9, [1, 1], [1]]
    stage.dying = lambda task: False  # more memory now
    [result], _ = run(photos, tmp_path / "out", model)
    assert (result.name, result.error) == ("a/06", None)
    assert content(tmp_path / "out") == content(whole)


def test_a_round_that_was_broken_off_goes_on(photos, model, whole, tmp_path):
    job = RayJob(tmp_path / "out", KINDS, model=model, **PLAIN)
    running = job.run(open_sources([photos]))
    first = [next(running).name for _ in range(5)]
    running.close()
    assert names(tmp_path / "out")[:5] == sorted(first)  # and the sixth: answers are of two pictures
    assert len(names(tmp_path / "out")) == 6
    (tmp_path / "out" / f"{first[0]}_mask.png").write_bytes(b"")
    results, job = run(photos, tmp_path / "out", model)
    assert len(results) == 13
    assert job.summary == ("5 images done before and skipped; done again: 1 with a result that is missing or changed")
    assert content(tmp_path / "out") == content(whole)


def test_another_model_does_all_again(photos, model, tiny_network, tmp_path):
    run(photos, tmp_path / "out", model)
    other = write_model(tiny_network, tmp_path / "n.safetensors", 1e-3)
    results, job = run(photos, tmp_path / "out", other)
    assert len(results) == 18
    assert job.summary == "done again: 18 made with another model"


def test_broken_images_are_told_and_tried_again(photos, model, tmp_path):
    (photos / "a/00.png").write_bytes(b"\x89PNG")
    results, _ = run(photos, tmp_path / "out", model)
    assert [result.name for result in results if result.error] == ["a/00"]
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(photos / "a/00.png")
    results, _ = run(photos, tmp_path / "out", model)
    assert [(result.name, result.error) for result in results] == [("a/00", None)]


def test_a_model_that_no_worker_can_open_ends_the_job(photos, tmp_path):
    (tmp_path / "m.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="This was on "):
        run(photos, tmp_path / "out", tmp_path / "m.safetensors")


def test_machines_that_disagree_are_refused(photos, model, tmp_path, monkeypatch):
    run_task = Worker.run

    def mixed(self, task):
        result = run_task(self, task)
        if task.number == 3:
            result.manifest.settings["precision"] = "bf16"
        return result

    monkeypatch.setattr(Worker, "run", mixed)
    with pytest.raises(ConfigError, match="do not agree in their precision: fp32 and bf16"):
        run(photos, tmp_path / "out", model)


def test_a_disk_that_cannot_be_written_ends_the_job(photos, model, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"in the way")
    with pytest.raises(DataError, match="Cannot write"):
        run(photos, tmp_path / "out", model)


def test_no_result_takes_the_place_of_a_picture(photos, model):
    (photos / "00_mask.png").write_bytes((photos / "02.png").read_bytes())
    (photos / "00.png").write_bytes((photos / "02.png").read_bytes())
    with pytest.raises(DataError, match="is one of the images"):
        RayJob(photos, KINDS, model=model, **PLAIN).run(open_sources([photos]))


# Tasks


@pytest.mark.parametrize(("count", "workers"), [(0, 2), (1, 2), (24, 2), (5000, 3)])
def test_tasks_hold_every_image_once_in_order_and_can_be_pickled(count, workers):
    images = [Picture(f"{i}.png", f"{i}", Path(f"{i}.png")) for i in range(count)]
    records = {"0": [{"name": "0", "made": "x"}]}
    tasks = split(images, workers, records, first=7)
    assert [one for task in tasks for one in task.images] == images
    assert [task.number for task in tasks] == list(range(7, 7 + len(tasks)))
    assert max([len(task.images) for task in tasks], default=0) <= MAX_TASK_IMAGES
    assert sum(len(task.records) for task in tasks) == (count > 0)
    assert pickle.loads(pickle.dumps(tasks)) == tasks


def test_few_images_are_spread_over_all_workers():
    images = [Picture(f"{i}", f"{i}", Path(f"{i}")) for i in range(24)]
    assert len(split(images, 2, {})) == 12
    assert len(split(images, 2, {}, max_images=1)) == 24


def test_paths_are_those_of_the_shared_disk_and_addresses_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert portable(Picture("a.png", "a", Path("a.png"))).path == tmp_path / "a.png"
    address = Picture("s3://bucket/a.png", "a", fetch=bytes)
    assert portable(address) is address


@pytest.mark.parametrize(
    "picture",
    [
        Picture("a.mp4#0.00s", "a/0", pixels=np.zeros((2, 2, 3), np.uint8), clip=Clip("a", 25)),
        Picture("a.zip/b.png", "a/b", fetch=bytes),
        Picture("stdin", "stdin", fetch=bytes),
    ],
    ids=lambda picture: picture.name,
)
def test_what_one_machine_reads_is_refused(picture):
    with pytest.raises(ConfigError, match="Predict it without --ray"):
        portable(picture)


# Command line


def test_predict_ray_does_what_predict_does(photos, model, whole, tmp_path, capsys, stage):
    (photos / "broken.png").write_bytes(b"\x89PNG")
    words = ["--model", str(model), "--device", "cpu", "--precision", "fp32", "--save", *KINDS]
    out = ["--out", str(tmp_path / "out"), "--ray", "auto", "--ray-workers", "2"]
    assert main(["predict", str(photos), *words, *out]) == EXIT_PARTIAL
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 18
    assert "1 of 19 images failed" in " ".join(told.err.split())
    made = content(tmp_path / "out")
    assert made == content(whole)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--ray", "auto", "--shard", "1/2"], "leave one of them out"),
        (["--ray", "auto", "--save", "video"], "A video cannot be divided"),
        (["--ray-workers", "2"], "such as --ray auto"),
    ],
)
def test_words_that_do_not_go_together(words, sentence, photos, capsys):
    assert main(["predict", str(photos), *words]) == EXIT_USAGE
    assert sentence in " ".join(capsys.readouterr().err.split())
