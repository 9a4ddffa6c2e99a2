"""What the documents must say: every setting, every command."""

from pathlib import Path

import pytest

from worker.settings import PREFIX, Settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented_with_its_description(name: str) -> None:
    row = next(
        (line for line in (ROOT / "docs/settings.md").read_text().splitlines() if f"`{PREFIX}{name.upper()}`" in line),
        "",
    )
    assert Settings.model_fields[name].description, f"the setting {name} describes itself nowhere"
    assert str(Settings.model_fields[name].description) in row, f"docs/settings.md: no row, or an old one, for {name}"


@pytest.mark.parametrize("target", ["run", "test", "quick", "fmt", "lint", "types", "bench", "docs"])
def test_the_makefile_has_the_promised_targets(target: str) -> None:
    assert f"\n{target}:" in (ROOT / "Makefile").read_text()


def test_the_pages_of_the_documentation_are_all_in_its_menu() -> None:
    menu = (ROOT / "mkdocs.yml").read_text()
    left_out = [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in menu]
    assert not left_out
