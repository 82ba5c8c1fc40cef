"""A search whose trials are nearly all stopped early, in a Ray of its own; what they leave behind, as JSON.

python early_stopped.py SPACE NUM_WORKERS yes|no [key.path=value ...]      with or without the dashboard
"""

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors
from ray.util import placement_group_table

from reforge.distributed.cluster import find_resources
from reforge.distributed.tune import run_search, trial_shape, trials_at_once
from reforge.runs.finetune_job import FinetuneJob
from reforge.runs.search_run import SearchRun
from reforge.runs.tune_job import TuneOptions, TuneSearch
from reforge.search import compile_search
from reforge.search.study import Study
from reforge.spec import load_source

SETTLE_SECONDS = 60.0


def left(before: set[int]) -> dict[str, Any]:
    """Placement groups, actors and busy processes of this Ray that are there now and were not before."""
    return {
        "groups": [group["name"] for group in placement_group_table().values() if group["state"] != "REMOVED"],
        "actors": [actor["ActorClassName"] for actor in actors().values() if actor["State"] != "DEAD"],
        "processes": [title for pid, title in busy().items() if pid not in before],
    }


def busy() -> dict[int, str]:
    """Ray's processes below this one, but for those that wait for work."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            title = (entry / "cmdline").read_bytes().rstrip(b"\0").decode()
        except OSError:
            continue
        ours = f"EARLY_STOPPED={os.getpid()}".encode() in environment.split(b"\0")
        if ours and title.startswith("ray::") and not title.startswith("ray::IDLE"):
            found[int(entry.name)] = title
    return found


def search(space: Path, num_workers: int, overrides: list[str]) -> dict[str, int]:
    """How the trials ended, and how many actors trained them."""
    before = set(actors())
    resources = find_resources()
    words = [*overrides, f"resources.num_workers={num_workers}", f"name=workers-{num_workers}"]
    loaded: TuneSearch = compile_search(load_source(space, words, dotted=("space",)), FinetuneJob, TuneOptions)
    options = loaded.options
    study = Study(
        options.name, loaded.space, options.search, options.metrics, options.study_storage, scheduler=options.scheduler
    )
    run, shape = SearchRun(loaded, study), trial_shape(options.resources, resources)
    run_search(run, shape, trials_at_once(shape, resources), lambda: None)
    outcomes = [record.outcome for record in run.study.trials]
    started = len(actors().keys() - before)
    return {"trials": len(outcomes), "pruned": outcomes.count("pruned"), "started": started}


def main(space: str, num_workers: str, with_dashboard: str, *overrides: str) -> None:
    """Search, wait until what ends has ended, print."""
    os.environ["EARLY_STOPPED"] = str(os.getpid())
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=with_dashboard == "yes",
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=128 * 2**20,
    )
    before = set(busy())
    found = search(Path(space), int(num_workers), list(overrides))
    deadline = time.monotonic() + SETTLE_SECONDS
    while any(left(before).values()) and time.monotonic() < deadline:
        time.sleep(0.2)
    print(json.dumps(found | left(before)))


if __name__ == "__main__":
    main(*sys.argv[1:])
