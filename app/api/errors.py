"""The one shape of an error, for everything that is answered: ``{"error": {"code", "message", "hint", "details"}}``."""

from __future__ import annotations

import logging
import secrets
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from starlette.exceptions import HTTPException

from quant_lens_engine.errors import InputError, QuantLensError
from quant_lens_engine.schema import ErrorBody, Record
from worker.store import BadQuery, Conflict, NotFound, StoreUnavailable

log = logging.getLogger(__name__)

STATUS_OF_CODE: dict[str, int] = {
    "bad_request": 400,
    "bad_comparison": 400,
    "bad_metadata": 400,
    "unauthenticated": 401,
    "forbidden": 403,
    "hub_off": 403,
    "foreign_origin": 403,
    "unknown_host": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "offset_mismatch": 409,
    "upload_expired": 410,
    "length_required": 411,
    "tus_version": 412,
    "too_large": 413,
    "chunk_too_large": 413,
    "bad_content_type": 415,
    "upload_busy": 423,
    "too_many_fetches": 429,
    "store_unavailable": 503,
    "sandbox_below_minimum": 503,
    "hub_not_installed": 503,
    "no_fetcher": 503,
    "store_full": 507,
    "disk_full": 507,
    "quota_exceeded": 507,
}
"""HTTP status of an error's code; where the code is not here the error's class decides."""

_STATUS_OF_CLASS: tuple[tuple[type[QuantLensError], int], ...] = (
    (NotFound, 404), (Conflict, 409), (BadQuery, 400), (StoreUnavailable, 503), (InputError, 422),
)  # fmt: skip
_CODE_OF_STATUS = {status: code for code, status in reversed(STATUS_OF_CODE.items())}


class ErrorAnswer(Record):
    """What every refusal and fault answers."""

    error: ErrorBody


class Refusal(HTTPException):
    """A refusal that also passes through libraries that let only their own HTTPException pass.

    Args:
        code: one of :data:`STATUS_OF_CODE`, or any other for 422.
        message: what is refused, and why.
        hint: what to do instead.
        headers: of the response.
        details: facts for programs.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str = "",
        headers: dict[str, str] | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(status_code=STATUS_OF_CODE.get(code, 422), detail=message, headers=headers)
        self.error = InputError(message, code=code, hint=hint, details=details)


def status_of(error: QuantLensError) -> int:
    """The HTTP status of an error.

    Example:
        >>> status_of(InputError("no run 'x'", code="not_found")), status_of(InputError("?"))
        (404, 422)
    """
    of_class = next((status for kind, status in _STATUS_OF_CLASS if isinstance(error, kind)), 500)
    return STATUS_OF_CODE.get(error.code, of_class)


def error_response(error: QuantLensError, status: int | None = None, headers: Any = None) -> JSONResponse:
    """``error`` as a response."""
    return JSONResponse({"error": error.as_dict()}, status_code=status or status_of(error), headers=headers)


def fault_response(error: BaseException) -> JSONResponse:
    """The answer to a fault of ours: a reference into the log, nothing of what happened."""
    reference = secrets.token_hex(4)
    log.error("fault %s", reference, exc_info=error)
    body = {
        "code": "internal_fault",
        "message": "Something broke on the server; your input is not at fault.",
        "hint": f"An administrator finds the reason in the web log under {reference}.",
        "details": {"reference": reference},
    }
    return JSONResponse({"error": body}, status_code=500)


def install_error_handlers(app: FastAPI) -> None:
    """Answer every exception in the one shape."""
    app.add_exception_handler(QuantLensError, _on_quant_lens_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(RedisConnectionError, _on_lost_store)
    app.add_exception_handler(RedisTimeoutError, _on_lost_store)


async def _on_quant_lens_error(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, QuantLensError) or status_of(error) == 500:
        return fault_response(error)
    return error_response(error)


async def _on_http_exception(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, Refusal):
        return error_response(error.error, error.status_code, error.headers)
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = error.headers if isinstance(error, HTTPException) else None
    message = str(getattr(error, "detail", "") or "refused")
    return error_response(InputError(message, code=_CODE_OF_STATUS.get(status, f"http_{status}")), status, headers)


async def _on_invalid_request(_: Request, error: Exception) -> JSONResponse:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    problems = [
        {"at": ".".join(str(part) for part in item["loc"]), "message": item["msg"].removeprefix("Value error, ")}
        for item in found
    ]
    if any(item["type"] == "json_invalid" for item in found):
        return error_response(InputError("the body is not JSON", code="bad_request", details={"problems": problems}))
    first = problems[0] if problems else {"at": "", "message": "invalid"}
    invalid = InputError(
        f"{first['at']}: {first['message']}",
        code="bad_request",
        hint="see /api/docs",
        details={"problems": problems},
    )
    return error_response(invalid, 422)


async def _on_lost_store(_: Request, error: Exception) -> JSONResponse:
    log.warning("the store does not answer: %s", error)
    lost = InputError(
        "The store does not answer just now.",
        code="store_unavailable",
        hint="Nothing is lost; try again in a few seconds.",
    )
    return error_response(lost, headers={"Retry-After": "3"})
