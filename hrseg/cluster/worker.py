"""Ray actor that opens a model once and segments the images of one task after another."""

import pickle
import socket
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hrseg.errors import HrsegError
from hrseg.inference.backends import set_threads
from hrseg.inference.outputs import Options
from hrseg.inference.outputs.manifest import Manifest, dependencies
from hrseg.inference.predict_files import FileResult, open_predictor, predict_files
from hrseg.inference.sources import Picture

Record = Mapping[str, Any]
"""One line of a manifest."""


class Task(NamedTuple):
    """Images for one worker, with the manifest records about them; the number is unique in the job.

    Images travel as absolute paths or addresses, never as pixels.
    """

    number: int
    images: tuple[Picture, ...]
    records: tuple[Record, ...] = ()


class TaskResult(NamedTuple):
    """Outcome of a task: results and new records, or the failure that ends the job.

    The manifest has the worker's settings, and which images were found done.
    """

    number: int
    results: tuple[FileResult, ...] = ()
    records: tuple[Record, ...] = ()
    manifest: Manifest | None = None
    failure: Exception | None = None


class Worker:
    """Actor for `map_batches`. Errors return as results, so that its process goes on.

    Args:
        out: Folder of the results, absolute.
        kinds: Kinds of results.
        options: Of their writers.
        opening: Options of `open_predictor`.
        working: Options of `predict_files`.
        older_settings: Manifest records about models and options of older results.
    """

    def __init__(
        self,
        out: Path,
        kinds: tuple[str, ...],
        options: Options,
        opening: Mapping[str, Any],
        working: Mapping[str, Any],
        older_settings: Sequence[Record],
    ) -> None:
        self.out, self.kinds, self.options = out, kinds, options
        self.working, self.older_settings = working, older_settings
        self.failure: Exception | None = None
        set_threads()
        try:
            self.predictor = open_predictor(**opening)
            self.settings = dependencies(self.predictor.settings(), options)
        except HrsegError as error:
            self.failure = type(error)(f"{error} This was on {socket.gethostname()}.")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run a batch of tasks. Shape: "task" (n,) of pickled tasks → "result" (n,) of pickled results."""
        column = np.empty(len(batch["task"]), dtype=object)
        column[:] = [pickle.dumps(self.run(pickle.loads(task))) for task in batch["task"]]
        return {"result": column}

    def run(self, task: Task) -> TaskResult:
        """Run one task."""
        if self.failure is not None:
            return TaskResult(task.number, failure=self.failure)
        try:
            return self._segment(task)
        except HrsegError as error:  # of no single image, such as a full disk
            return TaskResult(task.number, failure=error)
        except Exception:  # a bug: its traceback belongs on the terminal that started the job
            return TaskResult(task.number, failure=RuntimeError(traceback.format_exc()))

    def _segment(self, task: Task) -> TaskResult:
        known = [*self.older_settings, *task.records]
        manifest = Manifest(self.out, self.settings, self.kinds, lines=known)
        given = {image.name: given_name(image) for image in task.images}
        results, records = [], []
        missing = manifest.missing(task.images)
        for result in predict_files(*(self.predictor, missing, self.out, self.kinds, self.options), **self.working):
            result = replace(result, image=given[result.name])
            results.append(result)
            if (record := manifest.record_of(result)) is not None:
                records.append(record)
        return TaskResult(task.number, tuple(results), tuple(records), manifest)


def given_name(image: Picture) -> Path | str:
    """Return the path or address of an image as the user gave it."""
    return image.origin if image.path is None else Path(image.origin)
