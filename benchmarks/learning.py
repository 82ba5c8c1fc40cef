"""What each objective learns in a minute or two: Reformer and Transformer at equal parameters and equal tokens.

    python benchmarks/learning.py --out learning --seeds 1 2 3          trains everything that is not in learning/ yet
    python benchmarks/learning.py --out learning --write docs           the tables and curves of docs/results.md

Every run is a spec of jobs/specs with a few overrides, trained by `reforge.runs.pretrain` in a process of its own on
one thread, as many at once as there are CPUs; the result does not depend on how many.
"""

import argparse
import json
import os
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

import torch

from reforge.batches import prepare
from reforge.runs import PretrainJob, pretrain
from reforge.spec import load_source, validate
from reforge.tracking import read_metrics

MARKS = ("<!-- learning.py writes from here -->", "<!-- to here -->")
ROOT = Path(__file__).parents[1]
OBJECTIVES = ("mlm", "mlm_nsp", "causal", "electra")
# The Transformer's own query matrix costs d_model^2 a layer: its feed-forward layers are narrower by as much. Another
# kind than the spec's starts from its own defaults, so the size is said again.
MODELS = {
    "transformer": ("model.kind=transformer", "model.size=tiny", "model.ff_mult=3.5"),
    "reformer": ("model.kind=reformer", "model.attention=exact"),
    "reformer-lsh": ("model.kind=reformer", "model.attention=lsh", "model.bucket_size=16"),
}
CORPORA = {
    "kowiki": (),
    "pile": ("data.corpus.kind=pile", "data.corpus.path=../shared/data/pile/train/00.jsonl.zst"),
}


@dataclass(frozen=True)
class Run:
    """One training."""

    corpus: str
    objective: str
    model: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.corpus}-{self.objective}-{self.model}-{self.seed}"

    def job(self, storage: Path) -> PretrainJob:
        overrides = [
            *CORPORA[self.corpus],
            *MODELS[self.model],
            f"train.seed={self.seed}",
            f"name={self.name}",
            f"run.storage={storage}",
            "scale.num_workers=1",
        ]
        return validate(PretrainJob, load_source(ROOT / "jobs" / "specs" / f"{self.objective}_small.yaml", overrides))


def train(run: Run, storage: Path, prepared: Path) -> None:
    """Train `run` and write its figures beside its folder."""
    torch.set_num_threads(1)
    job = run.job(storage)
    result = pretrain(job, job.folder, prepared, torch.device("cpu"))
    curve = [row for row in read_metrics(job.folder / "metrics.jsonl") if any(key.startswith("valid/") for key in row)]
    figures = {
        **run.__dict__,
        "parameters": result.num_parameters,
        "tokens": result.tokens_seen,
        "seconds": result.seconds,
        "metrics": result.metrics,
        "curve": [{"step": row["step"], "bits_per_byte": row["valid/bits_per_byte"]} for row in curve],
    }
    (storage / f"{run.name}.json").write_text(json.dumps(figures, indent=1))


def train_all(runs: list[Run], storage: Path, num_at_once: int) -> None:
    """Train the runs that have no figures yet."""
    storage.mkdir(parents=True, exist_ok=True)
    todo = [run for run in runs if not (storage / f"{run.name}.json").is_file()]
    jobs = {run: run.job(storage) for run in todo}
    root = storage / "_prepared"
    prepared = {run: prepare(job.data, job.tokenizer, root, announce=print) for run, job in jobs.items()}
    with ProcessPoolExecutor(num_at_once, mp_context=get_context("spawn")) as pool:
        started = {pool.submit(train, run, storage, prepared[run].folder): run for run in todo}
        for number, done in enumerate(as_completed(started), start=1):
            done.result()
            print(f"{number} of {len(todo)}: {started[done].name}", flush=True)


def read(storage: Path) -> dict[tuple[str, str, str], list[dict]]:
    """Figures of all seeds by (corpus, objective, model)."""
    found = defaultdict(list)
    for file in sorted(storage.glob("*.json")):
        figures = json.loads(file.read_text())
        found[figures["corpus"], figures["objective"], figures["model"]].append(figures)
    return found


def spread(values: list[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def table(found: dict[tuple[str, str, str], list[dict]], corpus: str) -> str:
    """Final figures as Markdown, a row for each objective and model."""
    lines = [
        "| objective | model | parameters | tokens | seeds | bits per byte | accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    for objective in OBJECTIVES:
        for model in MODELS:
            if runs := found.get((corpus, objective, model)):
                metrics = [run["metrics"] for run in runs]
                accuracy = "accuracy" if objective == "causal" else "masked_accuracy"
                extra = {"mlm_nsp": "nsp_accuracy", "electra": "replaced_recall"}.get(objective)
                shown = spread([m[accuracy] for m in metrics])
                if extra:
                    shown += f", {extra.replace('_', ' ')} {spread([m[extra] for m in metrics])}"
                lines.append(
                    f"| {objective} | {model} | {runs[0]['parameters']:,} | {runs[0]['tokens']:,} | {len(runs)} "
                    f"| {spread([m['bits_per_byte'] for m in metrics])} | {shown} |"
                )
    return "\n".join(lines)


def draw(found: dict[tuple[str, str, str], list[dict]], corpus: str, file: Path) -> None:
    """One panel an objective, a line for every seed of every model."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "reforge"  # the same figures give the same file
    from matplotlib import pyplot

    colours = dict(zip(MODELS, ("#c1121f", "#1d3557", "#2a9d8f"), strict=True))
    figure, panels = pyplot.subplots(1, len(OBJECTIVES), figsize=(14, 3.4), layout="constrained")
    for panel, objective in zip(panels, OBJECTIVES, strict=True):
        for model in MODELS:
            for number, run in enumerate(found.get((corpus, objective, model), [])):
                points = [(p["step"], p["bits_per_byte"]) for p in run["curve"]]
                label = model if number == 0 else None
                panel.plot(*zip(*points, strict=True), color=colours[model], linewidth=1.2, label=label)
        panel.set(title=objective, xlabel="step")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("validation bits per byte")
    panels[0].legend()
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)


def write(storage: Path, folder: Path) -> None:
    """The part of `folder`/results.md between its two marks, and its pictures, from the figures in `storage`."""
    found = read(storage)
    parts = []
    for corpus in CORPORA:
        if any(key[0] == corpus for key in found):
            draw(found, corpus, folder / f"learning-{corpus}.svg")
            parts.append(f"### {corpus}\n\n{table(found, corpus)}\n\n![Curves on {corpus}](learning-{corpus}.svg)\n")
    file = folder / "results.md"
    before, _, rest = file.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    text = f"{before}{MARKS[0]}\n\n" + "\n".join(parts) + f"\n{MARKS[1]}{after}"
    file.write_text(text, encoding="utf-8")


def main() -> None:
    """Train or write, as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("learning"))
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the report from --out, train nothing")
    parser.add_argument("--corpora", nargs="+", default=["kowiki"], choices=CORPORA)
    parser.add_argument("--objectives", nargs="+", default=list(OBJECTIVES), choices=OBJECTIVES)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--at-once", type=int, default=os.cpu_count())
    options = parser.parse_args()
    if options.write:
        write(options.out, options.write)
        return
    runs = [
        Run(corpus, objective, model, seed)
        for seed in options.seeds
        for corpus in options.corpora
        for objective in options.objectives
        for model in options.models
    ]
    train_all(runs, options.out.resolve(), options.at_once)


if __name__ == "__main__":
    main()
