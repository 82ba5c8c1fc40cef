"""Wall time of 40 short trials, two at a time: ours, Ray Tune's function trainables, Optuna alone with joblib.

    .venv/bin/python benchmarks/search_wall.py                          3 rounds, contenders in turn
    .venv/bin/python benchmarks/search_wall.py --rounds 5 --json figures.json
    .venv/bin/python benchmarks/search_wall.py --only optuna --trials 4

Every contender trains the same fine-tunings (search_workload.py) by the same code, `reforge.runs.finetune`'s loop, on
the same learning rates and weight decays, one thread each, and is timed from the start of its process to its end:

    ours       the search: asked and told in Optuna's journal, trials.csv, TensorBoard with HParams, checkpoints, and at
               the end the best trial made a finished run and the report
    ray tune   tune.Tuner over a function that fine-tunes and calls tune.report at each validation
    optuna     joblib.Parallel(n_jobs=2), whose processes ask and tell one study in a journal
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search_workload import BASE_FILE, assignments, write_workload

AT_ONCE = 2


def fine_tune(
    folder: Path, name: str, assignment: dict[str, float], report: Callable[[dict[str, float]], None]
) -> float:
    """One trial as a user would write it; the lowest validation loss."""
    import torch

    from reforge.runs.finetune import finetune
    from reforge.runs.finetune_job import FinetuneJob
    from reforge.spec import load_source, validate

    torch.set_num_threads(1)
    words = [
        f"name=trial-{name}",
        f"run.storage={folder / 'runs'}",
        *(f"{path}={value}" for path, value in assignment.items()),
    ]
    job = validate(FinetuneJob, load_source(folder / BASE_FILE, words))
    losses: list[float] = []

    def on_report(step: Any) -> None:
        if step.valid:
            losses.append(step.valid["loss"])
            report({"loss": step.valid["loss"]})

    finetune(job, job.folder, torch.device("cpu"), on_report=on_report)
    return min(losses)


def ours(folder: Path, num_trials: int) -> None:
    """The search's own command."""
    from reforge.distributed.tune_command import tune_command
    from reforge.runs.finetune_job import FinetuneJob

    points = [{path: float(value) for path, value in each.items()} for each in assignments(num_trials)]
    words = [f"run.storage={folder / 'runs'}", f"search.num_trials={num_trials}", f"search.max_concurrent={AT_ONCE}"]
    space = folder / "space.yaml"
    assert (
        tune_command(FinetuneJob, space, [str(space), *words, f"search.points_to_evaluate={json.dumps(points)}"]) == 0
    )


def ray_tune(folder: Path, num_trials: int) -> None:
    """Function trainables over the same assignments."""
    import logging

    import ray
    from ray import tune

    def train(config: dict[str, Any]) -> None:
        name = tune.get_context().get_trial_id()
        fine_tune(folder, name, config["assignment"], tune.report)

    ray.init(
        address="local", num_cpus=AT_ONCE, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False
    )
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": 1}),
        param_space={"assignment": tune.grid_search(assignments(num_trials))},
        tune_config=tune.TuneConfig(metric="loss", mode="min", max_concurrent_trials=AT_ONCE),
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
    )
    results = tuner.fit()
    assert len(results) == num_trials
    assert not results.errors


def one_of_optuna(folder: Path, journal: str) -> None:
    """A trial in a process of joblib's."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.load_study(study_name="wall", storage=JournalStorage(JournalFileBackend(journal)))
    trial = study.ask()
    assignment = {
        "optimizer.lr": trial.suggest_float("optimizer.lr", 1e-5, 1e-2, log=True),
        "optimizer.weight_decay": trial.suggest_float("optimizer.weight_decay", 0.0, 0.1),
    }
    steps = iter(range(1, 1000))
    loss = fine_tune(
        folder, f"{trial.number:04d}", assignment, lambda values: trial.report(values["loss"], next(steps))
    )
    study.tell(trial, loss)


def optuna_alone(folder: Path, num_trials: int) -> None:
    """joblib's processes over one study."""
    import joblib
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = str(folder / "study.journal")
    study = optuna.create_study(
        study_name="wall",
        storage=JournalStorage(JournalFileBackend(journal)),
        sampler=optuna.samplers.TPESampler(seed=1),
    )
    for assignment in assignments(num_trials):
        study.enqueue_trial(assignment)
    joblib.Parallel(n_jobs=AT_ONCE)(joblib.delayed(one_of_optuna)(folder, journal) for _ in range(num_trials))
    assert len(study.trials) == num_trials


CONTENDERS: dict[str, Callable[[Path, int], None]] = {"ours": ours, "ray tune": ray_tune, "optuna": optuna_alone}


def seconds_of(name: str, num_trials: int) -> float:
    """One search of a contender, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="search-wall-") as folder:
        write_workload(Path(folder))
        command = [sys.executable, __file__, "--contender", name, "--folder", folder, "--trials", str(num_trials)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        started = time.monotonic()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        if done.returncode:
            sys.exit(f"{name} failed\n{done.stdout}\n{done.stderr}")
        return seconds


def main(arguments: list[str] | None = None) -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.contender:
        CONTENDERS[options.contender](options.folder, options.trials)
        return
    figures: dict[str, list[float]] = {name: [] for name in options.only}
    for turn in range(options.rounds):
        for name in options.only:
            seconds = seconds_of(name, options.trials)
            figures[name].append(seconds)
            print(f"round {turn + 1}  {name:<9} {seconds:6.1f} s   load {os.getloadavg()[0]:.1f}", flush=True)
            if options.json:
                options.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    show(figures)


def show(figures: dict[str, list[float]]) -> None:
    """Medians, and how much slower than ours."""
    medians = {name: statistics.median(values) for name, values in figures.items()}
    for name, median in medians.items():
        ratio = f"{median / medians['ours']:.2f} x ours" if "ours" in medians and name != "ours" else ""
        print(f"{name:<9} {median:6.1f} s  {min(figures[name]):.1f} to {max(figures[name]):.1f}  {ratio}")


if __name__ == "__main__":
    main()
