"""An OAuth 2.0 authorization server on this machine, for tests of tokens that paigeant obtains or checks.

It publishes its metadata (RFC 8414) and its keys (RFC 7517), and issues tokens for client credentials (RFC 6749) and
for other tokens (token exchange, RFC 8693). Its keys are the same in every run. It believes nothing: it checks clients,
the signatures of the tokens that it exchanges, their times, and what the client may ask for.

    worker = Client("worker", "secret", audiences=["https://billing"], scopes=["refunds"])
    with AuthorizationServer([worker]).running() as idp:
        token = idp.token(scope="refunds")   # of the user ann
        answer = post(f"{idp.url}/token", ...)
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from http_server import Reply, Request, serving
from tokens import AUDIENCE, Issuer

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TYPE = "urn:ietf:params:oauth:token-type:"
ACCESS_TOKEN, ID_TOKEN, JWT = f"{_TYPE}access_token", f"{_TYPE}id_token", f"{_TYPE}jwt"

LIFETIME = 300.0
"""Seconds for which an issued token is valid, at most."""

_SEVERAL = 2


def signer(name: str, kid: str = "1") -> Issuer:
    """A signer whose key is the same in every run; each name has another key."""
    made = Issuer(kid)
    secret = int.from_bytes(sha256(f"{name} {kid}".encode()).digest()) % (1 << 255) + 1
    made.key = ec.derive_private_key(secret, ec.SECP256R1())
    return made


@dataclass(frozen=True)
class Client:
    """A program that may ask for tokens: with a secret, or with assertions that one of its keys has signed."""

    id: str
    secret: str | None = None
    keys: Mapping[str, Any] | None = None
    audiences: Sequence[str] = ()
    scopes: Sequence[str] = ()
    exchanges: bool = True


class Refused(Exception):
    """The request is refused with one of OAuth's error codes."""

    def __init__(self, code: str, why: str, status: int = 400) -> None:
        super().__init__(f"{code}: {why}")
        self.reply = Reply.of({"error": code, "error_description": why}, status, **{"Cache-Control": "no-store"})


@dataclass
class AuthorizationServer:
    """See the module. ``trusted`` are the keys (JWK sets) of other issuers whose tokens it exchanges, by issuer."""

    clients: Sequence[Client] = ()
    trusted: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    name: str = "issuer"
    url: str = ""
    """Its address and its name as an issuer, as long as it runs."""
    asked: list[Request] = field(default_factory=list)
    issued: list[dict[str, Any]] = field(default_factory=list)
    """The claims of the tokens that it has issued at its token endpoint."""
    signers: list[Issuer] = field(default_factory=list)
    """Those whose keys it publishes; the last one signs."""
    _replies: list[Reply] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.signers.append(signer(self.name))

    @contextmanager
    def running(self) -> Iterator[AuthorizationServer]:
        """Serve, on a free port."""
        with serving(self._handle) as self.url:
            yield self

    # --- for tests -------------------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of an App that checks its tokens."""
        return {"obo_issuer": self.url, "obo_audience": AUDIENCE, "obo_jwks_url": f"{self.url}/jwks"}

    @property
    def keys(self) -> dict[str, Any]:
        """The JWK set that it publishes."""
        return {"keys": [key for one in self.signers for key in one.keys["keys"]]}

    def token(self, **claims: Any) -> str:
        """A token of a user, for the App; None leaves a claim out."""
        return self.signers[-1].token(**{"iss": self.url} | claims)

    def rotate(self, *, keep: bool = True) -> None:
        """Sign with another key from now on. ``keep``: the keys before it are still published."""
        made = signer(self.name, str(int(self.signers[-1].kid) + 1))
        self.signers[:] = [*(self.signers if keep else ()), made]

    def answer_next(self, *replies: Reply) -> None:
        """Answer the next requests so, whatever they ask."""
        self._replies.extend(replies)

    # --- endpoints -------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Reply:
        self.asked.append(request)
        if self._replies:
            return self._replies.pop(0)
        endpoints: dict[tuple[str, str], Callable[[Request], Reply]] = {
            ("GET", "/jwks"): lambda _: Reply.of(self.keys),
            ("GET", "/.well-known/openid-configuration"): self._metadata,
            ("GET", "/.well-known/oauth-authorization-server"): self._metadata,
            ("POST", "/token"): self._token,
        }
        try:
            endpoint = endpoints.get((request.method, request.path))
            return endpoint(request) if endpoint is not None else Reply(404, "nothing here")
        except Refused as refused:
            return refused.reply

    def _metadata(self, _: Request) -> Reply:
        return Reply.of(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks",
                "token_endpoint": f"{self.url}/token",
                "response_types_supported": ["token"],
                "grant_types_supported": ["client_credentials", EXCHANGE],
                "token_endpoint_auth_methods_supported": [
                    "client_secret_basic",
                    "client_secret_post",
                    "private_key_jwt",
                ],
                "token_endpoint_auth_signing_alg_values_supported": ["ES256"],
            }
        )

    def _token(self, request: Request) -> Reply:
        if request.headers.get("content-type", "").partition(";")[0] != "application/x-www-form-urlencoded":
            raise Refused("invalid_request", "the body is no form")
        try:
            form = request.form
        except ValueError as error:
            raise Refused("invalid_request", str(error)) from None
        client = self._client(request, form)
        match form.get("grant_type"):
            case "client_credentials":
                return self._issue(client, form, {"sub": client.id}, client.scopes)
            case str() as kind if kind == EXCHANGE:
                return self._exchange(client, form)
            case kind:
                raise Refused("unsupported_grant_type", f"{kind!r}")

    # --- who asks --------------------------------------------------------------------------------------------

    def _client(self, request: Request, form: Mapping[str, str]) -> Client:
        """The client that asks, once it has proved who it is, in one way."""
        assertion, login = form.get("client_assertion"), request.login
        posted = (form.get("client_id", ""), form["client_secret"]) if "client_secret" in form else None
        if sum(way is not None for way in (assertion, login, posted)) >= _SEVERAL:
            raise Refused("invalid_request", "the client proves in several ways who it is")
        if assertion is not None:
            return self._asserted(assertion, form)
        name, secret = login or posted or ("", "")
        for one in self.clients:
            if one.id == name and one.secret is not None and hmac.compare_digest(one.secret, secret):
                return one
        raise Refused("invalid_client", "unknown client, or wrong secret", 401)

    def _asserted(self, assertion: str, form: Mapping[str, str]) -> Client:
        if form.get("client_assertion_type") != ASSERTION:
            raise Refused("invalid_request", "client_assertion_type")
        here = [self.url, f"{self.url}/token"]
        for one in self.clients:
            claims = (_verified(assertion, one.keys, here) if one.keys is not None else None) or {}
            if claims.get("iss") == claims.get("sub") == one.id and "exp" in claims:
                return one
        raise Refused("invalid_client", "no client has signed this assertion", 401)

    # --- what it gets ----------------------------------------------------------------------------------------

    def _exchange(self, client: Client, form: Mapping[str, str]) -> Reply:
        if not client.exchanges:
            raise Refused("unauthorized_client", f"{client.id} exchanges no tokens")
        if form.get("requested_token_type", ACCESS_TOKEN) not in (ACCESS_TOKEN, JWT):
            raise Refused("invalid_request", "requested_token_type")
        subject = self._presented(form, "subject_token")
        actor = self._presented(form, "actor_token") if "actor_token" in form else None
        if actor is None and "actor_token_type" in form:
            raise Refused("invalid_request", "there is an actor_token_type and no actor_token")
        claims = {"sub": subject["sub"], "exp": subject["exp"]}
        if actor is not None:
            _refuse_other_actor(subject, actor)
            claims["act"] = _actor(actor) | ({"act": subject["act"]} if "act" in subject else {})
        elif "act" in subject:
            claims["act"] = subject["act"]
        held = str(subject.get("scope", "")).split()
        return self._issue(client, form, claims, [one for one in client.scopes if one in held], kind=ACCESS_TOKEN)

    def _presented(self, form: Mapping[str, str], name: str) -> dict[str, Any]:
        """The claims of a token in the request, once it is known that its issuer signed it and that it is valid."""
        token, kind = form.get(name), form.get(f"{name}_type")
        if not token or kind not in (ACCESS_TOKEN, ID_TOKEN, JWT):
            raise Refused("invalid_request", f"{name} or {name}_type")
        for issuer, keys in {self.url: self.keys, **self.trusted}.items():
            claims = _verified(token, keys)
            if claims is not None and claims.get("iss") == issuer and {"sub", "exp"} <= claims.keys():
                return claims
        raise Refused("invalid_grant", f"the {name} is not valid")

    def _issue(
        self, client: Client, form: Mapping[str, str], claims: Mapping[str, Any], most: Sequence[str], kind: str = ""
    ) -> Reply:
        """Issue a token with these claims, for the target and the scopes that were asked for, if the client may."""
        target = form.get("audience") or form.get("resource") or ""
        if target not in client.audiences:
            raise Refused("invalid_target", f"{client.id} may not ask for {target!r}")
        wanted = form["scope"].split() if "scope" in form else list(most)
        if beyond := [one for one in wanted if one not in most]:
            raise Refused("invalid_scope", " ".join(beyond))
        now = time.time()
        times = {"iat": int(now), "exp": int(min(now + LIFETIME, claims.get("exp", now + LIFETIME)))}
        about = {"aud": target, "scope": " ".join(wanted), "client_id": client.id, "jti": uuid4().hex}
        said = {**claims, "iss": self.url, **times, **about}
        self.issued.append(said)
        answer = {
            "access_token": self.signers[-1].token(**said),
            "token_type": "Bearer",
            "expires_in": said["exp"] - int(now),
            "scope": said["scope"],
            **({"issued_token_type": kind} if kind else {}),
        }
        return Reply.of(answer, **{"Cache-Control": "no-store"})


def _actor(claims: Mapping[str, Any]) -> dict[str, Any]:
    """The actor that this token is of, with the actors before it."""
    return {name: claims[name] for name in ("sub", "iss", "act") if name in claims}


def _refuse_other_actor(subject: Mapping[str, Any], actor: Mapping[str, Any]) -> None:
    """A token with ``may_act`` may be used by that actor only."""
    allowed = subject.get("may_act")
    if allowed is not None and any(actor.get(name) != value for name, value in allowed.items()):
        raise Refused("invalid_grant", "this actor may not act for the subject")


def _verified(token: str, keys: Mapping[str, Any], audience: Sequence[str] = ()) -> dict[str, Any] | None:
    """The claims, if one of the keys signed them and they are valid now; else None."""
    try:
        kid = jwt.get_unverified_header(token).get("kid")
        key = next(key for key in jwt.PyJWKSet.from_json(json.dumps(keys)).keys if key.key_id == kid)
        options: Any = {"verify_aud": bool(audience)}
        found: dict[str, Any] = jwt.decode(token, key, algorithms=["ES256"], audience=audience or None, options=options)
    except (jwt.PyJWTError, StopIteration):
        return None
    return found
