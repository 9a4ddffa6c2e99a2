"""The store's own errors; they are part of the engine's tree (see ``quant_lens_engine.errors``)."""

from __future__ import annotations

from quant_lens_engine.errors import InputError, QuantLensError


class NotFound(InputError):  # noqa: N818  (an answer, by its HTTP name)
    """There is no such run, file, check or user (HTTP 404)."""

    default_code = "not_found"


class Conflict(InputError):  # noqa: N818  (an answer, by its HTTP name)
    """What is asked for does not go with the present state (HTTP 409)."""

    default_code = "conflict"


class BadQuery(InputError):  # noqa: N818  (an answer, by its HTTP name)
    """A search that does not follow the grammar, or a cursor that is not ours (HTTP 400)."""

    default_code = "bad_query"


class UploadsRefused(QuantLensError):  # noqa: N818  (a state of the server)
    """No worker has the walls that are demanded, so none opens an upload (HTTP 503)."""

    default_code = "sandbox_below_minimum"


class StoreUnavailable(QuantLensError):  # noqa: N818  (a state of the store)
    """Redis does not answer; it may be starting again (HTTP 503)."""

    default_code = "store_unavailable"
