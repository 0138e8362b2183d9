"""Personal data in chats: what it looks like, how it is found, and how it is taken out."""
