"""Teacher -> one hidden state a token and layer: the ways there, behind one face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from qwen25.runtime.errors import InputError
from qwen25.states.architecture import Unsupported
from qwen25.states.checkpoint import Checkpointing
from qwen25.states.device import Computing, fast_dtype
from qwen25.states.gguf_weights import GgufWeights
from qwen25.states.jobs import Frame, Position, Request, TokenIds
from qwen25.states.plan import Plan
from qwen25.states.streaming import StreamedStates
from qwen25.states.weights import Weights
from qwen25.states.whole_model import WholeModelStates
from qwen25.teacher.teacher import Teacher


class TokenStates(Protocol):
    """A way to a teacher's states: streamed, by the whole model, or by an embedding model's own pooling.

    ``token_ids`` are the teacher's ids, shape (tokens,); or a list of ids for each word, whose state is
    that of its last token.
    """

    @property
    def computing(self) -> Computing:
        """How they are computed."""

    @property
    def width(self) -> int:
        """The width of a layer's states."""

    @property
    def weights_sha256(self) -> str:
        """The SHA-256 of all weights that are read."""

    def plan(self, token_ids: TokenIds, checkpointing: Checkpointing | None = None) -> Plan:
        """Return what ``compute`` would cost with the same arguments, after timing a batch.

        :raises InputError: if an item has no tokens.
        :raises PipelineError: if weights are missing or damaged.
        """

    def compute(self, token_ids: TokenIds, checkpointing: Checkpointing | None = None) -> dict[int, np.ndarray]:
        """Compute the states of all tokens, each in its own sequence; the plan is logged before the work starts.

        :param checkpointing: where a run that was cut off goes on, for the ways that can. The result lives in
            the folder's files: call ``discard_checkpoint`` once it is used.
        :return: layer -> float32 array of shape (tokens, width).
        :raises InputError: if an item has no tokens, or a token no embedding.
        :raises PipelineError: if memory or disk runs out, weights are missing or damaged, or a state is not finite.
        """


def token_states(
    teacher: Teacher,
    frame: Frame,
    layers: Sequence[int],
    computing: Computing | None = None,
    at: Position = "token",
    *,
    fast: bool = False,
) -> StreamedStates | WholeModelStates:
    """Return the way to a teacher's hidden states, each token in its own sequence between the frame's tokens.

    Decoders are streamed, one layer at a time; anything else is loaded whole.

    :param layers: which states: 0 is the input embedding, ``teacher.layers`` the last, normed one.
    :param computing: the device, number format and batch size (None: on the CPU, in float32, what suits it).
    :param fast: where decoders are streamed, take the device's fastest number format for products, which their states
        bear, in place of ``computing``'s.
    :param at: read the state at the ``token`` or at the ``last`` position, behind the suffix.
    :raises InputError: if a layer does not exist, or the teacher's configuration makes no sense.
    :raises PipelineError: if weights are missing or damaged.
    """
    wanted = tuple(sorted(set(layers)))
    if not wanted or not 0 <= wanted[0] <= wanted[-1] <= teacher.layers:
        raise InputError(f"layers must be between 0 and {teacher.layers}, not {list(layers)}")
    request = Request(frame, wanted, computing or Computing(), at)
    try:
        weights = GgufWeights(teacher) if teacher.gguf else Weights(teacher)
    except Unsupported as reason:
        return WholeModelStates(teacher, request, str(reason))
    if fast:
        computing = replace(request.computing, dtype=fast_dtype(request.computing.device))
        request = replace(request, computing=computing)
    return StreamedStates(teacher, weights, request)
