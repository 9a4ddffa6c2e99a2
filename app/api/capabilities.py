"""What this server can do."""

from __future__ import annotations

from fastapi import APIRouter

from app.api.access import StoreOf
from quant_lens_engine.schema import Capabilities

router = APIRouter(tags=["capabilities"])


@router.get("/capabilities")
def read_capabilities(store: StoreOf) -> Capabilities:
    """Examples; schemes, observers of activation ranges, and algorithms with their options; formats, architectures,
    analyses; and the workers that are alive."""
    return store.capabilities.read()
