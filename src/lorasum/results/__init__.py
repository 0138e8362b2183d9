"""The records that verbs return. `ui/` shows them to people, and `--json` prints them."""
