"""What the verbs share: how jobs and endpoints are started, found again, judged, removed and paid for."""
