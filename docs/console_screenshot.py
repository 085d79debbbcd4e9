"""Takes the picture of the gateway's console in README.md, with the embedded model: docs/assets/console.png.

    python docs/console_screenshot.py

Needs Chromium (Debian's package), Playwright, and what `pip install "trunkline[gateway,llamacpp]"` installs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from gateway_process import ADMIN_KEY, gateway_process  # noqa: E402

QUESTION = "Why is the sky blue? Answer in one sentence."


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        gateway_process(Path(folder) / "data") as gateway,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 690}, device_scale_factor=1.5)
        page.goto(f"{gateway.url}/console")
        page.get_by_label("Key").fill(ADMIN_KEY)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("link", name="Playground", exact=True).click()
        page.get_by_label("Message").fill(QUESTION)
        page.get_by_role("button", name="Send").click()
        page.get_by_text("Finish reason").wait_for()
        page.evaluate("document.activeElement.blur(); window.scrollTo(0, 0)")
        page.screenshot(path=ROOT / "docs" / "assets" / "console.png")
        browser.close()


if __name__ == "__main__":
    main()
