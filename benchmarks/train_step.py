"""Forward, backward and optimizer step of language models of equal width and depth, ours and others, side by side.

    python benchmarks/train_step.py --threads 1 --lengths 512 --work mlm

builds every contender in one process, lets them take turns, and prints medians, ratios to plain reformer-pytorch and
the share of the machine's own matrix-product rate that each one's needed products reach. README.md says what is
compared and how it is counted.
"""

import argparse
import importlib.metadata
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from comparison import BASELINE, CONTENDERS, Row, add_memory, compare
from timing import Spread, limit_memory
from workload import Workload

QUIET_SHARE = 0.95  # of one thread's time; below that something else had the processor


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table, followed by what was left out and why."""
    lines = [
        "| contender | parameters | first loss | s a step | spread | CPU s | tokens/s | ratio | MFU | peak MiB |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if row.seconds:
            seconds = Spread.of(row.seconds)
            cells = [
                row.name,
                f"{row.parameters:,}",
                f"{row.first_loss:.3f}",
                f"{seconds.median:.3f}",
                f"{seconds.range:.0%}",
                f"{Spread.of(row.cpu_seconds).median:.3f}",
                f"{row.tokens_per_second:,.0f}",
                "" if row.ratio is None else f"{row.ratio:.2f}",
                f"{row.utilisation:.0%}",
                "" if row.peak_mib is None else f"{row.peak_mib:,.0f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    notes = [f"{row.name}: {row.note}" for row in rows if row.note]
    skipped = [f"left out: {row.name}: {row.reason}" for row in rows if row.reason]
    return "\n".join([*lines, "", *notes, *skipped])


def machine(device: torch.device) -> dict[str, str]:
    """What was measured on and with, without any name of the machine."""
    packages = ("torch", "reformer-pytorch", "transformers")
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()}
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {
        "processor": f"{processor}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        **{name: importlib.metadata.version(name) if name in installed else "not installed" for name in packages},
    }


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="numbers of CPU threads (default 1)")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"), default=["fp32"], help="bf16 is autocast")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512], help="tokens of a block (default 512)")
    parser.add_argument("--work", nargs="+", choices=("mlm", "causal"), default=["mlm"])
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a step, in whole blocks, at least one")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each contender (default 5)")
    parser.add_argument("--budget-seconds", type=float, default=120.0, help="leave out what takes longer a step")
    parser.add_argument("--memory", action="store_true", help="measure peak memory too, each in its own process")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    for name, default in (("d-model", 512), ("depth", 6), ("num-heads", 8), ("vocab-size", 8000), ("ff-mult", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> list[dict[str, object]]:
    """Run what the command line asks for; one record a contender and combination comes back."""
    args = arguments(argv)
    device = torch.device(args.device)
    environment = machine(device)
    print(", ".join(f"{name}: {value}" for name, value in environment.items()))
    records: list[dict[str, object]] = []
    for work, precision, threads, length in itertools.product(args.work, args.precision, args.threads, args.lengths):
        torch.set_num_threads(threads)
        load = Workload(
            work=work,
            precision=precision,
            num_blocks=max(1, args.tokens // length),
            block_tokens=length,
            d_model=args.d_model,
            depth=args.depth,
            num_heads=args.num_heads,
            vocab_size=args.vocab_size,
            ff_mult=args.ff_mult,
        )
        print(f"\n{work}, {load.num_blocks} x {length} tokens, {precision}, threads: {threads}", flush=True)
        rows, given = compare(load, args.only, args.repeats, args.budget_seconds, device)
        if args.memory:
            add_memory(rows, load, threads, device)
        rate = given.matmul_flops_per_second
        print(f"matrix products of {load.num_tokens} x {load.d_model} x {4 * load.d_model}: {rate / 1e9:,.1f} GFLOP/s")
        if threads == 1 and args.device == "cpu" and given.cpu_share < QUIET_SHARE:
            share = f"{given.cpu_share:.0%} of the time"
            print(f"the machine was busy: the contenders had its processor {share}; compare their CPU s")
        print()
        print(table(rows), flush=True)
        shared = {**asdict(load), "threads": threads, **given._asdict()}
        records += [{**shared, **asdict(row)} for row in rows]
        if args.json:
            args.json.write_text(json.dumps({"machine": environment, "baseline": BASELINE, "rows": records}, indent=1))
    return records


if __name__ == "__main__":
    limit_memory()
    main()
