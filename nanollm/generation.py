"""`Generation`: the text that a model is writing, piece by piece."""

from __future__ import annotations

import operator
import os
import time
from array import array
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

from . import _core
from .errors import ArgumentError, CancelledError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ._types import SamplerParams
    from .model import Model

__all__ = ["FinishReason", "Generation", "GenerationOptions", "LogitsProcessor", "Timings"]

MAX_LOOKUP = 15
"""Most tokens of a draft: a step of at most 16 tokens adds up as steps of one do, so that drafts change no bit."""

FinishReason = Literal["stop", "length", "context", "cancelled"]
"""Why a generation ended: an end token or a stop text; `max_tokens`; the context is full; `cancel()`."""

LogitsProcessor = Callable[[Sequence[int], "NDArray[np.float32]"], "NDArray[np.float32] | None"]
"""Called before each draw with the tokens so far and their logits, f32 (n_vocab): changes those or returns others."""


class GenerationOptions(TypedDict, total=False):
    """What `Model.generate` and `Model.chat` take by keyword. Defaults of the sampler are the core's."""

    max_tokens: int | None
    """Tokens to generate; None: until the model ends the text or the context is full."""
    stop: Sequence[str]
    """Texts that end the generation; they are not part of it."""
    ignore_eos: bool
    """Never draw a token that ends the text."""
    logits_processor: LogitsProcessor | None
    lookup: int
    """Most tokens, 0 to 15, that a step tries out as the text's own repetition: the same text, in fewer steps where
    it repeats itself. What the model was opened with bounds it: `n_outputs` - 1 and `n_batch` - 1."""
    seed: int | None
    """None: a fresh one, told by `Generation.sampler_params`."""
    temperature: float
    """0: greedy."""
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    penalty_last_n: int
    """Tokens the penalties look back on; -1: the whole context."""
    mirostat: int
    """0, 1 or 2."""
    mirostat_tau: float
    mirostat_eta: float
    min_keep: int
    logit_bias: Mapping[int, float]
    """Token id: value added to its logit."""


@dataclass(slots=True)
class Timings:
    """Milliseconds and tokens of each phase. Those of several runs add up with ``+``."""

    load_ms: float = 0.0
    sample_ms: float = 0.0
    n_sample: int = 0
    prompt_ms: float = 0.0
    n_prompt: int = 0
    """Prompt tokens evaluated; those found in the KV cache cost nothing and are not among them."""
    n_cached: int = 0
    """Prompt tokens found in the KV cache."""
    eval_ms: float = 0.0
    n_eval: int = 0
    """Generated tokens evaluated, one a step but for those of drafts."""
    n_drafted: int = 0
    """Tokens that steps tried out (`lookup`) …"""
    n_accepted: int = 0
    """… and those of them that became text: each saved a step."""
    total_ms: float = 0.0

    def __add__(self, other: Timings) -> Timings:
        return Timings(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})

    def as_dict(self) -> dict[str, float]:
        return asdict(self)

    def table(self) -> str:
        """The block that is printed at the end of a run, a line a phase."""

        def line(name: str, ms: float, n: int | None = None, unit: str = "tokens") -> str:
            text = f"{name:>12} time = {ms:11.2f} ms"
            if n is not None:
                text += f" / {n:5d} {unit}"
            if n and ms > 0:
                text += f" ({ms / n:9.2f} ms per token, {1000 * n / ms:9.2f} tokens per second)"
            return text

        lines = [
            line("load", self.load_ms),
            line("sampling", self.sample_ms, self.n_sample, "runs  "),
            line("prompt eval", self.prompt_ms, self.n_prompt),
            line("eval", self.eval_ms, self.n_eval, "runs  "),
            line("total", self.total_ms, self.n_prompt + self.n_eval),
        ]
        if self.n_drafted:
            lines.append(f"{'lookup':>12}      = {self.n_drafted:8d} tokens drafted, {self.n_accepted} accepted")
        return "\n".join(lines)


class Generation(Iterator[str]):
    """Text being generated: an iterator of pieces, each of whole characters.

    Tokens are computed as pieces are asked for; `text` runs to the end and gives the whole. Several
    generations of one model may be open at a time: each finds the KV cache as another left it and evaluates
    what differs, so taking turns costs time and not correctness.
    """

    def __init__(self, model: Model, prompt_ids: list[int], options: GenerationOptions) -> None:
        self.prompt_ids = prompt_ids
        """The prompt's tokens."""
        self.ids: list[int] = []
        """The tokens drawn so far, among them the one that ended the text."""
        self.finish_reason: FinishReason | None = None
        """None until the end."""
        self.timings = Timings(load_ms=model.load_ms)
        self.sampler_params = _sampler_params(model, options)
        """The sampler's parameters, the seed among them."""
        self._model = model
        self._max_tokens = _max_tokens(options)
        self._ignore_eos = options.get("ignore_eos", False)
        limits = model.memory.limits
        self._lookup = _Lookup(prompt_ids, min(_most_drafted(options), limits.n_outputs - 1, limits.n_batch - 1))
        self._processor = options.get("logits_processor")
        self._sampler = _core.Sampler(model.n_vocab, self.sampler_params)
        self._stream = _TextStream(model._tokenizer, prompt_ids, options.get("stop", ()))
        self._cancelled = False
        self._n_cancels = model._n_cancels
        self._handed_out: list[str] = []
        self._pieces = self._run()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        piece = next(self._pieces)
        self._handed_out.append(piece)
        return piece

    @property
    def text(self) -> str:
        """The whole text; generates what is left of it."""
        for _ in self:
            pass
        return self.text_so_far

    @property
    def text_so_far(self) -> str:
        """The pieces handed out until now."""
        return "".join(self._handed_out)

    @property
    def ended_by_model(self) -> bool:
        """Whether the last token drawn is one that ends the text."""
        return bool(self.ids) and not self._ignore_eos and self._model._tokenizer.is_end(self.ids[-1])

    def cancel(self) -> None:
        """Ends the generation soon, even in the middle of a step. May be called from any thread."""
        self._cancelled = True
        self._model._session.cancel()

    def _is_cancelled(self) -> bool:
        return self._cancelled or self._model._n_cancels != self._n_cancels

    def close(self) -> None:
        """Ends the generation where it is."""
        self._pieces.close()
        self.finish_reason = self.finish_reason or "cancelled"

    def _run(self) -> Generator[str, None, None]:
        start = time.perf_counter()
        last_n = self.sampler_params.penalty_last_n
        for token in self.prompt_ids[-last_n:] if last_n > 0 else self.prompt_ids if last_n < 0 else ():
            self._sampler.accept(token)
        try:
            while self.finish_reason is None:
                piece = self._next_piece()
                if piece:
                    yield piece
            rest = self._stream.flush()
            if rest:
                yield rest
        finally:
            self.timings.total_ms = 1000 * (time.perf_counter() - start)

    def _next_piece(self) -> str:
        token = self._draw()
        if token is None:
            return ""
        self.ids.append(token)
        self._lookup.push(token)
        if self.ended_by_model:
            self.finish_reason = "stop"
            return ""
        piece = self._stream.push(token)
        if self._stream.stopped:
            self.finish_reason = "stop"
        elif len(self.ids) == self._max_tokens:
            self.finish_reason = "length"
        elif len(self.prompt_ids) + len(self.ids) > self._model.n_ctx:
            self.finish_reason = "context"
        return piece

    def _draft(self) -> list[int]:
        """Tokens that may come after the last one drawn; none of which the context or `max_tokens` leaves no room."""
        room = self._model.n_ctx - len(self.prompt_ids) - len(self.ids)
        if self._max_tokens is not None:
            room = min(room, self._max_tokens - len(self.ids) - 1)
        return self._lookup.draft(room, self.timings.n_accepted)

    def _draw(self) -> int | None:
        """Evaluates what the model has not seen yet and draws a token; None when there is nothing to draw."""
        with self._model._lock:
            try:
                row = self._model._evaluate(self)
            except CancelledError:
                self.finish_reason = "cancelled"
                return None
            if self._max_tokens == 0:
                self.finish_reason = "length"
                return None
            start = time.perf_counter()
            session = self._model._session
            if self._processor is not None:
                token = self._sampler.sample(self._processed(session.logits[row]))
            else:
                token = self._sampler.sample_session(session, row)
            self._sampler.accept(token)
            self.timings.sample_ms += 1000 * (time.perf_counter() - start)
            self.timings.n_sample += 1
            return token

    def _processed(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        assert self._processor is not None
        changed = self._processor([*self.prompt_ids, *self.ids], logits)
        if changed is None:
            return logits
        changed = np.ascontiguousarray(changed, dtype=np.float32)
        if changed.shape != logits.shape:
            raise ArgumentError(f"logits_processor: shape {changed.shape}, expected {logits.shape}")
        return changed


class _Lookup:
    """Drafts from the text itself, with pauses while little of them comes true: a step of several tokens costs more
    than one of a single token, if less than as many steps."""

    _LONGEST_PAUSE = 31

    def __init__(self, prompt_ids: Sequence[int], most: int) -> None:
        self._text = array("i", prompt_ids)
        self._most = most
        self._n_drafted = 0  # by the last step
        self._n_accepted = 0  # of all drafts, before that
        self._pause = 0  # tokens
        self._resume = 0  # when the text has so many

    def push(self, token: int) -> None:
        self._text.append(token)

    def draft(self, room: int, n_accepted: int) -> list[int]:
        """At most `room` tokens; `n_accepted` of all that were drafted before came true."""
        if self._n_drafted:
            is_worth_it = 4 * (n_accepted - self._n_accepted) >= self._n_drafted
            self._pause = 0 if is_worth_it else min(2 * self._pause + 1, self._LONGEST_PAUSE)
            self._resume = len(self._text) + self._pause
        n = min(self._most, room) if len(self._text) >= self._resume else 0
        draft = _core.lookup_draft(self._text, n) if n > 0 else []
        self._n_drafted, self._n_accepted = len(draft), n_accepted
        return draft


class _TextStream:
    """From tokens to pieces of text, holding back what may turn out to be the start of a stop text."""

    def __init__(self, tokenizer: _core.Tokenizer, prompt_ids: Sequence[int], stops: Sequence[str]) -> None:
        if isinstance(stops, str):
            raise ArgumentError("stop: a string, expected a sequence of strings")
        self.stopped = False
        self._stops = [text for text in stops if text]
        self._held = ""
        self._decoder = tokenizer.decoder()
        # The decoder drops the space that starts a text; a continuation is none.
        for token in prompt_ids[-4:]:
            self._decoder.push(token)

    def push(self, token: int) -> str:
        return self._released(self._decoder.push(token))

    def flush(self) -> str:
        """What is left at the end of the text."""
        if self.stopped:
            return ""
        piece = self._released(self._decoder.flush())
        piece, self._held = piece + self._held, ""
        return piece

    def _released(self, piece: str) -> str:
        if not self._stops:
            return piece
        text = self._held + piece
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped = True
            self._held = ""
            return text[: min(found)]
        n_held = max(_n_overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - n_held :]
        return text[: len(text) - n_held]


def _n_overlap(text: str, stop: str) -> int:
    """The length of the longest end of `text` that starts `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


def _max_tokens(options: GenerationOptions) -> int | None:
    value = options.get("max_tokens")
    if value is not None and operator.index(value) < 0:
        raise ArgumentError(f"max_tokens: {value}, expected 0 or more, or None")
    return value


def _most_drafted(options: GenerationOptions) -> int:
    n = operator.index(options.get("lookup", 0))
    if not 0 <= n <= MAX_LOOKUP:
        raise ArgumentError(f"lookup: {n}, expected 0 to {MAX_LOOKUP}")
    return n


_INTEGERS = ("seed", "top_k", "penalty_last_n", "mirostat", "min_keep")
_NOT_SAMPLING = frozenset({"max_tokens", "stop", "ignore_eos", "logits_processor", "lookup"})


def _sampler_params(model: Model, options: GenerationOptions) -> SamplerParams:
    given: dict[str, Any] = {name: value for name, value in options.items() if name not in _NOT_SAMPLING}
    unknown = sorted(given.keys() - GenerationOptions.__annotations__.keys())
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
    if given.get("seed") is None:
        given["seed"] = int.from_bytes(os.urandom(4), "little")
    for name in given.keys() & _INTEGERS:
        given[name] = operator.index(given[name])
    if not 0 <= given["seed"] < 1 << 64:
        raise ArgumentError(f"seed: {given['seed']}, expected 0 to {(1 << 64) - 1}")
    bias = dict(given.get("logit_bias", {}))
    if options.get("ignore_eos"):
        bias |= dict.fromkeys(model.end_tokens, float("-inf"))
    given["logit_bias"] = tuple(bias.items())
    return replace(_core.sampler_params_default(), max_last_n=model.n_ctx, **given)
