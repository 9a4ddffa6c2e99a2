"""The shapes of the verdict levels: filled, with the sign cut out, so that level is told without colour."""

from __future__ import annotations

_OUTLINES = {
    "safe": '<circle cx="8" cy="8" r="7.5"/>',
    "caution": '<path d="M8 .9c.5 0 .9.3 1.2.7l6.3 11.3c.5 1-.1 2.1-1.2 2.1H1.7C.6 15 0 13.9.5 12.9L6.8 1.6C7.1 1.2 7.5.9 8 .9z"/>',  # noqa: E501
    "degraded": '<path d="M8 .3 15.7 8 8 15.7.3 8z"/>',
    "collapsed": '<path d="M4.9.5h6.2l4.4 4.4v6.2l-4.4 4.4H4.9L.5 11.1V4.9z"/>',
}

_SIGNS = {
    "safe": '<path d="m4.7 8.2 2.3 2.3 4.3-4.7"/>',
    "caution": '<path d="M8 5.6v4M8 12.2v.1"/>',
    "degraded": '<path d="M8 4.8v6M5.6 8.5 8 10.9l2.4-2.4"/>',
    "collapsed": '<path d="m5.3 5.3 5.4 5.4M10.7 5.3l-5.4 5.4"/>',
}


def _shape(level: str) -> str:
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><mask id="m"><g fill="#fff">'
        f'{_OUTLINES[level]}</g><g fill="none" stroke="#000" stroke-width="1.8" stroke-linecap="round" '
        f'stroke-linejoin="round">{_SIGNS[level]}</g></mask><rect width="16" height="16" mask="url(#m)"/></svg>'
    )


VERDICT_SHAPES: dict[str, str] = {f"verdict-{level}": _shape(level) for level in _OUTLINES}
"""``verdict-safe`` … as SVG."""
