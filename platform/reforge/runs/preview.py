"""What a search will be, before it is: how large its space is, what fits, how long it takes."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from reforge.runs.dry_run import DryRun
from reforge.runs.job import PretrainJob
from reforge.runs.memory_fit import in_gib
from reforge.runs.trial_job import TrialJob
from reforge.runs.trial_memory import TrialMemory, violations
from reforge.runs.tune_job import TuneSearch
from reforge.search.space import Space
from reforge.spec import UserError
from reforge.tracking.hparams import label
from reforge.tracking.progress import duration

_NUM_DRAWS = 200
_NUM_EXAMPLES = 5
# A backward pass takes about twice as long as the forward pass, which is all that validation has.
_FORWARD_SHARE = 1 / 3


@dataclass(frozen=True)
class Timed:
    """A dry run of a trial, and the seconds that the whole trial takes by it."""

    run: DryRun
    seconds: float


def trial_seconds(job: TrialJob, run: DryRun) -> float:
    """Training and validation of a whole trial, all its runs together, by the speed of two steps."""
    if isinstance(job, PretrainJob):
        train = job.train
        trained = float(train.max_steps * train.global_batch_tokens)
        blocks = train.eval_blocks or run.valid_tokens // job.data.block_tokens
        scored = min(blocks * job.data.block_tokens, run.valid_tokens) * train.max_steps / train.eval_every_steps
    else:
        trained = run.train_tokens * job.train.max_epochs * len(job.members())
        scored = run.valid_tokens * job.train.max_epochs * job.train.evals_per_epoch * len(job.members())
    return (trained + _FORWARD_SHARE * scored) / run.tokens_per_second


def preview(search: TuneSearch, memory: TrialMemory, timed: Sequence[Timed], at_once: int) -> Iterator[str]:
    """The lines of a preview."""
    space, options = search.space, search.options
    yield from _size(space)
    yield from _feasible(search, memory)
    yield ""
    yield "example trials"
    for assignment in space.draws(_NUM_EXAMPLES, seed=options.search.sampler.seed):
        why = violations(search, memory, assignment)
        yield f"  {_shown(space, assignment)}" + (f"   cannot be trained: {why[0]}" if why else "")
    yield ""
    yield from _memory(search, memory, [each.run for each in timed])
    yield from _time(search, timed, at_once)


def _size(space: Space) -> Iterator[str]:
    searched = ", ".join(path for dimension in space.dimensions for path in dimension.paths)
    yield f"searched           {searched}"
    size = space.size()
    yield f"cells              {'not countable: a range is continuous' if size is None else f'{size:,}'}"


def _feasible(search: TuneSearch, memory: TrialMemory) -> Iterator[str]:
    reasons: Counter[str] = Counter()
    num_feasible = 0
    for assignment in search.space.draws(_NUM_DRAWS, seed=0):
        why = violations(search, memory, assignment)
        num_feasible += not why
        if why:
            reasons[why[0].split(" GiB", 1)[0].rstrip("0123456789. ") if " GiB" in why[0] else why[0]] += 1
    yield f"feasible           {num_feasible / _NUM_DRAWS:.0%} of {_NUM_DRAWS} even draws"
    for reason, count in reasons.most_common(5):
        yield f"  {count / _NUM_DRAWS:>4.0%} not: {reason}"


def _memory(search: TuneSearch, memory: TrialMemory, runs: Sequence[DryRun]) -> Iterator[str]:
    sizes = []
    for assignment in search.space.draws(_NUM_DRAWS // 4, seed=0):
        if not search.violated(assignment):
            try:
                sizes.append(memory.predicted(search.job(assignment)))
            except UserError:
                continue
    if sizes:
        low, middle, high = (in_gib(int(size)) for size in (min(sizes), median(sizes), max(sizes)))
        yield f"memory             {low} to {high} GiB a worker, median {middle}; it has {in_gib(memory.limit_bytes)}"
    for run in runs:
        yield f"  measured {in_gib(run.measured_bytes)} GiB, estimated {in_gib(run.estimated_bytes)}"


def _time(search: TuneSearch, timed: Sequence[Timed], at_once: int) -> Iterator[str]:
    options = search.options
    if not timed:
        yield "time               no trial fits, so none was timed"
        return
    seconds = median(each.seconds for each in timed)
    yield f"speed              {median(each.run.tokens_per_second for each in timed):,.0f} tokens/s a trial"
    yield f"a trial            {duration(seconds)} by two steps of {len(timed)} trials"
    yield f"trials per hour    {at_once * 3600 / seconds:,.1f}, {at_once} at a time"
    whole = options.search.num_trials * seconds / at_once
    early = "" if options.scheduler.kind == "none" else f"; less what {options.scheduler.kind} stops early"
    budget = options.search.time_budget_seconds
    limit = "" if budget is None else f"; no trial starts after {options.search.time_budget}"
    yield f"the search         {duration(whole)} for {options.search.num_trials} trials{early}{limit}"


def _shown(space: Space, assignment: Mapping[str, Any]) -> str:
    searched = {path for dimension in space.dimensions for path in dimension.paths}
    return "  ".join(f"{path}={label(value)}" for path, value in assignment.items() if path in searched)
