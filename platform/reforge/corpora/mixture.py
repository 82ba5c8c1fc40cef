"""Several corpora as one, each seen as often as its weight says.

sources: {wiki: {corpus, weight}, news: {corpus, weight}} -> documents of the groups "wiki" and "news"
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from reforge.corpora.corpus import Corpus, Document, Extent, Slice
from reforge.corpora.place import is_remote
from reforge.corpora.records import Name
from reforge.corpora.tally import Tally
from reforge.spec import Part, Problem, UserError, one_of

if TYPE_CHECKING:
    Member = Corpus  # any other kind: `complete` says which


class Source(Part):
    """One corpus of a mixture.

    weight: how often it is seen in an epoch, 2.0 being twice
    """

    corpus: Member
    weight: float = Field(default=1.0, gt=0)


class Mixture(Corpus):
    """The documents of several corpora, one after the other in the order that they are written in.

    sources: by names of your own, without "/". The weights of a source that has weighted sets itself multiply
    """

    kind: Literal["mixture"] = "mixture"
    sources: Annotated[dict[Name, Source], Field(min_length=1)]

    @property
    def keyed(self) -> bool:
        return any(corpus.keyed for corpus in self._corpora)

    def problems(self) -> Iterator[Problem]:
        yield from super().problems()
        owners: dict[str, str] = {}
        for name, source in self.sources.items():
            if "/" in name:
                yield Problem(("sources", name), 'must have a name without "/"')
            for file in _files(source.corpus):
                owner = owners.setdefault(_real(file), name)
                if owner != name:
                    rule = f"must not hold a file of source {owner!r} again: {file}"
                    yield Problem(("sources", name, "corpus"), rule)
                    break

    def classes(self) -> list[type[Corpus]]:
        return [type(self), *dict.fromkeys(part for corpus in self._corpora for part in corpus.classes())]

    def files(self) -> list[Path]:
        return [file for corpus in self._corpora for file in corpus.files()]

    def file_names(self) -> list[str]:
        return [f"{name}/{file}" for name, source in self.sources.items() for file in source.corpus.file_names()]

    def identity(self) -> dict[str, object]:
        # A list, because the order decides which of two equal documents is the first. Weights decide the order in which
        # training sees what is prepared, not what it is.
        sources = [[name, source.corpus.identity()] for name, source in self.sources.items()]
        return {"kind": self.kind, "sources": sources}

    def whole(self) -> list[Slice]:
        return [
            part._replace(name=f"{name}/{part.name}", member=member)
            for member, (name, source) in enumerate(self.sources.items())
            for part in source.corpus.whole()
        ]

    def cuttable(self, whole: Slice) -> bool:
        return self._corpora[whole.member].cuttable(self._of_member(whole))

    def extent(self, whole: Slice) -> Extent:
        return self._corpora[whole.member].extent(self._of_member(whole))

    def weights(self) -> Mapping[str, float]:
        weights: dict[str, float] = {}
        for name, source in self.sources.items():
            inner = source.corpus.weights()
            weights |= {f"{name}/{group}": source.weight * weight for group, weight in inner.items()}
            weights |= {} if inner else {name: source.weight}
        return weights

    def read(self, slices: Sequence[Slice], tally: Tally) -> Iterator[Document]:
        names = list(self.sources)
        for member, parts in itertools.groupby(slices, key=lambda part: part.member):
            corpus, name = self._corpora[member], names[member]
            grouped = bool(corpus.weights())
            for document in corpus.read([self._of_member(part) for part in parts], tally):
                yield document._replace(
                    name=f"{name}/{document.name}",
                    key=f"{name}/{document.key}" if document.key else "",
                    group=f"{name}/{document.group}" if grouped else name,
                )

    @property
    def _corpora(self) -> list[Corpus]:
        return [source.corpus for source in self.sources.values()]

    def _of_member(self, part: Slice) -> Slice:
        """The slice as the corpus that it is of knows it."""
        name = list(self.sources)[part.member]
        return part._replace(name=part.name.removeprefix(f"{name}/"), member=0)


def complete(registry: Mapping[str, type[Corpus]]) -> None:
    """Let mixtures hold every kind of the registry but mixtures; called once, when the registry is there."""
    others = {kind: corpus for kind, corpus in registry.items() if corpus is not Mixture}
    names: dict[str, Any] = {"Member": one_of(others)}
    Source.model_rebuild(_types_namespace=names)
    Mixture.model_rebuild(_types_namespace=names)


def _files(corpus: Corpus) -> list[Path]:
    try:
        return corpus.files()
    except UserError:  # said by the corpus itself
        return []


def _real(file: Path) -> str:
    return str(file if is_remote(file) else file.resolve())
