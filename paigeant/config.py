"""Settings, in this order: arguments, ``PAIGEANT_*`` variables, ``.env``, ``[tool.paigeant]`` in pyproject.toml."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
)

from paigeant.errors import ConfigurationError
from paigeant.runtime.urls import tidied
from paigeant.wire.limits import STEPS, VALUE
from paigeant.wire.times import LONGEST

DEFAULT_URL = "sqlite:///paigeant.db"

CHECKS_TOKENS = "PAIGEANT_OBO_ISSUER, PAIGEANT_OBO_AUDIENCE and either PAIGEANT_OBO_JWKS_URL or PAIGEANT_OBO_PUBLIC_KEY"
"""What has to be set so that tokens of users can be checked."""

Seconds = Annotated[float, Field(gt=0, le=LONGEST)]

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
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

    app: str | None = Field(None, description="where to find the App: module, module:attr, package or path/file.py")
    broker_url: str = Field(DEFAULT_URL, description="URL of the broker")
    store_url: str | None = Field(
        None, description="URL of the store; 'none' for no store; default: the broker's database, if it is one"
    )
    durability: Literal["at_least_once", "best_effort"] = Field(
        "at_least_once", description="the weakest guarantee accepted from the broker; best_effort: it may lose messages"
    )
    queue_prefix: str | None = Field(None, description="first part of every queue name; default: the App's name")
    publish_to: tuple[str, ...] | None = Field(
        None,
        description="queue prefixes of other Apps to which a worker publishes for messages that say so; * for all; "
        "default: Apps that the store knows, and recorded plans",
    )
    unknown_activities: Literal["allow", "warn", "refuse"] = Field(
        "warn", description="what becomes of a dispatch to an activity that neither the App nor a live worker has"
    )
    lease_seconds: Seconds = Field(30.0, description="how long the messages of a dead worker stay leased to it")
    max_deliveries: Annotated[int, Field(ge=1)] = Field(
        5,
        description="how often a message that kills its worker starts before it becomes a dead letter; at least twice",
    )
    breaker_trials: Annotated[int, Field(ge=1)] = Field(
        20,
        description="failed trials of an activity that keeps failing; after that its steps use up their attempts",
    )
    recovery_grace: Seconds = Field(
        60.0, description="how long a message may be overdue before it counts as lost by the broker"
    )
    message_limit: Annotated[int, Field(ge=1024)] = Field(1_048_576, description="maximum size of a message")
    step_limit: Annotated[int, Field(ge=1)] = Field(
        STEPS, description="maximum number of steps in a message, of its log entries and of its received values"
    )
    claim_check: str | None = Field(
        None,
        description="directory URL where large values are stored that do not travel in messages; default: the store",
    )
    claim_check_from: Annotated[int, Field(ge=1024)] = Field(
        65_536, description="size from which a value counts as large and does not travel in messages"
    )
    value_limit: Annotated[int, Field(ge=1024)] = Field(
        VALUE, description="maximum size of a value: an output, a variable, a signal, an answer or a part of a message"
    )
    stream_retention: Seconds = Field(
        86_400.0, description="how long the store retains values that running steps stream"
    )
    retention: Seconds | None = Field(
        None, description="how long the store retains workflows that have ended; default: until somebody prunes them"
    )
    obo_issuer: str | None = Field(
        None, description="issuer (iss) of the tokens of users on whose behalf workflows run"
    )
    obo_audience: str | None = Field(None, description="audience (aud) of those tokens")
    obo_jwks_url: str | None = Field(None, description="where the issuer publishes its keys")
    obo_public_key: str | None = Field(
        None, description="alternative: the issuer's public key in PEM, or a file with it"
    )
    obo_algorithms: tuple[Algorithm, ...] = Field(
        ("RS256", "PS256", "ES256", "EdDSA"), description="accepted signature algorithms of those tokens"
    )
    obo_leeway: Annotated[float, Field(ge=0, le=300)] = Field(
        10.0, description="accepted difference between the clocks of issuer and worker"
    )
    obo_types: tuple[str, ...] = Field(
        (), description="accepted types (typ) of those tokens besides JWT, at+jwt and none"
    )
    obo_max_age: Seconds = Field(
        2_592_000.0, description="maximum time from the issue of such a token, or from now, to its expiry"
    )
    obo_key_patience: Seconds = Field(
        600.0, description="how long a step waits for a key that its token names and the issuer does not publish"
    )
    signing: Literal["off", "accept", "required"] = Field(
        "off", description="required: accept only messages that are signed; accept: sign, and accept others as well"
    )
    signing_key: str | None = Field(
        None, description="private key that signs messages: a JWK, or the path of a file with a JWK or PEM", repr=False
    )
    trust: str | None = Field(None, description="path of the trust policy: what each key may do")
    concurrency: Annotated[int, Field(ge=1)] = Field(100, description="how many steps a worker process runs at once")
    shutdown_timeout: Annotated[float, Field(ge=0, le=LONGEST)] = Field(
        30.0, description="how long running steps may continue after the first SIGTERM"
    )
    cancel_grace: Annotated[float, Field(ge=0, le=LONGEST)] = Field(
        10.0, description="how long a step may continue after it was notified that its workflow is cancelled"
    )
    health_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="port where a worker serves /live and /ready; default: none"
    )
    health_host: str = Field(
        "127.0.0.1", description="address for health_port; 0.0.0.0 for all addresses of the machine"
    )
    health_patience: Seconds = Field(
        15.0, description="maximum age of the last round trip with the broker for a worker to count as ready"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="minimum log level")
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else JSON")

    @field_validator("*", mode="before")
    @classmethod
    def _tidy(cls, value: Any) -> Any:
        """What comes from a file or a mounted secret ends in a line end."""
        return value.strip() if isinstance(value, str) else value

    @field_validator("broker_url", "store_url")
    @classmethod
    def _tidy_url(cls, value: str | None) -> str | None:
        return tidied(value) if value is not None else None

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
        return (init_settings, env_settings, older_name, dotenv_settings, pyproject)  # type: ignore[return-value]


def older_name() -> dict[str, Any]:
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
