"""What a library answered, and what it cost: CPU seconds, products, memory."""

from __future__ import annotations

import ctypes
import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One answer of one library.

    Attributes:
        value: eigenvalues, a trace, ``(nodes, weights)`` of a density, or a trace a layer.
        cpu_s: CPU seconds of the whole call, the operator's construction included.
        products: Hessian-vector products over the whole sample, as counted at the library's own product.
        setting: how it was called.
        stopped: whether the library itself says that it has converged; None where it has no such rule.
        standard_error: of a trace, where it is known.
        inside_s: the part of ``cpu_s`` that was spent in products.
        memory_mib: the largest resident memory beyond what there was before; None where it was not measured.
        note: what is to be known of it.
    """

    value: Any
    cpu_s: float
    products: int
    setting: str
    stopped: bool | None = None
    standard_error: float | None = None
    inside_s: float | None = None
    memory_mib: float | None = None
    note: str = ""


class CappedError(Exception):
    """A library was stopped: it had used the CPU seconds that it was given."""


_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def at_most(cpu_s: float) -> Iterator[None]:
    """Products inside raise :class:`CappedError` once so many CPU seconds are over."""
    token = _deadline.set(time.process_time() + cpu_s)
    try:
        yield
    finally:
        _deadline.reset(token)


@dataclass
class Meter:
    """Counts products where a library takes them, and notes when each began."""

    products: int = 0
    inside_s: float = 0.0
    starts: list[float] = field(default_factory=list)

    def counted(self, product: Callable[..., Any], width: Callable[..., int] = lambda *_: 1) -> Callable[..., Any]:
        """``product``, counted; ``width`` says how many vectors one call multiplies."""

        def call(*args: Any, **named: Any) -> Any:
            started = time.process_time()
            if started > _deadline.get():
                raise CappedError(f"stopped after {self.products} products")
            self.starts.append(started)
            try:
                return product(*args, **named)
            finally:
                self.products += width(*args)
                self.inside_s += time.process_time() - started

        return call


def measured(action: Callable[[Meter], Any], setting: str, **facts: Any) -> Answer:
    """The answer of ``action``, which is given a fresh meter to count with."""
    gc.collect()
    meter = Meter()
    before = _reset_peak()
    started = time.process_time()
    value = action(meter)
    cpu_s = time.process_time() - started
    memory = None if before is None else max(0.0, _resident("VmHWM") - before)
    return Answer(value, cpu_s, meter.products, setting, inside_s=meter.inside_s, memory_mib=memory, **facts)


def with_own_error(answer: Answer) -> Answer:
    """A trace whose value came with its standard error."""
    value, standard_error = answer.value
    return replace(answer, value=value, standard_error=standard_error)


def _reset_peak() -> float | None:
    """Let the kernel count the peak of resident memory anew; what is resident now in MiB, None where it cannot.

    What the allocator keeps of earlier calls is given back first, or it would hide what this one takes.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return _resident("VmRSS")
    except (OSError, AttributeError):
        return None


def _resident(what: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))
