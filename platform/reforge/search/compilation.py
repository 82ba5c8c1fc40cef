"""From a search's YAML to a Space that has been checked, or everything that is wrong with it in one go.

    Source -- divide --> base, rest, space, constraints
        space       -- Reading --> entries -- types, by the job's schema --\\
        constraints -- read_constraints, unknown paths -------------------- +--> joint choices --> Space --> rules
        rest        -- validate --> the search's other options

How the job of a search composes it:

    source = load_source(path, overrides, dotted=("space",))
    search = compile_search(source, FinetuneJob, TuneOptions)       # TuneOptions: kind, name, metric, search, ...
    job = search.job(search.space.assignment(values))               # raises SpecError where its own rules forbid it
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from reforge.search.conditions import clashes, merged, names
from reforge.search.constraints import Constraint, read_constraints
from reforge.search.dimension import Dimension
from reforge.search.expression import Lookup, NoValue
from reforge.search.feasibility import unmet
from reforge.search.filling import Filling
from reforge.search.job_checks import rule_problems, type_problems, unknown_paths, validator
from reforge.search.joint import join
from reforge.search.option_paths import option_paths
from reforge.search.reading import Constant, Entry, Reading
from reforge.search.sections import Sections, divide, wrong_base
from reforge.search.space import Fixed, Space
from reforge.spec.part import Part
from reforge.spec.problem import MISSING, Problem, SpecError
from reforge.spec.schema import schema_of
from reforge.spec.source import Source
from reforge.spec.validation import Remembered, validate

J = TypeVar("J", bound=Part)
O = TypeVar("O", bound=Part)  # noqa: E741
# So many draws stand for the jobs of a space.
_NUM_DRAWS = 20

Checks = Sequence[Callable[[Any], Iterable[Problem]]]


@dataclass(frozen=True)
class Search(Generic[J, O]):
    """A search that has been read.

    options: its sections besides `space` and `constraints`
    base: the job spec that trials are made from
    source: all that was read
    remembered: what is known of parts that trials share, so that no file is looked at again for each
    """

    options: O
    space: Space
    base: Source
    job_type: type[J]
    source: Source
    checks: Checks = ()
    remembered: Remembered = field(default_factory=dict)

    def job(self, assignment: Mapping[str, Any]) -> J:
        """The job of an assignment; raises SpecError where the job's own rules forbid the combination."""
        source = self.base.overlaid(self.space.overrides(assignment))
        return validate(self.job_type, source, self.checks, self.remembered)

    def violated(self, assignment: Mapping[str, Any]) -> list[str]:
        """What keeps an assignment from being run: constraints, else the job's own rules; [] where nothing does."""
        if found := self.space.violated(assignment):
            return found
        try:
            self.job(assignment)
        except SpecError as error:
            return [str(problem) for problem in error.problems]
        return []


def compile_search(
    source: Source,
    job: type[J],
    options: type[O],
    checks: Checks = (),
    rules: Callable[[O, Space, Sequence[J]], Iterable[Problem]] = lambda options, space, jobs: (),
) -> Search[J, O]:
    """Read and check a search, loaded with `dotted=("space",)`.

    job: the type of the job spec that it extends
    options: a Part with its other sections: `kind`, `name`, `metric`, ...
    checks: rules across the parts of a job, as for `validate`
    rules: what must hold between the options, the space and some of its jobs; of a space that is wrong, the base job
    Raises SpecError with all that is wrong in the file, in the options, in the space and in the jobs it stands for.
    """
    sections = divide(source, job, options)
    problems = [*source.problems, *wrong_base(source, job)]
    if len(problems) > len(source.problems):  # held against another kind of job, every name would be unknown
        raise SpecError(problems, source.name)
    space, found = compile_space(sections, job, checks)

    def search_with(told: O) -> Search[J, O]:
        return Search(told, space, sections.base, job, source, checks)

    def fit(told: O) -> Iterator[Problem]:
        search = search_with(told)
        for problem in rules(told, space, _base_job(search) if found else _some_jobs(search)):
            yield _placed(problem, source)

    try:
        search = search_with(validate(options, sections.rest, [fit]))
    except SpecError as error:
        problems += error.problems
    if problems or found:
        placed = [_placed(each, source) for each in (*problems, *found)]
        raise SpecError({str(each): each for each in placed}.values(), source.name)
    return search


def _placed(problem: Problem, source: Source) -> Problem:
    return replace(problem, place=problem.place or source.place(problem.path))


def _some_jobs(search: Search[J, O]) -> list[J]:
    draws = search.space.draws(_NUM_DRAWS, seed=0)
    return [search.job(assignment) for assignment in draws if not search.violated(assignment)]


def _base_job(search: Search[J, O]) -> list[J]:
    try:
        return [validate(search.job_type, search.base, search.checks, search.remembered)]
    except SpecError:  # it may be the space that makes it whole
        return []


def compile_space(sections: Sections, job: type[Part], checks: Checks = ()) -> tuple[Space, list[Problem]]:
    """The space of a search and what is wrong with it; without problems it is right for every job drawn from it."""
    if sections.space is None:
        return Space(()), [Problem(("space",), "missing; must be a mapping of key paths to what they may be")]
    reading = Reading(sections.space, option_paths(job))
    types = type_problems(job, sections.base, reading.entries)
    blamed = [path for problem in reading.problems if (path := _dotted(problem))]
    # What could not be read has no value: that an option is then missing is not to be said as well.
    types = [each for each in types if each.got is not MISSING or _dotted(each) not in blamed]
    problems = [*reading.problems, *types, *clashes(reading.entries)]
    constraints, found = _sound_constraints(sections, job, [*blamed, *map(_dotted, types)])
    problems += found
    space, found = _build(sections, job, reading.entries, constraints)
    problems += found
    if not problems:
        problems += rule_problems(space, validator(job, sections.base, space, checks))
    return space, problems


def _build(
    sections: Sections, job: type[Part], entries: Sequence[Entry], constraints: Sequence[Constraint]
) -> tuple[Space, list[Problem]]:
    entries = merged(entries)
    dimensions = tuple(
        Dimension(name, entry.domain, entry.when, (entry.path,))
        for name, entry in zip(names(entries), entries, strict=True)
        if not isinstance(entry.domain, Constant)
    )
    constants = tuple(
        Fixed(entry.path, entry.domain.value, entry.when) for entry in entries if isinstance(entry.domain, Constant)
    )
    places = {entry.path: entry.node.key_place or entry.node.place for entry in entries}
    space = Space(
        dimensions,
        tuple(constraints),
        constants,
        sections.base.data,
        places,
        schema_of(job),
        Filling(job, sections.base),
    )
    joined = join(
        dimensions, constraints, _fixed_paths(space), lambda values: space.lookup(space.with_constants(values))
    )
    problems = list(joined.problems)
    told = {problem.path for problem in problems}
    left = tuple(each for each in joined.constraints if ("constraints", each.index) not in told)
    space = replace(space, dimensions=joined.dimensions, constraints=left)
    return space, [*problems, *unmet(space)]


def _sound_constraints(
    sections: Sections, job: type[Part], blamed: Sequence[str]
) -> tuple[list[Constraint], list[Problem]]:
    """The constraints from which something can be concluded, and what is wrong with the others."""
    constraints, problems = read_constraints(sections.constraints)
    unknown = unknown_paths(constraints, job)
    unsound = {constraint.index for constraint, _ in unknown}
    unsound |= {each.index for each in constraints if any(path in blamed for path in each.expression.paths)}
    return [each for each in constraints if each.index not in unsound], [*problems, *(found for _, found in unknown)]


def _fixed_paths(space: Space) -> set[str]:
    """The paths of constraints that have the same value in every draw."""
    searched = {path for dimension in space.dimensions for path in dimension.paths}
    searched |= {fixed.path for fixed in space.constants if fixed.when}
    moved = {path.removesuffix("kind") if path.endswith(".kind") else f"{path}." for path in searched}
    lookup = space.lookup(space.with_constants({}))
    paths = {path for constraint in space.constraints for path in constraint.expression.paths} - searched
    return {path for path in paths if not path.startswith(tuple(moved)) and _has_value(lookup, path)}


def _has_value(lookup: Lookup, path: str) -> bool:
    try:
        lookup(path)
    except NoValue:
        return False
    return True


def _dotted(problem: Problem) -> str:
    return ".".join(key for key in problem.path if isinstance(key, str))
