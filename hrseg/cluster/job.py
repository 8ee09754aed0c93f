"""The process that hands pictures out, gathers what became of them, and keeps the one manifest.

Ray Data brings errands to workers and answers back. A worker that dies loses its errands, and nothing is tried again
behind our back: what has no answer at the end of a round is handed out once more, picture by picture, to the workers
that are left. So a machine that is gone for good holds up nobody, and a picture that kills its worker is found out.
What was half done is done again, to the same bytes; one picture has one answer, so one result and one line.
"""

import logging
import pickle
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hrseg.cluster.errands import LARGEST, Answer, Errand, Plan, errands_of, failed, portable
from hrseg.cluster.machines import Room, joined, need_ray, quiet, room
from hrseg.cluster.worker import Worker
from hrseg.errors import ConfigError, DataError
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

ROUNDS = 3
"""How often a picture is handed out before it counts as one that kills its worker."""
DEATHS = 3
"""Workers that may die one after the other before one opens its model; then the round ends."""


class RayJob:
    """One prediction over the machines of a Ray cluster; what was done before and is intact is left as it is.

    Every machine has hrseg with the extra `ray`, and sees the images, the model and `out` under the same paths.

    Args:
        out: Folder of the results, on a disk that all machines share.
        outputs: Kinds of results, rows of `inference.outputs.OUTPUTS`.
        options: What their writers may be told.
        model: As for `runtime.open_predictor`.
        address: Of the cluster, see `machines.joined`.
        workers: How many; None is one for each GPU, or for each machine where there is none.
        working: Options of `runtime.predict_files`: batch, max_memory.
        opening: Further options of `runtime.open_predictor`, such as device and protocol.

    Raises:
        ConfigError: An unknown kind, or a video, which is made in one go.
        DataError: `out` is a file.
        MissingExtraError: Ray is not installed.

    Example:
        job = RayJob("/shared/masks", model="/shared/best.ckpt")
        for result in job.run(open_sources(["/shared/photos"])):
            print(result.line())
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
            raise ConfigError("A video is made in one go: leave out --ray, or --save video.")
        kinds = check_kinds(outputs)
        need_ray()
        self.out, self.address, self.workers = Path(out), address, workers
        if self.out.exists() and not self.out.is_dir():
            raise DataError(
                f"{out} is a file; results need a folder. Choose another one with --out."
            )
        if model is not None and Path(model).expanduser().exists():
            model = Path(model).expanduser().absolute()
        opening = {"keep": needed_maps(kinds), **opening, "model": model}
        whole = self.out.expanduser().absolute()
        self.plan = Plan(whole, kinds, options or Options(), opening, dict(working or {}))
        self._job = Job(self.out, kinds, options)
        self._lost = 0

    @property
    def summary(self) -> str:
        """What was found done and what was handed out again, in one sentence; empty where there was nothing."""
        lost = f"handed out again, as a worker died: {self._lost}" if self._lost else ""
        return "; ".join(part for part in (self._job.summary, lost) if part)

    def run(
        self,
        pictures: Iterable[Picture],
        covers: Callable[[Path], bool] | None = None,
    ) -> Iterator[FileResult]:
        """Yield what became of each picture that was to be done, as the answers come: in no order.

        Args:
            pictures: From `inference.sources.open_sources`. All of them are listed before the first is handed out.
            covers: Tells whether a file is one of the pictures, which no result may overwrite; None asks the sources.

        Raises:
            ConfigError: No cluster, too little room in it, or a picture that only one machine can read.
            DataError: A result would overwrite a picture, or the folder cannot be written.
            WeightsError: A worker cannot open the model.
        """
        if covers is None and isinstance(pictures, Sources):
            covers = pictures.covers
        broken, whole = self._listed(pictures, covers or (lambda path: False))
        return self._job.summed(self._results(broken, whole))

    def _listed(
        self, pictures: Iterable[Picture], covers: Callable[[Path], bool]
    ) -> tuple[list[FileResult], list[Picture]]:
        broken, whole = [], []
        for picture in pictures:
            if picture.error is not None:
                broken.append(failed(picture, picture.error))
                continue
            for target in self._targets(picture):
                if target.exists() and covers(target):
                    raise DataError(
                        f"{target} is one of the images, and a result would overwrite it. Choose another folder with "
                        "--out, or leave that file out."
                    )
            whole.append(portable(picture))
        return broken, whole

    def _targets(self, picture: Picture) -> Iterable[Path]:
        return possible_paths(self.out, picture.name, self.plan.kinds)

    def _results(self, broken: list[FileResult], pictures: list[Picture]) -> Iterator[FileResult]:
        yield from broken
        known: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        facts = []
        for line in read_manifests(self.out):
            if "name" in line:
                known[line["name"]].append(line)
            else:
                facts.append(line)
        self.plan = replace(self.plan, facts=tuple(facts))
        self._remove_unfinished(pictures)
        everything = pictures
        with joined(self.address) as ray:
            first = 0
            for turn in range(ROUNDS if pictures else 0):
                space = self._room(ray, again=turn > 0)
                largest = 1 if turn else LARGEST
                errands = errands_of(pictures, space.workers, known, first=first, largest=largest)
                first += len(errands)
                waiting = {errand.number: errand for errand in errands}
                for answer in self._round(ray, errands, space):
                    if waiting.pop(answer.number, None) is not None:
                        yield from self._taken(answer)
                pictures = [one for errand in waiting.values() for one in errand.pictures]
                if not pictures:
                    break
                log.info("A worker died; %d pictures are handed out again.", len(pictures))
                self._lost += len(pictures) if turn + 1 < ROUNDS else 0
        if self._lost:
            self._remove_unfinished(everything)
        for picture in pictures:
            yield failed(
                picture,
                DataError(
                    f"{picture.origin}: the worker that had it died, {ROUNDS} times. Try it alone without --ray; "
                    "--max-memory and --window need less memory."
                ),
            )

    def _room(self, ray: Any, again: bool) -> Room:
        """Look at the machines that are there now; where some are gone, fewer workers than were asked for will do."""
        device = self.plan.opening.get("device", "auto")
        if not again:
            return room(ray.nodes(), device, self.workers)
        left = room(ray.nodes(), device)
        return replace(left, workers=min(left.workers, self.workers or left.workers))

    def _round(self, ray: Any, errands: Sequence[Errand], space: Room) -> Iterator[Answer]:
        """Hand errands out once, and yield the answers that come; those of workers that died do not."""
        rows = [{"errand": pickle.dumps(errand)} for errand in errands]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        data.context.max_errored_blocks = -1
        data.context.max_consecutive_actor_init_deaths = DEATHS
        data.context.enable_progress_bars = data.context.print_on_execution_start = False
        with quiet("ray.data"):
            with (
                warnings.catch_warnings()
            ):  # the last two words will have another place from 2.64 on
                warnings.filterwarnings("ignore", "`ray_remote_args`")
                answers = data.map_batches(
                    Worker,
                    fn_constructor_args=(pickle.dumps(self.plan),),
                    batch_size=None,
                    compute=ray.data.ActorPoolStrategy(size=min(space.workers, len(errands))),
                    num_cpus=space.cpus,
                    num_gpus=space.gpus,
                    max_restarts=-1,  # a worker comes back where there is room
                    max_task_retries=0,  # its errand does not wait for that
                )
            any_came = False
            try:
                for row in answers.iter_rows():
                    any_came = True
                    yield pickle.loads(row["answer"])
            except ray.exceptions.RayError as error:
                if not any_came:
                    last = str(error).strip().rpartition("\n")[2].rstrip(".")
                    raise ConfigError(
                        f"The workers do not start on the Ray cluster: {last}. Every machine needs hrseg[ray] in the "
                        "version of this one, and the same Python and Ray."
                    ) from error

    def _taken(self, answer: Answer) -> Iterator[FileResult]:
        """Write an answer down, and hand its results on under the names that people gave."""
        if answer.failure is not None:
            raise answer.failure
        manifest = self._job.manifest
        if manifest is None:
            known = [*self.plan.facts]
            manifest = Manifest(self.out, answer.facts, self.plan.kinds, lines=known)
            self._job.manifest = manifest
        if answer.facts != manifest.facts:
            _refuse_mixture(manifest.facts, answer.facts)
        manifest.kept += answer.kept
        manifest.again.update(answer.again)
        manifest.found += [self._here(files) for files in answer.found]
        for line in answer.lines:
            manifest.append(line)
        for result in answer.results:
            yield replace(result, files=self._here(result.files))

    def _here(self, files: Mapping[str, Path]) -> dict[str, Path]:
        return {kind: self.out / path.relative_to(self.plan.out) for kind, path in files.items()}

    def _remove_unfinished(self, pictures: Iterable[Picture]) -> None:
        unfinished = Unfinished(self.out)
        for picture in pictures:
            unfinished.remove(self._targets(picture))


def _refuse_mixture(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Complain of machines whose results would differ."""
    name = next(name for name in {**one, **other} if one.get(name) != other.get(name))
    values = [facts.get(name) for facts in (one, other)]
    shown = f": {values[0]} and {values[1]}" if all(isinstance(v, str) for v in values) else ""
    raise ConfigError(
        f"The machines do not agree in their {name}{shown}. Set --precision fp32 where some are quick at bf16 and "
        "others are not, and give all of them the same model."
    )
