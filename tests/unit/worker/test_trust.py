"""Whether files that are code may be run: the setting, and the walls that must stand for it."""

import pytest

from app.doctor import _trusted_formats
from quant_lens_engine.schema import InspectPayload, RunSpec
from worker import trust
from worker.sandbox import Survey
from worker.settings import Settings
from worker.share import _check_subject

ALL = ("limits", "namespaces", "user", "landlock", "seccomp")


@pytest.mark.parametrize(
    ("standing", "lacks"),
    [
        (ALL, None),
        (("limits", "landlock", "seccomp"), None),
        (("limits", "namespaces", "seccomp"), None),
        (("limits", "landlock"), "seccomp (not here)"),
        (("landlock", "seccomp"), "limits (not here)"),
        (("limits", "seccomp"), "landlock (not here) or namespaces (not here)"),
        ((), "limits (not here); seccomp (not here); landlock (not here) or namespaces (not here)"),
    ],
)
def test_code_is_run_within_walls_only(monkeypatch, standing, lacks):
    found = Survey(standing, {name: "not here" for name in ALL if name not in standing})
    monkeypatch.setattr(trust, "survey", lambda settings: found)
    settings = Settings(trusted_formats=True)
    assert trust.runs_code(settings) == (lacks is None)
    problem = trust.problem(settings)
    assert problem is None if lacks is None else problem.endswith(f"lacks {lacks}")
    assert _trusted_formats(settings).state == ("note" if lacks is None else "missing")


def test_by_default_nothing_is_and_no_wall_is_asked(monkeypatch):
    monkeypatch.setattr(trust, "survey", None)
    settings = Settings()
    assert not settings.trusted_formats
    assert not trust.runs_code(settings)
    assert trust.problem(settings) is None
    assert _trusted_formats(settings).state == "ok"


@pytest.mark.parametrize(("model", "data", "is_it"), [("a", "b", True), ("c", "b", False), ("a", "c", False)])
def test_an_engine_process_cannot_answer_for_another_file(model, data, is_it):
    spec = RunSpec(model={"file": "a" * 64}, data={"file": "b" * 64}, schemes=["int8"])
    payload = InspectPayload(model={"sha256": model * 64}, data={"sha256": data * 64}, execution={})
    if is_it:
        _check_subject(spec, payload)
    else:
        with pytest.raises(ValueError, match="tells of the file"):
            _check_subject(spec, payload)
