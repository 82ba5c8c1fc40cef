"""Preparation: never twice, never stale, never half, and clear about what a user can mend."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from reforge.batches import Data, Prepared, open_prepared, prepare
from reforge.batches.joining import JoinTask, join_files
from reforge.batches.packing import SEP
from reforge.corpora.cleaning import Cleaning
from reforge.corpora.text import Text
from reforge.spec import UserError
from reforge.tokenizers.existing import Existing
from reforge.tokenizers.wordpiece import WordPiece

TOKENIZER = WordPiece(vocab_size=400)
PREPARE = """
import sys
from pathlib import Path
from reforge.batches import Data, parts, prepare
from reforge.corpora.text import Text
from reforge.tokenizers.wordpiece import WordPiece
import resource
path, storage, vocab_size, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
data = Data(
    corpus=Text(path=path, documents_by="blank_line"),
    batches=sys.argv[5],
    block_tokens=64,
    valid_fraction=0.1,
    shard_mib=1,
)
parts._LEAST_BYTES = 1 << 18  # a few parts of little text: what the driver plans decides for everyone
print(prepare(data, WordPiece(vocab_size=vocab_size), storage / "_prepared").folder)
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    from pydoc_data.topics import topics

    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in sorted(topics)[:30]:
        (folder / f"{name}.txt").write_text(topics[name][:1500], encoding="utf-8")
    return folder


class Told(list[str]):
    """Everything that was announced."""

    __call__ = list.append

    def says(self, words: str) -> bool:
        return any(words in line for line in self)


def data_of(corpus: Path, valid_fraction: float = 0.2, block_tokens: int = 64, batches: str = "packed") -> Data:
    return Data(
        corpus=Text(path=corpus),
        batches=batches,  # type: ignore[arg-type]
        block_tokens=block_tokens,
        valid_fraction=valid_fraction,
    )


def run(corpus: Path, storage: Path, tokenizer: WordPiece = TOKENIZER, **options: float | str) -> tuple[Prepared, Told]:
    told = Told()
    return prepare(data_of(corpus, **options), tokenizer, storage / "_prepared", told), told  # type: ignore[arg-type]


def texts_of(prepared: Prepared, split: str) -> list[str]:
    """The documents of a split, decoded."""
    shards = getattr(prepared, split)
    tokens = shards.blocks(np.arange(len(shards)))[:, 1:].ravel()
    ends = np.flatnonzero(tokens == SEP)
    return [prepared.tokenizer.decode(part.tolist()) for part in np.split(tokens, ends + 1)[:-1]]


def state_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_mtime_ns, file.stat().st_ino) for file in folder.iterdir()}


def test_the_second_run_prepares_nothing(corpus: Path, tmp_path: Path) -> None:
    first, told = run(corpus, tmp_path)
    assert told.says("prepared")
    before = state_of(first.folder)
    second, told = run(corpus, tmp_path)
    assert told.says("reused")
    assert not told.says("prepared ")
    assert (second.folder, second.fingerprint, second.report) == (first.folder, first.fingerprint, first.report)
    assert state_of(second.folder) == before
    assert open_prepared(first.folder, data_of(corpus)).report == first.report


def test_touched_moved_and_copied_files_are_the_same_corpus(corpus: Path, tmp_path: Path) -> None:
    first, _ = run(corpus, tmp_path)
    for file in corpus.iterdir():
        os.utime(file, (1, 1))
    assert run(corpus, tmp_path)[0].folder == first.folder
    moved = shutil.copytree(corpus, tmp_path / "elsewhere")
    assert run(moved, tmp_path)[0].folder == first.folder


def test_an_untouched_file_is_not_read_again(corpus: Path, tmp_path: Path) -> None:
    for file in corpus.iterdir():
        os.utime(file, (1, 1))
    run(corpus, tmp_path)
    known = json.loads((tmp_path / "_prepared" / "files.json").read_text())
    assert set(known) == {str(file.resolve()) for file in corpus.iterdir()}
    file = next(corpus.iterdir())
    text = file.read_text()
    file.write_text("X" + text[1:])
    os.utime(file, (1, 1))  # no user can do this by accident: size, time and inode stay, so nothing looks changed
    assert run(corpus, tmp_path)[1].says("reused")


def test_a_changed_request_prepares_anew(corpus: Path, tmp_path: Path) -> None:
    first, _ = run(corpus, tmp_path)
    other_blocks, told = run(corpus, tmp_path, block_tokens=32)
    assert told.says("reused") and told.says("prepared")  # noqa: PT018  (the tokenizer serves both)
    others = [
        other_blocks,
        run(corpus, tmp_path, valid_fraction=0.3)[0],
        run(corpus, tmp_path, batches="bucketed")[0],
        run(corpus, tmp_path, batches="bucketed", block_tokens=32)[0],
        run(corpus, tmp_path, tokenizer=WordPiece(vocab_size=500))[0],
        run(corpus, tmp_path, tokenizer=WordPiece(vocab_size=400, lowercase=True))[0],
    ]
    changed = next(corpus.iterdir())
    changed.write_text(changed.read_text() + "!")
    others.append(run(corpus, tmp_path)[0])
    changed.rename(corpus / "zzz")
    others.append(run(corpus, tmp_path)[0])
    assert len({prepared.folder for prepared in [first, *others]}) == 9


def test_documents_stay_on_their_side_when_others_are_added(corpus: Path, tmp_path: Path) -> None:
    few, _ = run(corpus, tmp_path)
    (corpus / "aaa.txt").write_text("A document that was added later.")
    (corpus / "zzz.txt").write_text((corpus / "aaa.txt").read_text() * 2)
    many, _ = run(corpus, tmp_path, tokenizer=TOKENIZER)
    assert many.report["splits"]["train"]["documents"] + many.report["splits"]["valid"]["documents"] == 32
    for split in ("train", "valid"):
        sizes = {len(text) for text in texts_of(few, split)}
        assert sizes <= {len(text) for text in texts_of(many, split)}
    assert not set(texts_of(many, "train")) & set(texts_of(many, "valid"))


def test_equal_documents_fall_on_the_same_side(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}").write_text(f"0123456789: the text of number {number % 20} stands in three files.")
    prepared, _ = run(folder, tmp_path)
    train, valid = texts_of(prepared, "train"), texts_of(prepared, "valid")
    assert len(train) == 3 * len(set(train))
    assert len(valid) == 3 * len(set(valid))


def test_the_tokenizer_never_sees_a_validation_document(corpus: Path, tmp_path: Path) -> None:
    plain, _ = run(corpus, tmp_path)
    number = 0
    while True:  # a document with a character of its own that falls on the validation side
        (corpus / "marked").write_text(f"§ {number} " + "§word " * 50)
        prepared, _ = run(corpus, tmp_path)
        if prepared.report["splits"]["valid"]["documents"] > plain.report["splits"]["valid"]["documents"]:
            break
        number += 1
    assert prepared.tokenizer.get_vocab() == plain.tokenizer.get_vocab()
    assert prepared.report["splits"]["valid"]["unknown_tokens"] >= 50


def test_the_manifest_counts_what_is_there(corpus: Path, tmp_path: Path) -> None:
    prepared, told = run(corpus, tmp_path)
    sources = [file.read_text().strip() for file in corpus.iterdir()]
    splits = prepared.report["splits"]
    assert sum(split["bytes"] for split in splits.values()) == sum(len(text.encode()) for text in sources)
    for name, shards in (("train", prepared.train), ("valid", prepared.valid)):
        ids = shards.blocks(np.arange(len(shards)))
        assert len(ids) == splits[name]["blocks"]
        assert (ids >= 4).sum() + (ids == 1).sum() == splits[name]["tokens"]
        assert (ids == SEP).sum() == splits[name]["documents"]
    assert prepared.valid_tokens_per_byte == splits["valid"]["tokens"] / splits["valid"]["bytes"]
    assert prepared.report["vocab_size"] == prepared.tokenizer.get_vocab_size() == 400
    assert told.says("30 documents")


def test_rows_of_one_document_each(corpus: Path, tmp_path: Path) -> None:
    packed, _ = run(corpus, tmp_path)
    bucketed, told = run(corpus, tmp_path, batches="bucketed")
    assert told.says("rows of up to 64 (")
    places, padding = 0, 0
    for name, samples in (("train", bucketed.train), ("valid", bucketed.valid)):
        before, split = packed.report["splits"][name], bucketed.report["splits"][name]
        assert {key: split[key] for key in ("documents", "tokens", "bytes", "unknown_tokens")} == {
            key: before[key] for key in ("documents", "tokens", "bytes", "unknown_tokens")
        }
        assert len(samples) == split["blocks"] == sum(bucket["rows"] for bucket in split["buckets"])
        places += samples.num_tokens
        rows = [samples.blocks(np.array([index]))[0] for index in range(len(samples))]
        padding += sum(int((row == 0).sum()) for row in rows)
        ids = np.concatenate(rows)
        assert (ids >= 4).sum() + (ids == 1).sum() == split["tokens"]
        assert (ids == SEP).sum() == len(samples)
    assert told.says(f"padding: {padding / places:.2%} of all tokens, in rows of ")
    assert run(corpus, tmp_path, batches="bucketed")[1].says("reused")
    assert open_prepared(bucketed.folder, data_of(corpus, batches="bucketed")).train.check(partners=True) is None


def test_a_damaged_folder_is_noticed_and_made_anew(corpus: Path, tmp_path: Path) -> None:
    first, _ = run(corpus, tmp_path)
    shard = first.folder / "train-00000.bin"
    content = shard.read_bytes()
    shard.write_bytes(content[:-10])
    with pytest.raises(UserError, match=r"train-00000\.bin has"):
        open_prepared(first.folder, data_of(corpus))
    again, told = run(corpus, tmp_path)
    assert told.says("warning") and told.says(f"{len(content) - 10} bytes instead of {len(content)}")  # noqa: PT018
    assert again.folder == first.folder
    assert shard.read_bytes() == content
    for damage in (lambda: (first.folder / "manifest.json").write_text("{"), (first.folder / "manifest.json").unlink):
        damage()
        assert run(corpus, tmp_path)[1].says("warning")
        assert shard.read_bytes() == content


@pytest.fixture(scope="module")
def large_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some megabytes of real text, in paragraphs."""
    from pydoc_data.topics import topics

    file = tmp_path_factory.mktemp("large") / "topics.txt"
    text = "\n\n".join(topics[name] for name in sorted(topics))
    file.write_text("\n\n".join(text.replace(" the ", f" the {number} ") for number in range(3)), encoding="utf-8")
    return file


def start(corpus: Path, storage: Path, limit: int = 0, batches: str = "packed") -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", PREPARE, str(corpus), str(storage), "800", str(limit), batches]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(found: Iterator[bool]) -> None:
    deadline = time.monotonic() + 60
    while not next(found):
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.slow  # three processes one after another
@pytest.mark.parametrize("batches", ["packed", "bucketed"])
def test_a_killed_preparation_leaves_nothing_that_counts(large_corpus: Path, tmp_path: Path, batches: str) -> None:
    expected = Path(start(large_corpus, tmp_path / "undisturbed", batches=batches).communicate()[0].split()[-1])
    storage = tmp_path / "killed"
    process = start(large_corpus, storage, batches=batches)
    done = "_prepared/.work-shards-*/part-*"
    wait_for(len(list(storage.glob(done))) > 1 for _ in iter(int, 1))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not list(storage.glob("_prepared/shards-*"))
    num_done = len(list(storage.glob(done)))
    output, _ = start(large_corpus, storage, batches=batches).communicate()
    folder = Path(output.split()[-1])
    assert folder.name == expected.name
    assert "reused" in output  # the tokenizer was complete
    assert f"packing: going on, {num_done} of " in output
    names = sorted(file.name for file in expected.iterdir())
    assert sorted(file.name for file in folder.iterdir()) == names
    assert all((folder / name).read_bytes() == (expected / name).read_bytes() for name in names if name[-4:] == ".bin")
    assert not list(storage.glob("_prepared/.work-*"))
    assert not list(storage.glob("_prepared/.building-*"))


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize("batches", ["packed", "bucketed"])
def test_a_full_disk_is_said_and_leaves_nothing(large_corpus: Path, tmp_path: Path, batches: str) -> None:
    # A file may not grow beyond the limit: the same refusal from the file system as a full disk, in the middle.
    file = tmp_path / "corpus.txt"
    file.write_text(large_corpus.read_text(encoding="utf-8")[:300_000], encoding="utf-8")
    _, errors = start(file, tmp_path, 60_000, batches).communicate()
    assert f"UserError: cannot prepare the data in {tmp_path}/_prepared: File too large" in errors
    assert not list((tmp_path / "_prepared").glob(".building-*"))
    assert not list((tmp_path / "_prepared").glob("shards-*"))


def test_a_second_process_waits_for_the_first(corpus: Path, tmp_path: Path) -> None:
    folder = run(corpus, tmp_path)[0].folder
    shutil.rmtree(folder)
    told = Told()
    with (folder.parent / f".{folder.name}.lock").open("w") as other_process:
        fcntl.flock(other_process, fcntl.LOCK_EX)
        waiting = threading.Thread(target=prepare, args=(data_of(corpus), TOKENIZER, tmp_path / "_prepared", told))
        waiting.start()
        wait_for(told.says("waiting for it") for _ in iter(int, 1))
        assert not folder.exists()
    waiting.join()
    assert folder.exists()


def test_storage_that_cannot_be_written(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"{tmp_path}/file/runs/_prepared: Not a directory"):
        run(corpus, tmp_path / "file" / "runs")


def test_an_empty_corpus(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n \n")
    with pytest.raises(UserError, match=r"no documents \(1 files read; dropped: empty: 1\)"):
        run(tmp_path / "empty", tmp_path)
    assert not list((tmp_path / "_prepared").glob("[!.]*-*"))


def test_a_corpus_of_one_short_document(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("One short document.")
    with pytest.raises(UserError, match=r"of 1 document, .* leaves 1 for training and 0 for validation\. .*blank_line"):
        run(tmp_path / "one", tmp_path, valid_fraction=0.01)


def test_a_corpus_smaller_than_a_block_is_said(corpus: Path, tmp_path: Path) -> None:
    file = tmp_path / "small"
    file.write_text("\n\n".join(f"Sentence {number} of a small corpus." for number in range(20)))
    data = Data(corpus=Text(path=file, documents_by="blank_line"), block_tokens=1024, valid_fraction=0.2)
    told = Told()
    prepared = prepare(data, WordPiece(vocab_size=80), tmp_path / "_prepared", told)
    assert len(prepared.train) == len(prepared.valid) == 1
    for split in ("train", "valid"):
        tokens = prepared.report["splits"][split]["tokens"]
        assert told.says(f"warning: all text of the {split} split is {tokens} tokens, less than one block of 1024")


def test_a_split_without_documents_says_which_fraction_would_do(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"leaves 30 for training and 0 for validation") as error:
        run(corpus, tmp_path, valid_fraction=0.0001)
    fraction = float(str(error.value).partition("valid_fraction to ")[2].split()[0])
    prepared, _ = run(corpus, tmp_path, valid_fraction=fraction)
    assert prepared.report["splits"]["valid"]["documents"] == 1


def test_a_vocabulary_smaller_than_the_alphabet_leaves_nothing(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="too small for the alphabet"):
        run(corpus, tmp_path, tokenizer=WordPiece(vocab_size=30))
    assert not list((tmp_path / "_prepared").glob("[!.]*-*"))


def test_a_smaller_vocabulary_is_cut_out_of_a_larger_one(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path, tokenizer=WordPiece(vocab_size=500))
    smaller, told = run(corpus, tmp_path, tokenizer=WordPiece(vocab_size=400))
    assert told.says("tokenizer: cut out of ")
    assert not told.says("reading")
    trained, told = run(corpus, tmp_path / "alone", tokenizer=WordPiece(vocab_size=400))
    assert not told.says("cut out of")
    assert smaller.folder.name == trained.folder.name
    assert {file.name: file.read_bytes() for file in smaller.folder.iterdir()} == {
        file.name: file.read_bytes() for file in trained.folder.iterdir()
    }


def test_an_existing_tokenizer_serves_any_corpus(corpus: Path, tmp_path: Path) -> None:
    trained, _ = run(corpus, tmp_path)
    options = Existing(path=trained.folder / "tokenizer.json")
    prepared, told = Told(), Told()
    first = prepare(data_of(corpus), options, tmp_path / "existing", prepared)
    assert first.tokenizer.to_str() == trained.tokenizer.to_str()
    np.testing.assert_array_equal(first.train.blocks(np.arange(5)), trained.train.blocks(np.arange(5)))
    prepare(data_of(corpus, valid_fraction=0.3), options, tmp_path / "existing", told)
    assert told.says("reused")  # the tokenizer, although the training text is another


def test_the_report_lies_beside_the_shards(corpus: Path, tmp_path: Path) -> None:
    (corpus / "short").write_text("  \n")
    prepared, told = run(corpus, tmp_path)
    report = (prepared.folder / "report.txt").read_text(encoding="utf-8").splitlines()
    assert all(told.says(line) for line in report)
    assert "dropped: empty 1" in report


def test_cleaning_and_duplicates_are_counted_by_reason(corpus: Path, tmp_path: Path) -> None:
    for number in range(3):
        (corpus / f"same-{number}").write_text("The same sentence, three times over.")
    (corpus / "tiny").write_text("Tiny.")
    data = data_of(corpus).model_copy(update={"clean": Cleaning(min_chars=10, duplicates="exact")})
    prepared = prepare(data, TOKENIZER, tmp_path / "_prepared", Told())
    corpus_report = prepared.report["corpus"]
    assert corpus_report["dropped"] == {"exact duplicate": 2, "shorter than 10 characters": 1}
    assert sum(split["documents"] for split in prepared.report["splits"].values()) == 31
    assert corpus_report["documents"] == 31


def test_a_file_that_is_not_utf8_is_named(corpus: Path, tmp_path: Path) -> None:
    (corpus / "bad").write_bytes(b"fine \xff")
    with pytest.raises(UserError, match="bad is not UTF-8: byte 0xff at offset 5"):
        run(corpus, tmp_path)


@pytest.mark.parametrize("options", [{"valid_fraction": 0.0}, {"valid_fraction": 0.6}, {"block_tokens": 8}])
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Data(corpus=Text(path=Path("x")), **options)  # type: ignore[arg-type]


def test_a_shard_that_a_killed_task_left_does_no_harm(tmp_path: Path) -> None:
    source, target = tmp_path / "part.bin", tmp_path / "shard.bin"
    source.write_bytes(b"blocks")
    for _ in range(2):
        join_files(JoinTask((source,), target), lambda documents, num_bytes: None)
        assert source.read_bytes() == target.read_bytes() == b"blocks"
    (tmp_path / "second.bin").write_bytes(b" and more")
    join_files(JoinTask((source, tmp_path / "second.bin"), target), lambda documents, num_bytes: None)
    assert (source.read_bytes(), target.read_bytes()) == (b"blocks", b"blocks and more")
