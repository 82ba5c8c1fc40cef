"""Self-attention with shared queries and keys, over the parameters of reformer-pytorch's `LSHSelfAttention`.

    x -> qk, v -> [local heads | exact or LSH heads] -> joined heads -> out

Shapes: B batch, T tokens, S tokens and memories, H heads, D d_model.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from reformer_pytorch import LSHSelfAttention
from torch import Tensor, nn

from reforge.models.exact_attention import QueryBlock, exact_attention, query_blocks, rotate
from reforge.models.lsh_attention import Hashes, LSHAttention
from reforge.models.lsh_exact import attend_exactly, can_attend_exactly

Attention = Literal["exact", "lsh"]


@dataclass(frozen=True)
class Seen:
    """What all layers' attention shares in one pass: real tokens, angles of rotary positions, what hides from whom.

    Without blocks exact attention runs in the CPU's own kernel.

    Made once a pass by `SharedQKAttention.look`, so that no layer makes them again.
    """

    mask_BT: Tensor | None
    rotary_1TD: Tensor | None
    blocks: list[QueryBlock] | None


class SharedQKAttention(nn.Module):
    """Takes the place of an `LSHSelfAttention` and its parameters, under the same names.

    Different from it: exact and local heads see rotary positions, dropout after the attention is not thrown away,
    padding changes no real token's output (but with LSH and memories at once, which run the library's own code).
    """

    def __init__(
        self,
        library: LSHSelfAttention,
        attention: Attention,
        block_tokens: int,
        post_attn_dropout: float,
        attend_across_buckets: bool,
        allow_duplicate_attention: bool,
    ) -> None:
        super().__init__()
        self.toqk, self.tov, self.to_out = library.toqk, library.tov, library.to_out
        self.mem_kv: nn.Parameter | None = library.mem_kv
        self.num_heads: int = library.heads
        self.num_memories: int = library.num_mem_kv
        self.num_local_heads: int = library.n_local_attn_heads
        self.attn_chunks: int = library.attn_chunks
        self.causal: bool = library.lsh_attn.causal
        self.dropout: float = library.lsh_attn.dropout.p
        self.post_attn_dropout = nn.Dropout(post_attn_dropout)
        self.local = library.local_attn if self.num_local_heads else None
        self.window = 2 * library.bucket_size
        self.library_lsh = library.lsh_attn if self.num_memories and attention == "lsh" else None
        self.lsh: LSHAttention | None = None
        if attention == "lsh":
            self.lsh = LSHAttention(
                block_tokens=block_tokens,
                bucket_size=library.bucket_size,
                num_hashes=library.lsh_attn.n_hashes,
                causal=self.causal,
                dropout=self.dropout,
                attend_across_buckets=attend_across_buckets,
                allow_duplicate_attention=allow_duplicate_attention,
                random_rotations_per_head=library.lsh_attn._random_rotations_per_head,
            )

    def look(self, x_BTD: Tensor, mask_BT: Tensor | None, rotary_1TD: Tensor | None) -> Seen:
        """What this pass's attention needs beside the tokens, the same for all layers."""
        blocks = None
        if self.lsh is None and not self._has_kernel(x_BTD):
            blocks = query_blocks(x_BTD.shape[1], self.causal, mask_BT, x_BTD, self.num_memories)
        return Seen(mask_BT, rotary_1TD, blocks)

    def _has_kernel(self, x_BTD: Tensor) -> bool:
        """Whether this machine's kernel computes this exact attention; the first call builds it."""
        plain = not self.num_memories and not (self.training and self.dropout)
        like_1THD = x_BTD.new_empty(1, 1, 1, self.toqk.out_features // self.num_heads)
        return plain and can_attend_exactly(like_1THD)

    def forward(self, x_BTD: Tensor, seen: Seen, hashes: dict[int, Hashes], places_N: Tensor | None = None) -> Tensor:
        """Attention [B, T, D], or [N, D] at places of the flattened batch.

        `hashes` is filled by the first run and read by one that repeats it.
        """
        num_tokens = x_BTD.shape[1]
        if self.mem_kv is not None:
            x_BTD = torch.cat([x_BTD, self.mem_kv.expand(len(x_BTD), -1, -1).to(x_BTD.dtype)], dim=1)
        qk_BSHD = self.toqk(x_BTD).unflatten(-1, (self.num_heads, -1))
        v_BSHD = self.tov(x_BTD).unflatten(-1, (-1, qk_BSHD.shape[-1])).expand_as(qk_BSHD)
        outs = []
        if self.num_local_heads:
            near = (slice(None), slice(num_tokens), slice(self.num_local_heads))
            outs.append(self._local(qk_BSHD[near], v_BSHD[near], seen))
        far = self.num_heads - self.num_local_heads
        qk_parts, v_parts = (
            t[:, :, self.num_local_heads :].chunk(min(self.attn_chunks, far), dim=2) for t in (qk_BSHD, v_BSHD)
        )
        for number, (qk, v) in enumerate(zip(qk_parts, v_parts, strict=True)):
            outs.append(self._far(qk, v, seen, hashes.setdefault(number, Hashes())))
        out_BTHD = outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)
        joined = out_BTHD.flatten(2)
        if places_N is not None:
            joined = joined.flatten(0, 1)[places_N]
        attended: Tensor = self.post_attn_dropout(self.to_out(joined))
        return attended

    def _far(self, qk_BSHD: Tensor, v_BSHD: Tensor, seen: Seen, hashes: Hashes) -> Tensor:
        if self.library_lsh is not None:
            return self._library(qk_BSHD, v_BSHD, seen)
        if self.lsh is not None:
            out_BTHD: Tensor = self.lsh(qk_BSHD, v_BSHD, seen.mask_BT, seen.rotary_1TD, hashes)
            return out_BTHD
        if seen.blocks is None:
            return attend_exactly(qk_BSHD, v_BSHD, self.causal, seen.mask_BT, seen.rotary_1TD)
        if seen.rotary_1TD is not None:
            qk_BSHD = rotate(qk_BSHD, seen.rotary_1TD)
        return exact_attention(qk_BSHD, v_BSHD, seen.blocks, self.dropout if self.training else 0.0)

    def _local(self, qk_BTHD: Tensor, v_BTHD: Tensor, seen: Seen) -> Tensor:
        """Heads that see two windows around each token; the library's own, given what it ignores: the positions."""
        assert self.local is not None
        num_tokens = qk_BTHD.shape[1]
        if seen.rotary_1TD is not None:
            qk_BTHD = rotate(qk_BTHD, seen.rotary_1TD)
        padding = -num_tokens % self.window
        mask_BT = seen.mask_BT
        if padding and mask_BT is None:
            mask_BT = torch.ones(qk_BTHD.shape[:2], dtype=torch.bool, device=qk_BTHD.device)
        if mask_BT is not None:
            mask_BT = F.pad(mask_BT, (0, padding), value=False)
        qk_BHTD, v_BHTD = (F.pad(t, (0, 0, 0, 0, 0, padding)).transpose(1, 2) for t in (qk_BTHD, v_BTHD))
        out_BHTD: Tensor = self.local(qk_BHTD, qk_BHTD, v_BHTD, mask=mask_BT)
        return out_BHTD.transpose(1, 2)[:, :num_tokens]

    def _library(self, qk_BSHD: Tensor, v_BSHD: Tensor, seen: Seen) -> Tensor:
        """reformer-pytorch's own LSH attention: tokens padded so that they and the memories fill pairs of buckets."""
        assert self.library_lsh is not None
        batch_size, num_keys, num_heads, _ = qk_BSHD.shape
        num_tokens = num_keys - self.num_memories
        padding = -num_keys % self.window
        mask_BT = seen.mask_BT
        if mask_BT is None:
            mask_BT = torch.ones(batch_size, num_tokens, dtype=torch.bool, device=qk_BSHD.device)
        mask_BS = F.pad(F.pad(mask_BT, (0, padding), value=False), (0, self.num_memories), value=True)
        mask_NS = mask_BS.repeat_interleave(num_heads, dim=0)
        qk_NSD, v_NSD = (
            torch.cat([F.pad(t[:, :num_tokens], (0, 0, 0, 0, 0, padding)), t[:, num_tokens:]], dim=1)
            .transpose(1, 2)
            .flatten(0, 1)
            for t in (qk_BSHD, v_BSHD)
        )
        out_NTD, _, _ = self.library_lsh(
            qk_NSD, v_NSD, query_len=num_tokens + padding, input_mask=mask_NS, pos_emb=seen.rotary_1TD
        )
        out_BTHD: Tensor = torch.unflatten(out_NTD, 0, (batch_size, num_heads)).transpose(1, 2)
        return out_BTHD[:, :num_tokens]
