"""The local backend: jobs and endpoints are processes of this machine, in the user's account, without Docker."""
