import pickle
from pathlib import Path

import numpy as np
import pytest

from hrseg.cluster.worker import Task, Worker, given_name
from hrseg.errors import WeightsError
from hrseg.inference.outputs import Options
from hrseg.inference.sources import named_files
from tests.cluster.models import PLAIN, write_model, write_photos


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worker")
    write_model(folder / "m.safetensors")
    write_photos(folder / "photos", 2)
    return folder


def worker(place, out, model="m.safetensors"):
    opening = {"model": str(place / model), **PLAIN}
    return Worker(out, ("mask",), Options(), opening, {}, ())


def test_tasks_and_results_travel_as_pickles(place, tmp_path):
    images = tuple(named_files(sorted((place / "photos").rglob("*.png"))))
    tasks = np.empty(2, dtype=object)
    tasks[:] = [pickle.dumps(Task(7, images[:1])), pickle.dumps(Task(8, images[1:]))]
    first, second = map(pickle.loads, worker(place, tmp_path)({"task": tasks})["result"])
    assert (first.number, second.number) == (7, 8)
    assert [len(found.results) for found in (first, second)] == [1, 1]
    assert [found.results[0].image for found in (first, second)] == [i.path for i in images]
    assert first.results[0].mask.is_file()
    # What is in the records is not done again.
    again = worker(place, tmp_path).run(Task(9, images[:1], first.records))
    assert (again.results, again.failure) == ((), None)


def test_a_model_that_cannot_be_opened_is_the_result_of_every_task(place, tmp_path):
    broken = worker(place, tmp_path, "gone.safetensors")
    for number in (1, 2):
        found = broken.run(Task(number, ()))
        assert found.number == number
        assert isinstance(found.failure, WeightsError)
        assert "gone.safetensors" in str(found.failure)
        assert "This was on " in str(found.failure)


def test_a_bug_comes_back_with_its_traceback(place, tmp_path, monkeypatch):
    one = worker(place, tmp_path)
    monkeypatch.setattr(one, "_segment", lambda task: 1 / 0)
    assert "ZeroDivisionError" in str(one.run(Task(3, ())).failure)


def test_images_keep_the_name_that_the_user_gave():
    (image,) = named_files(["photos/a.png"])
    assert given_name(image) == Path("photos/a.png")
