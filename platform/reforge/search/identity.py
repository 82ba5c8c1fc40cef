"""What a study's name stands for: a space, metrics and whatever else its trials must share to be comparable."""

from collections.abc import Iterator, Mapping, Sequence

import optuna
from optuna.storages import BaseStorage

from reforge.search.options import MetricOptions
from reforge.search.parameters import describe
from reforge.search.space import Space
from reforge.spec import UserError

_IDENTITY = "identity"
_MAX_SHOWN = 8


def identity_of(space: Space, metrics: Sequence[MetricOptions], context: Mapping[str, str]) -> dict[str, str]:
    """One line a fact. context: what the trials share beyond the space, {"data": its fingerprint}."""
    scopes = {f"metric {metric.name}": f"{metric.mode}, {metric.scope}" for metric in metrics}
    return {**scopes, **context, **describe(space)}


def load_or_create(
    storage: BaseStorage, name: str, metrics: Sequence[MetricOptions], identity: Mapping[str, str]
) -> optuna.Study:
    """The study of that name, new where the storage has none; raises UserError where it belongs to something else."""
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=["maximize" if metric.mode == "max" else "minimize" for metric in metrics],
        pruner=optuna.pruners.NopPruner(),  # not Optuna's own default; `Pruning` sets the scheduler's
        load_if_exists=True,
    )
    earlier = study.user_attrs.get(_IDENTITY)
    if earlier is None and study.get_trials(deepcopy=False):
        raise UserError(f"study {name!r} was not made by reforge; choose another name")
    if earlier is None:
        study.set_user_attr(_IDENTITY, dict(identity))
    elif earlier != identity:
        raise UserError(_other_study(name, list(_differences(earlier, identity))))
    return study


def metrics_of(study: optuna.Study) -> list[str]:
    """The metrics of a study that reforge made, with mode and scope; none of another's."""
    identity: Mapping[str, str] = study.user_attrs.get(_IDENTITY, {})
    return [f"{name}: {text}" for name, text in identity.items() if name.startswith("metric ")]


def _other_study(name: str, differences: Sequence[str]) -> str:
    left_out = len(differences) - _MAX_SHOWN
    shown = "".join(f"\n  {line}" for line in differences[:_MAX_SHOWN]) + (
        f"\n  and {left_out} more" if left_out > 0 else ""
    )
    return f"study {name!r} belongs to another search:{shown}\nchoose another name, or start it anew in another storage"


def _differences(earlier: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for fact in dict.fromkeys((*earlier, *now)):
        if earlier.get(fact) != now.get(fact):
            yield f"{fact}: there {earlier.get(fact, 'nothing')}; here {now.get(fact, 'nothing')}"
