"""`hrseg serve` under load: many clients at once, what they got, how long it took, and the server's memory.

    python -m tools.bench_serve --seconds 60 --clients 32

starts a server of its own and asks it for masks; each client sends its next image as soon as it has an answer, and
after a 429 when the server told it to. Any other refusal ends with exit code 1.
"""

import argparse
import io
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
from PIL import Image


class Load:
    """Clients that ask until the time is over.

    Args:
        url: Of the server.
        image: A PNG or JPEG file.
        seconds: How long.
    """

    def __init__(self, url: str, image: bytes, seconds: float) -> None:
        self.url, self.image = url, image
        self.end = time.monotonic() + seconds
        self.statuses: Counter[int] = Counter()
        self.times: list[float] = []
        self.lock = threading.Lock()

    def client(self) -> None:
        """Ask again and again."""
        with httpx.Client(base_url=self.url, timeout=120, trust_env=False) as client:
            while time.monotonic() < self.end:
                start = time.monotonic()
                answer = client.post("/predict", content=self.image, headers={"Content-Type": "image/jpeg"})
                with self.lock:
                    self.statuses[answer.status_code] += 1
                    if answer.is_success:
                        self.times.append(time.monotonic() - start)
                wait = float(answer.headers.get("retry-after", 0))
                time.sleep(max(0.0, min(wait, self.end - time.monotonic())))


def memory(pid: int) -> float:
    """Return a process's resident memory in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else float("nan")


def picture(path: str | None, size: tuple[int, int]) -> bytes:
    """Return a JPEG file: the one named, or noise of a size."""
    if path is not None:
        return Path(path).read_bytes()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def main() -> int:
    """Start a server, load it, print what happened."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model")
    parser.add_argument("--image", help="a file; else noise")
    parser.add_argument("--size", type=int, nargs=2, default=(360, 480), metavar=("H", "W"))
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--max-queue", type=int, default=16)
    parser.add_argument("--max-batch", type=int, default=8)
    words = parser.parse_args()
    command = [sys.executable, "-m", "hrseg", "serve", "--port", "0"]
    command += ["--max-queue", str(words.max_queue), "--max-batch", str(words.max_batch)]
    command += ["--model", words.model] if words.model else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    url = server.stdout.readline().split()[-4]
    image = picture(words.image, tuple(words.size))
    httpx.post(f"{url}/predict", content=image, timeout=120, trust_env=False)  # warm
    seen = [memory(server.pid)]
    load = Load(url, image, words.seconds)
    clients = [threading.Thread(target=load.client) for _ in range(words.clients)]
    for client in clients:
        client.start()
    for _ in range(10):
        time.sleep(words.seconds / 10)
        seen.append(memory(server.pid))
    for client in clients:
        client.join()
    metrics = httpx.get(f"{url}/metrics", trust_env=False).text
    batches = re.search(r"hrseg_batch_size_count (\S+)\nhrseg_batch_size_sum (\S+)", metrics)
    server.terminate()
    code = server.wait(120)
    print(f"{words.clients} clients, {words.seconds:g} s, image of {len(image):,} bytes")
    print(f"answers/s  {load.statuses[200] / words.seconds:.2f}")
    if load.times:
        p50, p95, p99 = np.percentile(load.times, (50, 95, 99))
        print(f"seconds    p50 {p50:.3f}  p95 {p95:.3f}  p99 {p99:.3f}")
    print(f"status     {dict(sorted(load.statuses.items()))}")
    if batches is not None:
        print(f"batch size {float(batches[2]) / float(batches[1]):.2f} on average")
    print(f"memory     start {seen[0]:.0f} MB, middle {seen[5]:.0f} MB, end {seen[-1]:.0f} MB")
    print(f"all        {', '.join(f'{value:.0f}' for value in seen)}")
    print(f"exit code  {code}")
    return 0 if set(load.statuses) <= {200, 429} and code == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
