"""A prepared corpus as the loop takes it: blocks to train on, blocks to be scored by the objective's own metrics."""

from dataclasses import dataclass

from reforge.batches import Samples
from reforge.loop.evaluate import evaluate
from reforge.loop.plan import LOWEST_LOSS, Goal, Plan, TrainingData
from reforge.loop.sharding import whole
from reforge.loop.state import LoopState
from reforge.loop.world import World
from reforge.objectives import Objective


@dataclass(frozen=True)
class CorpusData(TrainingData):
    """The two splits of a corpus; `eval_blocks` of the validation split are scored, or all (None)."""

    train: Samples
    valid: Samples
    valid_tokens_per_byte: float
    eval_blocks: int | None = None
    goal: Goal = LOWEST_LOSS

    def check(self, state: LoopState) -> None:
        """Both splits must have partners where the objective wants them."""
        for samples in (self.train, self.valid):
            samples.check(state.model.needs_partners)

    def validate(self, state: LoopState, plan: Plan, world: World) -> dict[str, float]:
        """The objective's metrics on the validation split."""
        assert isinstance(state.model, Objective)
        with whole(state.model):  # processes have more or fewer batches: a pass must not wait for the others'
            return evaluate(
                state.model,
                self.valid,
                world=world,
                precision=plan.precision,
                seed=state.seed,
                tokens_per_byte=self.valid_tokens_per_byte,
                micro_batch_tokens=plan.micro_batch_tokens,
                max_blocks=self.eval_blocks,
            )
