"""What a job is: frozen options in YAML, and every mistake in them reported at once with its file and line."""

from reforge.spec.part import Part, one_of
from reforge.spec.problem import MISSING, Problem, SpecError, UserError
from reforge.spec.rendering import render
from reforge.spec.source import Source, load_source
from reforge.spec.validation import validate

__all__ = [
    "MISSING",
    "Part",
    "Problem",
    "Source",
    "SpecError",
    "UserError",
    "load_source",
    "one_of",
    "render",
    "validate",
]
