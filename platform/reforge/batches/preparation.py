"""Corpus to tokenizer to shards, once for every combination of content, options and code.

    files -- facts --> Request --> parts
    parts -- survey_part --> .work-*/survey-*   (where a tokenizer is trained or duplicates are looked for)
          '- find_duplicates, train --> tokenizer-<key>/
    parts -- encode_part --> .work-*/part-* -- join_parts --> shards-<key>/

A key is a hash of everything that decides the result, so a folder that is complete never goes stale. What the parts
gave stays until the shards are complete, so a run that was killed goes on where it stopped.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from reforge.batches.data import Data
from reforge.batches.duplicates import find_duplicates, num_partitions
from reforge.batches.encoding import EncodeTask, encode_part
from reforge.batches.executor import Executor, Tick, in_process
from reforge.batches.joining import join_parts
from reforge.batches.parts import CorpusPart
from reforge.batches.prepared import TOKENIZER, Prepared, open_prepared
from reforge.batches.progress import WorkProgress
from reforge.batches.reading import SplitCounts, check_split
from reforge.batches.report import report_lines
from reforge.batches.request import FORMAT, Request
from reforge.batches.storage import (
    building,
    locked,
    read_manifest,
    remove_folder,
    storage_errors,
    write_manifest,
    write_synced,
)
from reforge.batches.survey import SurveyTask, key_folder, sampled_texts, survey_part
from reforge.corpora import Tally
from reforge.tokenizers import TokenizerOptions
from reforge.tokenizers.stored import read_tokenizer

Announce = Callable[[str], None]
REPORT = "report.txt"


def prepare(
    data: Data,
    tokenizer: TokenizerOptions,
    root: Path,
    announce: Announce = print,
    run: Executor = in_process,
) -> Prepared:
    """The prepared corpus under `root`, made now if the same request was never completed before.

    announce: gets lines for people: progress, what was reused, the report
    run: runs the tasks; the bytes that come out do not depend on it
    Raises UserError for anything about the corpus, the vocabulary size or the storage that the user can mend.
    """
    root = root.expanduser().absolute()
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        request = Request.of(data, tokenizer, root, run, announce)
        found = _reusable(request.shards, announce)
        if found is None:
            with locked(request.shards, announce):
                found = _reusable(request.shards, announce)  # by the process that held the lock
                if found is None:
                    _Preparation(request, announce, run).build()
        else:
            announce(f"reused {request.shards}: " + report_lines(found)[0])
    return open_prepared(request.shards, data)


def _reusable(folder: Path, announce: Announce) -> dict[str, Any] | None:
    manifest, trouble = read_manifest(folder)
    if trouble:
        announce(f"warning: {folder} is not complete ({trouble}); preparing it anew")
    return manifest


class _Preparation:
    """The steps of one preparation; the lock of its shards must be held."""

    def __init__(self, request: Request, announce: Announce, run: Executor) -> None:
        self.request, self.data, self.parts = request, request.data, request.parts
        self.announce, self.run = announce, run
        self.surveyed = False

    def build(self) -> None:
        """Make the shards."""
        self.request.work.mkdir(parents=True, exist_ok=True)
        tokenizer = self._tokenizer()
        dropped = self._duplicates()
        parts = self._run_parts("packing", encode_part, [self._encode_task(part, dropped) for part in self.parts])
        tally = self._checked(parts)
        with building(self.request.shards) as folder:
            folders = [self._part(part.number) for part in self.parts]
            splits = join_parts(self.data, tokenizer.get_vocab_size(), folders, parts, folder, self.run)
            manifest = self._finish(folder, tokenizer, tally, splits)
        remove_folder(self.request.work)
        for line in report_lines(manifest):
            self.announce(line)
        self.announce(f"prepared {self.request.shards}")

    def _encode_task(self, part: CorpusPart, dropped: tuple[Path, ...]) -> EncodeTask:
        survey = self._survey(part.number) if self.surveyed else None
        tokenizer = self.request.tokenizer / TOKENIZER
        return EncodeTask(self.data, part, tokenizer, survey, dropped, self._part(part.number))

    def _finish(self, folder: Path, tokenizer: Tokenizer, tally: Tally, splits: dict[str, Any]) -> dict[str, Any]:
        self.request.check_unchanged()
        options = self.request.options
        content = {
            "format": FORMAT,
            "fingerprint": self.request.shards_key,
            # As they identify the result: where files lie has no part in it.
            "data": {**self.data.model_dump(mode="json"), "corpus": self.data.corpus.identity()},
            "tokenizer": {**options.identity(), "vocab_size": options.vocab_size},
            "vocab_size": tokenizer.get_vocab_size(),
            "block_tokens": self.data.block_tokens,
            "corpus": tally.as_dict(),
            "splits": splits,
        }
        write_synced(folder / TOKENIZER, tokenizer.to_str(pretty=True))
        write_synced(folder / REPORT, "\n".join(report_lines(content)) + "\n")
        return write_manifest(folder, content)

    def _tokenizer(self) -> Tokenizer:
        """The tokenizer of the request, made now unless it was before; validation documents have no part in it."""
        folder = self.request.tokenizer
        with locked(folder, self.announce):
            if _reusable(folder, self.announce) is None:
                tokenizer = self._smaller() or self._trained()
                special = [tokenizer.token_to_id(token) for token in self.data.special_tokens]
                assert special == list(range(len(special))), special
                with building(folder) as temp:
                    self.request.check_unchanged()
                    write_synced(temp / TOKENIZER, tokenizer.to_str(pretty=True))
                    asked = self.request.options.vocab_size
                    content = {"format": FORMAT, "family": self.request.family, "vocab_size": asked}
                    write_manifest(temp, {**content, "fingerprint": self.request.tokenizer_key})
                reached = tokenizer.get_vocab_size()
                wish = f" ({asked:,} asked for)" if asked and reached != asked else ""
                self.announce(f"tokenizer: {reached:,} tokens{wish}")
            else:
                self.announce(f"reused {folder}")
        return read_tokenizer(folder / TOKENIZER)

    def _smaller(self) -> Tokenizer | None:
        """The tokenizer cut out of a larger one that was trained on the same text, where that is exact."""
        options = self.request.options
        if not options.shrinks:
            return None
        for folder in sorted(self.request.root.glob("tokenizer-*")):
            manifest, _ = read_manifest(folder)
            related = manifest is not None and manifest.get("family") == self.request.family
            if manifest and related and manifest["vocab_size"] >= (options.vocab_size or 0):
                self.announce(f"tokenizer: cut out of {folder}, which has {manifest['vocab_size']:,} tokens")
                larger = read_tokenizer(folder / TOKENIZER)
                return options.shrink(larger, options.vocab_size or 0)
        return None

    def _trained(self) -> Tokenizer:
        options = self.request.options
        if not options.is_trained:
            return options.train([], self.data.special_tokens)
        self._run_survey(options.sample_bytes)
        texts: Iterator[str] = sampled_texts([self._survey(part.number) for part in self.parts])
        if self.data.clean.duplicates != "keep":
            texts = iter(dict.fromkeys(texts))
        return options.train(texts, self.data.special_tokens)

    def _duplicates(self) -> tuple[Path, ...]:
        """Files that name the documents to leave out; made where `data.clean` or the corpus asks for it."""
        if not self._num_partitions:
            return ()
        self._run_survey(None)
        folders = [key_folder(self._survey(part.number)) for part in self.parts]
        outs = tuple(self.request.work / f"duplicates-{number:05d}" for number in range(self._num_partitions))
        find = partial(_find_duplicates, folders, self.data)
        for _ in self.run(find, list(enumerate(outs)), lambda documents, num_bytes: None):
            pass
        return outs

    @property
    def _num_partitions(self) -> int:
        if self.data.clean.duplicates == "keep" and not self.data.corpus.keyed:
            return 0
        return num_partitions(self.request.num_bytes, self.data.clean)

    def _run_survey(self, sample_bytes: int | None) -> None:
        """Read all parts, unless that was done before; what is asked for twice is asked for at the first time."""
        if self.surveyed:
            return
        limit = _sample_limit(self.request.num_bytes, sample_bytes) if sample_bytes else 0
        tasks = [
            SurveyTask(self.data, part, sample_bytes, limit, self._num_partitions, self._survey(part.number))
            for part in self.parts
        ]
        counts = self._run_parts("reading", survey_part, tasks)
        self.surveyed = True
        self._checked(counts)

    def _run_parts(self, purpose: str, function: Any, tasks: list[Any]) -> list[dict[str, Any]]:
        """The manifests of all parts, in order."""
        progress = WorkProgress(self.announce, purpose, self.request.num_bytes)
        done: dict[int, dict[str, Any]] = {}
        for index, task in enumerate(tasks):
            manifest, _ = read_manifest(task.folder)
            if manifest is not None:
                done[index] = manifest
                progress.part_done(task.part.num_bytes, found=True)
        if done:
            self.announce(f"{purpose}: going on, {len(done):,} of {len(tasks):,} parts are complete")
        left = [index for index in range(len(tasks)) if index not in done]
        for number, manifest in self.run(function, [tasks[index] for index in left], progress.tick):
            done[left[number]] = manifest
            progress.part_done(tasks[left[number]].part.num_bytes)
        return [done[index] for index in range(len(tasks))]

    def _checked(self, parts: list[dict[str, Any]]) -> Tally:
        """The tally of all parts; raises UserError where a split has no documents."""
        tally, counts = Tally(), SplitCounts()
        for part in parts:
            tally.add(Tally.from_dict(part["tally"]))
            counts.add(SplitCounts(**part["counts"]))
        check_split(counts, tally, self.data.valid_fraction)
        return tally

    def _survey(self, number: int) -> Path:
        return self.request.work / f"survey-{number:05d}"

    def _part(self, number: int) -> Path:
        return self.request.work / f"part-{number:05d}"


def _find_duplicates(folders: list[Path], data: Data, task: tuple[int, Path], tick: Tick) -> None:
    partition, out = task
    find_duplicates(folders, partition, data.clean, out)


def _sample_limit(num_bytes: int, sample_bytes: int) -> int:
    """A rank that no piece of the final sample reaches: without it every part of a large corpus would keep as much.

    Eight times the share that fits is left, because packed or marked up sources hold less text than their size says.
    """
    halvings = max(0, (num_bytes // (8 * sample_bytes)).bit_length())
    return (1 << 64) >> halvings
