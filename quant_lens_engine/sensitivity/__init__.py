"""Sensitivity: what each layer can bear, and the scheme that each one gets."""

from quant_lens_engine.sensitivity.allocation import allocate

__all__ = ["allocate"]
