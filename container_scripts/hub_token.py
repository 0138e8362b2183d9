"""The hub's token for gated models: read inside the container from Secrets Manager, and printed nowhere."""

import json
from collections.abc import Mapping

from contract import HUB_TOKEN_ARN

_TOKEN = "HF_TOKEN"  # noqa: S105  the name of a variable


def hub_token(environ: Mapping[str, str]) -> dict[str, str]:
    """HF_TOKEN, read from the secret whose ARN is in LORASUM_HUB_TOKEN_ARN; empty if there is no such variable.

    The secret is the token itself, or the JSON object that the console makes of keys and values.

    Raises:
        RuntimeError: it cannot be read, or it holds no token.
    """
    arn = environ.get(HUB_TOKEN_ARN)
    if not arn:
        return {}
    import boto3

    try:
        client = boto3.client("secretsmanager", region_name=arn.split(":")[3])
        secret = client.get_secret_value(SecretId=arn).get("SecretString", "")
    except Exception as error:
        raise RuntimeError(
            f"the hub's token cannot be read ({type(error).__name__}): "
            f"allow secretsmanager:GetSecretValue on {arn} to the execution role"
        ) from None
    if token := _token(secret.strip()):
        return {_TOKEN: token}
    raise RuntimeError(f"the secret {arn} holds no token: store the token as text, or under the key {_TOKEN}")


def _token(secret: str) -> str:
    """The token in a secret's text; empty if it cannot be told which value it is. Nothing of it is in an error."""
    if not secret.startswith("{"):
        return secret
    try:
        values = json.loads(secret)
    except ValueError:
        return ""
    only = next(iter(values.values())) if len(values) == 1 else ""
    token = values.get(_TOKEN, only)
    return token.strip() if isinstance(token, str) else ""
