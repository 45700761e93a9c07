"""Orders about workflows and orders about messages are never taken for each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from signing import Deployment

from paigeant.config import Settings
from paigeant.errors import Untrusted
from paigeant.security.jws import sign, unchecked
from paigeant.security.notary import Notary
from paigeant.security.signing import notary_of
from paigeant.wire.canonical import digest_of
from paigeant.wire.proof import Did, Kind, Link, Order


@pytest.fixture
def notary(tmp_path: Path) -> Notary:
    deployment = Deployment(tmp_path)
    deployment.add("ops", {"order": ["cancel"]})
    made = notary_of(Settings(signing="required", signing_key=deployment.key("ops"), trust=deployment.trust), "")
    assert made is not None
    return made


def test_an_order_names_the_key_that_gave_it(notary):
    signed = notary.verified(notary.order("w", "cancel", 5.5, reason="r" * 1000), Order, Kind.ORDER)
    said = signed.statement
    assert (signed.key, said.by, said.wf, said.what, said.at) == ("ops", "ops", "w", "cancel", 5.5)
    assert len(said.reason) == 500


def test_an_order_needs_its_right(notary):
    with pytest.raises(Untrusted, match="may not pause"):
        notary.order("w", "pause", 5.5)


@pytest.mark.parametrize("shape", [Order, Link])
def test_claims_that_fit_both_shapes_are_neither(notary, shape):
    """A key that may redrive one message must not make a cancellation of it, nor the other way round."""
    link = Link(iat=1, plan=digest_of(1), n=1, step="1", act="check", did=Did.REDRIVEN, order="redrive")
    order = unchecked(notary.order("w", "cancel", 5.5))[2]
    both = sign(Kind.ORDER, link.to_claims() | order, notary.signer)
    with pytest.raises(Untrusted, match="another kind of order"):
        notary.verified(both, shape, Kind.ORDER)


def test_a_link_is_no_order_about_a_workflow(notary):
    link = Link(iat=1, plan=digest_of(1), n=1, step="1", act="check", did=Did.REDRIVEN, order="redrive")
    with pytest.raises(Untrusted):
        notary.verified(sign(Kind.ORDER, link.to_claims(), notary.signer), Order, Kind.ORDER)
    with pytest.raises(Untrusted):
        notary.verified(notary.order("w", "cancel", 5.5), Link, Kind.LINK, Kind.ORDER)
