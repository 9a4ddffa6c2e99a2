"""Labels are spread as little as possible, and never over each other."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from quant_lens_engine.figures.end_labels import EndLabel, end_label_annotations, spread

WANTED = st.lists(st.floats(0, 300), min_size=1, max_size=12)


@given(WANTED)
def test_labels_keep_their_distance_their_order_and_the_frame(wanted: list[float]) -> None:
    places = spread(wanted, 15.0, 0.0, 300.0)
    ordered = sorted(range(len(wanted)), key=lambda index: (wanted[index], index))
    found = [places[index] for index in ordered]
    assert all(b - a >= 15.0 - 1e-9 for a, b in pairwise(found))
    assert min(found) >= -1e-9
    assert max(found) <= 300 + 1e-9


@given(st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True))
def test_labels_that_have_room_are_not_moved(slots: list[int]) -> None:
    wanted = [20.0 * slot for slot in slots]
    assert spread(wanted, 15.0, 0.0, 300.0) == wanted


def test_a_label_stands_where_its_own_line_ends():
    labels = [EndLabel(1.0, "long", "#000"), EndLabel(2.0, "short", "#000", x=0.5)]
    found = end_label_annotations(labels, x=1.0, y_range=(0.0, 3.0), log=False, height_px=300.0)
    assert [item["x"] for item in found] == [1.0, 0.5]
