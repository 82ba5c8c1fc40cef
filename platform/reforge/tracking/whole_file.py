"""Files that are there whole or not at all."""

from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """`text` as the content of `path`, in UTF-8: a reader finds the old content or the new one, never a part."""
    writing = path.with_name(f".{path.name}.writing")
    writing.write_text(text, encoding="utf-8", newline="")
    writing.replace(path)
