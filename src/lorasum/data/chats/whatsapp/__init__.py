"""Chats as WhatsApp exports them, in the languages and forms that the app writes."""
