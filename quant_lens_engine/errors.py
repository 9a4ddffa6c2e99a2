"""Every exception of the engine, in one tree.

::

    QuantLensError                    code, message, hint, details; one JSON shape everywhere
    ├── InputError                    the caller's input is at fault (exit code 2, HTTP 4xx)
    │   ├── CheckpointError           a model file: format, refusal, truncation, non-finite weights
    │   ├── ArchitectureError         no architecture matches; key and shape differences in details
    │   ├── DataError                 a data file: shapes, labels, emptiness, non-finite values
    │   ├── SchemeError               an unknown or impossible quantization scheme
    │   ├── SpecError                 a run specification that cannot be run
    │   └── DeviceError               a device that this machine does not have
    ├── NumericalError                a computation that has no answer (and says why)
    ├── Cancelled                     the user asked to stop
    └── InternalFault                 ours: a broken invariant (exit code 3, HTTP 500)

An error names what happened, to which input, and what to do next. It never holds a path of the server.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self


class QuantLensError(Exception):
    """The root. ``code`` is stable and for programs, ``message`` and ``hint`` are for people.

    Args:
        message: what happened, to which input.
        hint: what to do about it.
        code: a stable snake_case identifier; each class has a default.
        details: JSON-ready facts for programs (key differences, offending values).

    Example:
        >>> error = DataError("label 12 at row 3, but the model has 10 classes", code="label_out_of_range")
        >>> error.as_dict()["code"]
        'label_out_of_range'
    """

    default_code: ClassVar[str] = "error"

    def __init__(
        self, message: str, *, hint: str = "", code: str | None = None, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        self.details = details or {}
        if hint:
            self.add_note(hint)  # a traceback in a notebook shows it below the message

    def about(self, name: str) -> Self:
        """The same error, with the name of what it is about before its message.

        Example:
            >>> DataError("the file is empty").about("x.npz").message
            'x.npz: the file is empty'
        """
        self.message = f"{name}: {self.message}"
        self.args = (self.message,)
        return self

    def as_dict(self) -> dict[str, Any]:
        """The one error shape: ``{"code", "message", "hint", "details"}``."""
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": self.details}


class InputError(QuantLensError):
    """The caller's input is at fault; nothing is wrong with the server."""

    default_code = "bad_input"


class CheckpointError(InputError):
    """A model file that cannot be read, or is refused."""

    default_code = "bad_checkpoint"


class ArchitectureError(InputError):
    """No architecture fits the checkpoint, or the chosen one does not."""

    default_code = "architecture_mismatch"


class DataError(InputError):
    """A data file that cannot be read, or does not fit the model."""

    default_code = "bad_data"


class SchemeError(InputError):
    """A quantization scheme that is unknown or has no meaning."""

    default_code = "unknown_scheme"


class SpecError(InputError):
    """A run specification that cannot be run."""

    default_code = "bad_spec"


class DeviceError(InputError):
    """A device that this machine does not have."""

    default_code = "device_unavailable"


class NumericalError(QuantLensError):
    """A computation that has no answer here, with the reason."""

    default_code = "numerical_error"


class Cancelled(QuantLensError):  # noqa: N818  (a request of the user, not an error)
    """The user asked to stop; raised at the next check."""

    default_code = "cancelled"


class InternalFault(QuantLensError):  # noqa: N818  (a fault is the word of the exit code)
    """A broken invariant of ours."""

    default_code = "internal_fault"


def bad_argument(name: str, value: object, may_be: str) -> InputError:
    """The error of an argument of a public function, by its public name, that means nothing.

    Example:
        >>> error = bad_argument("steps", 0, "a whole number, 1 or more")
        >>> error.code, error.message, error.details["argument"]
        ('bad_argument', 'steps is 0', 'steps')
    """
    details = {"argument": name, "may_be": may_be}
    return InputError(f"{name} is {value!r}", hint=f"it may be {may_be}", code="bad_argument", details=details)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a library ran out of memory, on the CPU or a device; torch says so in a ``RuntimeError`` of its own.

    Example:
        >>> is_out_of_memory(MemoryError()), is_out_of_memory(ValueError("shape"))
        (True, False)
    """
    text = str(error).lower()
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "cannot allocate memory" in text
    )
