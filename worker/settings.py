"""Every setting of the server, read in this one place from ``QUANT_LENS_*``."""

from __future__ import annotations

import os
import secrets
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from quant_lens_engine.errors import InputError

PREFIX = "QUANT_LENS_"
_SECRETS = Path("/run/secrets")
"""Where containers mount secrets: the file ``quant_lens_secret_key`` is the setting ``QUANT_LENS_SECRET_KEY``."""


SandboxWall = Literal["limits", "namespaces", "user", "landlock", "seccomp"]
"""The names of ``worker/sandbox/walls``."""


class SettingsError(InputError):
    """A ``QUANT_LENS_*`` variable that has no meaning."""

    default_code = "bad_settings"


class Settings(BaseSettings):
    """The server's settings; each field is the environment variable ``QUANT_LENS_`` + its name in capitals.

    Example:
        >>> Settings(port=9000).port
        9000
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, secrets_dir=_SECRETS if _SECRETS.is_dir() else None
    )

    data_dir: Path = Field(
        default=Path("data"), description="Folder of everything that lasts: files, the embedded Redis' log, the key."
    )
    host: str = Field(default="127.0.0.1", description="Address the web server listens on.")
    port: int = Field(default=8050, ge=1, le=65535, description="Port the web server listens on.")
    redis_url: str | None = Field(
        default=None, description="A Redis or Valkey server to use; without it `quant-lens up` starts its own."
    )
    files_url: str | None = Field(
        default=None, description="fsspec URL where uploads are kept; without it DATA_DIR/files."
    )
    plugins: Path | None = Field(
        default=None, description="Folder of plug-ins: each Python file in it may register architectures and more."
    )
    auth: Literal["none", "token"] = Field(
        default="none", description="none: one user, `local`, on loopback only. token: tokens and sign-in."
    )
    allow_open: bool = Field(
        default=False, description="1 lets AUTH=none listen on a host other than loopback: anyone there may do all."
    )
    secret_key: SecretStr | None = Field(
        default=None, description="Signs session cookies; without it one is made and kept in DATA_DIR/secret.key."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Host names (comma-separated) the web server answers to besides HOST and loopback."
    )
    allowed_paths: Annotated[tuple[Path, ...], NoDecode] = Field(
        default=(), description=f"Folders (separated by {os.pathsep!r}) whose files a run may name by path."
    )
    max_upload_bytes: int = Field(default=20 * 2**30, ge=1, description="Largest file that may be uploaded.")
    quota_bytes: int = Field(default=200 * 2**30, ge=1, description="Most that one owner's files may take together.")
    total_quota_bytes: int | None = Field(
        default=None, ge=1, description="Most that all files may take together; without it what the disk holds."
    )
    file_grace_s: float = Field(
        default=7 * 86400.0,
        ge=1,
        description="How long a file that no run names is kept: from its arrival, or from the deletion of the last run "
        "that named it.",
    )
    hub: bool = Field(
        default=False,
        description="1 lets people fetch models from the hub (HF_ENDPOINT, HF_TOKEN) by their id; a worker of the "
        "queue `fetch` does it.",
    )
    hub_time_limit_s: float = Field(
        default=6 * 3600.0, gt=0, description="Wall clock for fetching one model from the hub."
    )
    run_time_limit_s: float = Field(
        default=6 * 3600.0, gt=0, description="Wall clock for what one worker claims of a run at a time."
    )
    inspect_time_limit_s: float = Field(
        default=120.0, gt=0, description="Wall clock for looking at an uploaded file, or for a baseline check."
    )
    memory_limit_bytes: int | None = Field(
        default=None, ge=2**28, description="Memory of one engine process; without it 80% of the machine's."
    )
    sandbox_minimum: Annotated[tuple[SandboxWall, ...], NoDecode] = Field(
        default=(),
        description="Walls (comma-separated: limits, namespaces, user, landlock, seccomp) without which a worker "
        "opens no upload.",
    )
    trusted_formats: bool = Field(
        default=False,
        description="1 lets engine processes run checkpoints that are code (TorchScript, pickled modules), within the "
        "walls: limits, seccomp, and landlock or namespaces must stand.",
    )
    lease_s: float = Field(
        default=12.0,
        ge=3,
        le=60,
        description="How long a silent worker keeps what it has claimed; it renews each second.",
    )
    retries: int = Field(default=3, ge=0, le=20, description="How often work goes back after a worker or engine died.")
    warm_engine: bool = Field(
        default=True,
        description="1 keeps one idle engine process per worker, so that a job starts at once; it takes 0.3 to 0.5 GB, "
        "the more where transformers is installed and it looks at files.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="How much is logged.")

    @field_validator("allowed_hosts", "sandbox_minimum", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allowed_paths", mode="before")
    @classmethod
    def _split_paths(cls, value: Any) -> Any:
        return tuple(part for part in value.split(os.pathsep) if part) if isinstance(value, str) else value

    @property
    def files_dir(self) -> Path:
        """Where uploads are kept when ``files_url`` is not set."""
        return self.data_dir / "files"

    @property
    def uploads_dir(self) -> Path:
        """Where uploads lie while they arrive."""
        return self.data_dir / "uploads"

    @property
    def jobs_dir(self) -> Path:
        """Where engine processes have their temporary folders."""
        return self.data_dir / "jobs"

    @property
    def hub_dir(self) -> Path:
        """Where models from the hub lie while they come."""
        return self.data_dir / "hub"

    @property
    def checkpoints_dir(self) -> Path:
        """Where stages that were stopped have what they go on from."""
        return self.data_dir / "checkpoints"

    def environment(self) -> dict[str, str]:
        """These settings as the variables that give them again: how a process passes them to one that it starts.

        Example:
            >>> Settings(port=9000).environment()["QUANT_LENS_PORT"]
            '9000'
        """
        pairs = ((PREFIX + name.upper(), _as_text(getattr(self, name))) for name in type(self).model_fields)
        return {name: text for name, text in pairs if text is not None}

    def session_key(self) -> str:
        """The key that signs session cookies; made on first use, readable by its owner alone."""
        if self.secret_key is not None:
            return self.secret_key.get_secret_value()
        path = self.data_dir / "secret.key"
        self.data_dir.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(48))
        except FileExistsError:
            pass
        return path.read_text()


def load_settings(**changes: Any) -> Settings:
    """Settings from the environment, with ``changes`` on top.

    Raises:
        SettingsError: a variable has no meaning; the message names it.
    """
    try:
        return Settings(**changes)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        name = PREFIX + ".".join(map(str, first["loc"])).upper()
        raise SettingsError(f"{name}: {first['msg']}", hint=f"correct or unset {name}") from None


@cache
def get_settings() -> Settings:
    """This process' settings, read once."""
    return load_settings()


def _as_text(value: Any) -> str | None:
    if value is None or value == ():
        return None
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, tuple):
        return (os.pathsep if isinstance(value[0], Path) else ",").join(map(str, value))
    return str(value)
