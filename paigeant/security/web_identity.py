"""AWS credentials of the user on whose behalf a workflow runs, for the token that it carries."""

from __future__ import annotations

import re
from typing import Any

from paigeant.errors import ConfigurationError

_LONGEST_NAME = 64


def assume_web_identity(
    token: str, role_arn: str, *, session_name: str, duration: int, region: str | None, endpoint_url: str | None
) -> Any:
    """A ``boto3.Session`` with the credentials of the role; see :meth:`ActivityContext.assume_web_identity`."""
    try:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config
    except ImportError as error:
        raise ConfigurationError("boto3 is not installed", hint="pip install 'paigeant[aws]'") from error
    unsigned = Config(signature_version=UNSIGNED)  # the token is what proves the right to it
    sts = boto3.session.Session(region_name=region).client("sts", config=unsigned, endpoint_url=endpoint_url)
    answer = sts.assume_role_with_web_identity(
        RoleArn=role_arn, RoleSessionName=_name(session_name), WebIdentityToken=token, DurationSeconds=duration
    )
    given = answer["Credentials"]
    return boto3.session.Session(
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
        region_name=region,
    )


def _name(text: str) -> str:
    """As AWS wants the name of a session, which its logs show."""
    return re.sub(r"[^\w+=,.@-]", "-", text, flags=re.ASCII)[:_LONGEST_NAME].ljust(2, "-")
