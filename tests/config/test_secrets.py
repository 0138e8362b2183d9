"""A config can be shown to others: what looks like a secret is taken out, and nothing else is."""

from pathlib import Path

import pytest

from lorasum.config.loader import load_config
from lorasum.config.secrets import REDACTED, redact, redacted
from lorasum.errors import ConfigError

ROOT = Path(__file__).parents[2]
# Made up here; each has the form of the real thing, in two parts so that no scanner takes it for one.
SECRETS = [
    "hf_" + "QwErTyUiOpAsDfGhJkLzXcVbNm12345678",
    "AKIA" + "ABCDEFGHIJKLMNOP",
    "wJalrXUtnFEMI0K7MDENG0" + "bPxRfiCYzzEXAMPLE1",
    "wJalr/UtnFEMI+K7MDENG0" + "bPxRfiCYzzEXAMPLE1",
    "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789",
    "sk-proj-" + "abcdefghijklmnopqrstuvwxyz",
    "xoxb-" + "123456789012-abcdef",
    "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0NTYifQ.sig",
    "-----BEGIN RSA PRIVATE KEY-----" + "\nMIIE\n-----END RSA PRIVATE KEY-----",
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:5])
def test_a_secret_is_taken_out_of_the_text_around_it(secret: str) -> None:
    assert redact(f"token {secret}, please") == f"token {REDACTED}, please"


def test_the_password_in_an_address_is_taken_out() -> None:
    assert redact("https://me:pa55@example.com/x") == f"https://{REDACTED}@example.com/x"


@pytest.mark.parametrize("key", ["password", "API_KEY", "my-secret", "githubToken", "credentials"])
def test_a_value_whose_key_calls_it_a_secret_is_taken_out(key: str) -> None:
    assert redacted({"tags": {key: "tiger"}}) == {"tags": {key: REDACTED}}


def test_an_arn_and_a_number_are_no_secrets() -> None:
    values = {"hub_token_secret": "arn:aws:secretsmanager:us-east-1:1:secret:x", "max_new_tokens": 9, "password": ""}
    assert redacted(values) == values


@pytest.mark.parametrize("config", ["quickstart", "sagemaker", "qwen", "bloomz"])
def test_nothing_of_a_config_without_secrets_is_taken_out(config: str) -> None:
    values = load_config(ROOT / f"configs/{config}.yaml").model_dump(mode="json")
    assert redacted(values) == values


def test_an_error_does_not_repeat_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        f"name: chats\nmodel: {{id: m}}\ndata: {{dataset: d}}\nsagemaker: {{hub_token_secret: {SECRETS[0]}}}\n"
    )
    for overrides in ([], [f"sagemaker.hub_token_secret={SECRETS[0]}"], [f"sagemaker.token={SECRETS[0]}"]):
        with pytest.raises(ConfigError) as caught:
            load_config(path, overrides)
        assert SECRETS[0] not in "".join([caught.value.message, *caught.value.problems])
        assert REDACTED in "".join(caught.value.problems)
