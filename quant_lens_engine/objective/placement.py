"""Where an objective is computed, and in which floating-point type."""

from __future__ import annotations

import torch

from quant_lens_engine.errors import DeviceError, bad_argument


def available_device(device: str | torch.device) -> torch.device:
    """The torch device of that name.

    Raises:
        DeviceError: this machine does not have it, or it is no device's name.
    """
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise DeviceError(f"{device!r} is no device", hint="use 'cpu' or 'cuda'") from error
    if chosen.type not in ("cpu", "cuda"):
        raise DeviceError(f"{str(chosen)!r} is not supported", hint="use 'cpu' or 'cuda'")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"the device {str(chosen)!r} is not on this machine",
            hint="use device='cpu', or install a CUDA build of torch on a machine with a GPU",
        )
    return chosen


def floating_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """The floating-point type of that name; None stays None.

    Raises:
        InputError: ``bad_argument``: torch has no such type, or it is not floating-point.

    Example:
        >>> floating_dtype("float64")
        torch.float64
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if found is None and dtype is None:
        return None
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        words = "a floating-point type, such as 'float32' or 'float64', or None for the model's own"
        raise bad_argument("dtype", dtype, words)
    return found
