"""`Trainer`: a model's file, texts and options to a model that knows them."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import _core
from ..errors import ArgumentError, CancelledError, NanoError
from ..optim import Adam, Group, schedule
from .checkpoint import State, fingerprint, optimizer_state, read_state, write_checkpoint, write_model, write_tensors
from .data import Batch, Corpus, Order
from .documents import is_records
from .options import TrainOptions
from .setup import Setup, TrainMemory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..convert import Outtype

__all__ = ["DivergedError", "Step", "Trainer"]

_HELD_OUT_TOKENS = 65536
_SMOOTHING = 0.02
_PATIENCE = 50
_RECENT = 20  # steps that the speed is told of


class DivergedError(NanoError, ArithmeticError):
    """The loss or a gradient is not finite, or the loss has been far above what it was for long."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did."""

    step: int
    """Its number, from 1 on."""
    n_steps: int
    """In all."""
    epoch: float
    """How often all of the data has been read."""
    loss: float
    """Before the step, of its own sequences: nats a token."""
    held_out_loss: float | None
    """After the step; None where there was no evaluation."""
    rate: float
    norm: float
    """Of all gradients, before they were scaled down."""
    n_tokens: int
    """Read so far."""
    tokens_per_second: float
    """Of the last steps, evaluations left out."""
    seconds: float
    """Since the run began, or went on."""
    is_saved: bool
    """Was a checkpoint written after it?"""


class Trainer:
    """Trains the model in a GGUF file, or an adapter for it, on texts.

        with Trainer("model.gguf", ["text.txt"], options=TrainOptions(n_steps=100), checkpoint="run.ckpt") as trainer:
            for step in trainer.run():
                print(step.step, step.loss, step.held_out_loss)
            trainer.save("trained.gguf")

    `model`: its weights, F32, F16 or BF16, are the parameters. With `adapter`, a GGUF file of LoRA matrices
    (`nanollm.lora`), these are, and the model's weights may be of any type. `data`, `held_out`: files as
    `nanollm.train.documents` describes them; without `held_out` the end of the data is held out. `checkpoint`: the file
    that the run's state is written to; None: nowhere. `template`: chat template for a model that has none, as
    `Model.chat` takes it. `memo`: what the caller wants to find again in a checkpoint, as JSON can hold it.

    The same options, data and files give the same bits, for any number of threads, and whether the run is unbroken or
    was resumed. All memory of a step is allocated here; what does not fit is refused with MemoryLimitError before a
    weight is read. One thread at a time; only `stop` may come from another.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        data: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        adapter: str | os.PathLike[str] | None = None,
        held_out: Sequence[str | os.PathLike[str]] = (),
        options: TrainOptions | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        template: str | None = None,
        memo: Mapping[str, Any] | None = None,
        check_memory: bool = True,
        _state: State | None = None,
    ) -> None:
        options = options or TrainOptions()
        files = [os.fspath(name) for name in ([data] if isinstance(data, str | os.PathLike) else data)]
        self._is_stopping = False
        self._session: _core.Session | None = None
        self._checkpoint = checkpoint
        self._saved_step: int | None = None if _state is None else _state.step
        self._setup = Setup(model, adapter, template)
        options = replace(options, n_ctx=self._setup.n_ctx(options.n_ctx))
        self.memory: TrainMemory = self._setup.plan(options, check=check_memory)
        """What the run takes, kind by kind."""
        self._held_files = [os.fspath(name) for name in held_out]
        self._read_data(files, options)
        self.options: TrainOptions = options.resolved(self._n_learnt)
        """With numbers in place of None; `memory` says what became of `recompute`."""
        self._session = _core.Session(self.memory.plan)
        self._adam = Adam(
            self._session,
            rate=self.options.rate,
            beta1=self.options.beta1,
            beta2=self.options.beta2,
            eps=self.options.eps,
            decay=self.options.decay,
            max_norm=self.options.max_norm,
            groups=[Group(max_dims=1, decay=0.0)],
        )
        self._order = Order(self._n_learnt, self.options.seed)
        self._recent: deque[tuple[int, float]] = deque(maxlen=_RECENT)
        self._seconds = 0.0
        fresh = State(
            step=0,
            options=self.options,
            files=files,
            held_out_files=self._held_files,
            digest=self._corpus.digest,
            template=template,
            base=None if adapter is None else os.fspath(model),
            base_fingerprint=None if adapter is None else fingerprint(self._setup.model),
            n_tokens=0,
            mean_loss=None,
            lowest_loss=None,
            n_high=0,
            level=_core.cpu_level(),
            memo=dict(memo or {}),
        )
        self._state = fresh if _state is None else self._resumed(fresh, _state)

    @classmethod
    def resume(
        cls,
        checkpoint: str | os.PathLike[str],
        *,
        model: str | os.PathLike[str] | None = None,
        data: Sequence[str | os.PathLike[str]] | None = None,
        held_out: Sequence[str | os.PathLike[str]] | None = None,
        memo: Mapping[str, Any] | None = None,
        check_memory: bool = True,
        **changes: Any,
    ) -> Self:
        """Goes on where a checkpoint was written; what follows has the same bits as an unbroken run.

        `model`, `data`, `held_out`: where the files are now; None: where they were. `memo`: goes over what is there.
        `changes`: options to have otherwise. Raises ArgumentError for options that would make it another run, for
        other data and for another model.
        """
        with _core.Gguf.open(checkpoint) as gguf:
            state = read_state(gguf)
        if state.base is None and model is not None:
            raise ArgumentError(f"{checkpoint}: holds the model itself: another cannot be named")
        return cls(
            checkpoint if state.base is None else model or state.base,
            state.files if data is None else data,
            adapter=None if state.base is None else checkpoint,
            held_out=state.held_out_files if held_out is None else held_out,
            options=state.options.changed(changes),
            checkpoint=checkpoint,
            template=state.template,
            memo=state.memo | dict(memo or {}),
            check_memory=check_memory,
            _state=state,
        )

    def close(self) -> None:
        """Gives the memory back; closing twice is fine."""
        if self._session is not None:
            self._session.close()
        self._setup.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ what there is

    @property
    def step(self) -> int:
        """Steps done."""
        return self._state.step

    @property
    def n_steps(self) -> int:
        """Steps in all."""
        return self.options.n_steps or 0

    @property
    def memo(self) -> Mapping[str, Any]:
        return self._state.memo

    @property
    def n_parameters(self) -> int:
        return sum(param.value.size for param in self._core_session.params)

    @property
    def n_tokens(self) -> int:
        """Of the data."""
        return self._corpus.n_tokens

    @property
    def n_sequences(self) -> tuple[int, int]:
        """(learnt, held out)"""
        return self._n_learnt, len(self._held_out)

    @property
    def notes(self) -> list[str]:
        """What a user should know of the data."""
        return self._notes

    @property
    def saved_step(self) -> int | None:
        """The step of the last checkpoint."""
        return self._saved_step

    # ------------------------------------------------------------------ training

    def run(self) -> Iterator[Step]:
        """Trains, and gives an account of each step.

        Ends after the last step, or soon after `stop`: the step at work is undone. A checkpoint is written as often as
        the options say, at the end and after `stop`. Raises DivergedError when the loss is lost; then the last
        checkpoint stays as it is, and so do the parameters of the last step.
        """
        while self.step < self.n_steps and not self._is_stopping:
            step = self._advance()
            if step is None:
                break
            yield step
        if self._is_stopping:
            self._is_stopping = False
            if self._checkpoint is not None and self._saved_step != self.step:
                self.save_checkpoint()

    def stop(self) -> None:
        """Ends `run`. May be called from any thread."""
        self._is_stopping = True
        if self._session is not None:
            self._session.cancel()

    def evaluate(self) -> float:
        """The mean loss over what is held out, in nats a token; NaN where nothing is."""
        total, n = 0.0, 0
        for first in range(0, len(self._held_out), self.options.batch_size):
            batch = self._held_out_corpus.batch(self._held_out[first : first + self.options.batch_size])
            total += self._loss(self._core_session.loss, batch, 1.0)
            n += batch.n_targets
        return total / n if n else math.nan

    def _advance(self) -> Step | None:
        """One step; None where it was cancelled."""
        options, start = self.options, time.perf_counter()
        number = self.step + 1
        try:
            batches = self._batches()
            n_targets = sum(batch.n_targets for batch in batches)
            self._core_session.zero_gradients()
            weight = 1 / max(1, n_targets)
            loss = sum(self._loss(self._core_session.gradient, batch, weight) for batch in batches)
            guard = self._guarded(number, loss)
            factor = schedule(options.schedule, number, options.warmup or 0, self.n_steps, floor=options.floor)
            norm = self._update(number, factor)
            n_tokens = sum(len(batch.tokens) for batch in batches)
            self._state = replace(guard, step=number, n_tokens=self._state.n_tokens + n_tokens)
            seconds = time.perf_counter() - start
            self._recent.append((n_tokens, seconds))
            self._seconds += seconds
            held_out = self.evaluate() if self._is_due(options.eval_every) and len(self._held_out) else None
        except CancelledError:
            if not self._is_stopping:
                raise
            if self.step < number:
                return None
            held_out = None
        is_good = self._state.n_high == 0 or number == self.n_steps
        is_saved = self._is_due(options.save_every) and is_good and self._checkpoint is not None
        if is_saved:
            self.save_checkpoint()
        return Step(
            step=number,
            n_steps=self.n_steps,
            epoch=number * self._per_step / self._n_learnt,
            loss=loss,
            held_out_loss=held_out,
            rate=options.rate * factor,
            norm=norm,
            n_tokens=self._state.n_tokens,
            tokens_per_second=sum(n for n, _ in self._recent) / sum(t for _, t in self._recent),
            seconds=self._seconds,
            is_saved=is_saved,
        )

    # ------------------------------------------------------------------ parts of a step

    @property
    def _core_session(self) -> _core.Session:
        if self._session is None:
            raise ArgumentError("the trainer was never made")
        return self._session

    @property
    def _per_step(self) -> int:
        return self.options.batch_size * self.options.accumulate

    def _is_due(self, every: int | None) -> bool:
        return bool(every) and (self.step % (every or 1) == 0 or self.step == self.n_steps)

    def _batches(self) -> list[Batch]:
        """The next step's sequences."""
        first, size = self.step * self._per_step, self.options.batch_size
        starts = range(first, first + self._per_step, size)
        return [self._corpus.batch([self._order[k] for k in range(start, start + size)]) for start in starts]

    def _loss(self, run: Callable[..., float], batch: Batch, weight: float) -> float:
        """The sum of a batch's losses, each token's times `weight`; `run`: the session's gradient or loss."""
        arguments = (batch.tokens, batch.slots, batch.targets, np.full(len(batch.tokens), weight, np.float32))
        try:
            return run(*arguments)
        except CancelledError:
            if self._is_stopping:
                raise
        return run(*arguments)  # that cancellation came when nothing was at work: it was for what has ended since

    def _update(self, number: int, factor: float) -> float:
        """Changes the parameters; the gradients' norm."""
        try:
            return self._adam.step(factor)
        except ArgumentError as error:  # a gradient is not finite
            raise self._lost(number, str(error)) from None

    def _guarded(self, number: int, loss: float) -> State:
        """The state with what is remembered of losses. Raises DivergedError where they say that all is lost."""
        state = self._state
        if not math.isfinite(loss):
            raise self._lost(number, f"the loss is {loss}")
        mean = loss if state.mean_loss is None else state.mean_loss + _SMOOTHING * (loss - state.mean_loss)
        lowest = mean if state.lowest_loss is None else min(mean, state.lowest_loss)
        n_high = state.n_high + 1 if loss > lowest + max(1.0, lowest / 2) else 0
        if n_high >= _PATIENCE:
            raise self._lost(number, f"for {n_high} steps the loss, now {loss:.4g}, has been far above {lowest:.4g}")
        return replace(state, mean_loss=mean, lowest_loss=lowest, n_high=n_high)

    def _lost(self, number: int, what: str) -> DivergedError:
        kept = "no checkpoint was written"
        if self._checkpoint is not None and self._saved_step is not None:
            kept = f"{os.fspath(self._checkpoint)} is of step {self._saved_step}"
        return DivergedError(f"step {number}: {what}; {kept}; a lower rate or a longer warm-up may help")

    # ------------------------------------------------------------------ data

    def _read_data(self, files: list[str], options: TrainOptions) -> None:
        """Tokenises the files, and decides which sequences are learnt and which held out."""
        self._corpus = self._read(files, options)
        self._held_out_corpus = self._corpus
        self._notes = list(self._corpus.notes)
        n = len(self._corpus)
        if self._held_files:
            self._held_out_corpus = self._read(self._held_files, options)
            self._notes += [f"held out: {note}" for note in self._held_out_corpus.notes]
            self._n_learnt, self._held_out = n, range(len(self._held_out_corpus))
            return
        most = max(1, _HELD_OUT_TOKENS // self._corpus.n_ctx)
        self._n_learnt = n - min(round(options.held_out * n), most, n - 1)
        self._held_out = range(self._n_learnt, n)

    def _read(self, files: list[str], options: TrainOptions) -> Corpus:
        return Corpus(
            files,
            self._setup.tokenizer,
            options.n_ctx or 0,
            n_vocab=self._setup.n_vocab,
            template=self._setup.template() if any(is_records(name) for name in files) else None,
            separator=options.separator,
            pack=options.pack,
        )

    # ------------------------------------------------------------------ files

    def save(self, path: str | os.PathLike[str], outtype: Outtype = "f32") -> None:
        """Writes the model with its parameters as they are, in type `outtype` as `nanollm.convert` has them, or the
        adapter, f32; atomically."""
        gguf, values = self._setup.trained, self._values()
        if self._setup.adapter is None:
            write_model(path, gguf, values, outtype, self._setup.named_template)
        else:
            write_tensors(path, gguf, values)

    def save_checkpoint(self) -> None:
        """Writes the run's state to its checkpoint, atomically. Raises ArgumentError where the run has none."""
        if self._checkpoint is None:
            raise ArgumentError("checkpoint: the trainer was made without one")
        write_checkpoint(self._checkpoint, self._setup.trained, self._values(), self._state, self._moments)
        self._saved_step = self.step

    def _values(self) -> dict[str, NDArray[np.float32]]:
        """Every parameter as it is: the session's own memory."""
        return {param.name: param.value for param in self._core_session.params}

    @property
    def _moments(self) -> NDArray[np.float32]:
        """The optimiser's state in the session's memory."""
        _, _, state = self._core_session.flat()
        return state.view(np.float32)

    def _resumed(self, fresh: State, state: State) -> State:
        """A state that was read, when it goes with the files and this machine."""
        if state.digest != fresh.digest:
            raise ArgumentError(f"{', '.join(fresh.files)}: other data than the run began with")
        if state.base_fingerprint != fresh.base_fingerprint:
            raise ArgumentError(f"{fresh.base}: another model than the run began with")
        if state.level != fresh.level:
            self._notes.append(f"begun with kernels of level {state.level}, goes on with {fresh.level}: other bits")
        moments = self._moments
        moments[:] = optimizer_state(self._setup.trained, moments.size)
        self._adam.n_steps = state.step
        return replace(
            state,
            options=self.options,
            files=fresh.files,
            held_out_files=fresh.held_out_files,
            base=fresh.base,
            level=fresh.level,
            memo=fresh.memo,
        )
