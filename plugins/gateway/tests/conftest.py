"""Fixtures of the gateway's tests."""
