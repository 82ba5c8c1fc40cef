"""Runs that are fine-tuned for real, to be asked and scored; searches that are driven in this process."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.job import PretrainJob
from reforge.runs.population_run import PopulationRun
from reforge.runs.search_run import SearchRun
from reforge.runs.trial_process import TrialProcess
from reforge.runs.tune_job import TuneOptions, TuneSearch, tune_problems
from reforge.search.compilation import compile_search
from reforge.search.records import TrialRecord
from reforge.search.study import Study
from reforge.spec import load_source

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def classes_run(finetune_job: Callable[..., FinetuneJob]) -> Path:
    """A run that tells good from bad."""
    job = finetune_job("name=asked-classes", "train.max_epochs=2")
    finetune(job, job.folder, torch.device("cpu"))
    return job.folder


@pytest.fixture(scope="session")
def reader_run(finetune_job: Callable[..., FinetuneJob], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that answers questions about contexts."""
    file = tmp_path_factory.mktemp("questions") / "questions.json"
    file.write_text(json.dumps({"data": [_article(number) for number in range(8)]}), encoding="utf-8")
    job = finetune_job(
        "name=asked-reader",
        "task={kind: question_answering, max_question_tokens: 8, max_answer_tokens: 4}",
        f"data.train={{kind: squad, path: {file}}}",
        "train.max_epochs=1",
    )
    finetune(job, job.folder, torch.device("cpu"))
    return job.folder


@pytest.fixture(scope="session")
def entities_run(finetune_job: Callable[..., FinetuneJob], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that tags words."""
    names, places = ("Ada", "Kim", "Noor", "Jan"), ("Paris", "Seoul", "Rome", "Oslo")
    sentences = [[(name, "B-PER"), ("sings", "O"), ("in", "O"), (place, "B-LOC")] for name in names for place in places]
    file = tmp_path_factory.mktemp("entities") / "entities.conll"
    blocks = ["\n".join(f"{word}\t{tag}" for word, tag in sentence) for sentence in sentences]
    file.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    job = finetune_job(
        "name=asked-entities", "task={kind: ner}", f"data.train={{kind: conll, path: {file}}}", "train.max_epochs=10"
    )
    finetune(job, job.folder, torch.device("cpu"))
    return job.folder


def _article(number: int) -> dict[str, object]:
    things = ("soup", "bread", "tea", "cake", "rice", "jam", "fish", "salt")
    context = f"the {things[number]} is on the table in the kitchen"
    answer = {"text": "on the table", "answer_start": context.index("on the table")}
    question = {"id": f"q{number}", "question": f"where is the {things[number]}", "answers": [answer]}
    return {"title": things[number], "paragraphs": [{"context": context, "qas": [question]}]}


@dataclass
class Searched:
    """A search in a folder of its own, and how it is driven."""

    search: TuneSearch
    prepared: Path | None = None

    @property
    def options(self) -> TuneOptions:
        return self.search.options

    def trial(self, number: int) -> Path:
        return self.options.folder / "trials" / f"{number:04d}"

    def study(self) -> Study:
        options = self.options
        return Study(
            options.name,
            self.search.space,
            options.search,
            options.metrics,
            options.study_storage,
            self.search.violated,
            scheduler=options.scheduler,
        )

    def run(self) -> SearchRun:
        study = self.study()
        kind = SearchRun if study.population is None else PopulationRun
        return kind(self.search, study, lambda job: self.prepared)

    def moments(self, run: SearchRun, at_once: int = 1) -> Iterator[str]:
        """Drives it to its end, so many trials at a time; stops at each moment at which its driver may die."""
        processes = [TrialProcess(str(Path.cwd()), 1, 0.0) for _ in range(at_once)]
        busy: dict[int, int] = {}
        try:
            for place in cycle(range(at_once)):
                process = processes[place]
                if place not in busy:
                    task = run.next_trial()
                    if task is None and not busy and not run.is_waiting:
                        return
                    assert task is not None or busy, "nobody trains, and all wait"
                    if task is not None:
                        yield "asked"
                        busy[place] = task.number
                        process.begin(task)
                else:
                    advance = process.advance()
                    yield "trained"
                    if run.judge(busy[place], advance):
                        del busy[place]
                    yield "judged"
        finally:
            for process in processes:
                process.end()

    def drive(self, at_once: int = 1) -> tuple[TrialRecord, ...]:
        """To its end; what became of its trials."""
        run = self.run()
        for _ in self.moments(run, at_once):
            pass
        return run.study.trials


@pytest.fixture
def searching(tmp_path: Path, reviews_file: Path, corpus_file: Path, prepared_folder: Path) -> Callable[..., Searched]:
    """The sections of a search over the tiny fine-tuning, or pre-training, as YAML -> the search."""

    def make(text: str, base: str = "tiny_finetune", name: str = "s") -> Searched:
        file = tmp_path / f"{name}.yaml"
        file.write_text(f"kind: tune\nname: {name}\nextends: {TESTS / base}.yaml\n{text}", encoding="utf-8")
        job: Any = FinetuneJob if base == "tiny_finetune" else PretrainJob
        data = f"data.train.path={reviews_file}" if job is FinetuneJob else f"data.corpus.path={corpus_file}"
        source = load_source(file, [data, f"run.storage={tmp_path / 'runs'}"], dotted=("space",))
        search: Any = compile_search(source, job, TuneOptions, rules=tune_problems)
        return Searched(search, prepared_folder if job is PretrainJob else None)

    return make
