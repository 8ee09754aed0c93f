import numpy as np

from hrseg.data.check.scan import _count, scan
from hrseg.data.layouts import find_pairs
from tests.data.check.trees import split_tree


def test_several_processes_see_what_one_sees(tmp_path):
    root = split_tree(tmp_path, 50, 12)
    jobs = [(split, pair) for split in ("train", "val") for pair in find_pairs("folder", root, split)]
    done: list[int] = []
    many = list(scan(jobs, 2, done.append))
    assert [look.pair for look in many] == [pair for _, pair in jobs]
    for one, other in zip(scan(jobs, 1), many, strict=True):
        assert (one.values, one.digest, one.thumb, one.sums) == (
            other.values,
            other.digest,
            other.thumb,
            other.sums,
        )
    assert sum(done) == len(jobs)


def test_counting_by_runs_is_counting(tmp_path):
    values = np.random.default_rng(0).integers(0, 5, (31, 17)).astype(np.int32) * 1000
    want = dict(zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True))
    assert _count(values) == want
    assert _count((values // 1000).astype(np.uint8)) == {key // 1000: n for key, n in want.items()}
