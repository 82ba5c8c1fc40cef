"""What a job is: frozen options in YAML, and every mistake in them reported at once with its file and line."""

from reforge.spec.part import Part, one_of
from reforge.spec.problem import MISSING, Problem, SpecError, UserError

__all__ = ["MISSING", "Part", "Problem", "SpecError", "UserError", "one_of"]
