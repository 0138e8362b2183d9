"""Self-contained HTML pages: what is in a dataset, and what became of a run. Pure functions from records to text."""
