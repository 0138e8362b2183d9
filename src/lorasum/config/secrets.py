"""Recognises what looks like a secret, by its form or its key, so that a config can be shown to others."""

import re
from collections.abc import Mapping
from typing import Any

_SECRETS = re.compile(
    r"hf_[A-Za-z0-9]{20,}"  # Hugging Face
    r"|(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}"  # AWS key ids
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}"  # GitHub, GitLab
    r"|sk-[\w-]{20,}|xox[abeoprs]-[\w-]{10,}|AIza[\w-]{30,}"  # OpenAI and Anthropic, Slack, Google
    r"|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"  # JSON web tokens
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # name and password in an address
    r"|(?<![A-Za-z0-9/+=])(?=[A-Za-z0-9/+]*[a-z])(?=[A-Za-z0-9/+]*[A-Z])(?=[A-Za-z0-9/+]*\d)[A-Za-z0-9+]"
    r"[A-Za-z0-9/+]{39}(?![A-Za-z0-9/+=])"  # AWS secret keys
)
_NAMES = re.compile(r"(?i)pass(word|wd|phrase)|secret|token|api[-_]?key|credential")
REDACTED = "<redacted>"


def redact(text: str) -> str:
    """`text` with everything that looks like a secret taken out."""
    return _SECRETS.sub(REDACTED, text)


def redacted(value: Any, name: str = "") -> Any:
    """A config's values without secrets: by their form, and texts whose key says that they are one.

    An ARN is an address, not a secret, and stays.
    """
    if isinstance(value, Mapping):
        return {redact(str(key)): redacted(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [redacted(item, name) for item in value]
    if not isinstance(value, str):
        return value
    return REDACTED if _NAMES.search(name) and value and not value.startswith("arn:") else redact(value)
