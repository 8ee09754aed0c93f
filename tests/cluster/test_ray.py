"""A real Ray cluster of two machines, played by two raylets on this one. Workers are killed, and a machine goes."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from hrseg.cluster import RayJob
from hrseg.inference.outputs.manifest import Job, read_manifests
from hrseg.inference.predict_files import open_predictor, predict_files
from hrseg.inference.sources import open_sources
from tests.cluster.models import PLAIN, content, write_model, write_photos

pytest.importorskip("ray", reason="Ray is not installed: pip install 'hrseg[ray]'")
pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install 'hrseg[ray]'")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),  # processes start one after the other where there is one core
    pytest.mark.filterwarnings("ignore"),  # Ray's own, such as sockets that it leaves open
]
KINDS = ("mask", "areas")
PHOTOS = 24


@pytest.fixture(scope="module")
def cluster():
    """Two machines of one CPU each; `second` is the one that may go."""
    from ray.cluster_utils import Cluster

    words = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
    root = str(Path(__file__).parents[2])
    words["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in words.items():
            patch.setenv(name, value)
        small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
        machines = Cluster(True, head_node_args={**small, "include_dashboard": False})
        machines.second = machines.add_node(**small)
        try:
            yield machines
        finally:
            machines.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The shared disk: a model, photos, and what one machine makes of them."""
    from hrseg.models import create_model

    folder = tmp_path_factory.mktemp("shared")
    torch.manual_seed(0)
    network = create_model("hrnet_w18_small_v1", num_classes=3).eval()
    model = write_model(network, folder / "m.safetensors")
    photos = write_photos(folder / "photos", PHOTOS)
    predictor = open_predictor(model, **PLAIN)
    job = Job(folder / "whole", KINDS, settings=predictor.settings())
    pictures = job.pictures(open_sources([photos]))
    list(job.results(predict_files(predictor, pictures, folder / "whole", KINDS)))
    return folder


def start(cluster, place, name):
    job = RayJob(place / name, KINDS, model=place / "m.safetensors", address=cluster.address, **PLAIN)
    return job, job.run(open_sources([place / "photos"]))


def workers(cluster) -> list[int]:
    """Processes of workers, children of this cluster's raylets."""
    raylets = {
        process.process.pid
        for machine in cluster.list_all_nodes()
        for process in machine.all_processes.get("raylet", ())
    }
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if title.startswith(b"ray::MapWorker") and parent in raylets:
            found.append(int(folder.name))
    return found


def when_masks(out, count, act):
    """Do something in a thread as soon as so many masks are there."""

    def wait():
        until = time.monotonic() + 600
        while len(list(out.rglob("[!.]*_mask.png"))) < count and time.monotonic() < until:
            time.sleep(0.005)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def check(place, name, results, job):
    """Nothing is lost, nothing is doubled, all files are those of one machine."""
    lines = [line["name"] for line in read_manifests(place / name) if "name" in line]
    assert len(lines) == len(set(lines)) == PHOTOS
    assert sorted(result.name for result in results) == sorted(lines)
    assert not [result for result in results if result.error is not None]
    assert content(place / name) == content(place / "whole")
    assert job.summary.startswith("handed out again, as a worker died: ")


def test_a_worker_killed_half_way_loses_and_doubles_nothing(cluster, place):
    killed = []

    def kill():
        killed.extend(workers(cluster)[:1])
        for pid in killed:
            os.kill(pid, signal.SIGKILL)

    thread = when_masks(place / "killed", 7, kill)
    job, running = start(cluster, place, "killed")
    results = list(running)
    thread.join()
    assert len(killed) == 1
    check(place, "killed", results, job)


def test_what_is_done_is_left_as_it_is_on_a_restart(cluster, place):
    out = place / "killed"
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*_mask.png")}
    next(iter(before)).write_bytes(b"damaged")
    job, running = start(cluster, place, "killed")
    assert len(list(running)) == 1
    assert job.summary.startswith(f"{PHOTOS - 1} images done before and skipped; done")
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*_mask.png")}
    assert sum(after[path] != before[path] for path in before) == 1
    assert content(out) == content(place / "whole")


def test_a_machine_that_is_gone_for_good_holds_up_nobody(cluster, place):
    thread = when_masks(place / "gone", 7, lambda: cluster.remove_node(cluster.second, allow_graceful=False))
    job, running = start(cluster, place, "gone")
    results = list(running)
    thread.join()
    check(place, "gone", results, job)
