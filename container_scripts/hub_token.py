"""The hub's token for gated models: read inside the container from Secrets Manager, and printed nowhere."""

import json
from collections.abc import Mapping

from contract import HUB_TOKEN_ARN


def hub_token(environ: Mapping[str, str]) -> dict[str, str]:
    """HF_TOKEN, read from the secret whose ARN is in LORASUM_HUB_TOKEN_ARN. It is printed nowhere.

    Raises:
        RuntimeError: it cannot be read.
    """
    arn = environ.get(HUB_TOKEN_ARN)
    if not arn:
        return {}
    import boto3

    try:
        client = boto3.client("secretsmanager", region_name=arn.split(":")[3])
        token = client.get_secret_value(SecretId=arn)["SecretString"].strip()
    except Exception as error:
        raise RuntimeError(
            f"the hub's token cannot be read ({type(error).__name__}): "
            f"allow secretsmanager:GetSecretValue on {arn} to the execution role"
        ) from None
    if token.startswith("{"):  # the console stores key and value
        token = next(iter(json.loads(token).values()))
    return {"HF_TOKEN": token}
