"""The base of every part's options, and the choice between the parts of a registry."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Union

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from reforge.spec.problem import Problem


class Part(BaseModel):
    """The options of one part of a job: frozen, without unknown keys, without guessing one type from another.

    A field's type says what it takes: a bool takes only true and false, an int no 3.5, a str no number. From YAML a
    tuple is written as a list and a Path as text; from Python the values must have the declared types already.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong that types cannot express; paths are relative to this part."""
        yield from ()


@dataclass(frozen=True, eq=False)  # hashed by identity: typing hashes the metadata of `AnyCorpus | None`
class OneOf:
    """The registry behind a field made by `one_of`, to be found among the annotation's metadata."""

    registry: Mapping[str, type[Part]]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Not pydantic's own Field(discriminator=...): that refuses a union of one, and a registry starts with one.
        choices = {kind: handler.generate_schema(part) for kind, part in self.registry.items()}
        return core_schema.tagged_union_schema(choices, discriminator="kind")


def one_of(registry: Mapping[str, type[Part]]) -> Any:
    """The type of a field that holds any one part of the registry, told apart by its `kind`.

    Every part says its own name: `kind: Literal["mlm"] = "mlm"` stands in the registry under "mlm".
    """
    assert registry, "a registry needs at least one part"
    for kind, part in registry.items():
        default = part.model_fields["kind"].default
        assert default == kind, f"{part.__name__}.kind is {default!r}, the registry says {kind!r}"
    return Annotated[Union[tuple(registry.values())], OneOf(dict(registry))]  # noqa: UP007  (built at run time)
