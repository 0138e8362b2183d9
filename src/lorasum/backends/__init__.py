"""Where training jobs and endpoints live. base.py is the contract, and each backend is a package."""
