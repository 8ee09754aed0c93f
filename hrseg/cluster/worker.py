"""What runs on each machine: the model is opened once, then errand after errand is done."""

import pickle
import socket
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hrseg.cluster.errands import Answer, Errand, Plan, shown
from hrseg.errors import HrsegError
from hrseg.inference.backends import settle_threads
from hrseg.inference.outputs.manifest import Manifest, dependencies
from hrseg.inference.predict_files import open_predictor, predict_files


class Worker:
    """An actor of Ray Data's map_batches. What goes wrong goes back as an answer: its process lives on.

    Args:
        plan: A pickled `Plan`.
    """

    def __init__(self, plan: bytes) -> None:
        self.plan: Plan = pickle.loads(plan)  # of our own process that hands out
        self.failure: Exception | None = None
        settle_threads()
        try:
            self.predictor = open_predictor(**self.plan.opening)
            self.facts = dependencies(self.predictor.facts(), self.plan.options)
        except HrsegError as error:
            self.failure = type(error)(f"{error} This was on {socket.gethostname()}.")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Do the errands of a batch. Shape: "errand" (n,) of pickled errands → "answer" (n,) of pickled answers."""
        answers = [self.answer(pickle.loads(errand)) for errand in batch["errand"]]
        column = np.empty(len(answers), dtype=object)
        column[:] = [pickle.dumps(answer) for answer in answers]
        return {"answer": column}

    def answer(self, errand: Errand) -> Answer:
        """Do one errand."""
        if self.failure is not None:
            return Answer(errand.number, failure=self.failure)
        try:
            return self._done(errand)
        except HrsegError as error:  # no image to blame, such as a full disk
            return Answer(errand.number, failure=error)
        except Exception:  # a bug: the traceback has to reach the one who started the job
            return Answer(errand.number, failure=RuntimeError(traceback.format_exc()))

    def _done(self, errand: Errand) -> Answer:
        plan = self.plan
        lines = [*plan.facts, *errand.known]
        manifest = Manifest(plan.out, self.facts, plan.kinds, lines=lines)
        called = {picture.name: shown(picture) for picture in errand.pictures}
        results, written = [], []
        for result in predict_files(
            self.predictor,
            manifest.missing(errand.pictures),
            plan.out,
            plan.kinds,
            plan.options,
            **plan.working,
        ):
            result = replace(result, image=called[result.name])
            results.append(result)
            if (line := manifest.line(result)) is not None:
                written.append(line)
        return Answer(
            errand.number,
            manifest.facts,
            tuple(results),
            tuple(written),
            manifest.kept,
            manifest.again,
            tuple(manifest.found),
        )
