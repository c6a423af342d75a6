"""`Model`: a file opened for use."""

from __future__ import annotations

import operator
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from . import _core
from ._types import Device, Limits, Memory, TensorInfo
from .errors import ArgumentError, CancelledError, FileError, FormatError, LimitError, MemoryLimitError, NotFoundError
from .generation import Generation, GenerationOptions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .chat import ChatTemplate, Message
    from .lora import AdapterLike

__all__ = ["DEFAULT_N_CTX", "MemoryReport", "Model", "default_model_path", "devices"]

DEFAULT_N_CTX = 4096
"""Positions a model is opened with when the caller names no number and its own context is not shorter."""

MAX_N_CTX = 2**31 - 1
LAYERS_AUTO = -1
"""As many layers as a device has memory for."""
_LOGITS_BYTES = 4 << 20  # for the rows of one step when the caller names no n_outputs

_open_models: weakref.WeakSet[Model] = weakref.WeakSet()
_orphans: list[_core.Session] = []


def default_model_path() -> str:
    """The model that is part of the package. Raises FileError when this build carries none."""
    path = Path(__file__).with_name("data") / "default.gguf"
    if not path.exists():
        raise FileError("this build carries no default model: name a GGUF file")
    return str(path)


def devices() -> list[Device]:
    """The devices that can run layers (`n_gpu_layers`), in the order of their numbers; none without a driver."""
    return [_core.device(i) for i in range(_core.device_count())]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReport(Memory):
    """The exact bytes of a plan, and what the process could use when it was made."""

    available: int
    limits: Limits
    """What the plan is for."""
    largest_n_ctx: int | None = None
    """The longest context, up to the model's own, that would fit; None where it was not asked for."""
    device_available: int = 0
    """What is free on the device that runs layers, and what it is; 0 and empty where none does."""
    device_name: str = ""
    device_image: str = ""
    device_shares_memory: bool = False

    @classmethod
    def of(cls, plan: _core.Plan) -> MemoryReport:
        """What `plan` needs, beside what there is now."""
        report = cls(**asdict(plan.memory), available=_core.memory_available(), limits=plan.limits)
        if report.device == 0:
            return report
        device = _core.device(report.limits.device)
        return replace(
            report,
            device_available=device.memory_available,
            device_name=device.name,
            device_image=device.image,
            device_shares_memory=device.shares_memory,
        )

    @property
    def fits(self) -> bool:
        return self.total <= self.available and self.fits_device

    @property
    def fits_device(self) -> bool:
        """Whether the device has room for its layers; true where it has none."""
        return self.device <= self.device_available

    def table(self) -> str:
        """A line a kind of memory, with its size."""
        limits = self.limits
        types = limits.type_k if limits.type_k == limits.type_v else f"{limits.type_k} keys, {limits.type_v} values"
        slots = "" if limits.n_slots == 1 else f" x {limits.n_slots} slots"
        rows = [
            ("weights", self.weights, "mapped from the file"),
            ("KV cache", self.cache, f"{limits.n_ctx} positions{slots}, {types}"),
            ("activations", self.activations, f"steps of at most {limits.n_batch} tokens"),
            ("logits", self.outputs, f"at most {limits.n_outputs} rows a step"),
            ("scratch", self.scratch, f"{limits.n_threads} threads"),
            ("bookkeeping", self.bookkeeping, ""),
            ("allocated", self.allocated, "all but the weights"),
            ("total", self.total, ""),
            ("available", self.available, ""),
        ]
        if self.device:
            shared = "counted above, too: its memory is the same" if self.device_shares_memory else ""
            rows += [
                ("gpu weights", self.device_weights, f"the last {limits.n_gpu_layers} layers, the output"),
                ("gpu KV cache", self.device_cache, ""),
                ("gpu rest", self._device_rest, "activations, logits, inputs"),
                ("gpu total", self.device, shared),
                (
                    "gpu free",
                    self.device_available,
                    f"device {limits.device}, {self.device_name}, device code {self.device_image}",
                ),
            ]
        return "\n".join(f"{name:<12}{n / (1 << 20):12.2f} MiB  {note}".rstrip() for name, n, note in rows)

    def __str__(self) -> str:
        return self.table()

    @property
    def _device_rest(self) -> int:
        return self.device - self.device_weights - self.device_cache

    def device_refusal(self, path: str, n_layers: int) -> str:
        """The same about the device, where `n_layers` layers would fit."""

        def mib(n: int) -> str:
            return f"{n / (1 << 20):.1f} MiB"

        limits = self.limits
        return (
            f"{path}: does not fit into the memory of device {limits.device} ({self.device_name}): "
            f"{limits.n_gpu_layers} layers need {mib(self.device)} (weights {mib(self.device_weights)}, KV cache "
            f"{mib(self.device_cache)} for a context of {limits.n_ctx}, rest {mib(self._device_rest)}), "
            f"{mib(self.device_available)} are available; {n_layers} layers would fit (-ngl)"
        )

    def refusal(self, path: str) -> str:
        """One line that says what is needed, what there is, and what would fit."""

        def mib(n: int) -> str:
            return f"{n / (1 << 20):.1f} MiB"

        hint = f"a context of {self.largest_n_ctx} would fit" if self.largest_n_ctx else "no context would fit"
        return (
            f"{path}: does not fit into memory: needs {mib(self.total)} (weights {mib(self.weights)}, KV cache "
            f"{mib(self.cache)} for a context of {self.limits.n_ctx}, rest {mib(self.allocated - self.cache)}), "
            f"{mib(self.available)} are available; {hint}"
        )


class Model:
    """A GGUF file opened for use: its weights mapped, its session's memory allocated.

    `path`: the file; None opens the small model that is part of the package. `n_ctx`: positions (tokens of
    prompt and text together); None takes the model's own context, at most 4096, and 0 its own. `n_threads`:
    0 takes one per fast physical core. `n_batch`: most tokens in one step. `n_outputs`: most rows of logits in
    one step; None takes what fits into 4 MiB. `cache_type`: "f16", "f32", "q8_0" or "q4_0", or one for keys and
    one for values. `deterministic`: logits are the same bits for any `n_batch` and any state of the KV cache (they
    are for any `n_threads` always). `importance`: add up what `Model.importance` tells. `check_memory`: refuse
    what does not fit, with MemoryLimitError, before a weight is read. `n_threads_batch`: threads of steps of more
    tokens than one; 0 takes `n_threads`. `cpu_mask`: the CPUs (0 to 255, bit by bit) that threads may run on, the
    calling thread while it computes; 0 takes the fast ones where the system tells them apart. `poll`: how idle
    threads wait, from 0, asleep, to 100, awake. `adapters`: LoRA adapters to apply, each a GGUF file or a file and
    what its addition is multiplied with; what the model evaluates, and keeps of a prompt, is that of all of them.
    `n_gpu_layers`: the last so many layers, and the output, run on a device, whose number `device` is
    (`nanollm.devices()`); "auto" takes as many as it has memory for, none where there is no device.

    One session belongs to a model. Calls from several threads are safe and wait for each other; for work side
    by side, open the file once a thread: the operating system shares the mapped weights. A forked child opens
    the file again too: a session's threads do not come along.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        n_ctx: int | None = None,
        n_threads: int = 0,
        n_batch: int = 512,
        n_slots: int = 1,
        n_outputs: int | None = None,
        deterministic: bool = False,
        cache_type: str | tuple[str, str] = "f16",
        importance: bool = False,
        check_memory: bool = True,
        n_threads_batch: int = 0,
        cpu_mask: int = 0,
        poll: int = 50,
        adapters: Sequence[AdapterLike] = (),
        n_gpu_layers: int | str = 0,
        device: int = 0,
    ) -> None:
        start = time.perf_counter()
        check_forced_level()
        self._lock = threading.RLock()
        self.path = os.fspath(default_model_path() if path is None else path)
        self._gguf = _core.Gguf.open(self.path)
        self._adapters = _open_adapters(adapters)
        self._core = _bind(self._gguf, self._adapters)
        limits = _limits(
            self._gguf, self._core, n_ctx, n_threads, n_batch, n_slots, n_outputs, deterministic, cache_type
        )
        limits = _with_threads(limits, n_threads_batch, cpu_mask, poll)
        limits = _with_device(limits, n_gpu_layers, device)
        plan = _core.Plan(self._core, replace(limits, importance=importance))
        self.memory = MemoryReport.of(plan)
        """The plan's table: exact bytes, kind by kind."""
        if check_memory:
            check_device(self._core, self.path, self.memory)
        if check_memory and not self.memory.fits:
            report = replace(self.memory, largest_n_ctx=_largest_n_ctx(self._gguf, self._core, self.memory))
            raise MemoryLimitError(report.refusal(self.path))
        self.n_ctx = limits.n_ctx
        self._tokenizer = _core.Tokenizer(self._gguf)
        self._session = _core.Session(plan)
        self._seen: list[int] = []  # the tokens in the session's slot 0
        self._owner: Generation | None = None  # the generation that put the last of them there
        self._n_sure = 0  # as many of them are its text; what follows is a draft
        self._n_cancels = 0
        self._templates: dict[str | None, ChatTemplate] = {}
        self._last_chat: tuple[str, Generation] | None = None
        self._is_orphan = False
        _open_models.add(self)
        self.load_ms = 1000 * (time.perf_counter() - start)
        """Milliseconds from the call to a session that is ready."""

    @staticmethod
    def fit(
        path: str | os.PathLike[str] | None = None,
        *,
        n_ctx: int | None = None,
        n_threads: int = 0,
        n_batch: int = 512,
        n_slots: int = 1,
        n_outputs: int | None = None,
        cache_type: str | tuple[str, str] = "f16",
        adapters: Sequence[AdapterLike] = (),
        n_gpu_layers: int | str = 0,
        device: int = 0,
    ) -> MemoryReport:
        """What `Model` would need, with the longest context that would fit. Nothing is loaded."""
        with _core.Gguf.open(default_model_path() if path is None else path) as gguf:
            core = _bind(gguf, _open_adapters(adapters))
            limits = _limits(gguf, core, n_ctx, n_threads, n_batch, n_slots, n_outputs, False, cache_type)
            limits = _with_device(limits, n_gpu_layers, device)
            report = MemoryReport.of(_core.Plan(core, limits))
            return replace(report, largest_n_ctx=_largest_n_ctx(gguf, core, report))

    def close(self) -> None:
        """Gives the memory back. Evaluation and the file's data are at an end; closing twice is fine."""
        with self._lock:
            if not self._is_orphan:
                self._session.close()
            self._core.close()
            for file, _ in self._adapters:
                file.close()
            self._gguf.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ------------------------------------------------------------------ what the file says

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """All of the file's metadata but the long arrays of the tokenizer and the program."""
        keys = self._gguf.keys()
        return {key: self._gguf[key] for key in keys if not self._gguf.kind(key)[1]}

    @property
    def tensors(self) -> list[TensorInfo]:
        """Name, type, shape and place of each of the file's tensors."""
        return self._gguf.tensors

    @property
    def adapters(self) -> list[tuple[str, float]]:
        """The files and scales of the adapters applied."""
        return [(file.path, scale) for file, scale in self._adapters]

    @property
    def architecture(self) -> str:
        return str(self._gguf.get("general.architecture", ""))

    @property
    def n_vocab(self) -> int:
        return self._core.n_vocab

    @property
    def n_ctx_train(self) -> int:
        """The longest context that the model was trained for; 0 when the file does not say."""
        return _n_ctx_train(self._gguf)

    @cached_property
    def end_tokens(self) -> tuple[int, ...]:
        """The ids of all tokens that end a text or a turn."""
        return tuple(filter(self._tokenizer.is_end, range(self._tokenizer.n_tokens)))

    # ------------------------------------------------------------------ text and tokens

    @property
    def tokenizer(self) -> _core.Tokenizer:
        """The file's tokenizer, for its special ids and its rules."""
        return self._tokenizer

    def tokenize(self, text: str, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """The ids of `text`. `add_special`: with the tokens that the file puts around a text. `parse_special`:
        spellings of special tokens in the text become those tokens."""
        if not isinstance(text, str):
            raise TypeError(f"text: found a {type(text).__name__}, expected a str")
        return self._tokenizer.encode(text, add_special, parse_special)

    def detokenize(self, ids: Sequence[int], show_special: bool = False) -> str:
        """The text of `ids`; ill-formed bytes become U+FFFD."""
        return self._tokenizer.decode([operator.index(token) for token in ids], show_special)

    def spelling(self, token: int) -> str:
        """The token as the file spells it."""
        return self._tokenizer.spelling(token)

    def generate(
        self, prompt: str | Sequence[int] = "", *, parse_special: bool = False, **options: Unpack[GenerationOptions]
    ) -> Generation:
        """Continues `prompt`, a text or token ids: an iterator of pieces of text.

        What the KV cache already holds of the prompt is not evaluated again. Raises LimitError when the
        prompt is longer than the context.
        """
        return Generation(self, self._prompt_ids(prompt, parse_special), options)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[GenerationOptions],
    ) -> Generation:
        """Answers the last of `messages`, each with a "role" and a "content": an iterator of pieces of text.

        `template`: Jinja source or the name of a built-in template, for the file's own. `variables` reach the
        template. Spellings of special tokens count as such wherever they stand.
        """
        text = self.chat_template(template).render(messages, **(variables or {}))
        generation = Generation(self, self._checked_prompt(self._chat_ids(text)), options)
        self._last_chat = text, generation
        return generation

    @property
    def has_chat_template(self) -> bool:
        return "tokenizer.chat_template" in self._gguf

    def chat_template(self, template: str | None = None) -> ChatTemplate:
        """The file's chat template, or the one given. Raises NotFoundError when there is none."""
        if template in self._templates:
            return self._templates[template]
        from .chat import ChatTemplate, template_source

        if template is not None:
            source, name = template_source(template), "chat template"
        elif self.has_chat_template:
            source, name = self._gguf["tokenizer.chat_template"], f"{self.path}: tokenizer.chat_template"
            if not isinstance(source, str):
                raise FormatError(f"{name}: found a {type(source).__name__}, expected a string")
        else:
            raise NotFoundError(f"{self.path}: tokenizer.chat_template: not found; name a template")
        bos, eos = self._tokenizer.bos, self._tokenizer.eos
        self._templates[template] = ChatTemplate(
            source,
            "" if bos is None else self._tokenizer.spelling(bos),
            "" if eos is None else self._tokenizer.spelling(eos),
            name,
        )
        return self._templates[template]

    def logits(self, token_ids: Sequence[int]) -> NDArray[np.float32]:
        """The logits after each of `token_ids`, evaluated from an empty context: f32 (n_tokens, n_vocab)."""
        import numpy as np

        result = np.empty((len(token_ids), self.n_vocab), dtype=np.float32)
        for end, rows in self.logit_rows(token_ids):
            result[end - len(rows) : end] = rows
        return result

    def logit_rows(self, token_ids: Sequence[int], first: int = 0) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Evaluates `token_ids` from an empty context step by step, and gives after each step how many tokens are
        evaluated and the logits after each of the step's tokens, f32 (n, n_vocab).

        Tokens before `first` are evaluated in steps of their own that give no rows, (0, n_vocab). No step has more
        rows than the plan's `n_outputs`. Rows are the session's own memory: valid until the next step, and the
        caller may write to them. The model is for nothing else until the last step is over. Raises CancelledError
        after `cancel()`.
        """
        ids = self._checked_prompt(list(token_ids))
        limits, n_cancels = self.memory.limits, self._n_cancels
        with self._lock:
            self._keep(0)
        start = 0
        while start < len(ids):
            is_wanted = start >= first
            most = min(limits.n_batch, limits.n_outputs) if is_wanted else min(limits.n_batch, first - start)
            part = ids[start : start + most]
            with self._lock:
                if len(self._seen) != start or self._owner is not None:
                    raise ArgumentError(f"{self.path}: the model was used for something else between two steps")
                self._eval(part, [is_wanted] * len(part), lambda: self._n_cancels != n_cancels)
                rows: NDArray[np.float32] = self._session.logits
            start += len(part)
            yield start, rows

    def cancel(self) -> None:
        """Ends all that is being evaluated, even in the middle of a step: `logits` and `logit_rows` raise
        CancelledError, generations end. May be called from any thread."""
        self._n_cancels += 1
        self._session.cancel()

    def importance(self, weight: str) -> tuple[NDArray[np.float64], int]:
        """What the matrix `weight` was multiplied with since the model was opened: the sum of the squares of each
        column, f64 (n_columns), and the number of rows added up.

        Raises NotFoundError for a weight that nothing is multiplied with, ArgumentError where the model was opened
        without `importance`.
        """
        with self._lock:
            return self._session.importance(weight)

    # ------------------------------------------------------------------ prompts kept in files

    @property
    def cached_tokens(self) -> list[int]:
        """The tokens in the KV cache: a prompt that starts with them is evaluated from where they end."""
        return list(self._seen)

    def save_prompt(self, path: str | os.PathLike[str], n_tokens: int | None = None) -> int:
        """Writes the first `n_tokens` tokens in the KV cache, None: all, to a file with what was computed of them.

        Returns how many there are. The file is for this model, cache type and kernel level.
        """
        if n_tokens is not None and operator.index(n_tokens) < 0:
            raise ArgumentError(f"n_tokens: {n_tokens}, expected 0 or more, or None")
        with self._lock:
            ids = self._seen[:n_tokens]
            self._session.save(path, ids)
            return len(ids)

    def load_prompt(self, path: str | os.PathLike[str]) -> list[int]:
        """Fills the KV cache with what `save_prompt` wrote; the tokens.

        Raises ArgumentError for a file of another model, program, cache type or kernel level, FormatError for a
        damaged one, and LimitError when the context has no room for it.
        """
        with self._lock:
            self._owner = None
            self._seen = []  # first: an interrupt in between must leave no token that the session has not
            self._seen = self._session.load(path, self.n_ctx)
            return list(self._seen)

    # ------------------------------------------------------------------ the session; callers hold the lock

    def _evaluate(self, generation: Generation) -> int:
        """Brings slot 0 to the tokens of `generation`; the session's row of the logits after the last of them.

        What is evaluated after the prompt are the last token drawn and a draft of those that may follow. While draws
        are what the draft says, the rows are there already.
        """
        start = time.perf_counter()
        timings = generation.timings
        n_prompt, n_drawn = len(generation.prompt_ids), len(generation.ids)
        n = n_prompt + n_drawn
        is_owner = self._owner is generation and n_drawn > 0
        if is_owner and n <= len(self._seen) and self._seen[n - 1] == generation.ids[-1]:
            timings.n_eval += 1
            timings.n_accepted += 1
            return n - self._n_sure
        draft: list[int] = []
        if is_owner:  # all but the last token drawn is there, and perhaps a draft that went wrong
            self._drop(n - 1)
            draft = generation._draft()
            missing = generation.ids[-1:] + draft
        else:
            tokens = generation.prompt_ids + generation.ids
            n_kept = min(_n_common(self._seen, tokens), n - 1)
            self._keep(n_kept)
            self._owner = generation
            missing = tokens[n_kept:]
            if not n_drawn:
                timings.n_cached = n_kept
        self._n_sure = n
        n_batch = self.memory.limits.n_batch
        wanted = [True] * len(missing) if draft else None
        for i in range(0, len(missing), n_batch):
            self._eval(missing[i : i + n_batch], wanted, generation._is_cancelled)
        elapsed = 1000 * (time.perf_counter() - start)
        if n_drawn:
            timings.eval_ms += elapsed
            timings.n_eval += 1
            timings.n_drafted += len(draft)
        else:
            timings.prompt_ms += elapsed
            timings.n_prompt += len(missing)
        return 0

    def _eval(self, ids: list[int], wanted: list[bool] | None, is_cancelled: Callable[[], bool]) -> None:
        """One step in slot 0. A cancellation meant for a generation that has already ended is passed over."""
        if self._is_orphan:
            raise ArgumentError(f"{self.path}: opened in another process: after a fork, open the file again")
        if is_cancelled():
            raise CancelledError(f"{self.path}: cancelled")
        try:
            self._session.eval(ids, None, wanted)
        except CancelledError:
            if is_cancelled():
                raise
            self._session.eval(ids, None, wanted)
        self._seen += ids

    def _keep(self, n: int) -> None:
        """Forgets all but the first `n` tokens of slot 0, and whose they are."""
        self._owner = None
        self._drop(n)

    def _drop(self, n: int) -> None:
        """Forgets all but the first `n` tokens of slot 0."""
        del self._seen[n:]  # first: an interrupt in between must leave no token that the session has not
        self._session.truncate(0, n)

    # ------------------------------------------------------------------ prompts

    def _prompt_ids(self, prompt: str | Sequence[int], parse_special: bool) -> list[int]:
        if not isinstance(prompt, str):
            return self._checked_prompt(list(prompt))
        ids = self._tokenizer.encode(prompt, True, parse_special)
        if self._tokenizer.adds_eos and ids and ids[-1] == self._tokenizer.eos:
            ids.pop()  # it would end the text that is to be continued
        if not ids:  # a text starts somewhere even where the file asks for no start token
            ids = [token for token in (self._tokenizer.bos, self._tokenizer.eos) if token is not None][:1]
        return self._checked_prompt(ids)

    def _checked_prompt(self, ids: list[int]) -> list[int]:
        if not ids:
            raise ArgumentError("the prompt has no tokens")
        if len(ids) > self.n_ctx:
            raise LimitError(f"the prompt has {len(ids)} tokens, the context has room for {self.n_ctx}")
        for token in (min(ids), max(ids)):
            if not 0 <= token < self.n_vocab:
                raise ArgumentError(f"token {token}: expected one from 0 to {self.n_vocab - 1}")
        return ids

    def _chat_ids(self, text: str) -> list[int]:
        """The tokens of a rendered conversation.

        Where it continues the last one, that one's own tokens are kept: text can be cut into tokens in many
        ways, and only the way it was generated is in the KV cache.
        """
        if self._last_chat is not None:
            before, answer = self._last_chat
            before += answer.text_so_far
            if answer.ended_by_model and text.startswith(before):
                rest = self._tokenizer.encode(text[len(before) :], False, True)
                if rest and rest[0] == answer.ids[-1]:
                    return answer.prompt_ids + answer.ids[:-1] + rest
        bos = self._tokenizer.bos
        starts_with_bos = bos is not None and text.startswith(self._tokenizer.spelling(bos))
        return self._tokenizer.encode(text, not starts_with_bos, True)


def _disown() -> None:
    """In a forked child: the threads of all sessions stayed behind, and freeing a session waits for its own."""
    for model in _open_models:
        model._lock = threading.RLock()  # a thread that stayed behind may hold it
        model._is_orphan = True
        _orphans.append(model._session)


os.register_at_fork(after_in_child=_disown)


def check_forced_level() -> None:
    """Refuses NANOLLM_CPU where it names a level that the machine lacks: the core passes over it."""
    level = os.environ.get("NANOLLM_CPU")
    if level and level not in _core.cpu_levels():
        raise ArgumentError(f"NANOLLM_CPU: found {level}, this machine has {', '.join(_core.cpu_levels())}")


def _open_adapters(adapters: Sequence[AdapterLike]) -> list[tuple[_core.Gguf, float]]:
    if isinstance(adapters, str | os.PathLike):
        raise TypeError("adapters: found one name, expected a sequence")
    if not adapters:
        return []
    from .lora import open_all

    return open_all(adapters)


def _bind(gguf: _core.Gguf, adapters: Sequence[tuple[_core.Gguf, float]]) -> _core.CoreModel:
    from .models import build_program

    program = build_program(gguf)
    if not adapters:
        return _core.CoreModel(gguf, program)
    from .lora import bind

    return bind(gguf, program, adapters)


def _n_ctx_train(gguf: _core.Gguf) -> int:
    value = gguf.get(f"{gguf.get('general.architecture')}.context_length", 0)
    if not isinstance(value, int) or value < 0:
        raise FormatError(f"{gguf.path}: context_length: found {value!r}, expected a number of tokens")
    return min(value, MAX_N_CTX)


def _n_ctx_limit(gguf: _core.Gguf) -> int:
    """The most positions that the file can have: as many as it has learned embeddings for, where it has those."""
    if gguf.has_tensor("position_embd.weight"):
        return gguf.tensor("position_embd.weight").shape[0]
    return MAX_N_CTX


def _with_threads(limits: Limits, n_threads_batch: int, cpu_mask: int, poll: int) -> Limits:
    for name, value, high in (("n_threads_batch", n_threads_batch, MAX_N_CTX), ("poll", poll, 100)):
        if not 0 <= operator.index(value) <= high:
            raise ArgumentError(f"{name}: {value}, expected 0 to {high}")
    cpus = operator.index(cpu_mask)  # NumPy's integers have 64 bits
    if not 0 <= cpus < 1 << 256:
        raise ArgumentError(f"cpu_mask: {cpus:#x}, expected CPUs 0 to 255, bit by bit")
    return replace(limits, n_threads_batch=n_threads_batch, cpu_mask=cpus, poll=poll)


def _with_device(limits: Limits, n_gpu_layers: int | str, device: int) -> Limits:
    if n_gpu_layers == "auto":
        n_gpu_layers = LAYERS_AUTO
    elif isinstance(n_gpu_layers, str) or not 0 <= operator.index(n_gpu_layers) <= MAX_N_CTX:
        raise ArgumentError(f"n_gpu_layers: {n_gpu_layers}, expected 0 to {MAX_N_CTX}, or auto")
    if not 0 <= operator.index(device) <= MAX_N_CTX:
        raise ArgumentError(f"device: {device}, expected 0 to {MAX_N_CTX}")
    return replace(limits, n_gpu_layers=n_gpu_layers, device=device)


def check_device(core: _core.CoreModel, path: str, report: MemoryReport) -> None:
    """Raises MemoryLimitError where the device has not the memory for its layers."""
    if not report.fits_device:
        most = _core.Plan(core, replace(report.limits, n_gpu_layers=LAYERS_AUTO)).limits.n_gpu_layers
        raise MemoryLimitError(report.device_refusal(path, most))


def _limits(
    gguf: _core.Gguf,
    core: _core.CoreModel,
    n_ctx: int | None,
    n_threads: int,
    n_batch: int,
    n_slots: int,
    n_outputs: int | None,
    deterministic: bool,
    cache_type: str | tuple[str, str],
) -> Limits:
    for name, value, low in (
        ("n_ctx", n_ctx or 0, 0),
        ("n_threads", n_threads, 0),
        ("n_batch", n_batch, 1),
        ("n_slots", n_slots, 1),
        ("n_outputs", 1 if n_outputs is None else n_outputs, 1),
    ):
        if not low <= operator.index(value) <= MAX_N_CTX:
            raise ArgumentError(f"{name}: {value}, expected {low} to {MAX_N_CTX}")
    trained = _n_ctx_train(gguf)
    if n_ctx is None:
        n_ctx = min(trained or DEFAULT_N_CTX, DEFAULT_N_CTX)
    elif n_ctx == 0:
        n_ctx = trained
        if n_ctx == 0:
            raise ArgumentError(f"{gguf.path}: says nothing about its context: n_ctx is needed")
    if n_ctx > _n_ctx_limit(gguf):
        raise ArgumentError(f"{gguf.path}: n_ctx {n_ctx}: the model has positions for {_n_ctx_limit(gguf)} tokens")
    n_batch = min(n_batch, n_ctx)
    if n_outputs is None:
        n_outputs = max(1, _LOGITS_BYTES // (4 * core.n_vocab))
    type_k, type_v = _cache_types(cache_type)
    return Limits(
        n_ctx=n_ctx,
        n_batch=n_batch,
        n_slots=n_slots,
        n_outputs=min(n_outputs, n_batch),
        n_threads=n_threads,
        type_k=type_k.upper(),
        type_v=type_v.upper(),
        deterministic=deterministic,
        importance=False,
    )


def _cache_types(cache_type: str | tuple[str, str]) -> tuple[str, str]:
    match cache_type:
        case str():
            return cache_type, cache_type
        case [str() as keys, str() as values]:
            return keys, values
    raise ArgumentError(f"cache_type: found {cache_type!r}, expected a type's name, or one for keys and one for values")


def _largest_n_ctx(gguf: _core.Gguf, core: _core.CoreModel, report: MemoryReport) -> int:
    most = min(max(_n_ctx_train(gguf), report.limits.n_ctx), _n_ctx_limit(gguf))
    return _core.Plan.fit(core, replace(report.limits, n_ctx=most), report.available)


def _n_common(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the common start."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
