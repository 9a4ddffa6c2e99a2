"""Who is calling, from where, and what they may change."""

from app.auth.identity import LOCAL_USER, authenticate
from app.auth.ownership import require_owner, user_of

__all__ = ["LOCAL_USER", "authenticate", "require_owner", "user_of"]
