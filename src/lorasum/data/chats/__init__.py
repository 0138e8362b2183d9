"""Chats as people have them, to dialogues: lists of messages, exports of chat apps, transcripts."""
