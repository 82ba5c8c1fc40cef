"""Preparation against Hugging Face datasets and the bare tokenizers library, and how fast prepared rows are read.

    python benchmarks/prepare.py --corpus ../shared/data/kowiki --kind kowiki [--processes 2] [--repeats 5]
    python benchmarks/prepare.py --memory 2000           peak memory of every process on a generated file of 2,000 MB

All sides use the same trained tokenizer. Ours reads and cleans the files, encodes, packs and writes shards, as Ray
tasks; `datasets` gets the clean documents in an Arrow file, tokenizes and groups them as its language model examples
do; the bare library gets the clean documents in memory, on all cores, and gives encodings away. Megabytes are of clean
UTF-8 text. Runs alternate, and figures are medians.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

BLOCK_TOKENS = 512
SAMPLE_MIB = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, help="files to prepare")
    parser.add_argument("--kind", default="kowiki", help="the corpus's kind (default: kowiki)")
    parser.add_argument("--tokenizer", default="wordpiece", help="the tokenizer's kind (default: wordpiece)")
    parser.add_argument("--vocab-size", type=int, default=16000)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", type=int, metavar="MB", help="prepare a generated file of that size instead")
    options = parser.parse_args()
    if options.memory:
        measure_memory(options.memory, options.processes)
    elif options.corpus is None:
        parser.error("name a corpus, or ask for --memory")
    else:
        measure_speed(options)


def measure_speed(options: argparse.Namespace) -> None:
    """Print the table of all sides."""
    with tempfile.TemporaryDirectory(prefix="reforge-bench-") as place:
        sides = Sides(options, Path(place))
        seconds: dict[str, list[float]] = {name: [] for name in sides.runs}
        for repeat in range(options.repeats + 1):  # the first one warms up
            for name, run in sides.runs.items():
                started = time.perf_counter()
                run(repeat)
                if repeat:
                    seconds[name].append(time.perf_counter() - started)
        ours = statistics.median(seconds["reforge"])
        print(f"{sides.num_bytes / 1e6:,.1f} MB of clean text, {options.processes} processes, {options.tokenizer}")
        print(f"{'':34}{'seconds':>9}{'MB/s':>8}{'reforge is':>12}")
        for name, times in seconds.items():
            median = statistics.median(times)
            print(f"{name:34}{median:9.2f}{sides.num_bytes / 1e6 / median:8.2f}{median / ours:11.2f}x")
        for name, rate in sides.reading_rates().items():
            print(f"reading back, {name:20}{rate:14,.0f} tokens/s")


class Sides:
    """The same work done by each side; `runs` take the number of the repeat."""

    def __init__(self, options: argparse.Namespace, place: Path) -> None:
        import ray

        from reforge.batches import Data
        from reforge.corpora import CORPORA, Tally
        from reforge.distributed.tasks import RayExecutor
        from reforge.tokenizers import TOKENIZERS

        self.options, self.place = options, place
        corpus = CORPORA[options.kind](path=options.corpus.absolute())
        self.texts = [document.text for document in corpus.documents(Tally())]
        self.num_bytes = sum(len(text.encode()) for text in self.texts)
        trained = TOKENIZERS[options.tokenizer](vocab_size=options.vocab_size, sample_mib=SAMPLE_MIB).train(self.texts)
        self.tokenizer_file = place / "tokenizer.json"
        trained.save(str(self.tokenizer_file))
        self.tokenizer = trained
        self.data = Data(corpus=corpus, block_tokens=BLOCK_TOKENS)
        self.tokenizer_options = TOKENIZERS["existing"](path=self.tokenizer_file)
        ray.init(address="local", num_cpus=options.processes, include_dashboard=False, log_to_driver=False)
        self.executor = RayExecutor(options.processes, start=lambda: None)
        self.dataset = self._dataset()
        self.runs: dict[str, Callable[[int], object]] = {
            "reforge": self._reforge,
            "datasets.map and group_texts": self._datasets,
            "tokenizers encode_batch, all cores": lambda repeat: self.tokenizer.encode_batch(self.texts),
            "the same, without offsets": lambda repeat: self.tokenizer.encode_batch_fast(self.texts),
        }

    def reading_rates(self) -> dict[str, float]:
        """Tokens a second of batches of 64 rows read in training's order by this process."""
        from reforge.batches import open_prepared

        folder = next((self.place / "prepared-0").glob("shards-*"))
        samples = open_prepared(folder, self.data).train
        tokens = 64 * BLOCK_TOKENS
        rates = []
        for start in range(0, 1000, 200):
            started = time.perf_counter()
            for step in range(start, start + 200):
                samples.read(samples.rows_at(seed=1, step=step, global_batch=tokens), seed=1)
            rates.append(200 * tokens / (time.perf_counter() - started))
        return {"one process": statistics.median(rates)}

    def _reforge(self, repeat: int) -> None:
        from reforge.batches import prepare

        root = self.place / f"prepared-{repeat}"
        prepare(self.data, self.tokenizer_options, root, lambda line: None, self.executor)
        if repeat:
            shutil.rmtree(root)

    def _dataset(self) -> Any:
        """The documents as `datasets` holds them: an Arrow file on disk."""
        import datasets

        datasets.disable_progress_bars()
        path = str(self.place / "documents")
        datasets.Dataset.from_dict({"text": self.texts}).save_to_disk(path)
        return datasets.load_from_disk(path)

    def _datasets(self, repeat: int) -> None:
        from transformers import PreTrainedTokenizerFast

        fast = PreTrainedTokenizerFast(tokenizer_object=self.tokenizer, unk_token="[UNK]", pad_token="[PAD]")
        fast.model_max_length = 1 << 30  # no warnings about long texts
        processes, folder = self.options.processes, self.place / f"arrow-{repeat}"
        folder.mkdir()
        tokenized = self.dataset.map(
            partial(tokenize, fast),
            batched=True,
            num_proc=processes,
            remove_columns=["text"],
            cache_file_name=str(folder / "tokens.arrow"),
        )
        tokenized.map(group, batched=True, num_proc=processes, cache_file_name=str(folder / "blocks.arrow"))
        shutil.rmtree(folder)


def tokenize(tokenizer: Any, batch: dict[str, list[str]]) -> Any:
    """Token ids, and the marks of special tokens that masking needs."""
    return tokenizer(batch["text"], return_special_tokens_mask=True)


def group(batch: dict[str, list[list[int]]]) -> dict[str, list[list[int]]]:
    """Each column's lists joined and cut into blocks of one length; the rest at the end is left out."""
    joined = {name: list(chain.from_iterable(lists)) for name, lists in batch.items()}
    length = len(joined["input_ids"]) // BLOCK_TOKENS * BLOCK_TOKENS
    return {
        name: [values[start : start + BLOCK_TOKENS] for start in range(0, length, BLOCK_TOKENS)]
        for name, values in joined.items()
    }


def measure_memory(megabytes: int, processes: int) -> None:
    """Prepare a generated file with `jobs/prepare.py` and print the peak resident memory of each process."""
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory(prefix="reforge-bench-") as place:
        file = Path(place) / "generated.jsonl"
        generate(file, megabytes * 10**6)
        spec = Path(place) / "spec.yaml"
        spec.write_text(
            f"kind: prepare\n"
            f"data: {{corpus: {{kind: jsonl, path: {file}}}}}\n"
            f"tokenizer: {{kind: wordpiece, vocab_size: 16000}}\n"
            f"scale: {{prepare_workers: {processes}}}\n"
            f"run: {{prepared: {place}/prepared}}\n"
        )
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, str(root / "jobs" / "prepare.py"), str(spec)])
        peaks: dict[str, int] = {}
        watcher = threading.Thread(target=watch, args=(process, peaks))
        watcher.start()
        process.wait()
        watcher.join()
        seconds = time.perf_counter() - started
        print(
            f"{file.stat().st_size / 1e6:,.0f} MB in {seconds:,.0f} s: {file.stat().st_size / 1e6 / seconds:.1f} MB/s"
        )
        for name, peak in sorted(peaks.items(), key=lambda item: -item[1]):
            print(f"{peak / 2**20:8,.0f} MiB  {name}")


def generate(file: Path, num_bytes: int) -> None:
    """JSON lines of words of two alphabets with the frequencies of natural language (Zipf), never the same twice."""
    draw = np.random.default_rng(1)
    letters = [*"abcdefghijklmnoprstuvwy", *(chr(code) for code in range(0xAC00, 0xAC00 + 588 * 19, 97))]
    words = np.array(["".join(draw.choice(letters, draw.integers(1, 8))) for _ in range(200_000)])
    with file.open("w", encoding="utf-8") as lines:
        while lines.tell() < num_bytes:
            chosen = words[np.minimum(draw.zipf(1.1, 50_000), len(words)) - 1]
            for part in np.split(chosen, np.sort(draw.integers(0, len(chosen), 100))):
                lines.write(json.dumps({"text": " ".join(part)}, ensure_ascii=False) + "\n")


def watch(process: "subprocess.Popen[bytes]", peaks: dict[str, int]) -> None:
    """Note the largest resident memory, without pages of mapped files, of every process below `process`."""
    while process.poll() is None:
        for pid in [process.pid, *children(process.pid)]:
            try:
                name = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
                fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            except OSError:
                continue
            worker = name.startswith("ray::_run_task") or pid == process.pid
            if worker and "RssAnon" in fields:
                label = f"{'driver' if pid == process.pid else 'worker'} {pid}"
                peaks[label] = max(peaks.get(label, 0), int(fields["RssAnon"].split()[0]) * 1024)
        time.sleep(0.2)


def children(pid: int) -> Iterator[int]:
    """All processes below one."""
    for entry in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found = [int(child) for child in entry.read_text().split()]
        except OSError:
            continue
        for child in found:
            yield child
            yield from children(child)


if __name__ == "__main__":
    main()
