"""LSH attention written out, all rounds at once: the readable path, and the only one with every option.

It keeps the scores of all rounds, [R x T x 2 buckets], for the backward pass. Dropout and counted duplicates need
them; everything else goes over the faster paths.

Shapes: B batch, T tokens, H heads, D width of a head, N batch x heads, R rounds, S tokens padded to whole pairs of
chunks, C chunks of all rounds of a row, P places of a chunk.
"""

import torch
import torch.nn.functional as F
from reformer_pytorch.reformer_pytorch import TOKEN_SELF_ATTN_VALUE
from torch import Tensor

from reforge.models.lsh_layout import Layout


def attend(
    qk_BTHD: Tensor,
    v_BTHD: Tensor,
    layout: Layout,
    buckets_NRS: Tensor | None,
    count_duplicates: bool,
    dropout: float,
) -> Tensor:
    """Attention [B, T, H, D]; `buckets_NRS`, where given, keeps a query within its bucket.

    `count_duplicates` divides the weight of a key by the number of its visits, as reformer-pytorch counts them.
    """
    N, R, S = layout.order_NRS.shape
    D = qk_BTHD.shape[-1]
    order_NX = layout.order_NRS.flatten(1).long()
    visits = Visits(layout, buckets_NRS)
    q_NSD = layout.flatten(layout.rotate(qk_BTHD)).view(N, S, D)
    q_NCPD, v_NCPD = (
        visits.sort(x.take_along_dim(order_NX[..., None], dim=1)) for x in (q_NSD, layout.flatten(v_BTHD).view(N, S, D))
    )
    k_NCPD = visits.look_back(F.normalize(q_NCPD, dim=-1).type_as(q_NCPD))
    # Softmax statistics want more than 16 bits.
    scores = (q_NCPD @ k_NCPD.mT).to(torch.promote_types(q_NCPD.dtype, torch.float32)) * D**-0.5
    scores = visits.mask(scores, qk_BTHD)
    if count_duplicates:
        scores = scores - torch.log(visits.count_duplicates() + 1e-9)
    lse_NCP1 = scores.logsumexp(dim=-1, keepdim=True)
    weights = F.dropout(torch.exp(scores - lse_NCP1), dropout).to(v_NCPD.dtype)
    out_NCPD = weights @ visits.look_back(v_NCPD)
    inverse_NX1 = visits.inverse_NX[..., None]
    out_NRSD = out_NCPD.flatten(1, 2).take_along_dim(inverse_NX1, dim=1).view(N, R, S, D)
    lse_NRS1 = lse_NCP1.flatten(1, 2).take_along_dim(inverse_NX1, dim=1).view(N, R, S, 1)
    return layout.unflatten((out_NRSD * lse_NRS1.softmax(dim=1)).sum(dim=1).view(N * S, D), qk_BTHD)


class Visits:
    """Who sees whom in the sorted sequence of all rounds, [N, C, P] queries by [N, C, 2 P] keys."""

    def __init__(self, layout: Layout, buckets_NRS: Tensor | None) -> None:
        self.layout = layout
        N, R, S = layout.order_NRS.shape
        self.shape_RS = (R, S)
        num_chunks = S // layout.bucket_size
        device = layout.order_NRS.device
        order_NRS = layout.order_NRS.long()
        self.position_NCP = self.sort(order_NRS.flatten(1))
        self.buckets_NRS = buckets_NRS
        place_NRS = torch.arange(R * S, device=device).view(1, R, S).expand(N, R, S)
        self.inverse_NX = torch.empty_like(order_NRS).scatter_(2, order_NRS, place_NRS).flatten(1)
        # What each chunk looks back at: the one before, and the first of a round at the row's last of the round before.
        back_NRC = torch.arange(R * num_chunks, device=device).view(1, R, num_chunks).repeat(N, 1, 1) - 1
        before_R = (torch.arange(R, device=device) - 1) % R
        back_NRC[:, :, 0] = before_R * num_chunks + layout.num_chunks_N[:, None] - 1
        self.back_NC = back_NRC.flatten(1)

    def sort(self, x_NX: Tensor) -> Tensor:
        """The sorted sequence of all rounds cut into chunks."""
        return x_NX.reshape(len(x_NX), -1, self.layout.bucket_size, *x_NX.shape[2:])

    def look_back(self, x_NCP: Tensor) -> Tensor:
        """Each chunk's values and those of the chunk that it looks back at, [N, C, 2 P, ...]."""
        back = self.back_NC.view(*self.back_NC.shape, *[1] * (x_NCP.dim() - 2))
        return torch.cat((x_NCP, x_NCP.take_along_dim(back, dim=1)), dim=2)

    def mask(self, scores_NCPX: Tensor, like_BTHD: Tensor) -> Tensor:
        """Scores with the lowest number at what a query may not see, and -5e4 at the query's own position."""
        layout, lowest = self.layout, -torch.finfo(scores_NCPX.dtype).max
        query, key = self.position_NCP[..., None], self.look_back(self.position_NCP)[:, :, None]
        real_NS = layout.real_BS(*like_BTHD.shape[:2]).repeat_interleave(like_BTHD.shape[2], dim=0)
        real_NX = real_NS.take_along_dim(self.position_NCP.flatten(1), dim=1)
        hidden = ~self.look_back(self.sort(real_NX))[:, :, None]
        if layout.causal:
            hidden = hidden | (query < key)
        scores_NCPX = scores_NCPX.masked_fill(hidden, lowest).masked_fill(query == key, TOKEN_SELF_ATTN_VALUE)
        if self.buckets_NRS is not None:
            own = self._buckets_NCP()
            scores_NCPX = scores_NCPX.masked_fill(own[..., None] != self.look_back(own)[:, :, None], lowest)
        return scores_NCPX

    def _buckets_NCP(self) -> Tensor:
        """Bucket of each place; those of different rounds differ."""
        assert self.buckets_NRS is not None
        R, S = self.shape_RS
        apart_R1 = torch.arange(R, device=self.back_NC.device)[:, None] * (S + 1)
        sorted_NRS = self.buckets_NRS.take_along_dim(self.layout.order_NRS.long(), dim=2)
        return self.sort((sorted_NRS + apart_R1).flatten(1))

    def count_duplicates(self) -> Tensor:
        """How often each query meets each key in all rounds.

        As in reformer-pytorch, a meeting over the border of two rounds is not counted.
        """
        R, S = self.shape_RS
        num_chunks = self.back_NC.shape[1]
        chunk_NX = self.inverse_NX // self.layout.bucket_size
        after_NC = torch.arange(1, num_chunks + 1, device=chunk_NX.device).repeat(len(chunk_NX), 1)
        every = num_chunks // R
        first_NR = after_NC[:, ::every] - 1
        after_NC.scatter_(1, self.back_NC[:, ::every], first_NR)
        after_NX = after_NC.take_along_dim(chunk_NX, dim=1)
        if self.buckets_NRS is not None:
            bucket_NX = self.buckets_NRS.flatten(1).long() * num_chunks
            chunk_NX, after_NX = chunk_NX + bucket_NX, after_NX + bucket_NX
        order_NX = self.layout.order_NRS.flatten(1).long()
        count = torch.zeros((), dtype=torch.long, device=chunk_NX.device)
        for at_NS, next_NS in zip(torch.split(chunk_NX, S, dim=1), torch.split(after_NX, S, dim=1), strict=True):
            at, after = (self.sort(x.take_along_dim(order_NX, dim=1)) for x in (at_NS, next_NS))
            query = at[..., None]
            count = count + (query == self.look_back(at)[:, :, None]) + (query == self.look_back(after)[:, :, None])
        return count
