"""Check that the console of `trunkline serve` answers with the embedded model, without any configuration.

The environment holds what `pip install "trunkline[gateway,llamacpp]"` installs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2

TRUNKLINE = Path(sys.executable).with_name("trunkline")


def ask(url: str, key: str) -> str:
    """Sign in to the console with the key, ask a question in its playground, and return the answer."""
    with httpx2.Client(base_url=url, follow_redirects=True, timeout=60) as browser:
        form = browser.get("/sign-in").text
        [token] = re.findall(r'name="csrf" value="([^"]+)"', form)
        page = browser.post("/sign-in", data={"csrf": token, "key": key}).raise_for_status().url
        assert page.path == "/console/services", page
        [token] = re.findall(r'name="csrf-token" content="([^"]+)"', browser.get("/playground").text)
        question = {
            "model": "llamacpp",
            "messages": [{"role": "user", "content": "Why is the sky blue? Answer in one sentence."}],
            "max_tokens": 16,
        }
        headers = {"x-csrf-token": token, "accept": "text/event-stream"}
        stream = browser.post("/playground/stream", json=question, headers=headers).raise_for_status().text
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]
    assert events, stream
    assert events[-1]["type"] == "end", events[-1]
    return "".join(event["text"] for event in events if event["type"] == "text")


def main() -> None:
    """Start the gateway, ask, and end the gateway."""
    with tempfile.TemporaryDirectory() as data:
        command = [str(TRUNKLINE), "serve", "--port", "0", "--data-dir", data]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as gateway:
            try:
                assert gateway.stdout is not None
                lines = dict(gateway.stdout.readline().split(maxsplit=2)[:2] for _ in range(3))
                answer = ask(lines["Console"], lines["Key"])
            finally:
                gateway.terminate()
        assert gateway.returncode == 0, gateway.returncode
    assert answer.strip(), "the answer is empty"
    print(f"trunkline[gateway,llamacpp]: the console answers: {answer.strip()}")


if __name__ == "__main__":
    main()
