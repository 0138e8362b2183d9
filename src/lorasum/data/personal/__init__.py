"""Finds personal data in chats, counts it, and replaces it on request."""
