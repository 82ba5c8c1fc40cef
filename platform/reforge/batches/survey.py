"""The first reading of a part, where one is needed: what the tokenizer is trained on, and what duplicates are found by.

documents --> sample.json      the pieces of the part that may be in the tokenizer's sample
          --> keys             of each document, for batches.duplicates
          '-> documents.zst    the documents themselves, unless reading them again is cheap
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reforge.batches.data import Data
from reforge.batches.duplicates import KeyWriter
from reforge.batches.executor import Tick
from reforge.batches.parts import CorpusPart
from reforge.batches.reading import PartReading, SplitDocument
from reforge.batches.spool import SpoolWriter
from reforge.batches.storage import building, read_manifest, write_manifest, write_synced
from reforge.tokenizers.sample import sample

_SAMPLE = "sample.json"
_KEYS = "keys"
TICK_DOCUMENTS = 200


@dataclass(frozen=True)
class SurveyTask:
    """One part to be read.

    sample_bytes, sample_limit: the most text that the tokenizer is trained on, and the rank from which on no piece of
        the whole corpus can be in it; None where no tokenizer is trained
    num_partitions: of the keys; 0 where no duplicates are looked for
    folder: where the results go
    """

    data: Data
    part: CorpusPart
    sample_bytes: int | None
    sample_limit: int
    num_partitions: int
    folder: Path


def survey_part(task: SurveyTask, tick: Tick) -> dict[str, Any]:
    """Read a part unless that was done before; the counts of its manifest."""
    found, _ = read_manifest(task.folder)
    if found is not None:
        return found
    reading = PartReading(task.data.corpus, task.data.clean, task.data.valid_fraction)
    with building(task.folder) as folder:
        documents = reading.documents(task.part.slices)
        if not task.data.corpus.reads_fast:
            documents = _spooled(documents, folder)
        if task.num_partitions:
            documents = _keyed(documents, folder, task)
        texts = _train_texts(ticking(documents, tick))
        if task.sample_bytes is None:
            for _ in texts:
                pass
        else:
            kept = sample(texts, task.sample_bytes)
            write_synced(folder / _SAMPLE, json.dumps(kept, ensure_ascii=False))
        return write_manifest(folder, {"tally": reading.tally.as_dict(), "counts": asdict(reading.counts)})


def sampled_texts(folders: Sequence[Path]) -> Iterator[str]:
    """The pieces that the parts kept, in order."""
    for folder in folders:
        yield from json.loads((folder / _SAMPLE).read_text(encoding="utf-8"))


def key_folder(folder: Path) -> Path:
    """Where a part's keys lie."""
    return folder / _KEYS


def ticking(documents: Iterable[SplitDocument], tick: Tick) -> Iterator[SplitDocument]:
    """The same documents; `tick` hears of them now and then."""
    num_documents = num_bytes = 0
    for split_document in documents:
        yield split_document
        num_documents += 1
        num_bytes += len(split_document.document.text.encode())
        if num_documents >= TICK_DOCUMENTS:
            tick(num_documents, num_bytes)
            num_documents = num_bytes = 0
    tick(num_documents, num_bytes)


def _spooled(documents: Iterable[SplitDocument], folder: Path) -> Iterator[SplitDocument]:
    spool = SpoolWriter(folder)
    for split_document in documents:
        spool.add(*split_document)
        yield split_document
    spool.close()


def _keyed(documents: Iterable[SplitDocument], folder: Path, task: SurveyTask) -> Iterator[SplitDocument]:
    keys = KeyWriter(key_folder(folder), task.data.clean, task.data.corpus.keyed, task.num_partitions)
    for number, split_document in enumerate(documents):
        keys.add(number, split_document.document)
        yield split_document
    keys.close()


def _train_texts(documents: Iterable[SplitDocument]) -> Iterator[str]:
    return (document.text for split, document in documents if split == "train")
