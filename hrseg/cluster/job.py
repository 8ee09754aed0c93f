"""`RayJob`: distributes images over the workers of a Ray cluster, and writes the one manifest.

Ray Data takes tasks to workers and brings results back. Ray's own retry is off: tasks without a result at the end of a
round are distributed again, image by image, among the workers that are left. So a lost machine does not delay the
others, and an image that kills its worker is isolated. Images done twice give the same bytes, one result and one
record.
"""

import logging
import math
import pickle
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrseg.cluster.resources import ClusterResources, connected, divide, import_ray
from hrseg.cluster.worker import Record, Task, TaskResult, Worker, given_name
from hrseg.errors import ConfigError, DataError, HrsegError
from hrseg.inference.outputs import (
    DEFAULT_KINDS,
    Options,
    check_kinds,
    needed_maps,
    possible_paths,
)
from hrseg.inference.outputs.manifest import Job, Manifest, Unfinished, read_manifests
from hrseg.inference.predict_files import FileResult
from hrseg.inference.sources import Picture, Sources

log = logging.getLogger(__name__)

MAX_TASK_IMAGES = 64
"""Upper bound of images recomputed after a worker failure."""
MIN_TASKS_PER_WORKER = 8
"""Tasks for each worker, where there are images enough, so that all are busy until the end."""
MAX_ROUNDS = 3
"""Rounds after which an image without result counts as one that kills its worker."""
MAX_INIT_DEATHS = 3
"""Consecutive workers that may die before one opens its model; then the round ends."""


class RayJob:
    """One prediction over the machines of a Ray cluster; intact results are not recomputed.

    Every machine needs hrseg with the extra `ray`, and the images, the model and `out` under the same paths.

    Args:
        out: Folder of the results, on a disk that all machines share.
        outputs: Kinds of results, rows of `inference.outputs.OUTPUTS`.
        options: Of their writers.
        model: As for `open_predictor`.
        address: Of the cluster, see `resources.connected`.
        workers: Number; None is one for each GPU, or for each machine where there is none.
        working: Options of `predict_files`: batch, max_memory.
        opening: Further options of `open_predictor`, such as device and protocol.

    Raises:
        ConfigError: An unknown kind, or a video, which is made in one go.
        DataError: `out` is a file.
        MissingExtraError: Ray is not installed.

    Example:
        job = RayJob("/shared/masks", model="/shared/best.ckpt")
        for result in job.run(open_sources(["/shared/photos"])):
            print(result)
    """

    def __init__(
        self,
        out: str | Path,
        outputs: Sequence[str] = DEFAULT_KINDS,
        options: Options | None = None,
        *,
        model: str | Path | None = None,
        address: str = "auto",
        workers: int | None = None,
        working: Mapping[str, Any] | None = None,
        **opening: Any,
    ) -> None:
        if "video" in outputs:
            raise ConfigError("A video cannot be divided: leave out --ray, or --save video.")
        self.kinds = check_kinds(outputs)
        import_ray()
        self.out, self.address, self.workers = Path(out), address, workers
        self.device = opening.get("device", "auto")
        if self.out.exists() and not self.out.is_dir():
            raise DataError(f"{out} is a file; results need a folder. Choose another one with --out.")
        if model is not None and Path(model).expanduser().exists():
            model = Path(model).expanduser().absolute()
        self.worker_options: dict[str, Any] = {
            "out": self.out.expanduser().absolute(),
            "kinds": self.kinds,
            "options": options or Options(),
            "opening": {"keep": needed_maps(self.kinds), **opening, "model": model},
            "working": dict(working or {}),
        }
        self._job = Job(self.out, self.kinds, options)
        self._repeated = 0

    @property
    def summary(self) -> str:
        """One sentence on images found done and images distributed again; empty where there were none."""
        repeated = f"handed out again, as a worker died: {self._repeated}" * bool(self._repeated)
        return "; ".join(part for part in (self._job.summary, repeated) if part)

    def run(
        self,
        pictures: Iterable[Picture],
        covers: Callable[[Path], bool] | None = None,
    ) -> Iterator[FileResult]:
        """Yield the result of each image that is not done yet, in no order.

        Args:
            pictures: From `inference.sources.open_sources`; all are listed before the first is distributed.
            covers: Whether a file is one of the images, which no result may overwrite; None asks the sources.

        Raises:
            ConfigError: No cluster, too small a cluster, or an image that only one machine can read.
            DataError: A result would overwrite an image, or the folder cannot be written.
            WeightsError: A worker cannot open the model.
        """
        if covers is None:
            covers = pictures.covers if isinstance(pictures, Sources) else lambda path: False
        broken, images = [], []
        for picture in pictures:
            if picture.error is not None:
                broken.append(_failed(picture, picture.error))
                continue
            for target in self._targets(picture):
                if target.exists() and covers(target):
                    raise DataError(
                        f"{target} is one of the images, and a result would overwrite it. Choose another folder with "
                        "--out, or leave that file out."
                    )
            images.append(portable(picture))
        return self._job.summed(self._results(broken, images))

    def _targets(self, picture: Picture) -> Iterable[Path]:
        return possible_paths(self.out, picture.name, self.kinds)

    def _results(self, broken: list[FileResult], images: list[Picture]) -> Iterator[FileResult]:
        yield from broken
        records: dict[str, list[Record]] = defaultdict(list)  # "" holds settings of older results
        for record in read_manifests(self.out):
            records[record.get("name", "")].append(record)
        self.worker_options["older_settings"] = records.pop("", [])
        self._remove_unfinished(images)
        waiting, first = images, 0
        with connected(self.address) as ray:
            for repeat in range(MAX_ROUNDS if images else 0):
                resources = self._resources(ray, repeat > 0)
                max_images = 1 if repeat else MAX_TASK_IMAGES
                tasks = split(waiting, resources.workers, records, first, max_images)
                first += len(tasks)
                missing = {task.number: task for task in tasks}
                for result in self._round(ray, tasks, resources):
                    if missing.pop(result.number, None) is not None:
                        yield from self._accept(result)
                waiting = [image for task in missing.values() for image in task.images]
                if not waiting:
                    break
                if repeat + 1 < MAX_ROUNDS:
                    log.info("A worker died; %d images are handed out again.", len(waiting))
                    self._repeated += len(waiting)
        if self._repeated:
            self._remove_unfinished(images)
        for image in waiting:
            yield _failed(
                image,
                DataError(
                    f"{image.origin}: the worker that had it died, {MAX_ROUNDS} times. Try it alone without --ray; "
                    "--max-memory and --window need less memory."
                ),
            )

    def _resources(self, ray: Any, repeat: bool) -> ClusterResources:
        """Divide the machines that are alive; after a loss fewer workers than requested are accepted."""
        if not repeat:
            return divide(ray.nodes(), self.device, self.workers)
        left = divide(ray.nodes(), self.device)
        return left._replace(workers=min(left.workers, self.workers or left.workers))

    def _round(self, ray: Any, tasks: Sequence[Task], resources: ClusterResources) -> Iterator[TaskResult]:
        """Distribute tasks once, and yield results as they come; tasks of workers that die have none."""
        rows = [{"task": pickle.dumps(task)} for task in tasks]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        data.context.max_errored_blocks = -1
        data.context.max_consecutive_actor_init_deaths = MAX_INIT_DEATHS
        data.context.enable_progress_bars = data.context.print_on_execution_start = False
        ray_log = logging.getLogger("ray.data")
        level = ray_log.level
        ray_log.setLevel(logging.CRITICAL)  # it would report each task of a dead worker
        any_came = False
        try:
            with warnings.catch_warnings():  # Ray 2.64 moves the last two arguments
                warnings.filterwarnings("ignore", "`ray_remote_args`")
                results = data.map_batches(
                    Worker,
                    fn_constructor_kwargs=self.worker_options,
                    batch_size=None,
                    compute=ray.data.ActorPoolStrategy(size=min(resources.workers, len(tasks))),
                    num_cpus=resources.cpus,
                    num_gpus=resources.gpus,
                    max_restarts=-1,  # a worker comes back where there is room
                    max_task_retries=0,  # its task does not wait for that
                )
            for row in results.iter_rows():
                any_came = True
                yield pickle.loads(row["result"])
        except ray.exceptions.RayError as error:
            if not any_came:
                last = str(error).strip().rpartition("\n")[2].rstrip(".")
                raise ConfigError(
                    f"The workers do not start on the Ray cluster: {last}. Every machine needs hrseg[ray] in the "
                    "version of this one, and the same Python and Ray."
                ) from error
        finally:
            ray_log.setLevel(level)

    def _accept(self, result: TaskResult) -> Iterator[FileResult]:
        """Write the records of a task, and yield its results with the paths as the user gave them."""
        if result.failure is not None:
            raise result.failure
        theirs, manifest = result.manifest, self._job.manifest
        assert theirs is not None
        if manifest is None:
            known = self.worker_options["older_settings"]
            manifest = Manifest(self.out, theirs.settings, self.kinds, lines=known)
            self._job.manifest = manifest
        if theirs.settings != manifest.settings:
            raise _disagreement(manifest.settings, theirs.settings)
        manifest.done += theirs.done
        manifest.again.update(theirs.again)
        manifest.found += [self._relative(files) for files in theirs.found]
        for record in result.records:
            manifest.append(record)
        for one in result.results:
            yield replace(one, files=self._relative(one.files))

    def _relative(self, files: Mapping[str, Path]) -> dict[str, Path]:
        root = self.worker_options["out"]
        return {kind: self.out / path.relative_to(root) for kind, path in files.items()}

    def _remove_unfinished(self, images: Iterable[Picture]) -> None:
        unfinished = Unfinished(self.out)
        for image in images:
            unfinished.remove(self._targets(image))


def split(
    images: Sequence[Picture],
    workers: int,
    records: Mapping[str, Iterable[Record]],
    first: int = 0,
    max_images: int = MAX_TASK_IMAGES,
) -> list[Task]:
    """Split images into tasks, in order.

    Args:
        images: All of them.
        workers: Number of workers.
        records: Name → older manifest records.
        first: Number of the first task.
        max_images: In one task.

    Example:
        >>> images = [Picture(name, name) for name in "abcdefghijklmnopq"]
        >>> [len(task.images) for task in split(images, 1, {})]
        [3, 3, 3, 3, 3, 2]
    """
    size = math.ceil(len(images) / (workers * MIN_TASKS_PER_WORKER))
    size = min(max_images, max(1, size))
    groups = [tuple(images[i : i + size]) for i in range(0, len(images), size)]
    return [
        Task(first + i, group, tuple(line for one in group for line in records.get(one.name, ())))
        for i, group in enumerate(groups)
    ]


def portable(image: Picture) -> Picture:
    """Return an image that any machine can read: with an absolute path, or an address.

    Raises:
        ConfigError: Only one machine can read it.
    """
    if image.path is not None:
        return replace(image, path=image.path.expanduser().absolute())
    if image.clip is None and image.pixels is None and "://" in image.origin:
        return image
    raise ConfigError(
        f"{image.origin} comes from a video, a camera, an archive or standard input, which one machine reads from "
        "beginning to end. Predict it without --ray, or put its images into a folder on the shared disk and name that."
    )


def _failed(image: Picture, error: HrsegError) -> FileResult:
    return FileResult(given_name(image), name=image.name, time=image.time, error=error)


def _disagreement(one: Mapping[str, Any], other: Mapping[str, Any]) -> ConfigError:
    """Return the error of machines whose results would differ."""
    name = next(name for name in {**one, **other} if one.get(name) != other.get(name))
    values = [settings.get(name) for settings in (one, other)]
    shown = f": {values[0]} and {values[1]}" if all(isinstance(v, str) for v in values) else ""
    return ConfigError(
        f"The machines do not agree in their {name}{shown}. Set --precision fp32 where only some have fast bf16, "
        "and give all of them the same model."
    )
