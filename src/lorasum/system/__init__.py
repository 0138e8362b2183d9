"""Small modules that anything may import: files, threads, signals, and what Python and networks lack."""
