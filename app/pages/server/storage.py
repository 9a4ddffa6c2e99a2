"""What is stored, for whom, and how much more may be; and who may sign in."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence

import dash_mantine_components as dmc
from dash import html

from app.components.card import helped_heads, table_card
from quant_lens_engine.schema import numbers
from worker.settings import Settings
from worker.store import User

_NEARLY = 0.9
_DAY_S = 86400


def storage_card(sizes: Mapping[str, Sequence[int]], settings: Settings) -> html.Section:
    """Files of each owner against the quota, and of all against theirs, or the disk's room.

    Args:
        sizes: bytes of each file, by owner.
        settings: the quotas.
    """
    rows = [_row(owner, own, settings.quota_bytes) for owner, own in sorted(sizes.items())]
    everything = [size for own in sizes.values() for size in own]
    rows.append(_row("All files", everything, settings.total_quota_bytes, is_sum=True))
    heads = (
        ("Owner", "who sent a file first"), ("Files", ""), ("Size", ""),
        ("Allowed", "QUANT_LENS_QUOTA_BYTES for each owner, QUANT_LENS_TOTAL_QUOTA_BYTES for all"), ("Used", ""),
    )  # fmt: skip
    table = html.Table([helped_heads(heads), html.Tbody(rows)], className="data-table server-storage")
    free = shutil.disk_usage(settings.data_dir).free
    kept = numbers.duration(settings.file_grace_s) if settings.file_grace_s < _DAY_S else _days(settings.file_grace_s)
    sentence = (
        f"{numbers.size(free)} free on the server's disk. A file that no run names goes {kept} after it came, or after "
        "the last run that named it was deleted."
    )
    return table_card(table, title="Storage", sentence=sentence)


def users_card(users: Sequence[User]) -> html.Section:
    """For administrators: everyone with a token."""
    rows = [
        html.Tr(
            [html.Td(html.B(user.name)), html.Td("administrator" if user.admin else "member"),
             html.Td(numbers.count(user.tokens), className="num"), html.Td(user.created_at[:10])]
        )
        for user in users
    ]  # fmt: skip
    head = html.Thead(html.Tr([html.Th("User"), html.Th("May"), html.Th("Tokens", className="num"), html.Th("Since")]))
    table = html.Table([head, html.Tbody(rows)], className="data-table")
    sentence = "quant-lens token create NAME makes one, quant-lens token revoke NAME ends a user's."
    return table_card(table, title="Users and tokens", sentence=sentence)


def _row(name: str, sizes: Sequence[int], allowed: int | None, is_sum: bool = False) -> html.Tr:
    used = sum(sizes)
    share = None if allowed is None else used / allowed
    bar = "" if share is None else _bar(share, name)
    return html.Tr(
        [
            html.Td(html.B(name) if is_sum else name),
            html.Td(numbers.count(len(sizes)), className="num"),
            html.Td(html.Span(numbers.size(used), title=f"{used:,} bytes"), className="num"),
            html.Td("no limit" if allowed is None else numbers.size(allowed), className="num"),
            html.Td(bar, className="num"),
        ]
    )


def _bar(share: float, name: str) -> html.Span:
    shown = "under 1 %" if 0 < share < 0.01 else f"{100 * share:.0f} %"
    filled = dmc.Progress(
        value=min(100.0, 100 * share), size=6, color="red" if share >= _NEARLY else None,
        **{"aria-label": f"{name}: {shown} used"},
    )  # fmt: skip
    return html.Span([html.Span(filled, className="server-bar"), shown], className="server-used")


def _days(seconds: float) -> str:
    days = round(seconds / _DAY_S)
    return "a day" if days == 1 else f"{days} days"
