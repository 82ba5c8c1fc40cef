"""One attention layer's core, forward and backward: ours on each path, reformer-pytorch's LSH, and exact attention.

    python benchmarks/attention.py --threads 1 --lengths 512 1024 2048 4096 --memory

All start from queries-and-keys and values [1, T, H, D] as a linear map gives them, and take turns in one process. The
table has the median microseconds a token and head, and how many times as fast as reformer-pytorch's `LSHAttention`
that is; with --clock cpu of processor time, which other programs on the machine disturb less. `crossover` is the length
below which exact attention, through torch or by our kernel, is the faster one, between two measured lengths by
interpolation, also as a multiple of the keys that a query visits by hashing, num_hashes x 2 bucket_size.
"""

import argparse
import functools
import math
import platform
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from reformer_pytorch.reformer_pytorch import TOKEN_SELF_ATTN_VALUE
from reformer_pytorch.reformer_pytorch import LSHAttention as LibraryAttention
from timing import Spread, in_child, peak_mib, take_turns
from torch import Tensor

from reforge.models import lsh_kernel
from reforge.models.lsh_attention import LSHAttention
from reforge.models.lsh_exact import attend_exactly

PLAIN, EXACT, EXACT_KERNEL = "reformer-pytorch", "exact", "exact kernel"
LSH_PATHS = ("operators", "kernel")
Attention = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """What is the same in all rows of the tables."""

    bucket_size: int = 64
    num_hashes: int = 4
    head_width: int = 64
    precision: str = "fp32"
    threads: int = 1
    repeats: int = 5
    tokens_x_heads: int = 16384
    device: str = "cpu"
    clock: str = "wall"


def library_attention(setting: Setting, causal: bool) -> Attention:
    """reformer-pytorch's, with the merging of heads that its layer does around it."""
    attention = LibraryAttention(bucket_size=setting.bucket_size, n_hashes=setting.num_hashes, causal=causal)

    def attend(qk_BTHD: Tensor, v_BTHD: Tensor) -> Tensor:
        B, T, H, D = qk_BTHD.shape
        qk, v = (x.transpose(1, 2).reshape(B * H, T, D) for x in (qk_BTHD, v_BTHD))
        out: Tensor = attention(qk, v)[0]
        return out.view(B, H, T, D).transpose(1, 2)

    return attend


def exact_attention(num_tokens: int, like: Tensor, causal: bool) -> Attention:
    """Shared queries and keys through torch's fused kernel; the bias is made once, as by a model of many layers."""
    bias_TT = torch.zeros(num_tokens, num_tokens, dtype=like.dtype, device=like.device)
    if causal:
        bias_TT.fill_(-torch.inf).triu_(1)
    bias_TT.fill_diagonal_(TOKEN_SELF_ATTN_VALUE)

    def attend(qk_BTHD: Tensor, v_BTHD: Tensor) -> Tensor:
        q, v = qk_BTHD.transpose(1, 2), v_BTHD.transpose(1, 2)
        k = F.normalize(q, dim=-1).type_as(q)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias_TT).transpose(1, 2)

    return attend


def contender(name: str, setting: Setting, num_tokens: int, num_heads: int, causal: bool) -> Callable[[], None]:
    """Forward and backward of one contender over inputs of its own."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[setting.precision]
    shape = (1, num_tokens, num_heads * setting.head_width)
    inputs = [torch.randn(shape, device=setting.device).to(dtype).requires_grad_() for _ in range(2)]
    if name == PLAIN:
        attend = library_attention(setting, causal)
    elif name == EXACT:
        attend = exact_attention(num_tokens, inputs[0], causal)
    elif name == EXACT_KERNEL:
        attend = functools.partial(attend_exactly, causal=causal)
    else:
        size = {"block_tokens": num_tokens, "bucket_size": setting.bucket_size, "num_hashes": setting.num_hashes}
        attend = LSHAttention(**size, causal=causal, backend=name)

    def step() -> None:
        qk, v = (x.unflatten(2, (num_heads, setting.head_width)) for x in inputs)
        out = attend(qk, v)
        out.backward(out.detach())

    return step


def measure(setting: Setting, num_tokens: int, causal: bool, names: list[str]) -> dict[str, Spread]:
    """Microseconds a token and head of each contender, taking turns."""
    num_heads = max(1, min(8, setting.tokens_x_heads // num_tokens))
    steps = {name: contender(name, setting, num_tokens, num_heads, causal) for name in names}
    for step in steps.values():
        step()
    times = take_turns(steps, setting.repeats, torch.device(setting.device))
    per_token = 1e6 / (num_tokens * num_heads)
    return {name: Spread.of([getattr(t, setting.clock) * per_token for t in taken]) for name, taken in times.items()}


def crossover(lengths: list[int], exact: list[float], lsh: list[float]) -> float | None:
    """The length at which exact attention becomes slower than LSH; None where that is not between those measured."""
    gaps = [math.log(a / b) for a, b in zip(exact, lsh, strict=True)]
    for i in range(1, len(gaps)):
        if gaps[i - 1] < 0 <= gaps[i]:
            share = -gaps[i - 1] / (gaps[i] - gaps[i - 1])
            return math.exp(math.log(lengths[i - 1]) * (1 - share) + math.log(lengths[i]) * share)
    return None


def print_times(setting: Setting, lengths: list[int], causal: bool, names: list[str]) -> None:
    print(
        f"\n{'causal' if causal else 'bidirectional'}: microseconds a token and head (times as fast as {PLAIN}) ±spread"
    )
    print(f"{'tokens':>7}" + "".join(f"{name:>24}" for name in names))
    rows = []
    for num_tokens in lengths:
        row = measure(setting, num_tokens, causal, names)
        rows.append(row)
        plain = row[PLAIN].median
        cells = (f"{s.median:8.2f} ({plain / s.median:4.1f} x) ±{s.range:4.0%}" for s in row.values())
        print(f"{num_tokens:>7}" + "".join(f"{cell:>24}" for cell in cells), flush=True)
    for name in names:
        if name in LSH_PATHS:
            exact = [min(row[which].median for which in (EXACT, EXACT_KERNEL) if which in row) for row in rows]
            lsh = [row[name].median for row in rows]
            print(f"crossover of exact and {name}: {describe(crossover(lengths, exact, lsh), setting)}")


def describe(crossing: float | None, setting: Setting) -> str:
    keys = setting.num_hashes * 2 * setting.bucket_size
    if crossing is None:
        return "not between these lengths"
    return f"{crossing:.0f} tokens = {crossing / keys:.2f} x the {keys} keys that a query visits by hashing"


def peak(name: str, setting: Setting, num_tokens: int, causal: bool) -> float:
    """MiB that one head needs, inputs and biases included; to be run in a fresh process."""
    torch.set_num_threads(setting.threads)
    contender(name, setting, 2 * setting.bucket_size, 1, causal)()  # libraries set themselves up
    return peak_mib(lambda: contender(name, setting, num_tokens, 1, causal)(), torch.device(setting.device))


def print_memory(setting: Setting, lengths: list[int], names: list[str]) -> None:
    print("\ncausal: peak MiB of one head, inputs and biases included")
    print(f"{'tokens':>7}" + "".join(f"{name:>24}" for name in names))
    for num_tokens in lengths:
        cells = (in_child(peak, name, setting, num_tokens, True) for name in names)
        print(f"{num_tokens:>7}" + "".join(f"{cell:>24.1f}" for cell in cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--memory", action="store_true", help="also the peak memory, each in a process of its own")
    for field in fields(Setting):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=field.default)
    arguments = vars(parser.parse_args())
    lengths, memory = sorted(arguments.pop("lengths")), arguments.pop("memory")
    setting = Setting(**arguments)
    torch.set_num_threads(setting.threads)
    torch.manual_seed(0)
    names = [PLAIN, EXACT, "operators"]
    if setting.device == "cpu" and lsh_kernel.is_available():
        names += ["kernel", EXACT_KERNEL]
    print(f"torch {torch.__version__} on {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}; {setting}")
    for causal in (True, False):
        print_times(setting, lengths, causal, names)
    if memory:
        print_memory(setting, lengths, names)


if __name__ == "__main__":
    main()
