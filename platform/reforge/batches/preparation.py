"""Corpus to tokenizer to shards, once for every combination of content, options and code.

    files -> fingerprint --> tokenizer-<key>/  (trained on the training documents)
                         '-> shards-<key>/     tokenizer.json, train-*.bin, valid-*.bin, manifest.json

A key is a hash of everything that decides the result, so a folder that is complete never goes stale.
"""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from reforge.batches.bucketing import BucketedPacker
from reforge.batches.data import Data
from reforge.batches.fingerprint import FileHashes, code_fingerprint, digest, file_stamp
from reforge.batches.packing import Packer, pack
from reforge.batches.prepared import TOKENIZER, Prepared, open_prepared
from reforge.batches.reading import Reading
from reforge.batches.report import report_lines
from reforge.batches.shards import ShardWriter, token_dtype
from reforge.batches.storage import building, locked, read_manifest, storage_errors, write_manifest, write_synced
from reforge.spec import UserError
from reforge.tokenizers import SPECIAL_TOKENS, TokenizerOptions

Announce = Callable[[str], None]
_FORMAT = 1
_KEY_DIGITS = 12
_MIB = 1 << 20
_SPLITS = ("train", "valid")
_PACKERS = {"packed": Packer, "bucketed": BucketedPacker}


def prepare(data: Data, tokenizer: TokenizerOptions, storage: Path, announce: Announce = print) -> Prepared:
    """The prepared corpus under `storage`/_prepared, made now if the same request was never completed before.

    announce: gets lines for people: progress, what was reused, the report
    Raises UserError for anything about the corpus, the vocabulary size or the storage that the user can mend.
    """
    root = storage.expanduser().resolve() / "_prepared"
    with storage_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        request = _Request.of(data, tokenizer, root, announce)
        found = _reusable(request.shards, announce)
        if found is None:
            with locked(request.shards, announce):
                found = _reusable(request.shards, announce)  # by the process that held the lock
                if found is None:
                    _build_shards(request, announce)
        else:
            announce(f"reused {request.shards}: " + report_lines(found)[0])
    return open_prepared(request.shards)


@dataclass(frozen=True)
class _Request:
    """A preparation with the keys of its two results."""

    data: Data
    options: TokenizerOptions
    stamps: dict[Path, list[int]]
    tokenizer_key: str
    shards_key: str
    root: Path

    @classmethod
    def of(cls, data: Data, options: TokenizerOptions, root: Path, announce: Announce) -> "_Request":
        files = data.corpus.files()
        stamps = {file: file_stamp(file) for file in files}
        hashes = FileHashes(root / "files.json")
        contents = hashes.of(files, announce)
        hashes.save()
        tokenizer_key = digest(
            {
                "format": _FORMAT,
                "files": list(zip(data.corpus.file_names(), contents, strict=True)),
                "corpus": data.corpus.identity(),
                "valid_fraction": data.valid_fraction,
                "tokenizer": options.model_dump(mode="json"),
                "code": code_fingerprint(type(data.corpus), type(options), Reading),
                "libraries": [tokenizers.__version__, unicodedata.unidata_version],
            }
        )
        packing_key = [data.block_tokens, data.shard_mib, code_fingerprint(_PACKERS[data.batches], ShardWriter)]
        return cls(data, options, stamps, tokenizer_key, digest([tokenizer_key, *packing_key]), root)

    @property
    def tokenizer(self) -> Path:
        return self.root / f"tokenizer-{self.tokenizer_key[:_KEY_DIGITS]}"

    @property
    def shards(self) -> Path:
        return self.root / f"shards-{self.shards_key[:_KEY_DIGITS]}"

    def check_unchanged(self) -> None:
        """Raise UserError where files changed or came since they were hashed: the key would promise other content."""
        if came := set(self.data.corpus.files()) - self.stamps.keys():
            raise UserError(f"{min(came)} came while the corpus was being prepared; start again when it is complete")
        for file, stamp in self.stamps.items():
            if file_stamp(file) != stamp:
                raise UserError(f"{file} changed while it was being prepared; start again when it is complete")


def _reusable(folder: Path, announce: Announce) -> dict[str, Any] | None:
    manifest, trouble = read_manifest(folder)
    if trouble:
        announce(f"warning: {folder} is not complete ({trouble}); preparing it anew")
    return manifest


def _build_shards(request: _Request, announce: Announce) -> None:
    data = request.data
    reading = Reading(data.corpus, data.valid_fraction, announce)
    tokenizer = _tokenizer(request, reading, announce)
    dtype = token_dtype(tokenizer.get_vocab_size())
    with building(request.shards) as folder:
        packers = {split: _packer(data, folder, split, dtype) for split in _SPLITS}
        pack(reading.documents("packing"), tokenizer, packers)
        request.check_unchanged()
        write_synced(folder / TOKENIZER, tokenizer.to_str(pretty=True))
        manifest = write_manifest(
            folder,
            {
                "format": _FORMAT,
                "fingerprint": request.shards_key,
                "data": data.model_dump(mode="json"),
                "tokenizer": request.options.model_dump(mode="json"),
                "vocab_size": tokenizer.get_vocab_size(),
                "block_tokens": data.block_tokens,
                "dtype": dtype.str,
                "corpus": reading.tally.as_dict(),
                "splits": {split: packer.report() for split, packer in packers.items()},
            },
        )
    for line in report_lines(manifest):
        announce(line)
    announce(f"prepared {request.shards}")


def _packer(data: Data, folder: Path, split: str, dtype: np.dtype[Any]) -> Packer:
    max_bytes = data.shard_mib * _MIB
    if data.batches == "bucketed":
        return BucketedPacker(folder, split, data.block_tokens, dtype, max_bytes)
    return Packer(ShardWriter(folder, split, data.block_tokens, dtype, max_bytes), data.block_tokens, dtype)


def _tokenizer(request: _Request, reading: Reading, announce: Announce) -> tokenizers.Tokenizer:
    """The tokenizer of a request, trained now unless it was before; validation documents have no part in it."""
    folder = request.tokenizer
    with locked(folder, announce):
        if _reusable(folder, announce) is None:
            with building(folder) as temp:
                texts = (text for split, text in reading.documents("reading for the tokenizer") if split == "train")
                trained = request.options.train(texts)
                special = [trained.token_to_id(token) for token in SPECIAL_TOKENS]
                assert special == list(range(len(SPECIAL_TOKENS))), special
                request.check_unchanged()
                write_synced(temp / TOKENIZER, trained.to_str(pretty=True))
                write_manifest(temp, {"format": _FORMAT, "fingerprint": request.tokenizer_key})
            reached, asked = trained.get_vocab_size(), request.options.vocab_size
            announce(f"tokenizer: {reached:,} tokens" + (f" ({asked:,} asked for)" if reached != asked else ""))
        else:
            announce(f"reused {folder}")
    return tokenizers.Tokenizer.from_file(str(folder / TOKENIZER))
