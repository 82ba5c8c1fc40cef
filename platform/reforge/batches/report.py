"""A preparation's manifest in lines for people."""

from typing import Any


def report_lines(manifest: dict[str, Any]) -> list[str]:
    """What came in, what was dropped and mended by reason, and what came out; the first line says most."""
    splits, corpus = manifest["splits"], manifest["corpus"]
    totals = {
        name: sum(split[name] for split in splits.values()) for name in ("documents", "tokens", "bytes", "blocks")
    }
    valid = splits["valid"]
    buckets = _buckets(splits)
    shape = f"{'rows of up to' if buckets else 'blocks of'} {manifest['block_tokens']}"
    lines = [
        f"{totals['documents']:,} documents ({valid['documents']:,} for validation), {totals['bytes'] / 1e6:,.1f} MB, "
        f"{totals['tokens']:,} tokens of a vocabulary of {manifest['vocab_size']:,}, "
        f"{totals['blocks']:,} {shape} ({valid['blocks']:,} for validation)"
    ]
    if buckets:
        lines.append(_lengths(buckets))
    lines += _small(manifest) + _sets(splits["train"])
    lines += [_counts(name, corpus[name]) for name in ("dropped", "fixed") if corpus[name]]
    lines += [f"could not be read: {message}" for message in corpus["trouble"]]
    unknown = sum(split["unknown_tokens"] for split in splits.values())
    if unknown:
        lines.append(f"unknown: {unknown:,} tokens are [UNK] ({unknown / totals['tokens']:.3%})")
    return lines


def _buckets(splits: dict[str, Any]) -> list[dict[str, Any]]:
    """All rows of one document each, of every set of every split."""
    wholes = [one for split in splits.values() for one in (split, *split.get("sets", ()))]
    return [bucket for one in wholes for bucket in one.get("buckets", ())]


def _lengths(buckets: list[dict[str, Any]]) -> str:
    """In how many lengths the rows are, and how much of them is padding."""
    lengths = {bucket["row_tokens"] for bucket in buckets}
    places = sum(bucket["rows"] * bucket["row_tokens"] for bucket in buckets)
    padding = 1 - sum(bucket["tokens"] for bucket in buckets) / places
    of = f"of {len(lengths)} lengths from {min(lengths)} to {max(lengths)}" if len(lengths) > 1 else "of one length"
    return f"padding: {padding:.2%} of all tokens, in rows {of}"


def _small(manifest: dict[str, Any]) -> list[str]:
    """A warning for each split that does not fill one block."""
    return [
        f"warning: all text of the {name} split is {split['tokens']:,} tokens, less than one block of "
        f"{manifest['block_tokens']}; the rest of it is padding"
        for name, split in manifest["splits"].items()
        if "sets" in split and split["tokens"] + split["documents"] < manifest["block_tokens"] - 1
    ]


def _sets(train: dict[str, Any]) -> list[str]:
    """Size of each training set, where there are several."""
    named = [part for part in train.get("sets", []) if part["name"]]
    return [
        f"{'' if part['documents'] else 'warning: '}set {part['name']}: {part['documents']:,} documents, "
        f"{part['tokens']:,} tokens"
        for part in named
    ]


def _counts(name: str, counts: dict[str, int]) -> str:
    return f"{name}: " + ", ".join(f"{reason} {times:,}" for reason, times in counts.items())
