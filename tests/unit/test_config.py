from __future__ import annotations

import pytest

from paigeant.config import DEFAULT_URL, load_settings
from paigeant.errors import ConfigurationError


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder of its own, and no settings from the machine."""
    monkeypatch.chdir(tmp_path)
    for name in ("BROKER_URL", "STORE_URL", "LEASE_SECONDS", "QUEUE_PREFIX", "LOG_LEVEL"):
        monkeypatch.delenv(f"PAIGEANT_{name}", raising=False)
    return tmp_path


def test_without_any_settings_there_is_one_sqlite_file():
    """Nothing has to be installed or configured."""
    settings = load_settings()
    assert (settings.broker_url, settings.store_url) == (DEFAULT_URL, None)


SOURCES = ["pyproject", "dotenv", "environment", "argument"]


@pytest.mark.parametrize("best", range(len(SOURCES)), ids=SOURCES)
def test_arguments_go_before_the_environment_before_dotenv_before_pyproject(place, monkeypatch, best):
    """Of the sources that name a setting, the nearest to the program counts."""
    url = {source: f"memory://{source}" for source in SOURCES[: best + 1]}
    (place / "pyproject.toml").write_text(f'[tool.paigeant]\nbroker_url = "{url["pyproject"]}"\n')
    if "dotenv" in url:
        (place / ".env").write_text(f"PAIGEANT_BROKER_URL={url['dotenv']}\n")
    if "environment" in url:
        monkeypatch.setenv("PAIGEANT_BROKER_URL", url["environment"])
    assert load_settings(broker_url=url.get("argument")).broker_url == f"memory://{SOURCES[best]}"


def test_sources_are_joined_setting_by_setting(place, monkeypatch):
    """Each setting comes from wherever it is given."""
    (place / "pyproject.toml").write_text('[tool.paigeant]\nqueue_prefix = "shop"\nlease_seconds = 5\n')
    monkeypatch.setenv("PAIGEANT_LEASE_SECONDS", "7")
    settings = load_settings(broker_url="memory://")
    assert (settings.broker_url, settings.lease_seconds, settings.queue_prefix) == ("memory://", 7.0, "shop")


def test_what_other_programs_keep_there_is_not_ours(place):
    """A shared .env or pyproject.toml holds much else."""
    (place / ".env").write_text("DATABASE_URL=x\nPAIGEANT_LOG_LEVEL=debug\n")
    (place / "pyproject.toml").write_text("[tool.other]\nbroker_url = 5\n")
    assert load_settings().log_level == "debug"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("lease_seconds", 0),
        ("lease_seconds", "soon"),
        ("max_deliveries", 0),
        ("message_limit", 10),
        ("concurrency", 0),
        ("shutdown_timeout", -1),
        ("log_level", "loud"),
        ("log_format", "xml"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(setting, value):
    """With where it can come from."""
    with pytest.raises(ConfigurationError, match=f"bad settings: {setting}: ") as caught:
        load_settings(**{setting: value})
    assert "PAIGEANT_" in caught.value.hint


@pytest.mark.parametrize(
    ("file", "text"), [("pyproject.toml", b"[tool.paigeant\n"), (".env", b"PAIGEANT_APP=\xff\xfe")]
)
def test_a_file_that_cannot_be_read_is_a_configuration_error(place, file, text):
    """Not a traceback of a parser."""
    (place / file).write_bytes(text)
    with pytest.raises(ConfigurationError, match="the settings cannot be read") as caught:
        load_settings()
    assert file in caught.value.hint


def test_settings_do_not_change_under_a_running_program():
    """They are read once."""
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.broker_url = "memory://"


def test_the_broker_has_an_older_name(place, monkeypatch):
    """The documents' PAIGEANT_TRANSPORT, where PAIGEANT_BROKER_URL is not set."""
    monkeypatch.setenv("PAIGEANT_TRANSPORT", "redis")
    assert load_settings().broker_url == "redis"
    monkeypatch.setenv("PAIGEANT_BROKER_URL", "memory://")
    assert load_settings().broker_url == "memory://"
