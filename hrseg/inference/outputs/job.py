"""Around the prediction of many images: which ones are this machine's and still to be done, and the totals at the end.

`pictures` goes before `runtime.predict_files`, `results` after it.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hrseg.inference.outputs import possible_paths
from hrseg.inference.outputs.areas import read_table, total, write_table
from hrseg.inference.outputs.digests import Asked
from hrseg.inference.outputs.manifest import Done, Manifest, dependencies
from hrseg.inference.outputs.options import Options
from hrseg.inference.outputs.shards import Shard

log = logging.getLogger(__name__)

TOTALS = {"areas": "areas.json", "areas_csv": "areas.csv"}
"""Kind of table → file of its total, beside the results."""
A = TypeVar("A", bound=Asked)
D = TypeVar("D", bound=Done)


class Job:
    """One run over many images, or one machine's part of it.

    Args:
        out: Folder of the results.
        kinds: Kinds of results.
        options: What their writers are told.
        shard: Which part of the images this machine has.
        facts: Of the predictor; with them a manifest is kept, and what is done and intact is left as it is.

    Raises:
        DataError: A manifest cannot be read.
    """

    def __init__(
        self,
        out: str | Path,
        kinds: Sequence[str],
        options: Options | None = None,
        shard: Shard | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.out = Path(out)
        self.kinds = tuple(kinds)
        self.shard = shard or Shard()
        self.manifest: Manifest | None = None
        if facts is not None:
            about = dependencies(facts, options or Options())
            self.manifest = Manifest(self.out, about, kinds, self.shard)

    def pictures(self, pictures: Iterable[A]) -> Iterator[A]:
        """Yield what is to be done here, in order."""
        mine = self.shard.take(pictures)
        return self._replacing(mine) if self.manifest is None else self.manifest.missing(mine)

    def _replacing(self, pictures: Iterable[A]) -> Iterator[A]:
        """Hand pictures on, and say once that results of an earlier run are replaced."""
        told = not self.kinds
        for picture in pictures:
            older = None if told else _first_there(self.out, picture.name, self.kinds)
            if older is not None:
                told = True
                log.warning(
                    "%s is replaced: an earlier run wrote it, perhaps of another image of that name. Other results in "
                    "%s are replaced as well. --out names another folder, --resume keeps what is done.",
                    *(older.name, self.out),
                )
            yield picture

    def results(self, results: Iterable[D]) -> Iterator[D]:
        """Hand results on as they come, write them down, and after the last one write the totals.

        Raises:
            DataError: The manifest or a total cannot be written.
        """
        return self.summed(results if self.manifest is None else self.manifest.record(results))

    def summed(self, results: Iterable[D]) -> Iterator[D]:
        """Hand results on that others write down, and after the last one write the totals.

        Raises:
            DataError: A total cannot be written.
        """
        tables: dict[str, list[Path]] = {kind: [] for kind in TOTALS if kind in self.kinds}
        for result in results:
            for kind, found in tables.items():
                if kind in result.files:
                    found.append(result.files[kind])
            yield result
        for kind, found in tables.items():
            found += [files[kind] for files in self._found if kind in files]
            if found:
                place = Path(TOTALS[kind])
                target = self.out / f"{self.shard.named(place.stem)}{place.suffix}"
                write_table(target, total(read_table(path) for path in sorted(found)))

    @property
    def summary(self) -> str:
        """What was found done, in one sentence; empty where nothing was."""
        return "" if self.manifest is None else self.manifest.summary()

    @property
    def _found(self) -> list[dict[str, Path]]:
        return [] if self.manifest is None else self.manifest.found


def _first_there(out: Path, name: str, kinds: Iterable[str]) -> Path | None:
    return next((path for path in possible_paths(out, name, kinds) if path.exists()), None)
