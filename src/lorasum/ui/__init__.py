"""The only modules that print: reporter.py while a verb works (stderr), render.py its result (stdout)."""
