"""A stand-in on this machine for AWS's Security Token Service: credentials of a role for a token that it verifies."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any
from xml.sax.saxutils import escape

import jwt
from http_server import Reply, Request, serving

_NAMESPACE = "https://sts.amazonaws.com/doc/2011-06-15/"
_SHORTEST, _LONGEST = 900, 43_200


@dataclass(frozen=True, slots=True)
class Role:
    """Who gets the credentials of a role: subjects of tokens of one issuer for one audience; * stands for any text."""

    issuer: str
    audience: str
    subject: str = "*"


class Refused(Exception):
    """The request is refused with one of the service's error codes."""

    def __init__(self, code: str, why: str, status: int = 400) -> None:
        super().__init__(f"{code}: {why}")
        self.code, self.why, self.status = code, why, status


@dataclass
class SecurityTokenService:
    """``providers`` are the JWK sets of issuers, by issuer; ``roles`` who gets which role, by its ARN."""

    providers: Mapping[str, Mapping[str, Any]]
    roles: Mapping[str, Role]
    asked: list[Request] = field(default_factory=list)
    sessions: dict[str, str] = field(default_factory=dict)
    """The ARN of each session that has credentials, by the id of its access key."""

    @contextmanager
    def running(self) -> Iterator[str]:
        """Serve, on a free port; its URL is the ``endpoint_url`` of clients."""
        with serving(self._handle) as url:
            yield url

    def _handle(self, request: Request) -> Reply:
        self.asked.append(request)
        try:
            form = request.form
            action = form.get("Action", "")
            match action:
                case "AssumeRoleWithWebIdentity":
                    result = self._assume(form)
                case "GetCallerIdentity":
                    result = self._caller(request)
                case _:
                    raise Refused("InvalidAction", action)
        except Refused as refused:
            about = _xml({"Error": {"Type": "Sender", "Code": refused.code, "Message": refused.why}})
            return Reply(refused.status, f'<ErrorResponse xmlns="{_NAMESPACE}">{about}</ErrorResponse>', _TEXT)
        body = _xml({f"{action}Result": result, "ResponseMetadata": {"RequestId": "1"}})
        return Reply(200, f'<{action}Response xmlns="{_NAMESPACE}">{body}</{action}Response>', _TEXT)

    def _assume(self, form: Mapping[str, str]) -> dict[str, Any]:
        arn, name, lasting = (
            form.get("RoleArn", ""),
            form.get("RoleSessionName", ""),
            form.get("DurationSeconds", "3600"),
        )
        if not re.fullmatch(r"[\w+=,.@-]{2,64}", name, re.ASCII):
            raise Refused("ValidationError", f"RoleSessionName {name!r}")
        if not lasting.isdecimal() or not _SHORTEST <= int(lasting) <= _LONGEST:
            raise Refused("ValidationError", f"DurationSeconds {lasting!r}")
        role = self.roles.get(arn)
        claims = self._verified(form.get("WebIdentityToken", ""), role.audience if role is not None else None)
        if role is None or claims["iss"] != role.issuer or not fnmatchcase(claims["sub"], role.subject):
            raise Refused("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", 403)
        session = f"{arn.replace(':iam:', ':sts:').replace(':role/', ':assumed-role/')}/{name}"
        key = "ASIA" + sha256(session.encode()).hexdigest()[:16].upper()
        self.sessions[key] = session
        until = datetime.fromtimestamp(int(time.time()) + int(lasting), UTC)
        return {
            "Credentials": {
                "AccessKeyId": key,
                "SecretAccessKey": sha256(key.encode()).hexdigest()[:40],
                "SessionToken": f"session of {name}",
                "Expiration": until.strftime("%Y-%m-%dT%H:%M:%SZ"),
            },
            "AssumedRoleUser": {"AssumedRoleId": f"AROA:{name}", "Arn": session},
            "SubjectFromWebIdentityToken": claims["sub"],
            "Audience": claims["aud"],
            "Provider": claims["iss"],
        }

    def _verified(self, token: str, audience: str | None) -> dict[str, Any]:
        """The claims of a token that one of the providers signed and that is valid now."""
        try:
            issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
            keys = jwt.PyJWKSet.from_dict(dict(self.providers[issuer])).keys
            kid = jwt.get_unverified_header(token).get("kid")
            key = next(key for key in keys if key.key_id == kid)
            options: Any = {"require": ["iss", "sub", "aud", "exp"], "verify_aud": audience is not None}
            return dict(
                jwt.decode(token, key, algorithms=["ES256", "EdDSA", "RS256"], audience=audience, options=options)
            )
        except jwt.ExpiredSignatureError:
            raise Refused("ExpiredTokenException", "Token expired") from None
        except (jwt.PyJWTError, KeyError, StopIteration, TypeError) as error:
            raise Refused("InvalidIdentityToken", f"{type(error).__name__}: {error}") from None

    def _caller(self, request: Request) -> dict[str, str]:
        """Who asks, by the id of the access key in the signature, which is not verified."""
        found = re.search(r"Credential=(\w+)/", request.headers.get("authorization", ""))
        if found is None or found[1] not in self.sessions:
            raise Refused("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
        arn = self.sessions[found[1]]
        return {"Arn": arn, "UserId": "AROA", "Account": arn.split(":")[4]}


_TEXT = {"Content-Type": "text/xml"}


def _xml(value: Mapping[str, Any]) -> str:
    return "".join(
        f"<{name}>{_xml(one) if isinstance(one, dict) else escape(str(one))}</{name}>" for name, one in value.items()
    )
