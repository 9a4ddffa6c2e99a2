"""scikit-learn's handwritten digits: 1797 images of 8 × 8 pixels, ten classes (UCI, Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from quant_lens_engine.intake.datasets import Arrays, dataset

HELD_OUT_ROWS = 360
_SPLIT_SEED = 20_260
_BRIGHTEST = 16.0


def digits_split() -> tuple[Arrays, Arrays]:
    """Training rows (1437) and held-out rows (360), shuffled once by a fixed seed.

    ``x`` is ``(rows, 1, 8, 8)`` float32 from 0 to 1, ``y`` the digit.

    Example:
        >>> training, held_out = digits_split()
        >>> training.x.shape, held_out.x.shape
        ((1437, 1, 8, 8), (360, 1, 8, 8))
    """
    from sklearn.datasets import load_digits  # costs a second; only the example needs it

    bunch = load_digits()
    x = (bunch.images[:, None] / _BRIGHTEST).astype(np.float32)
    y = bunch.target.astype(np.int64)
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(y))
    held_out, training = order[:HELD_OUT_ROWS], order[HELD_OUT_ROWS:]
    return Arrays(x[training], y[training]), Arrays(x[held_out], y[held_out])


@dataset("digits", description="scikit-learn's digits, the 360 rows that the examples were not trained on")
def held_out_digits() -> Arrays:
    """The rows that the example models have not seen; those that they have calibrate."""
    training, held_out = digits_split()
    return replace(held_out, calibration=training)
