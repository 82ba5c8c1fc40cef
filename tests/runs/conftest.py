"""Runs that are fine-tuned for real, to be asked and scored."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from reforge.runs.finetune import finetune
from reforge.runs.finetune_job import FinetuneJob


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
