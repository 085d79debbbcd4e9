"""The HTTP endpoints that clients of the gateway call."""
