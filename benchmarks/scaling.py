"""What distribution costs: steps without Ray and on Ray workers, what is sent, the start of a job, and a plan on paper.

    python benchmarks/scaling.py steps --json figures.json     about 10 minutes on a quiet machine of two cores
    python benchmarks/scaling.py start --rounds 5              another tree beside: --beside ../before
    python benchmarks/scaling.py plan                          the tables of docs/scaling.md

README.md says how it is measured.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from scaling_plan import Machines, report
from timing import Spread

ROOT = Path(__file__).parents[1]
# Every machine computes the same, and DDP sends the gradients while others are being computed.
PLAIN = ("train.precision=fp32", "model.memory=keep", "model.attention=exact")


def measure_steps(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Medians of every round, what is sent, and Ray's share."""
    from scaling_steps import NAMES, Workload, prepared_folder, sent, step_seconds

    tokens = [f"train.global_batch_tokens={options.tokens}", f"train.micro_batch_tokens={options.tokens}"]
    model = [f"model.d_model={options.d_model}", f"model.depth={options.depth}"]
    load = Workload(folder, options.steps, options.threads, (*tokens, *model, *PLAIN))
    prepared = prepared_folder(load)
    rounds: dict[str, list[float]] = {name: [] for name in NAMES}
    for number in range(options.rounds):
        for name in NAMES if number % 2 == 0 else NAMES[::-1]:
            rounds[name].append(statistics.median(step_seconds(load, name, prepared)))
        show = ", ".join(f"{name} {1e3 * times[-1]:.1f}" for name, times in rounds.items())
        print(f"round {number + 1}: {show} ms a step; load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    found = sent(load, prepared, options.repeats)
    return {"tokens": options.tokens, "rounds": rounds, "sent": {**found.__dict__, "hidden": found.hidden}}


def show_steps(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| | ms a step | spread | tokens/s | Ray's share, median of the rounds | each round |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for name, times in figures["rounds"].items():
        spread = Spread.of(times)
        shares = shares_of(figures["rounds"], name)
        cells = [f"{1e3 * spread.median:.1f}", f"{spread.range:.0%}", f"{figures['tokens'] / spread.median:,.0f}"]
        each = ", ".join(f"{share:+.1%}" for share in shares)
        cells += [f"{statistics.median(shares):+.1%}" if shares else "", each]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    sent = figures["sent"]
    buckets = " + ".join(f"{size:,}" for size in sent["bucket_bytes"])
    return "\n".join(
        [
            *lines,
            "",
            f"gradients: {sent['gradient_bytes']:,} bytes a step; DDP's buckets {buckets}",
            f"forward and backward {1e3 * sent['local']:.1f} ms, with the all-reduce {1e3 * sent['together']:.1f} ms, "
            f"the all-reduce alone {1e3 * sent['alone']:.1f} ms: {sent['hidden']:.0%} of it hidden",
        ]
    )


def shares_of(rounds: dict[str, list[float]], name: str) -> list[float]:
    """By how much a step on Ray takes longer than without, round by round; none for what is without."""
    if not name.startswith("Ray"):
        return []
    pairs = zip(rounds[name], rounds[name.replace("Ray", "plain")], strict=True)
    return [on_ray / plain - 1 for on_ray, plain in pairs]


def measure_start(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Stages of every round of every tree, in turns."""
    import scaling_start
    from scaling_steps import Workload, prepared_folder

    prepared_folder(Workload(folder, 1, 1, ()))
    trees = {"here": ROOT, **{str(path): path.resolve() for path in options.beside}}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in trees}
    for number in range(options.rounds):
        for name, tree in trees.items():
            run = f"start-{number}-{len(found[name])}-{list(trees).index(name)}"
            words = [
                f"run.storage={folder}", f"name={run}", "train.log_every_steps=1",
                f"scale.num_workers={options.workers}", "scale.cpus_per_worker=1",
            ]  # fmt: skip
            start = scaling_start.measure(tree, words, folder / run)
            found[name].append({"seconds": start.seconds, "stages": start.stages, "cpu": start.cpu_by_process})
            print(f"{name}: {start.seconds:.1f} s; load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    return {"stages": scaling_start.STAGES, "trees": found}


def show_start(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    heads = ["", *figures["stages"], "in all, s", "fastest", "slowest", "CPU s of all processes"]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "---:|" * (len(heads) - 1)]
    for name, rounds in figures["trees"].items():
        stages = [statistics.median(column) for column in zip(*(one["stages"] for one in rounds), strict=True)]
        seconds = [one["seconds"] for one in rounds]
        cpu = statistics.median(sum(one["cpu"].values()) for one in rounds)
        figures_ = [*stages, statistics.median(seconds), min(seconds), max(seconds), cpu]
        lines.append(f"| {name} | {' | '.join(f'{value:.1f}' for value in figures_)} |")
    return "\n".join(lines)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    steps = commands.add_parser("steps", help="one process and two, without Ray and with it")
    for name, default in (("rounds", 5), ("steps", 30), ("threads", 1), ("tokens", 2048), ("repeats", 20)):
        steps.add_argument(f"--{name}", type=int, default=default)
    steps.add_argument("--d-model", type=int, default=256)
    steps.add_argument("--depth", type=int, default=4)
    start = commands.add_parser("start", help="from the start of a job to its first step")
    start.add_argument("--rounds", type=int, default=5)
    start.add_argument("--workers", type=int, default=1)
    start.add_argument("--beside", type=Path, nargs="*", default=[], help="other checkouts, measured in turns")
    for command in (steps, start):
        command.add_argument("--json", type=Path, help="also write every figure to this file")
    plan = commands.add_parser("plan", help="8 to 1,024 GPUs on paper")
    for field in fields(Machines):
        name = field.name.replace("_", "-")
        plan.add_argument(f"--{name}", type=type(field.default), default=field.default, help=f"{field.default:g}")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measure and print what the command line asks for."""
    options = arguments(argv)
    if options.command == "plan":
        print(report(Machines(**{field.name: getattr(options, field.name) for field in fields(Machines)})))
        return {}
    with tempfile.TemporaryDirectory(prefix="reforge-scaling-") as folder:
        measure = measure_steps if options.command == "steps" else measure_start
        figures = measure(options, Path(folder))
    print(show_steps(figures) if options.command == "steps" else show_start(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


if __name__ == "__main__":
    main()
