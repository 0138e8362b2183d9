"""What the verbs share: starting, adopting, reconciling, limiting and deleting jobs and endpoints."""
