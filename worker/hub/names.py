"""What may be asked of the hub, told before anything is asked."""

from __future__ import annotations

import re

from quant_lens_engine.errors import InputError, QuantLensError
from worker.settings import Settings

_REVISION = re.compile(r"[\w.\-/+]{1,200}", re.ASCII)
_WRITTEN = "write owner/name, or owner/name@revision, as in google-bert/bert-base-uncased@main"


def parse_asked(text: str) -> tuple[str, str]:
    """``owner/name@revision`` in its two parts; the revision is ``main`` where it is left out.

    Example:
        >>> parse_asked("google-bert/bert-base-uncased"), parse_asked(" o/n@v1.0 ")
        (('google-bert/bert-base-uncased', 'main'), ('o/n', 'v1.0'))
    """
    repo, _, revision = text.strip().partition("@")
    return repo.strip(), revision.strip() or "main"


def check_asked(settings: Settings, repo: str, revision: str) -> None:
    """Refuse what could never be fetched.

    Raises:
        InputError: ``hub_off``, or ``bad_repo_id``.
        QuantLensError: ``hub_not_installed``.
    """
    if not settings.hub:
        raise InputError(
            "this server fetches nothing from the hub",
            hint="an administrator allows it by QUANT_LENS_HUB=1; or download it, and upload a zip of its folder",
            code="hub_off",
        )
    try:
        from huggingface_hub.errors import HFValidationError
        from huggingface_hub.utils import validate_repo_id
    except ImportError:
        raise QuantLensError(
            "huggingface_hub is not installed beside this server",
            hint="an administrator installs it: pip install 'quant-lens[hub]'",
            code="hub_not_installed",
        ) from None
    try:
        validate_repo_id(repo)
    except HFValidationError:
        raise InputError(f"{repo[:120]!r} is no id of the hub", hint=_WRITTEN, code="bad_repo_id") from None
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise InputError(f"{revision[:120]!r} is no revision", hint=_WRITTEN, code="bad_repo_id")
