"""What a run leaves to be loaded again: its configuration, its tokenizer and its weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import JsonValue, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from reforge.corpora.place import is_folder, is_remote
from reforge.loop.checkpoint import as_json
from reforge.models import Frame
from reforge.runs.folder import RunFolder
from reforge.runs.job import RunOptions
from reforge.runs.store import brought
from reforge.spec import UserError
from reforge.tokenizers.stored import read_tokenizer
from reforge.tracking import write_whole

_CONFIG = TypeAdapter(dict[str, JsonValue])


@dataclass(frozen=True)
class FinishedRun:
    """The files of a finished run, pre-trained or fine-tuned, that loading it needs.

    place: where the run is kept
    folder: where its files can be read: there, or on this machine where it is kept in a store
    config: the content of config.json
    """

    place: Path
    folder: RunFolder
    config: dict[str, Any]

    @classmethod
    def open(cls, path: Path, cache: Path | None = None) -> "FinishedRun":
        """The run in `path`, a folder or a URL; raises UserError where there is none, or none that is finished.

        cache: where the files of a remote run are kept on this machine (default: where a job keeps them)
        """
        place = path.expanduser()
        if not is_folder(place):
            raise UserError(f"{path}: there is no such run")
        if is_folder(place / "members"):
            raise UserError(f"{path} is several runs: choose one of those in {path / 'members'}")
        folder = RunFolder(place)
        if is_remote(place):
            names = [file.name for file in (folder.config, folder.weights, folder.tokenizer, folder.spec)]
            folder = RunFolder(brought(place, names, cache or RunOptions().copies))
        missing = [file.name for file in (folder.config, folder.weights, folder.tokenizer) if not file.is_file()]
        if missing:
            raise UserError(
                f"{path} is not a finished run: {', '.join(missing)} is missing; start its job again to finish it"
            )
        try:
            config = _CONFIG.validate_json(folder.config.read_bytes())
        except ValueError as error:
            raise UserError(_not_readable(folder)) from error
        return cls(place, folder, config)

    @property
    def is_finetuned(self) -> bool:
        """Whether it is a fine-tuning, of a task."""
        return self.config.get("kind") == "finetune"

    def part(self, kind: Any, key: str) -> Any:
        """The options `kind` that stand under a key of the configuration."""
        return self.parse(kind, self.value(key))

    def parse(self, kind: Any, values: Any) -> Any:
        """The options `kind` from their JSON; raises UserError where another version wrote them."""
        try:
            return TypeAdapter(kind).validate_json(json.dumps(values))
        except ValueError as error:
            raise UserError(_not_readable(self.folder)) from error

    def value(self, key: str) -> Any:
        """What stands under a key of the configuration; raises UserError where nothing does."""
        if key not in self.config:
            raise UserError(_not_readable(self.folder))
        return self.config[key]

    def frame(self) -> Frame:
        """What the backbone of a fine-tuning was built for."""
        sizes = {key: self.value(key) for key in ("vocab_size", "block_tokens")}
        frame: Frame = self.parse(Frame, {**self.part(dict[str, JsonValue], "frame"), **sizes})
        return frame

    def tokenizer(self) -> Tokenizer:
        """The run's tokenizer; raises UserError where it is not that of the weights."""
        tokenizer = read_tokenizer(self.folder.tokenizer)
        vocab_size = self.part(int, "vocab_size")
        if tokenizer.get_vocab_size() != vocab_size:
            raise UserError(
                f"{self.folder.tokenizer} has {tokenizer.get_vocab_size():,} tokens, but the weights beside it are of "
                f"a model of {vocab_size:,}: it is another run's tokenizer"
            )
        return tokenizer

    def weights(self) -> dict[str, Tensor]:
        """The weights by name."""
        return read_weights(self.folder.weights)


def keep_run(folder: RunFolder, weights: Mapping[str, Tensor], tokenizer: Tokenizer, config: Mapping[str, Any]) -> None:
    """Write what `FinishedRun` reads."""
    writing = folder.weights.with_name(f".{folder.weights.name}.writing")
    save_file({name: tensor.cpu() for name, tensor in weights.items()}, writing, {"format": "pt"})
    writing.replace(folder.weights)
    write_whole(folder.tokenizer, tokenizer.to_str(pretty=True))
    write_whole(folder.config, as_json(config))


def _not_readable(folder: RunFolder) -> str:
    return f"{folder.config} is damaged, or not of this version of reforge"


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; raises UserError where it is damaged."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
