"""From rows of chats to packs of tokens on disk: sources → validate → tokenize_pack → store."""
