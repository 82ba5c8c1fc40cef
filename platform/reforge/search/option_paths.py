"""Every key path that a job can have, whatever kinds its parts are of."""

from functools import lru_cache

from reforge.spec.part import Part
from reforge.spec.schema import Fragment, schema_of


@lru_cache(maxsize=8)
def option_paths(job: type[Part]) -> frozenset[str]:
    """The key paths of all options of a job, as text."""
    schema = schema_of(job)
    found: set[str] = set()

    def walk(fragment: Fragment, above: tuple[str, ...], passed: tuple[int, ...]) -> None:
        for item in [*schema.alternatives(fragment), *schema.kinds(fragment).values()]:
            if id(item) in passed:  # a mixture of corpora holds corpora
                continue
            for key, option in item.get("properties", {}).items():
                found.add(".".join((*above, key)))
                walk(schema.resolve(option), (*above, key), (*passed, id(item)))

    walk(schema.root, (), ())
    return frozenset(found)
