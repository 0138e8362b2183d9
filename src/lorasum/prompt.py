"""The prompt template, in one place, for prepare and predict."""

DEFAULT_TEMPLATE = "Summarize the chat dialogue:\n{dialogue}\n---\nSummary:\n"
PLACEHOLDER = "{dialogue}"


def render(template: str, dialogue: str) -> str:
    """The prompt: `template` with its one placeholder replaced by `dialogue`.

    A plain replacement, not str.format: braces in a dialogue or in the rest of the template stay as they are.
    """
    before, _, after = template.partition(PLACEHOLDER)
    return before + dialogue.strip() + after
