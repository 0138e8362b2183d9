"""Secrets of a container: the hub's token for gated models, and the keys of trackers.

They are read inside the container from Secrets Manager, and printed nowhere.
"""

import json
from collections.abc import Mapping

from shared.names import HUB_TOKEN_ARN, TRACKER_KEYS_ARN

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
    if token := _token(_secret("the hub's token", arn)):
        return {_TOKEN: token}
    raise RuntimeError(f"the secret {arn} holds no token: store the token as text, or under the key {_TOKEN}")


def tracker_keys(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of the secret whose ARN is in LORASUM_TRACKER_KEYS_ARN; empty if there is no such variable.

    Raises:
        RuntimeError: it cannot be read, or is no JSON object of texts.
    """
    arn = environ.get(TRACKER_KEYS_ARN)
    if not arn:
        return {}
    secret = _secret("the trackers' keys", arn)
    try:
        keys = json.loads(secret)
    except ValueError:
        keys = None
    if isinstance(keys, dict) and all(isinstance(value, str) for value in keys.values()):
        return keys
    raise RuntimeError(f'the secret {arn} is not a JSON object of variables: store {{"WANDB_API_KEY": "…"}}, say')


def _secret(what: str, arn: str) -> str:
    """The text of a secret; empty if it is binary. `what` begins the message of an error."""
    import boto3

    try:
        client = boto3.client("secretsmanager", region_name=arn.split(":")[3])
        text: str = client.get_secret_value(SecretId=arn).get("SecretString", "")
    except Exception as error:
        raise RuntimeError(
            f"{what} cannot be read ({type(error).__name__}): "
            f"allow secretsmanager:GetSecretValue on {arn} to the execution role"
        ) from None
    return text.strip()


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
