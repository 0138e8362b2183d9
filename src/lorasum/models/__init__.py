"""Base models: where they come from, how they are asked, and the formats that they are stored in."""
