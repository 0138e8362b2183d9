"""Turns chats into dialogues: lists of messages, exports of chat apps, and transcripts."""
