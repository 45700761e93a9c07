"""How an App is told to sign: its parameters, what its worker announces, and what doctor compares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from signing import Deployment
from structlog.testing import capture_logs

from paigeant import App, Worker
from paigeant.config import load_settings
from paigeant.doctor.signing import signing_of
from paigeant.errors import ConfigurationError
from paigeant.records.workflow import WorkerRecord
from paigeant.security.signing import signer_of


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    made = Deployment(tmp_path)
    made.add("shop")
    return made


def app_of(deployment: Deployment, **parameters: object) -> App:
    broker = f"sqlite:///{deployment.folder / 'paigeant.db'}"
    app = App("shop", broker, signing="required", trust=Path(deployment.trust), **parameters)

    @app.activity
    def ship(order: str) -> str:
        return f"shipped {order}"

    return app


pytestmark = pytest.mark.anyio


@asynccontextmanager
async def closing(app: App) -> AsyncIterator[App]:
    try:
        yield app
    finally:
        await app.close()


async def result_of(app: App) -> object:
    workflow = await app.dispatch("ship", variables={"order": "1"})
    await Worker(app, burst=True).run()
    return await workflow.result(timeout=20)


async def test_parameters_of_an_app(deployment):
    """A path of a key, as text or as a Path."""
    async with closing(app_of(deployment, signing_key=Path(deployment.key("shop")))) as app:
        assert await result_of(app) == "shipped 1"
        assert app.signer is None


async def test_a_signer_instead_of_a_key(deployment):
    """A key in a KMS: only its signatures are needed, and each one is asked for."""
    inner, signed = signer_of(deployment.key("shop")), []

    class Remote:
        kid, alg = inner.kid, inner.alg

        def sign(self, data: bytes) -> bytes:
            signed.append(data)
            return inner.sign(data)

    signer = Remote()
    async with closing(app_of(deployment, signing_key=signer)) as app:
        assert await result_of(app) == "shipped 1"
        assert app.signer is signer
    assert signed


async def test_a_worker_announces_its_policy(deployment):
    async with closing(app_of(deployment, signing_key=deployment.key("shop"))) as app:
        with capture_logs() as logs:
            await result_of(app)
        record = Worker(app)._record()
        assert app.notary is not None
        assert record.policy == app.notary.policy.digest
    ready = next(one for one in logs if one["event"] == "worker ready")
    assert (ready["signing"], ready["key"], ready["key_of"]) == ("required", "shop-1", "shop")
    assert record.policy.startswith(ready["policy"])


def worker(name: str, policy: str) -> WorkerRecord:
    about = {"host": "h", "pid": 1, "activities": (), "queues": (), "concurrency": 1, "started_at": 1.0, "seen_at": 1.0}
    return WorkerRecord(id=name, app="shop", policy=policy, **about)


def test_policies_that_differ_are_a_warning(deployment):
    app = app_of(deployment, signing_key=deployment.key("shop"))
    assert app.notary is not None
    own = app.notary.policy.digest
    Path(deployment.key("shop")).chmod(0o600)
    same = signing_of(app, [worker("a", own), worker("b", own)])
    other = signing_of(app, [worker("a", own), worker("b", "otherdigest"), worker("c", "")])
    assert [one.name for one in same] == ["signing"]
    assert other[1].verdict == "warn"
    assert f"{own[:12]} (1)" in other[1].found
    assert "none (1)" in other[1].found
    assert "the policy here" in signing_of(app, [worker("b", "otherdigest")])[1].found


def test_a_key_that_others_may_read_is_a_warning(deployment):
    Path(deployment.key("shop")).chmod(0o644)
    found = signing_of(app_of(deployment, signing_key=deployment.key("shop")), [])
    assert [one.verdict for one in found] == ["ok", "warn"]
    assert "chmod 600" in str(found[1].advice)


def test_a_retired_key_does_not_sign(deployment):
    """Until its time it does, so that its process can be restarted later than the rotation."""
    deployment.add("shop", state="retired", until=4_000_000_000)
    assert app_of(deployment, signing_key=deployment.key("shop")).notary is not None
    deployment.add("shop", state="retired", until=1)
    finding = signing_of(app_of(deployment, signing_key=deployment.key("shop")), [])[0]
    assert finding.verdict == "fail"
    assert "is retired" in finding.found


def test_shared_needs_a_secret():
    with pytest.raises(ConfigurationError, match="signing_key"):
        App("shop", "memory://", signing="shared").notary  # noqa: B018


def test_a_key_is_not_in_the_text_of_settings():
    assert "SECRET" not in repr(load_settings(signing_key='{"d": "SECRET"}'))
