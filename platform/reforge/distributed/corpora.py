"""The prepared corpora of a search: each made once, and shared by all trials that read it."""

from collections.abc import Callable, Iterator
from pathlib import Path

from reforge.distributed.cluster import Resources
from reforge.distributed.prepare import prepare_on_ray
from reforge.runs.job import PretrainJob
from reforge.runs.tune_job import TuneSearch

# What a preparation depends on.
_SECTIONS = ("data.", "tokenizer.")
# So many draws find the corpora of a space; more of them than these are made when a trial needs them.
_NUM_DRAWS = 400
_MOST_AHEAD = 16


class Corpora:
    """Folders of prepared corpora by job."""

    def __init__(self, resources: Resources, announce: Callable[[str], None]) -> None:
        self._resources, self._announce = resources, announce
        self._folders: dict[str, Path] = {}

    def prepare_ahead(self, search: TuneSearch) -> None:
        """Make what trials will need while no trial holds the CPUs; of a space with too many corpora, none."""
        jobs = {_key(job): job for job in _jobs(search)}
        if len(jobs) > _MOST_AHEAD:
            self._announce(f"more than {_MOST_AHEAD} corpora in the space: each is prepared when a trial needs it")
            return
        for number, job in enumerate(jobs.values(), start=1):
            if len(jobs) > 1:
                self._announce(f"corpus {number} of {len(jobs)}")
            self._folders[_key(job)] = prepare_on_ray(job, self._resources, self._announce).folder

    def folder_of(self, job: PretrainJob) -> Path:
        """The prepared corpus of a job; made in this process if it has not been: trials may hold all other CPUs."""
        key = _key(job)
        if key not in self._folders:
            alone = job.model_copy(update={"scale": job.scale.model_copy(update={"prepare_workers": 1})})
            self._folders[key] = prepare_on_ray(alone, self._resources, self._announce).folder
        return self._folders[key].resolve()


def _key(job: PretrainJob) -> str:
    return f"{job.data.model_dump_json()} {job.tokenizer.model_dump_json()} {job.run.prepared_root}"


def _jobs(search: TuneSearch) -> Iterator[PretrainJob]:
    seen = set()
    for assignment in search.space.draws(_NUM_DRAWS, seed=0):
        part = repr({path: value for path, value in assignment.items() if path.startswith(_SECTIONS)})
        if part not in seen and not search.violated(assignment):
            seen.add(part)
            job = search.job(assignment)
            assert isinstance(job, PretrainJob)
            yield job
