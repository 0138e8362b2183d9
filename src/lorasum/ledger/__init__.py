"""What runs created, and what may still cost money, on record in one SQLite file."""
