import base64

import pytest

from app.api.errors import Refusal
from app.api.uploads import display_name, read_metadata


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("model.pt", "model.pt"),
        ("模型.pt", "模型.pt"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("/abs/olute.pt", "olute.pt"),
        ("<script>.pt", "<script>.pt"),
        ("n" * 255, "n" * 255),
    ],
)
def test_a_name_is_for_display(given, shown):
    assert display_name(given) == shown


@pytest.mark.parametrize("given", ["", "..", "/", ".", "a\0b", "a\nb", "n" * 300, "\u202egnp.exe"])
def test_names_that_cannot_be_shown_are_refused(given):
    with pytest.raises(Refusal) as refused:
        display_name(given)
    assert refused.value.error.code == "bad_filename"


def test_metadata_is_decoded():
    name = base64.b64encode("模型.pt".encode()).decode()
    assert read_metadata(f"filename {name}, flag") == {"filename": "模型.pt", "flag": ""}
    assert read_metadata("") == {}


@pytest.mark.parametrize("header", ["filename !!!", "filename /w==", "filename YWJj=YWJj"])
def test_metadata_that_is_no_base64_of_utf8_is_refused(header):
    with pytest.raises(Refusal) as refused:
        read_metadata(header)
    assert refused.value.error.code == "bad_metadata"
