"""Where training jobs and endpoints live: base.py is the contract."""
