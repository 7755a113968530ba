"""What is trained: a projection of the tokens' wide states with a weight a token, and then the rows themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from qwen25.states.device import fast_dtype
from qwen25.store.quantisation import Sharing, length_factors
from qwen25.training.bags import Bags

_CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Start:
    """Where training begins: what a table is computed from without any training.

    The untrained table is ``wide @ projection * weights[:, None]``.

    :ivar wide: the tokens' whitened states of all layers side by side; shape (tokens, width), float16 or float32.
    :ivar projection: onto the model's dimensions; shape (width, dims).
    :ivar weights: the tokens' weights, above 0; shape (tokens,).
    """

    wide: np.ndarray
    projection: np.ndarray
    weights: np.ndarray


class ProjectedTable(nn.Module):
    """A table as a projection of wide states, with a weight a token: few numbers, so that few pairs teach them.

    A text's tokens are summed up before they are projected: a batch has far fewer texts than tokens.
    """

    def __init__(self, start: Start) -> None:
        """Begin at the untrained table."""
        super().__init__()
        self._wide: torch.Tensor
        self.register_buffer("_wide", torch.from_numpy(start.wide), persistent=False)
        self.projection = nn.Parameter(torch.from_numpy(start.projection.astype(np.float32)))
        self.log_weights = nn.Parameter(torch.from_numpy(np.log(start.weights).astype(np.float32)))

    def forward(self, bags: Bags) -> torch.Tensor:
        """Return the texts' vectors, not scaled; shape (texts, dims)."""
        device = self.projection.device
        # Only the rows that the texts need become float32, each once.
        needed, places = (torch.from_numpy(a).to(device) for a in np.unique(bags.rows, return_inverse=True))
        weights = self.log_weights.index_select(0, needed).exp().index_select(0, places)
        starts = torch.from_numpy(bags.starts[:-1]).to(device)
        wide = self._wide.index_select(0, needed).float()
        sums = functional.embedding_bag(places, wide, starts, mode="sum", per_sample_weights=weights)
        # Most of a step's time; parameters and sums stay float32, and what is held out is judged in float32.
        fast = fast_dtype(device.type) if torch.is_grad_enabled() else torch.float32
        with torch.autocast(device.type, fast, enabled=fast != torch.float32):
            return (sums @ self.projection).float()

    def vectors(self) -> np.ndarray:
        """Return the table as it stands; float32, shape (tokens, dims)."""
        projection, weights = self.projection.detach(), self.log_weights.detach().exp()
        out = np.empty((len(self._wide), projection.shape[1]), dtype=np.float32)
        for start in range(0, len(out), _CHUNK_ROWS):
            rows = slice(start, start + _CHUNK_ROWS)
            out[rows] = (self._wide[rows].float() @ projection * weights[rows, None]).cpu().numpy()
        return out


class FreeTable(nn.Module):
    """A table whose every row is free: what words mean beyond what one projection can say.

    Tokens that share a row move it together, and keep their lengths relative to it.
    """

    def __init__(self, vectors: np.ndarray, sharing: Sharing | None = None) -> None:
        """Begin at a table; float32, shape (tokens, dims)."""
        super().__init__()
        self._row_of = self._factors = None
        if sharing is not None:
            self._row_of = sharing.row_of.astype(np.int64)
            self._factors = length_factors(vectors, vectors[sharing.kept], sharing.row_of)
        self.rows = nn.Parameter(torch.from_numpy(vectors.copy() if sharing is None else vectors[sharing.kept]))

    def forward(self, bags: Bags) -> torch.Tensor:
        """Return the texts' vectors, not scaled; shape (texts, dims)."""
        tokens, weights = bags.rows.astype(np.int64), None
        if self._row_of is not None and self._factors is not None:
            tokens, weights = self._row_of[tokens], torch.from_numpy(self._factors[tokens]).to(self.rows.device)
        # Each row once: the gradient of 100,000 places is gathered where it is dense, and only then sparse.
        needed, places = np.unique(tokens, return_inverse=True)
        device = self.rows.device
        found = functional.embedding(torch.from_numpy(needed).to(device), self.rows, sparse=True)
        places, starts = (torch.from_numpy(a).to(device) for a in (places, bags.starts[:-1]))
        return functional.embedding_bag(places, found, starts, mode="sum", per_sample_weights=weights)

    def vectors(self) -> np.ndarray:
        """Return the table as it stands; float32, shape (tokens, dims)."""
        rows = self.rows.detach().cpu().numpy()
        if self._row_of is None or self._factors is None:
            return rows.copy()
        return rows[self._row_of] * self._factors[:, None]
