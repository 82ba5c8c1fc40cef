"""reforge: pre-train, fine-tune and search Reformer language models on Ray."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reforge.runs import load
    from reforge.runs.predictor import load_predictor

__all__ = ["__version__", "load", "load_predictor"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: only who asks for a model waits for it.
    if name == "load":
        from reforge.runs import load

        return load
    if name == "load_predictor":
        from reforge.runs.predictor import load_predictor

        return load_predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
