"""A preparation's manifest in lines for people."""

from typing import Any


def report_lines(manifest: dict[str, Any]) -> list[str]:
    """What came in, what was dropped and mended by reason, and what came out; the first line says most."""
    splits, corpus = manifest["splits"], manifest["corpus"]
    totals = {
        name: sum(split[name] for split in splits.values()) for name in ("documents", "tokens", "bytes", "blocks")
    }
    valid = splits["valid"]
    lines = [
        f"{totals['documents']:,} documents ({valid['documents']:,} for validation), {totals['bytes'] / 1e6:,.1f} MB, "
        f"{totals['tokens']:,} tokens of a vocabulary of {manifest['vocab_size']:,}, {totals['blocks']:,} blocks of "
        f"{manifest['block_tokens']} ({valid['blocks']:,} for validation)"
    ]
    lines += [_counts(name, corpus[name]) for name in ("dropped", "fixed") if corpus[name]]
    unknown = sum(split["unknown_tokens"] for split in splits.values())
    if unknown:
        lines.append(f"unknown: {unknown:,} tokens are [UNK] ({unknown / totals['tokens']:.3%})")
    return lines


def _counts(name: str, counts: dict[str, int]) -> str:
    return f"{name}: " + ", ".join(f"{reason} {times:,}" for reason, times in counts.items())
