"""Reads the chats that WhatsApp exports, in all languages and forms that the app writes."""
