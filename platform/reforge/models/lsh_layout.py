"""What one call of LSH attention visits: which keys each bucket-sized chunk of the sorted sequence sees.

    sorted sequence of round r    | chunk 0 | chunk 1 | ... | chunk n - 1 |   (padding behind, in chunks of its own)
    a query of chunk c sees         chunk c and chunk c - 1;
    a query of chunk 0 sees         chunk 0 and the last chunk of round r - 1; in round 0, of the last round

Shapes: B batch, T tokens, H heads, D width of a head, E half of D, N batch x heads, R rounds, S tokens padded to whole
pairs of chunks, F = N x S positions of all rows in one list, K chunks of a round in all rows, P places of a chunk.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from reforge.models.lsh_hashing import whole_buckets


@dataclass(frozen=True)
class Layout:
    """The order of visits and the masks of one call; all that attention needs besides its inputs."""

    order_NRS: Tensor
    """Position at each place of each round's sorted sequence, int32."""
    mask_BT: Tensor | None
    """True at real tokens; None where all are real."""
    lengths_B: Tensor | None
    """The number of real tokens of each row, int64; None where all are real."""
    bucket_size: int
    causal: bool
    rotary: Tensor | None
    """[1, T, D]: sines of the D / 2 angles, then their cosines, as reformer-pytorch gives them."""
    all_pairs: bool = False
    """Every chunk sees every chunk: exact attention, which only the kernel does this way; one round, in order."""

    @property
    def num_slots(self) -> int:
        """S, the tokens of a row with its padding."""
        return self.order_NRS.shape[2]

    @property
    def num_chunks_N(self) -> Tensor:
        """Each row's own number of chunks, what it is padded to left out."""
        if self.lengths_B is None:
            return self.order_NRS.new_full(self.order_NRS.shape[:1], self.num_slots // self.bucket_size).long()
        num_chunks_B = whole_buckets(self.lengths_B, self.bucket_size)
        return num_chunks_B.repeat_interleave(len(self.order_NRS) // len(num_chunks_B))

    def flatten(self, x_BTHD: Tensor) -> Tensor:
        """A contiguous [F, D] of one row after the other, zeros at the places past T."""
        padded = F.pad(x_BTHD, (0, 0, 0, 0, 0, self.num_slots - x_BTHD.shape[1]))
        return padded.transpose(1, 2).reshape(-1, x_BTHD.shape[-1])

    def unflatten(self, x_FD: Tensor, like_BTHD: Tensor) -> Tensor:
        """The inverse of `flatten`, with zeros at what the mask hides, as `like_BTHD` in type."""
        B, T, H, D = like_BTHD.shape
        x_BTHD = x_FD.view(B, H, self.num_slots, D)[:, :, :T].transpose(1, 2)
        if self.mask_BT is not None:
            x_BTHD = x_BTHD * self.mask_BT[:, :, None, None]
        return x_BTHD.to(like_BTHD.dtype)

    def real_BS(self, batch_size: int, num_tokens: int) -> Tensor:
        """True at real tokens, False at padding."""
        mask_BT = self.mask_BT
        if mask_BT is None:
            mask_BT = torch.ones(batch_size, num_tokens, dtype=torch.bool, device=self.order_NRS.device)
        return F.pad(mask_BT, (0, self.num_slots - num_tokens), value=False)

    def chunks(self, round_index: int) -> tuple[Tensor, Tensor]:
        """What the chunks of one round hold and see, as indices into F: own [K, P], own and looked-back [K, 2 P]."""
        own_NCP = self._places(round_index)
        # Round 0 looks at round -1, the last.
        before_NCP = self._places(round_index - 1)
        last_N11 = self.num_chunks_N[:, None, None] - 1
        last_N1P = before_NCP[:, -1:] if self.lengths_B is None else before_NCP.take_along_dim(last_N11, dim=1)
        back_NCP = torch.cat((last_N1P, own_NCP[:, :-1]), dim=1)
        return own_NCP.flatten(0, 1), torch.cat((own_NCP, back_NCP), dim=2).flatten(0, 1)

    def _places(self, round_index: int) -> Tensor:
        order_NS = self.order_NRS[:, round_index].long()
        base_N1 = torch.arange(len(order_NS), device=order_NS.device)[:, None] * self.num_slots
        return (order_NS + base_N1).view(len(order_NS), -1, self.bucket_size)

    def rotate(self, x_BTHD: Tensor, inverse: bool = False) -> Tensor:
        """Rotary positions applied to pairs of neighbouring values, or taken back."""
        if self.rotary is None:
            return x_BTHD
        angles_T1E = self.rotary[0, : x_BTHD.shape[1], None].to(x_BTHD.dtype)
        sin, cos = angles_T1E.chunk(2, dim=-1)
        sin = -sin if inverse else sin
        even, odd = x_BTHD[..., 0::2], x_BTHD[..., 1::2]
        return torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
