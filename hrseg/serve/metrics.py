"""What happened so far, as text that Prometheus reads."""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

LATENCY = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
BATCHES = (1, 2, 4, 8, 16, 32)


class Histogram:
    """Counts of values up to each bound.

    Args:
        bounds: Upper bounds, ascending; a last one without end is added.

    Example:
        >>> histogram = Histogram((1, 2))
        >>> histogram.add(1); histogram.add(3)
        >>> histogram.lines("size")
        ['size_bucket{le="1"} 1', 'size_bucket{le="2"} 1', 'size_bucket{le="+Inf"} 2', 'size_sum 4', 'size_count 2']
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def lines(self, name: str) -> list[str]:
        """Return it in Prometheus' words."""
        done, lines = 0, []
        for bound, count in zip(
            (*map("{:g}".format, self.bounds), "+Inf"), self.counts, strict=True
        ):
            done += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {done}')
        return [*lines, f"{name}_sum {self.total:g}", f"{name}_count {done}"]


class Metrics:
    """Counters of one server; threads may add to them."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.latency = Histogram(LATENCY)
        self.batches = Histogram(BATCHES)
        self._lock = threading.Lock()

    def request(self, path: str, status: int, seconds: float, worked: bool) -> None:
        """Count an answered request; its time where it was given a place."""
        with self._lock:
            self.requests[path, status] += 1
            if worked:
                self.latency.add(seconds)

    def batch(self, size: int) -> None:
        """Count a batch that goes through the network."""
        with self._lock:
            self.batches.add(size)

    def text(self, **gauges: float) -> str:
        """Return all in Prometheus' text format.

        Args:
            gauges: Numbers of this moment, by the end of their names.
        """
        with self._lock:
            lines = _head("hrseg_requests_total", "counter", "Requests by path and status.")
            for (path, status), count in sorted(self.requests.items()):
                lines.append(f'hrseg_requests_total{{path="{path}",status="{status}"}} {count}')
            name = "hrseg_request_seconds"
            lines += _head(name, "histogram", "From arrival to answer, of images that got a place.")
            lines += self.latency.lines(name)
            name = "hrseg_batch_size"
            lines += _head(name, "histogram", "Images that went through the network together.")
            lines += self.batches.lines(name)
        for end, value in gauges.items():
            lines += [*_head(f"hrseg_{end}", "gauge", f"{end.replace('_', ' ').capitalize()} now.")]
            lines += [f"hrseg_{end} {value:g}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
