import re

from tests.serve.conftest import Served, file_of, picture


def test_metrics_count_requests_batches_and_times(served: Served) -> None:
    name = 'hrseg_requests_total{path="/predict",status="200"}'
    text = served.client.get("/metrics").text
    before = float(text.split(name)[1].split()[0]) if name in text else 0
    served.predict(file_of(picture()))
    answer = served.client.get("/metrics")
    assert float(answer.text.split(name)[1].split()[0]) == before + 1
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in answer.text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{[^{}]*\})? [0-9.e+-]+", line), line
    assert 'hrseg_batch_size_bucket{le="+Inf"}' in answer.text
    assert "hrseg_places_taken 0.0\n" in answer.text
