"""What to compute: sequences in groups of one length, and how they are cut into waves and batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from qwen25.runtime.errors import InputError, as_input_error
from qwen25.states.architecture import Architecture
from qwen25.states.device import Computing
from qwen25.teacher.teacher import Teacher

#: The bytes of one number of a state on its way through the layers, whatever the products are computed in.
STATE_BYTES = 4
#: The most bytes of states that are taken through the layers at once; more tokens go in waves.
WAVE_BYTES = 3 << 30
#: How many bytes the widest intermediate result of a batch may take on the CPU. Matrix products
#: level off at about 1,000 rows; more only costs memory.
CPU_SCRATCH_BYTES = 96 << 20
CPU_ROWS, CUDA_ROWS = 2048, 16384


class Group(NamedTuple):
    """Sequences of one length.

    :ivar rows: their places in the result; shape (sequences,).
    :ivar ids: their token ids; shape (sequences, length).
    """

    rows: np.ndarray
    ids: np.ndarray


def group_by_length(token_ids: np.ndarray | Sequence[Sequence[int]]) -> list[Group]:
    """Sort single tokens (a 1-d array) or lists of token ids into groups of one length, short ones first.

    :raises InputError: if a list is empty.
    """
    if isinstance(token_ids, np.ndarray):
        ids = token_ids.astype(np.int64)[:, None]
        return [Group(np.arange(len(ids)), ids)] if len(ids) else []
    by_length: dict[int, list[int]] = {}
    for row, sequence in enumerate(token_ids):
        by_length.setdefault(len(sequence), []).append(row)
    if 0 in by_length:
        raise InputError(f"item {by_length[0][0]} has no tokens")
    return [
        Group(np.array(rows), np.array([token_ids[row] for row in rows], dtype=np.int64))
        for _, rows in sorted(by_length.items())
    ]


def count_rows(groups: Iterable[Group]) -> int:
    """Return the number of sequences."""
    return sum(len(group.rows) for group in groups)


def count_positions(groups: Iterable[Group]) -> int:
    """Return the number of positions in all sequences."""
    return sum(group.ids.size for group in groups)


def with_suffix(groups: list[Group], suffix: Sequence[int]) -> list[Group]:
    """Append the suffix's token ids to each sequence."""
    return [
        Group(group.rows, np.hstack([group.ids, np.tile(np.array(suffix, dtype=np.int64), (len(group.ids), 1))]))
        for group in groups
    ]


@dataclass(frozen=True)
class Job:
    """What to compute; the states are read at the last position of each sequence.

    :ivar prefix: the token ids before each sequence.
    :ivar layers: which states, ascending: 0 is the embedding, the architecture's depth the normed last.
    """

    groups: list[Group]
    prefix: tuple[int, ...]
    layers: tuple[int, ...]
    computing: Computing

    @property
    def depth(self) -> int:
        """The number of layers that have to be computed."""
        return self.layers[-1]

    @property
    def tokens(self) -> int:
        """The number of sequences, which is that of the result's rows."""
        return count_rows(self.groups)

    @property
    def positions(self) -> int:
        """The number of positions that go through the layers, the prefix not counted."""
        return count_positions(self.groups)

    def batch(self, architecture: Architecture, positions: int) -> int:
        """Return how many sequences of this many positions to compute at a time.

        Never measured: a run that goes on from a checkpoint must cut the same batches, because the
        size of a matrix product can change the last bit of its result.
        """
        if self.computing.batch_size is not None:
            return self.computing.batch_size
        rows = CUDA_ROWS
        if not self.computing.on_cuda:
            wide = 2 * architecture.intermediate * self.computing.dtype.itemsize
            rows = min(CPU_ROWS, max(256, CPU_SCRATCH_BYTES // wide // 256 * 256))
        return max(1, rows // positions)

    def waves(self, architecture: Architecture) -> list[list[Group]]:
        """Cut the groups into waves whose states take at most ``WAVE_BYTES``."""
        room = max(1, WAVE_BYTES // (architecture.hidden * STATE_BYTES))
        waves: list[list[Group]] = []
        left = 0
        for group in self.groups:
            start, length = 0, group.ids.shape[1]
            while start < len(group.rows):
                if left < length:
                    waves.append([])
                    left = max(room, length)
                take = min(left // length, len(group.rows) - start)
                waves[-1].append(Group(group.rows[start : start + take], group.ids[start : start + take]))
                left -= take * length
                start += take
        return waves


TokenIds = np.ndarray | Sequence[Sequence[int]]
Position = Literal["token", "last"]


@dataclass(frozen=True)
class Frame:
    """The token ids around each token while its state is computed."""

    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()


def frame_for(teacher: Teacher, prefix: str, suffix: str = "") -> Frame:
    """Return what stands around each token: the texts for a decoder, [CLS] and [SEP] for an encoder."""
    tokenizer = teacher.tokenizer()
    with as_input_error(f"teacher {teacher.name}: its tokenizer is damaged", "download it again"):
        if teacher.is_causal:
            before, behind = (tuple(tokenizer.encode(text, add_special_tokens=False).ids) for text in (prefix, suffix))
            return Frame(before, behind)
        around = tokenizer.encode("", add_special_tokens=True).ids
        return Frame(prefix=tuple(around[:1]), suffix=tuple(around[1:]))


@dataclass(frozen=True)
class Request:
    """Which states of a teacher are wanted, whatever the tokens.

    :ivar layers: ascending; see :class:`Job`.
    :ivar at: whether the state is read at the token (a word's last one) or at the frame's last position.
    """

    frame: Frame
    layers: tuple[int, ...]
    computing: Computing
    at: Position

    def job(self, token_ids: TokenIds) -> Job:
        """Return what to compute for these tokens.

        :raises InputError: if an item has no tokens.
        """
        groups = group_by_length(token_ids)
        # A causal model's token does not see what follows: a suffix matters only where it is read.
        if self.at == "last":
            groups = with_suffix(groups, self.frame.suffix)
        return Job(groups, self.frame.prefix, self.layers, self.computing)


def in_place(job: Job, waves: list[list[Group]], checkpoint: bool) -> bool:
    """Whether the states can live in the array that the deepest layer's are returned in."""
    plain = not job.computing.on_cuda and not checkpoint
    return plain and len(waves) == 1 and len(job.groups) == 1 and job.groups[0].ids.shape[1] == 1
