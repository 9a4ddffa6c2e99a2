"""Headers that tell a browser what a page of ours may do."""

from __future__ import annotations

from collections.abc import Iterable


def security_headers(script_hashes: Iterable[str] = (), *, strict: bool = False) -> dict[str, str]:
    """The security headers of a response.

    Styles may be inline, because Plotly, Mantine and AG Grid write them; scripts may not, except those whose hash is
    given. Nothing is loaded from another host, and nobody may frame us.

    Args:
        script_hashes: of Dash's own inline scripts, as ``'sha256-…'`` with their quotes.
        strict: for downloads that a browser might render: no script at all.

    Example:
        >>> "frame-ancestors 'none'" in security_headers()["Content-Security-Policy"]
        True
    """
    scripts = " ".join(["'self'", *script_hashes])
    policy = {
        "default-src": "'none'" if strict else "'self'",
        "script-src": "'none'" if strict else scripts,
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "worker-src": "'self' blob:",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    }
