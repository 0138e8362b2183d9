"""How good summaries are, as pure functions: text.py compares words, certainty.py says how sure a figure is."""
