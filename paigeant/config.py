"""Settings, in this order: arguments, ``PAIGEANT_*`` variables, ``.env``, ``[tool.paigeant]`` in pyproject.toml."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
)

from paigeant.errors import ConfigurationError

DEFAULT_URL = "sqlite:///paigeant.db"

CHECKS_TOKENS = "PAIGEANT_OBO_ISSUER, PAIGEANT_OBO_AUDIENCE and either PAIGEANT_OBO_JWKS_URL or PAIGEANT_OBO_PUBLIC_KEY"
"""What has to be set so that tokens of users can be checked."""

Seconds = Annotated[float, Field(gt=0)]

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # none with a secret that workers share: each of them could issue tokens


class Settings(BaseSettings):
    """What can be set from outside the program. Times are seconds, sizes bytes."""

    model_config = SettingsConfigDict(
        env_prefix="PAIGEANT_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        pyproject_toml_table_header=("tool", "paigeant"),
    )

    app: str | None = Field(None, description="where the App is: module, module:attr, package or path/file.py")
    broker_url: str = Field(DEFAULT_URL, description="what carries the messages")
    store_url: str | None = Field(
        None, description="what remembers workflows; 'none' for none; default: the broker's database, if it is one"
    )
    durability: Literal["at_least_once", "best_effort"] = Field(
        "at_least_once", description="the least the broker must promise; best_effort: it may lose messages"
    )
    queue_prefix: str | None = Field(None, description="first part of every queue name; default: the App's name")
    lease_seconds: Seconds = Field(30.0, description="how long a dead worker keeps its messages")
    max_deliveries: Annotated[int, Field(ge=1)] = Field(
        5, description="deliveries after which a message that kills its worker is set aside"
    )
    recovery_grace: Seconds = Field(
        60.0, description="how long a message may be overdue before it counts as lost by the broker"
    )
    message_limit: Annotated[int, Field(ge=1024)] = Field(1_048_576, description="largest message")
    claim_check: str | None = Field(
        None, description="where large values are kept that do not travel, a directory's URL; default: the store"
    )
    claim_check_from: Annotated[int, Field(ge=1024)] = Field(
        65_536, description="bytes from which on a value is large and does not travel"
    )
    value_limit: Annotated[int, Field(ge=1024)] = Field(67_108_864, description="largest value that is kept")
    stream_retention: Seconds = Field(86_400.0, description="how long values that running steps show are kept")
    retention: Seconds | None = Field(
        None, description="how long workflows are kept that are over; default: until somebody prunes them"
    )
    obo_issuer: str | None = Field(
        None, description="who issues the tokens of users on whose behalf workflows run: their iss"
    )
    obo_audience: str | None = Field(None, description="for whom those tokens are issued: their aud")
    obo_jwks_url: str | None = Field(None, description="where their issuer publishes its keys")
    obo_public_key: str | None = Field(None, description="instead of that: its public key in PEM, or a file with it")
    obo_algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "PS256", "ES256", "EdDSA"), description="how those tokens may be signed"
    )
    obo_leeway: Annotated[float, Field(ge=0, le=300)] = Field(
        10.0, description="how far the clocks of issuer and worker may be apart"
    )
    concurrency: Annotated[int, Field(ge=1)] = Field(100, description="steps a worker process runs at once")
    shutdown_timeout: Annotated[float, Field(ge=0)] = Field(
        30.0, description="how long running steps may go on after the first SIGTERM"
    )
    cancel_grace: Annotated[float, Field(ge=0)] = Field(
        10.0, description="how long a step may go on after it was told that its workflow is cancelled"
    )
    health_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="where a worker answers /live and /ready; default: nowhere"
    )
    health_host: str = Field("127.0.0.1", description="the address for that; 0.0.0.0 for every one of the machine's")
    health_patience: Seconds = Field(
        15.0, description="how old the last round trip with the broker may be while a worker counts as ready"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON")

    @property
    def has_tokens(self) -> bool:
        """Whether anything is set with which tokens of users are checked."""
        return any((self.obo_issuer, self.obo_audience, self.obo_jwks_url, self.obo_public_key))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        pyproject = PyprojectTomlConfigSettingsSource(settings_cls)
        return (init_settings, env_settings, _older_name, dotenv_settings, pyproject)  # type: ignore[return-value]


def _older_name() -> dict[str, Any]:
    """``PAIGEANT_TRANSPORT``: another name for ``PAIGEANT_BROKER_URL``, which is stronger."""
    url = os.environ.get("PAIGEANT_TRANSPORT")
    return {"broker_url": url} if url else {}


def load_settings(**arguments: Any) -> Settings:
    """The settings, with arguments that are not None first.

    Raises:
        ConfigurationError: naming each setting that is wrong and where it can come from.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(
            f"bad settings: {wrong}", hint="correct the argument, the PAIGEANT_* variable, .env or [tool.paigeant]"
        ) from error
    except ValueError as error:
        raise ConfigurationError(
            f"the settings cannot be read: {error}", hint="is there a mistake in .env or pyproject.toml?"
        ) from error
