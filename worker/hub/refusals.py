"""What the hub refuses, and what is in the way to it, in our words: those of the library hold addresses, or more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quant_lens_engine.errors import InputError, QuantLensError


class HubError(InputError):
    """The hub does not give what was asked for."""

    default_code = "hub_refused"


class HubUnreachable(QuantLensError):  # noqa: N818  (a state of the network)
    """No hub answers, or it stops in the middle."""

    default_code = "hub_unreachable"


@contextmanager
def told_in_our_words(repo: str, revision: str) -> Iterator[None]:
    """For the length of a block that asks the hub.

    Raises:
        HubError: ``hub_not_found``, ``hub_gated``, ``hub_unknown_revision``, ``hub_refused``.
        HubUnreachable: no hub answers.
    """
    import httpx2
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RevisionNotFoundError

    try:
        yield
    except GatedRepoError:
        raise HubError(
            f"{repo} is gated: its authors give access to those who ask",
            hint="ask for access on its page; then an administrator sets the HF_TOKEN of whoever was given it",
            code="hub_gated",
        ) from None
    except RevisionNotFoundError:
        raise HubError(
            f"{repo} has no revision {revision!r}",
            hint="give a branch, a tag or a whole commit; left out, it is main",
            code="hub_unknown_revision",
        ) from None
    except HfHubHTTPError as error:
        raise _refused(repo, error.response.status_code) from None
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, OfflineModeIsEnabled) as error:
        raise HubUnreachable(
            f"the hub does not answer ({type(error).__name__})",
            hint="try again: what came is kept; else an administrator looks whether the server gets out (HF_ENDPOINT, "
            "HF_HUB_OFFLINE, proxies)",
        ) from None
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise HubError(
            f"what answers is no hub ({type(error).__name__})", hint="an administrator looks at HF_ENDPOINT"
        ) from None


def _refused(repo: str, status: int) -> QuantLensError:
    if status in {401, 403, 404}:
        return HubError(
            f"the hub shows no {repo} to this server: there is none, or it is private",
            hint="look at its spelling; for a private one an administrator sets HF_TOKEN",
            code="hub_not_found",
        )
    if status == 429 or status >= 500:
        return HubUnreachable(f"the hub is busy (HTTP {status})", hint="try again in a few minutes: what came is kept")
    return HubError(f"the hub refuses (HTTP {status})", hint="look at the repository's page")
