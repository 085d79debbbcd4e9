"""Secrets of many lengths that no text contains unless it quotes them."""

from __future__ import annotations

import random

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/="


def random_secrets() -> tuple[str, ...]:
    """Return the same random keys each time, with and without a prefix, and passwords that consist of words."""
    generator = random.Random(7)
    keys = ["".join(generator.choices(_LETTERS, k=size)) for size in (6, 8, 12, 20, 40, 51, 164, 900)]
    return (*keys, *(f"Bearer sk-{key}" for key in keys), "correct horse battery", "my-service-key", "hunter2")
