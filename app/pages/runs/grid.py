"""The grid of runs: AG Grid's community edition, its columns, and its look from our tokens."""

from __future__ import annotations

from typing import Any

import dash_ag_grid as dag

from quant_lens_engine.figures.metrics import METRICS

ROW_HEIGHT_PX = 44

_THEME = {
    "function": (
        "themeQuartz.withParams({"
        "backgroundColor:'var(--surface)',foregroundColor:'var(--text)',browserColorScheme:'inherit',"
        "borderColor:'var(--border)',rowBorder:{color:'var(--grid)'},wrapperBorder:false,wrapperBorderRadius:0,"
        "headerBackgroundColor:'var(--surface)',headerTextColor:'var(--muted)',headerFontSize:11.5,"
        "headerFontWeight:500,headerHeight:32,headerColumnResizeHandleColor:'var(--border)',"
        "fontFamily:'inherit',fontSize:13,cellHorizontalPadding:8,"
        "rowHoverColor:'var(--hover)',selectedRowBackgroundColor:'var(--selected)',"
        "accentColor:'var(--button)',checkboxUncheckedBorderColor:'var(--field)',"
        "checkboxUncheckedBackgroundColor:'var(--surface)',checkboxBorderWidth:1.5,checkboxBorderRadius:4,iconSize:14})"
    )
}


def runs_grid() -> dag.AgGrid:
    """The empty grid."""
    return dag.AgGrid(
        id="runs-grid",
        columnDefs=_columns(),
        rowData=None,
        getRowId="params.data.id",
        defaultColDef={
            "sortable": True,
            "resizable": True,
            "suppressMovable": True,
            "sortingOrder": ["desc", "asc", None],
            "cellDataType": False,
            "suppressHeaderMenuButton": True,
        },
        dashGridOptions={
            "theme": _THEME,
            "rowHeight": ROW_HEIGHT_PX,
            "domLayout": "autoHeight",
            "rowSelection": {"mode": "multiRow", "enableClickSelection": False, "headerCheckbox": True},
            "selectionColumnDef": {"width": 40, "pinned": None, "resizable": False, "sortable": False},
            "suppressCellFocus": False,
            "animateRows": False,
            "enableCellTextSelection": True,
            "suppressColumnVirtualisation": True,
            "suppressNoRowsOverlay": True,
            "loading": False,
        },
        columnSize=None,
        className="runs-grid",
        style={"height": None},
        dangerously_allow_code=False,
    )


def _columns() -> list[dict[str, Any]]:
    return [
        {"field": "name_key", "headerName": "Run", "flex": 1.0, "minWidth": 168, "cellRenderer": "RunCell"},
        {"field": "state_key", "headerName": "State", "width": 142, "cellRenderer": "RunStateCell"},
        {
            "field": "verdicts",
            "headerName": "Verdict of each variant",
            "flex": 1.25,
            "minWidth": 196,
            "sortable": False,
            "cellRenderer": "VerdictsCell",
        },
        {"field": "variant", "headerName": "Variant shown", "width": 114, "cellRenderer": "VariantCell"},
        _number("sharpness_ratio", "λmax ratio", 100, "RatioCell"),
        _number("delta_loss", "ΔL (nats)", 88),
        _number("delta_accuracy", "Δacc (pts)", 80),
        _number("effective_bits", "Bits / w", 66),
        {"field": "tags", "headerName": "Tags", "width": 84, "sortable": False, "cellRenderer": "TagsCell"},
        {"field": "owner", "headerName": "Owner", "width": 56, "cellRenderer": "OwnerCell", "resizable": False},
        {"field": "age_key", "headerName": "Age", "width": 66, "cellRenderer": "AgeCell", "type": "rightAligned",
         "resizable": False},
    ]  # fmt: skip


def _number(key: str, head: str, width: int, renderer: str = "NumberCell") -> dict[str, Any]:
    return {
        "field": key,
        "headerName": head,
        "headerTooltip": METRICS[key].meaning,
        "width": width,
        "cellRenderer": renderer,
        "type": "rightAligned",
    }
