import pickle
from pathlib import Path

import numpy as np
import pytest

from hrseg.cluster.worker import Task, Worker, given_name
from hrseg.errors import WeightsError
from hrseg.inference.outputs import Options
from hrseg.inference.sources import named_files
from tests.cluster.models import PLAIN, write_model, write_photos


@pytest.fixture
def place(tiny_network, tmp_path):
    write_model(tiny_network, tmp_path / "m.safetensors")
    write_photos(tmp_path / "photos", 2)
    return tmp_path


def worker(place, out, model="m.safetensors"):
    opening = {"model": str(place / model), **PLAIN}
    return Worker(out, ("mask",), Options(), opening, {}, ())


def test_tasks_and_results_travel_as_pickles(place):
    images = tuple(named_files(sorted((place / "photos").rglob("*.png"))))
    tasks = np.empty(2, dtype=object)
    tasks[:] = [pickle.dumps(Task(7, images[:1])), pickle.dumps(Task(8, images[1:]))]
    one = worker(place, place / "out")
    first, second = map(pickle.loads, one({"task": tasks})["result"])
    assert (first.number, second.number) == (7, 8)
    assert [len(found.results) for found in (first, second)] == [1, 1]
    assert [found.results[0].image for found in (first, second)] == [i.path for i in images]
    assert first.results[0].mask.is_file()
    # What is in the records is not done again.
    again = one.run(Task(9, images[:1], first.records))
    assert (again.results, again.failure) == ((), None)


def test_a_model_that_cannot_be_opened_is_the_result_of_every_task(place):
    broken = worker(place, place / "out", "gone.safetensors")
    for number in (1, 2):
        found = broken.run(Task(number, ()))
        assert found.number == number
        assert isinstance(found.failure, WeightsError)
        assert "gone.safetensors" in str(found.failure)
        assert "This was on " in str(found.failure)


def test_a_bug_comes_back_with_its_traceback(place, monkeypatch):
    one = worker(place, place / "out")
    monkeypatch.setattr(one, "_segment", lambda task: 1 / 0)
    assert "ZeroDivisionError" in str(one.run(Task(3, ())).failure)


def test_images_keep_the_name_that_the_user_gave():
    (image,) = named_files(["photos/a.png"])
    assert given_name(image) == Path("photos/a.png")
