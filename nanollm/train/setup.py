"""What a run stands on: the files, the program with its gradients, the plan and what would fit where it does not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from .. import _core
from .._types import Memory
from ..chat import ChatTemplate, template_source
from ..errors import ArgumentError, FormatError, MemoryLimitError, UnsupportedError
from ..export import TEMPLATE_KEY
from ..models import Record, build, build_program, known, lookup
from ..models.rope import FACTORS
from .checkpoint import PREFIX
from .options import TrainOptions

__all__ = ["Setup", "TrainMemory"]

_MOST_N_CTX = 256  # where the caller names none
_PARAMETER_TYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class TrainMemory:
    """The exact bytes of a run, and what the process could use when they were planned."""

    plan: _core.Plan
    available: int
    recompute: bool
    """Are activations computed again for the gradients?"""
    n_ctx: int
    batch_size: int

    @property
    def memory(self) -> Memory:
        return self.plan.memory

    @property
    def total(self) -> int:
        return self.plan.memory.total

    @property
    def fits(self) -> bool:
        return self.total <= self.available

    def table(self) -> str:
        """A line a kind of memory, with its size."""
        m, again = self.memory, ", computed again for the gradients" if self.recompute else ""
        batch = f"{self.batch_size} sequences of {self.n_ctx} tokens"
        rows = [
            ("frozen", m.weights, "weights that stay as they are, mapped from the file"),
            ("parameters", m.parameters, "f32"),
            ("gradients", m.gradients, "f32"),
            ("optimizer", m.optimizer, "two moments of each gradient"),
            ("keys, values", m.cache, batch),
            ("activations", m.activations, batch + again),
            ("the rest", m.outputs + m.scratch + m.bookkeeping, f"{self.plan.limits.n_threads} threads"),
            ("total", m.total, ""),
            ("available", self.available, ""),
        ]
        return "\n".join(f"{name:<13}{n / (1 << 20):12.2f} MiB  {note}".rstrip() for name, n, note in rows)

    def __str__(self) -> str:
        return self.table()


class Setup:
    """The files of a run, opened. `model` is the model, or a checkpoint of one; `adapter` that of an adapter."""

    def __init__(
        self, model: str | os.PathLike[str], adapter: str | os.PathLike[str] | None, template: str | None
    ) -> None:
        self.model = _core.Gguf.open(model)
        self.adapter = None if adapter is None else _core.Gguf.open(adapter)
        if self.adapter is not None:
            _core.adapter_check(self.adapter, self.model)
        self.tokenizer = _core.Tokenizer(self.model)
        self.named_template = template
        self._program = _program(self.model)
        self.n_vocab = _core.CoreModel(self.model, self._program).n_vocab
        self._cores: dict[bool, _core.CoreModel] = {}

    def close(self) -> None:
        for core in self._cores.values():
            core.close()
        self.model.close()
        if self.adapter is not None:
            self.adapter.close()

    @property
    def trained(self) -> _core.Gguf:
        """The file that the parameters come from."""
        return self.model if self.adapter is None else self.adapter

    def template(self) -> ChatTemplate | None:
        """The chat template named, or the model's own; None where there is none."""
        source, name = self.model.get(TEMPLATE_KEY), f"{self.model.path}: {TEMPLATE_KEY}"
        if self.named_template is not None:
            source, name = template_source(self.named_template), "chat template"
        if source is None:
            return None
        if not isinstance(source, str):
            raise FormatError(f"{name}: found a {type(source).__name__}, expected a string")
        bos, eos = ("" if i is None else self.tokenizer.spelling(i) for i in (self.tokenizer.bos, self.tokenizer.eos))
        return ChatTemplate(source, bos, eos, name)

    def n_ctx(self, wanted: int | None) -> int:
        """Tokens a sequence. Raises ArgumentError where the model has learned positions for fewer."""
        own = self.model.get(f"{self.model.get('general.architecture')}.context_length", 0)
        n_ctx = wanted or min(own if isinstance(own, int) and own > 1 else _MOST_N_CTX, _MOST_N_CTX)
        if self.model.has_tensor("position_embd.weight"):
            most = self.model.tensor("position_embd.weight").shape[0]
            if n_ctx > most:
                raise ArgumentError(f"{self.model.path}: n_ctx {n_ctx}: the model has positions for {most} tokens")
        return n_ctx

    # ------------------------------------------------------------------ program and plan

    def core(self, recompute: bool) -> _core.CoreModel:
        """The model with the gradients of all that is trained."""
        if recompute not in self._cores:
            graph = _core.Graph.load(self._program)
            if self.adapter is None:
                graph = graph.adapt(None)
                file, names = 0, [t.name for t in self.model.tensors if t.name != FACTORS]
            else:
                graph = graph.adapt(self.adapter, 1, 1.0)
                file, names = 1, [t.name for t in self.adapter.tensors]
            found = {name: graph.find_weight(name, file) for name in names}
            params = {name: weight for name, weight in found.items() if weight is not None}
            if self.adapter is None:
                self._check_types(params)
            graph.backward(graph.loss(), list(params.values()), recompute)
            files = [self.model] if self.adapter is None else [self.model, self.adapter]
            self._cores[recompute] = _core.CoreModel(files, graph.save())
        return self._cores[recompute]

    def _check_types(self, names: Iterable[str]) -> None:
        for name in names:
            kind = self.model.tensor(name).type
            if kind not in _PARAMETER_TYPES:
                raise UnsupportedError(
                    f"{self.model.path}: tensor '{name}': {kind}, only F32, F16 and BF16 can be trained: convert the "
                    "model with --outtype f32 first, or train a LoRA adapter, which leaves it as it is"
                )

    def plan(self, options: TrainOptions, check: bool) -> TrainMemory:
        """What the run takes. Where `recompute` is None it stands only if nothing else fits. `check`: raise
        MemoryLimitError, with both choices and with what would fit, for a run that does not."""
        choices = (False, True) if options.recompute is None else (options.recompute,)
        for recompute in choices:
            memory = self._memory(options, recompute)
            if memory.fits:
                return memory
        if check:
            raise MemoryLimitError(self._refusal(options))
        return self._memory(options, choices[0])

    def _memory(self, options: TrainOptions, recompute: bool) -> TrainMemory:
        n_ctx = options.n_ctx or self.n_ctx(None)
        n_batch = options.batch_size * n_ctx
        if n_batch >= 1 << 31:
            raise ArgumentError(f"batch_size {options.batch_size} of n_ctx {n_ctx} tokens: too many for a step")
        limits = replace(
            _core.limits_default(),
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_slots=options.batch_size,
            n_outputs=n_batch,
            n_threads=options.n_threads,
            type_k="F32",
            type_v="F32",
            deterministic=True,
            optimizer="adam",
        )
        plan = _core.Plan(self.core(recompute), limits)
        return TrainMemory(plan, _core.memory_available(), recompute, n_ctx, options.batch_size)

    def _refusal(self, options: TrainOptions) -> str:
        kept, again = (self._memory(options, recompute) for recompute in (False, True))
        hint = "nothing smaller would fit"
        for smaller in self._smaller(options):
            memory = self._memory(smaller, True)
            if memory.fits:
                hint = f"a batch size of {smaller.batch_size}"
                if smaller.n_ctx == options.n_ctx:
                    hint += f" with {smaller.accumulate} accumulated, which is the same step,"
                else:
                    hint += f" with sequences of {smaller.n_ctx} tokens"
                hint += f" would fit, in {_mib(memory.total)}, with activations computed again"
                break
        return (
            f"{self.model.path}: training does not fit into memory: {_mib(kept.total)} are needed, or "
            f"{_mib(again.total)} where activations are computed again, {_mib(kept.available)} are available; {hint}"
        )

    def _smaller(self, options: TrainOptions) -> Iterator[TrainOptions]:
        """What needs less and less memory: first the same steps in more parts, then shorter sequences."""
        size, n_ctx = options.batch_size, options.n_ctx or self.n_ctx(None)
        while size > 1:
            size = max(n for n in range(1, size // 2 + 1) if options.batch_size % n == 0)
            yield replace(
                options, n_ctx=n_ctx, batch_size=size, accumulate=options.accumulate * options.batch_size // size
            )
        while n_ctx > 16:
            n_ctx //= 2
            yield replace(options, n_ctx=n_ctx, batch_size=1)


def _program(gguf: _core.Gguf) -> bytes:
    """The program of a model's file or a checkpoint's."""
    file = Record(gguf.get, gguf.path)
    name = file.text("general.architecture")
    if name not in known():
        return build_program(gguf)
    shapes = {t.name: t.shape for t in gguf.tensors if not t.name.startswith(PREFIX)}
    return build(lookup(name, gguf.path), file, shapes)


def _mib(n: int) -> str:
    return f"{n / (1 << 20):.1f} MiB"
