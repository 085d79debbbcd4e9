"""Batch work: make a request of each row of a file, and record each answer."""
