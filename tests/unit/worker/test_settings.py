import os
import stat
from pathlib import Path

import pytest

from worker.settings import PREFIX, Settings, SettingsError, load_settings


@pytest.fixture(autouse=True)
def no_settings(monkeypatch):
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_settings_travel_through_the_environment(monkeypatch):
    settings = Settings(
        data_dir=Path("/d"), port=9000, auth="token", allow_open=True, secret_key="k" * 40, lease_s=5,
        allowed_hosts=("a.example", "b.example"), allowed_paths=(Path("/x"), Path("/y")), plugins=Path("/p"),
        sandbox_minimum=("landlock", "seccomp"),
    )  # fmt: skip
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


@pytest.mark.parametrize(
    ("variable", "value"), [("PORT", "http"), ("AUTH", "ldap"), ("LEASE_S", "0"), ("MAX_UPLOAD_BYTES", "-1")]
)
def test_a_meaningless_variable_is_named(monkeypatch, variable, value):
    monkeypatch.setenv(PREFIX + variable, value)
    with pytest.raises(SettingsError, match=PREFIX + variable) as caught:
        load_settings()
    assert caught.value.code == "bad_settings"


def test_every_setting_is_described():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_session_key_is_made_once_and_is_its_owners_alone(tmp_path):
    settings = Settings(data_dir=tmp_path / "data")
    key = settings.session_key()
    assert len(key) >= 48
    assert Settings(data_dir=tmp_path / "data").session_key() == key
    assert stat.S_IMODE((tmp_path / "data" / "secret.key").stat().st_mode) == 0o600


def test_a_given_session_key_is_used_and_not_shown(tmp_path):
    settings = Settings(data_dir=tmp_path, secret_key="known only here")
    assert settings.session_key() == "known only here"
    assert "known only here" not in repr(settings)
