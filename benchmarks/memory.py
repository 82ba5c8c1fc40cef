"""How near the estimate of a job's peak memory is, before and after it is fitted to a few dry runs.

    .venv/bin/python benchmarks/memory.py                  # 30 random configurations, some minutes on a CPU core

Each configuration is trained for two steps, on text that is made up here. The fit sees the first 5 of them and is
judged on the others. Two measures:

    handed out   what torch's allocator handed out at most: on a CPU the default, by torch's profiler; on a GPU the
                 only one, in a process of its own each time
    resident     --resident, on a CPU: by how much the memory of a fresh process grew from before the model was built.
                 What the C library keeps of freed memory counts: the smaller the model, the more

Sizes are those of a laptop's CPU; `--scale 8` takes micro-batches eight times as large. Figures in docs are those of a
CPU: on a GPU it has not been measured.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from reforge.batches import prepare
from reforge.loop import World
from reforge.runs import PretrainJob, pretrain
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.memory_fit import MemoryFit
from reforge.runs.memory_measure import measure_handed_out, measure_peak
from reforge.runs.memory_model import MemoryEstimate, device_of, estimate
from reforge.spec import SpecError, load_source, validate

MIB = 2**20
NUM_FITTED = 5
SYLLABLES = [first + vowel for first in "bcdfghjklmnprstvwz" for vowel in "aeiou"]
ENCODER_DEPTH = 4


class Measured(NamedTuple):
    """A configuration, its estimate and what two steps took, in bytes."""

    name: str
    estimated: MemoryEstimate
    measured: int


def sentence(rng: random.Random, num_words: int) -> str:
    """Made-up words."""
    return " ".join("".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(num_words))


def write_texts(folder: Path, rng: random.Random) -> None:
    """A corpus and a set of each form, rows longer than any block."""
    documents = ("\n".join(sentence(rng, 12) + "." for _ in range(40)) for _ in range(150))
    (folder / "corpus.txt").write_text("\n\n".join(documents), encoding="utf-8")
    rows = [f"{sentence(rng, 260)}\t{rng.choice(['yes', 'no', 'perhaps'])}" for _ in range(300)]
    (folder / "classes.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")
    tags = ["O", "O", "O", "B-NAME", "B-PLACE"]
    tagged = ["\n".join(f"{word}\t{rng.choice(tags)}" for word in sentence(rng, 200).split()) for _ in range(300)]
    (folder / "entities.conll").write_text("\n\n".join(tagged) + "\n", encoding="utf-8")
    articles = [article(rng, number) for number in range(150)]
    (folder / "questions.json").write_text(json.dumps({"data": articles}), encoding="utf-8")


def article(rng: random.Random, number: int) -> dict[str, object]:
    """A question whose answer is a word of its context."""
    context = sentence(rng, 240)
    answer = context.split()[rng.randrange(240)]
    asked = {"text": answer, "answer_start": context.index(answer)}
    question = {"id": f"q{number}", "question": sentence(rng, 6), "answers": [asked]}
    return {"title": f"t{number}", "paragraphs": [{"context": context, "qas": [question]}]}


def random_model(rng: random.Random) -> dict[str, Any]:
    """A backbone."""
    num_heads = rng.choice([2, 4])
    size = {"d_model": num_heads * rng.choice([64, 96, 128]), "depth": rng.randint(2, 6), "num_heads": num_heads}
    if rng.random() < 0.4:
        memory = rng.choice(["keep", "keep", "checkpoint"])
        activation, dropout = rng.choice(["gelu", "swiglu"]), rng.choice([0.0, 0.1])
        return {"kind": "transformer", **size, "activation": activation, "dropout": dropout, "memory": memory}
    memory, attention = rng.choice(["keep", "reversible", "checkpoint"]), rng.choice(["exact", "lsh", "auto"])
    dropout = rng.choice([0.0, 0.1])
    return {"kind": "reformer", **size, "attention": attention, "memory": memory, "ff_dropout": dropout}


def pretraining(rng: random.Random, folder: Path, scale: int) -> dict[str, Any]:
    """A pre-training of any objective."""
    objective = rng.choice(["mlm", "mlm_nsp", "causal", "electra"])
    block, blocks = rng.choice([128, 256, 512]), rng.choice([4, 8, 16])
    tokens = max(block, min(4096, block * blocks)) * scale
    corpus = {"kind": "text", "path": str(folder / "corpus.txt"), "documents_by": "blank_line"}
    data = {"corpus": corpus, "block_tokens": block, "valid_fraction": 0.05}
    return {
        "kind": "pretrain",
        "data": data | ({"pack": "pairs"} if objective == "mlm_nsp" else {}),
        "tokenizer": {"kind": "wordpiece", "vocab_size": rng.choice([2000, 8000])},
        "model": random_model(rng),
        "objective": {"kind": objective}
        | ({"tie_embeddings": True} if objective in ("mlm", "causal") and rng.random() < 0.3 else {}),
        "train": {"global_batch_tokens": tokens * rng.choice([1, 2]), "micro_batch_tokens": tokens},
    }


def finetuning(rng: random.Random, folder: Path, scale: int, encoders: list[Path]) -> dict[str, Any]:
    """A fine-tuning with any head: of a run's lower layers frozen, or from scratch."""
    task, head, source = rng.choice(
        [
            ("classification", "linear", {"kind": "tsv", "path": "classes.tsv", "text": "text", "label": "label"}),
            ("classification", "cnn", {"kind": "tsv", "path": "classes.tsv", "text": "text", "label": "label"}),
            ("ner", "crf", {"kind": "conll", "path": "entities.conll"}),
            ("question_answering", "span", {"kind": "squad", "path": "questions.json"}),
        ]
    )
    block, tokens = rng.choice([128, 256]), rng.choice([2048, 4096]) * scale
    job = {
        "kind": "finetune",
        "task": {"kind": task},
        "head": {"kind": head},
        "data": {"train": source | {"path": str(folder / source["path"])}, "block_tokens": block},
        "train": {"batch_size": tokens // block * rng.choice([1, 2]), "micro_batch_tokens": tokens},
    }
    if rng.random() < 0.6:
        trained = rng.choice([0, 1, 2, 3, "all"])
        return job | {"encoder": {"run": str(rng.choice(encoders)), "trainable_layers": trained}}
    return job | {"model": random_model(rng), "tokenizer": {"kind": "wordpiece", "vocab_size": 2000}}


def as_job(spec: Mapping[str, Any], folder: Path, name: str) -> PretrainJob | FinetuneJob:
    """The spec, validated as a job's file is."""
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump({**spec, "name": name, "run": {"storage": str(folder / "runs")}}), encoding="utf-8")
    return validate(PretrainJob if spec["kind"] == "pretrain" else FinetuneJob, load_source(file))


def prepared_folder(job: PretrainJob) -> Path:
    """Its corpus, prepared once for all configurations that share it."""
    return prepare(job.data, job.tokenizer, job.run.prepared_root, announce=lambda line: None).folder


def make_encoders(folder: Path, device: torch.device) -> list[Path]:
    """A run of each backbone, trained for one step, for others to be fine-tuned from."""
    runs = []
    for kind in ("transformer", "reformer"):
        spec = pretraining(random.Random(0), folder, 1)
        spec |= {"model": {"kind": kind, "d_model": 256, "depth": ENCODER_DEPTH, "num_heads": 4}}
        spec |= {"objective": {"kind": "mlm"}, "tokenizer": {"kind": "wordpiece", "vocab_size": 2000}}
        spec["data"] = {**spec["data"], "block_tokens": 256, "pack": "documents"}
        spec["train"] = {"max_steps": 1, "global_batch_tokens": 256, "eval_blocks": 1}
        job = as_job(spec, folder, f"encoder-{kind}")
        assert isinstance(job, PretrainJob)
        pretrain(job, job.folder, prepared_folder(job), device)
        runs.append(job.folder)
    return runs


def configurations(seed: int, folder: Path, scale: int, encoders: list[Path]) -> Iterator[PretrainJob | FinetuneJob]:
    """Random jobs that are valid, for ever; two of three are pre-trainings."""
    rng, number = random.Random(seed), 0
    while True:
        spec = finetuning(rng, folder, scale, encoders) if number % 3 == 2 else pretraining(rng, folder, scale)
        try:
            yield as_job(spec, folder, f"c{number:02}")
        except SpecError:
            continue
        number += 1


def label(job: PretrainJob | FinetuneJob) -> str:
    """A configuration in a line."""
    tokens = f"{job.train.micro_batch_tokens} of {job.data.block_tokens}"
    if isinstance(job, PretrainJob):
        what, model = job.objective.kind, job.model
    else:
        assert job.head is not None
        what, model = f"{job.head.kind}, {job.encoder.trainable_layers} trained", job.model
    if model is None:
        return f"{what}, {job.encoder.run.name if isinstance(job, FinetuneJob) and job.encoder.run else ''}, {tokens}"
    attention = getattr(model, "attention", "")
    return f"{what}, {model.kind} {model.d_model}x{model.depth} {attention} {model.memory}, {tokens}"  # type: ignore[attr-defined]


def report(measured: list[Measured], fit: MemoryFit) -> dict[str, dict[str, float]]:
    """Errors before and after the fit, printed and returned; positive: estimated too high."""
    judged = measured[NUM_FITTED:]
    figures = {}
    for name, line in (("as estimated", MemoryFit()), (f"fitted to {NUM_FITTED}", fit)):
        errors = [line.predict(one.estimated) / one.measured - 1 for one in judged]
        sizes = sorted(abs(error) for error in errors)
        figures[name] = {
            "median": statistics.median(sizes),
            "p90": sizes[min(len(sizes) - 1, int(0.9 * len(sizes)))],
            "lowest": min(errors),
            "highest": max(errors),
        }
        shown = ", ".join(f"{key} {value:+.1%}" for key, value in figures[name].items())
        print(f"{name:<14} {shown} of {len(judged)}")
    return figures


def main(arguments: list[str] | None = None) -> dict[str, dict[str, float]]:
    """Prints a line for each configuration and the errors; returns the errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--resident", action="store_true", help="on a CPU: what the system gave to the process")
    parser.add_argument("--json", type=Path, help="where to write what was measured")
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    started, measured = time.monotonic(), list[Measured]()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder, random.Random(options.seed))
        jobs = configurations(options.seed, folder, options.scale, make_encoders(folder, device))
        for _, job in zip(range(options.number), jobs, strict=False):
            prepared = prepared_folder(job) if isinstance(job, PretrainJob) else None
            in_process = device.type == "cpu" and not options.resident
            run = measure_handed_out(job, prepared) if in_process else measure_peak(job, device, prepared)
            taken = run.measured_bytes
            estimated = estimate(job, device_of(job, World(device=device)), rows=run.rows)
            measured.append(Measured(label(job), estimated, taken))
            total = measured[-1].estimated.total
            print(f"{taken / MIB:7.0f} MiB, estimated {total / taken - 1:+6.1%}  {measured[-1].name}", flush=True)
    fit = MemoryFit.of((one.estimated.total, one.measured) for one in measured[:NUM_FITTED])
    print(f"measured = {fit.intercept / MIB:.0f} MiB + {fit.slope:.3f} x estimated; {time.monotonic() - started:.0f} s")
    figures = report(measured, fit)
    if options.json:
        rows = [[one.name, one.estimated.__dict__, one.measured] for one in measured]
        options.json.write_text(json.dumps({"rows": rows, "errors": figures}, indent=1), encoding="utf-8")
    return figures


if __name__ == "__main__":
    main()
