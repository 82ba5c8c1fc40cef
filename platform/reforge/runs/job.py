"""The job spec of pre-training: the parts' own options composed, and the rules between them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from reforge.batches import Data
from reforge.batches.cache import ShardCache
from reforge.corpora.place import Place
from reforge.loop import OptimizerOptions, TrainOptions, last_step
from reforge.models import AnyBackbone
from reforge.objectives import AnyObjective
from reforge.spec import Part, Problem
from reforge.spec.durations import duration_problems, seconds_in
from reforge.tokenizers import AnyTokenizer


class ScaleOptions(Part):
    """The `scale:` section: how many processes train together and what each may use.

    `auto` workers are one for each GPU of the cluster or, where it has none, one for each CPU, but at most four. `auto`
    CPUs are an equal share of the cluster's; `auto` GPUs are one each where the cluster has GPUs. Two numbers, [1, 8],
    are the fewest and the most workers: as many train as there is room for, fewer when nodes leave and more when some
    come, on the same global batches and learning rates.

    strategy: ddp has all of the model and its optimizer on every worker, fsdp a slice of them (docs/pretraining.md)
    hang_timeout: a worker that the others have waited for so long (45s, 10m, 1h) is given up like one that died
    prepare_workers: how many parts of a corpus are prepared at once, each on one CPU; `auto` takes all CPUs
    """

    num_workers: int | Literal["auto"] | tuple[int, int] = 1
    cpus_per_worker: int | Literal["auto"] = "auto"
    gpus_per_worker: float | Literal["auto"] = "auto"
    max_failures: int = Field(3, ge=0)
    strategy: Literal["ddp", "fsdp"] = "ddp"
    hang_timeout: str = "10m"
    prepare_workers: int | Literal["auto"] = "auto"

    def problems(self) -> Iterator[Problem]:
        """There is a worker; numbers of devices are not negative."""
        yield from duration_problems(("hang_timeout",), self.hang_timeout)
        if isinstance(self.num_workers, int) and self.num_workers < 1:
            yield Problem(("num_workers",), "must be auto or at least 1", self.num_workers)
        if isinstance(self.num_workers, tuple) and not 1 <= self.num_workers[0] <= self.num_workers[1]:
            rule = "must be the fewest and the most workers, as [1, 8]"
            yield Problem(("num_workers",), rule, list(self.num_workers))
        if self.cpus_per_worker != "auto" and self.cpus_per_worker < 1:
            yield Problem(("cpus_per_worker",), "must be auto or at least 1", self.cpus_per_worker)
        if self.gpus_per_worker != "auto" and self.gpus_per_worker < 0:
            yield Problem(("gpus_per_worker",), "must be auto or at least 0", self.gpus_per_worker)
        if self.prepare_workers != "auto" and self.prepare_workers < 1:
            yield Problem(("prepare_workers",), "must be auto or at least 1", self.prepare_workers)

    @property
    def least_workers(self) -> int:
        """How many workers there are at least."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.most_workers

    @property
    def most_workers(self) -> int:
        """How many workers there are at most, as far as the spec says; `auto` counts as one."""
        if isinstance(self.num_workers, tuple):
            return self.num_workers[1]
        return 1 if self.num_workers == "auto" else self.num_workers

    @property
    def hang_seconds(self) -> float:
        """`hang_timeout` in seconds."""
        return seconds_in(self.hang_timeout)


class RunOptions(Part):
    """The `run:` section.

    storage: the run's folder is `storage`/`name`; a path, or a URL such as s3://bucket/runs
    prepared: where prepared corpora lie, a path or a URL such as s3://bucket/prepared; null is `storage`/_prepared
    cache: folder on each machine that keeps remote shards, up to `cache_gib`; what does not fit is loaded as it is
        read. Working copies of runs whose `storage` is a URL, and what is loaded of such runs, lie in its runs/
    """

    storage: Place = Path("runs")
    prepared: Place | None = None
    cache: Path = Path("~/.cache/reforge/shards")
    cache_gib: float = Field(default=64, ge=0)

    @property
    def folder(self) -> Path:
        """`storage` with a leading ~ as the user's home."""
        return self.storage.expanduser()

    @property
    def copies(self) -> Path:
        """Where what this machine has of remote runs lies."""
        return self.cache.expanduser() / "runs"

    @property
    def shard_cache(self) -> ShardCache:
        """What keeps remote shards on this machine."""
        return ShardCache(self.cache.expanduser(), int(self.cache_gib * 2**30))

    @property
    def prepared_root(self) -> Path:
        """The folder of prepared corpora."""
        return self.prepared if self.prepared is not None else self.folder / "_prepared"


class PrepareJob(Part):
    """A preparation of its own: text, tokenizer and shards, and no training."""

    kind: Literal["prepare"]
    data: Data
    tokenizer: AnyTokenizer
    scale: ScaleOptions = ScaleOptions()
    run: RunOptions = RunOptions()


class PretrainJob(Part):
    """A pre-training job, whole."""

    kind: Literal["pretrain"]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: Data
    tokenizer: AnyTokenizer
    model: AnyBackbone
    objective: AnyObjective
    optimizer: OptimizerOptions = OptimizerOptions()
    train: TrainOptions = TrainOptions()
    scale: ScaleOptions = ScaleOptions()
    run: RunOptions = RunOptions()

    def problems(self) -> Iterator[Problem]:
        """What must hold between the parts."""
        yield from self.objective.fit(self.model, self.data.block_tokens)
        kind, packing = self.objective.kind, self.data.packing
        if self.objective.needs_partners and packing == "documents":
            rule = (
                f"must be pairs, within or lines, or data.batches bucketed: {kind} pairs texts of different documents"
            )
            yield Problem(("data", "pack"), rule, self.data.pack)
        if packing == "pairs" and not self.objective.needs_partners:
            yield Problem(("data", "pack"), f"must be within: {kind} makes no use of pairs", "pairs")
        tokens, block = self.train.global_batch_tokens, self.data.block_tokens
        path = ("train", "global_batch_tokens")
        if tokens % block and self.data.batches == "packed":
            yield Problem(path, f"must be a multiple of data.block_tokens ({block})", tokens)
        elif tokens // block < self.scale.most_workers:
            rule = f"must hold at least one block of {block} tokens for each of {self.scale.most_workers} workers"
            yield Problem(path, rule, tokens)

    def micro_batch_tokens(self, num_workers: int) -> int:
        """The most tokens that one of `num_workers` workers puts through the model at once."""
        block = self.data.block_tokens
        blocks_a_worker = -(-self.train.global_batch_tokens // block // num_workers)
        return block * min(self.train.micro_batch_blocks(block), blocks_a_worker)

    @property
    def folder(self) -> Path:
        """Where the run is kept."""
        return self.run.folder / self.name

    def is_done(self, result: dict[str, Any]) -> bool:
        """Whether a run with this result has made all steps."""
        return bool(result["step"] >= last_step(self.train))

    def identity(self) -> dict[str, Any]:
        """The part of the spec that decides what is learnt: a run goes on only under the same identity.

        How far, on how many workers, how often it is looked at and where the files lie may change between starts.
        """
        spec = self.model_dump(mode="json", exclude={"scale", "run"})
        # Where the corpus lies does not matter: its content is compared, through the checkpoint.
        spec["data"]["corpus"] = {**self.data.corpus.identity(), "weights": dict(self.data.corpus.weights())}
        spec["data"]["pack"] = self.data.packing
        kept = ("global_batch_tokens", "precision", "seed")
        spec["train"] = {key: spec["train"][key] for key in kept}
        return spec
