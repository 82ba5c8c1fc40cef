"""Prepared corpora in remote places: the same blocks, through a cache of bounded size."""

from pathlib import Path

import numpy as np
import pytest
from upath import UPath

from reforge.batches import Data, Prepared, open_prepared, prepare
from reforge.batches.cache import ShardCache
from reforge.corpora.text import Text
from reforge.spec import UserError
from reforge.tokenizers.wordpiece import WordPiece

TOKENIZER = WordPiece(vocab_size=400)


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    """A place of its own in the memory of this process."""
    return UPath(f"memory://{tmp_path.name}")  # type: ignore[return-value]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pydoc_data.topics import topics

    file = tmp_path_factory.mktemp("cached") / "corpus.txt"
    file.write_text("\n\n".join(topics[name][:3000] for name in sorted(topics)[:40]), encoding="utf-8")
    return file


def data_of(corpus: Path, **options: object) -> Data:
    text = Text(path=corpus, documents_by="blank_line")
    return Data(corpus=text, block_tokens=64, valid_fraction=0.1, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["packed", "bucketed"])
def prepared_twice(
    request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Data, Prepared, Path]:
    """The corpus prepared here, and the folder of the same in a remote place."""
    data, told = data_of(corpus, batches=request.param), list[str]()
    folder = tmp_path_factory.mktemp("local")
    local = prepare(data, TOKENIZER, folder, lambda line: None)
    place: Path = UPath(f"memory://{folder.name}") / "prepared"  # type: ignore[assignment]
    remote = prepare(data, TOKENIZER, place, told.append)
    assert not list(place.glob(".work*"))
    prepare(data, TOKENIZER, place, told.append)
    assert told[-1].startswith("reused")
    return data, local, remote.folder


@pytest.mark.parametrize("cache_bytes", [0, 20_000, 1 << 30])
def test_remote_shards_give_the_blocks_of_local_ones(
    prepared_twice: tuple[Data, Prepared, Path], tmp_path: Path, cache_bytes: int
) -> None:
    data, local, folder = prepared_twice
    cache = ShardCache(tmp_path / "cache", cache_bytes)
    prepared = open_prepared(folder, data, cache)
    assert prepared.fingerprint == local.fingerprint
    for ours, theirs in ((prepared.train, local.train), (prepared.valid, local.valid)):
        rows = np.arange(len(theirs))[:: max(1, len(theirs) // 50)]
        np.testing.assert_array_equal(ours.blocks(rows), theirs.blocks(rows))
    kept = list(cache.folder.glob("*.bin")) if cache.folder.exists() else []
    assert sum(file.stat().st_size for file in kept) <= cache_bytes
    assert bool(kept) == (cache_bytes > 0)


def test_files_of_other_corpora_make_room(corpus: Path, remote: Path, tmp_path: Path) -> None:
    cache = ShardCache(tmp_path / "cache", 60_000)
    for block_tokens in (32, 64, 128):
        data = data_of(corpus).model_copy(update={"block_tokens": block_tokens})
        folder = prepare(data, TOKENIZER, remote / "prepared", lambda line: None).folder
        prepared = open_prepared(folder, data, cache)
        for samples in (prepared.train, prepared.valid):
            samples.blocks(np.arange(len(samples)))
        kept = list(cache.folder.glob("*.bin"))
        assert sum(file.stat().st_size for file in kept) <= cache.max_bytes
        assert any(file.name.startswith(folder.name) for file in kept)


def test_a_remote_folder_without_its_manifest_is_not_prepared(remote: Path, corpus: Path) -> None:
    with pytest.raises(UserError, match="holds no prepared data"):
        open_prepared(remote / "nothing", data_of(corpus))
