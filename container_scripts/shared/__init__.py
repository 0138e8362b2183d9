"""What client and container have in common: `lorasum.shared` for the client, and `shared` in a container."""
