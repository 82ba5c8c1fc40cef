"""Spaces of jobs: read from YAML, checked against the job's own options, drawn from."""

from reforge.search.compilation import Search, compile_search
from reforge.search.constraints import Constraint
from reforge.search.dimension import Choice, Dimension, Range
from reforge.search.space import Space

__all__ = ["Choice", "Constraint", "Dimension", "Range", "Search", "Space", "compile_search"]
