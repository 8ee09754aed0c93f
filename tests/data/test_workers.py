from hrseg.data.sampling import MAX_WORKERS, default_workers, keep_memory


def test_workers_by_machine(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert default_workers(4) == MAX_WORKERS
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert (default_workers(1), default_workers(2), default_workers(8)) == (7, 3, 0)


def test_other_systems_keep_their_memory_as_they_like(monkeypatch):
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("ctypes.CDLL", None)  # would fail if it were asked
    keep_memory()
