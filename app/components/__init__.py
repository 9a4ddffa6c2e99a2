"""What pages are made of. Each function returns Dash components and knows neither store nor callbacks, but for
``chart_card``, whose buttons work by themselves."""

from app.components.badge import run_state_badge, tag_badge, verdict_badge, verdict_mark
from app.components.card import card, helped_heads, section_title, table_card
from app.components.chart_card import chart_card, chart_data, register_chart_cards
from app.components.icon import icon
from app.components.route_link import route_link
from app.components.segmented import density_switches, segmented
from app.components.state_page import caution, empty_state, error_state
from app.components.value import value_cell, value_with_error
from app.components.variant_name import recipe_name, variant_name, variant_swatch

__all__ = [
    "card",
    "caution",
    "chart_card",
    "chart_data",
    "density_switches",
    "empty_state",
    "error_state",
    "helped_heads",
    "icon",
    "recipe_name",
    "register_chart_cards",
    "route_link",
    "run_state_badge",
    "section_title",
    "segmented",
    "table_card",
    "tag_badge",
    "value_cell",
    "value_with_error",
    "variant_name",
    "variant_swatch",
    "verdict_badge",
    "verdict_mark",
]  # fmt: skip
