"""Signal against the noise that a variant adds to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class SignalLoss:
    """Σy² and Σ(y − ŷ)² of a layer's output."""

    signal: float = 0.0
    noise: float = 0.0
    reason: str | None = None

    def add(self, wanted: Tensor, found: Tensor) -> None:
        """The outputs of one call in both networks."""
        if wanted.shape != found.shape:
            self.reason = "its output has another shape in the variant"
            return
        reference = wanted.double()
        difference = found.double() - reference
        signal, noise = torch.stack([reference.square().sum(), difference.square().sum()]).tolist()
        self.signal, self.noise = self.signal + signal, self.noise + noise

    @property
    def sqnr_db(self) -> float | None:
        """10·log₁₀(signal / noise); None where it has no meaning."""
        usable = self.reason is None and 0 < self.noise < math.inf and 0 < self.signal < math.inf
        return 10 * math.log10(self.signal / self.noise) if usable else None

    @property
    def why_none(self) -> str | None:
        """Why there is no SQNR; None where there is one."""
        if self.sqnr_db is not None:
            return None
        if self.reason is not None:
            return self.reason
        if not math.isfinite(self.noise) or not math.isfinite(self.signal):
            return "its output is not finite"
        return "its output is zero" if not self.signal else "nothing was lost: its output is the float model's"
