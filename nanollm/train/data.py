"""From documents to batches: tokens on disk, windows of them in a seeded order, epoch after epoch."""

from __future__ import annotations

import hashlib
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import _core
from ..errors import ArgumentError, FileError, FormatError
from .documents import Document, read

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..chat import ChatTemplate

__all__ = ["Batch", "Corpus", "Order"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences side by side, as `nano_session_gradient` takes them: i32 (n_tokens) each."""

    tokens: NDArray[np.int32]
    slots: NDArray[np.int32]
    """Number of the sequence that a token belongs to."""
    targets: NDArray[np.int32]
    """The token that follows; negative where it is not learnt."""

    @property
    def n_targets(self) -> int:
        return int(np.count_nonzero(self.targets >= 0))


class _Encoder:
    """Documents to ids; an id that is not learnt as ~id, which is negative."""

    def __init__(self, tokenizer: _core.Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._bos, self._eos = tokenizer.bos, tokenizer.eos
        # SentencePiece puts a space before a text. Where a text only goes on, it stands before a line end, and both
        # are taken away again.
        start = tokenizer.encode("\n", False)
        self._start = start if len(start) > 1 and tokenizer.spelling(start[0]) == "▁" else []

    def parts(self, document: Document) -> Iterator[list[int]]:
        """The ids of a document piece by piece, between the tokens that begin and end one."""
        is_first = True
        for piece in document.pieces:
            if not piece.text:
                continue
            special = document.is_rendered
            ids = self._tokenizer.encode(piece.text, False, special) if is_first else self._go_on(piece.text, special)
            if is_first and self._tokenizer.adds_bos and self._bos is not None and ids[:1] != [self._bos]:
                yield [~self._bos]
            n_learnt = len(ids) if piece.is_learnt else 0
            if document.is_rendered and piece.is_learnt:
                n_learnt = self._answer_length(ids)
            ids[n_learnt:] = [~token for token in ids[n_learnt:]]
            yield ids
            is_first = False
        if not is_first and not document.is_rendered and self._eos is not None:
            yield [self._eos]

    def _go_on(self, text: str, parse_special: bool) -> list[int]:
        n = len(self._start)
        ids = self._tokenizer.encode("\n" + text, False, parse_special) if n else []
        if n and ids[:n] == self._start:
            return ids[n:]
        return self._tokenizer.encode(text, False, parse_special)

    def _answer_length(self, ids: list[int]) -> int:
        """Up to the token that ends the turn: what a template writes behind it is never asked for."""
        return next((i + 1 for i, token in enumerate(ids) if self._tokenizer.is_end(token)), len(ids))


class Corpus:
    """The tokens of all documents in a temporary file, mapped, and the sequences that they are cut into.

    `ids`: i32, an id that is not learnt as ~id. `sequences`: i64 (n, 2), each the place of its first token and how many
    tokens are read; the one behind them is the last to be predicted. Texts lie end to end and are cut every `n_ctx`
    tokens where `pack` stands, else each begins a sequence of its own. Examples (conversations, prompts with
    answers) always do, and are cut off after `n_ctx` tokens. `notes` says what was left out.
    """

    def __init__(
        self,
        files: Iterable[str | os.PathLike[str]],
        tokenizer: _core.Tokenizer,
        n_ctx: int,
        *,
        n_vocab: int,
        template: ChatTemplate | None = None,
        separator: str | None = None,
        pack: bool = True,
    ) -> None:
        self.n_ctx = n_ctx
        self.notes: list[str] = []
        self._n_vocab = n_vocab
        self._encoder = _Encoder(tokenizer)
        self._file = tempfile.TemporaryFile(prefix="nanollm-")  # noqa: SIM115 (lives as long as the mapping)
        self._hash = hashlib.sha256()
        self._n_ids = self._n_long = self._n_empty = self._n_documents = 0
        self._table = array("q")
        self._run: int | None = None  # where the texts began that lie end to end
        names = [os.fspath(name) for name in files]
        for name in names:
            for document in read(name, template=template, separator=separator):
                self._add(document, pack)
        self._end_run()
        self._finish(", ".join(names))

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents, those that begin and end one included."""
        return self._n_ids

    @property
    def digest(self) -> str:
        """A hash of the tokens and how they are cut."""
        return self._hash.hexdigest()

    def __len__(self) -> int:
        return len(self.sequences)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """The sequences of these numbers side by side."""
        rows = [self.sequences[i].tolist() for i in numbers]
        ids = np.concatenate([self.ids[start : start + n] for start, n in rows])
        targets = np.concatenate([self.ids[start + 1 : start + n + 1] for start, n in rows])
        slots = np.repeat(np.arange(len(rows), dtype=np.int32), [n for _, n in rows])
        return Batch(np.where(ids < 0, ~ids, ids), slots, targets)

    # ------------------------------------------------------------------ reading

    def _add(self, document: Document, pack: bool) -> None:
        self._n_documents += 1
        if document.is_example:
            self._end_run()
            start, ids = self._n_ids, [token for part in self._encoder.parts(document) for token in part]
            self._write(ids, document)
            self._n_long += len(ids) - 1 > self.n_ctx
            if any(token >= 0 for token in ids[1 : self.n_ctx + 1]):
                self._table.extend((start, min(len(ids) - 1, self.n_ctx)))
            else:
                self._n_empty += 1
            return
        if self._run is None:
            self._run = self._n_ids
        for part in self._encoder.parts(document):
            self._write(part, document)
        if not pack:
            self._end_run()

    def _write(self, ids: list[int], document: Document) -> None:
        part = np.array(ids, dtype=np.int32)
        if part.size and max(int(part.max()), ~int(part.min())) >= self._n_vocab:
            raise FormatError(f"{document.where}: a token beyond the {self._n_vocab} that the model has logits for")
        data = part.tobytes()
        self._hash.update(data)
        with self._keeping():
            self._file.write(data)
        self._n_ids += len(part)

    @contextmanager
    def _keeping(self) -> Iterator[None]:
        """Names the folder that has no room."""
        try:
            yield
        except OSError as error:
            raise FileError(
                f"{tempfile.gettempdir()} (TMPDIR), which keeps the data's tokens: {error.strerror}"
            ) from None

    def _end_run(self) -> None:
        """Cuts the texts since the last example into windows."""
        last = self._n_ids - 1  # it is predicted, and predicts nothing
        if self._run is not None:
            for start in range(self._run, last, self.n_ctx):
                self._table.extend((start, min(self.n_ctx, last - start)))
        self._run = None

    def _finish(self, where: str) -> None:
        self.sequences: NDArray[np.int64] = np.array(self._table, dtype=np.int64).reshape(-1, 2)
        self._hash.update(self.sequences.tobytes())
        if self._n_long:
            self.notes.append(
                f"{self._n_long} of {self._n_documents} examples are longer than {self.n_ctx} tokens: cut off there"
            )
        if self._n_empty:
            self.notes.append(f"{self._n_empty} of {self._n_documents} examples leave nothing to learn: left out")
        if not len(self.sequences):
            why = "".join(f"; {note}" for note in self.notes)
            raise ArgumentError(f"{where or 'no files'}: nothing to learn from{why}")
        with self._keeping():
            self._file.flush()
        self.ids: NDArray[np.int32] = np.memmap(self._file, dtype=np.int32, mode="r")


class Order:
    """The order in which `n` sequences are read: each once an epoch, every epoch in another order that `seed` decides.

    Counting goes on from epoch to epoch: sequence `k` of all that are read is `order[k]`.
    """

    def __init__(self, n: int, seed: int) -> None:
        self._n, self._seed = n, seed
        self._epoch = -1
        self._numbers: NDArray[np.int64] = np.empty(0, np.int64)

    def __getitem__(self, k: int) -> int:
        epoch, i = divmod(k, self._n)
        if epoch != self._epoch:
            # Raw numbers of the generator, whose stream is promised to stay as it is.
            keys = np.random.Philox(key=[self._seed, epoch]).random_raw(self._n)
            self._numbers, self._epoch = np.argsort(keys, kind="stable"), epoch
        return int(self._numbers[i])
