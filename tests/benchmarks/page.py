"""The page as a visitor meets it: time to the first own image, and from a key to its image, in Chromium.

    python -m tests.benchmarks.page --checkpoint birds-256

Starts ``app.py`` and a browser on this machine. A letter is typed, and the time is taken in the browser from the
input event to the moment when the image of the new caption has been decoded: first of the coarsest stage, then of all
stages. The next letter follows when that is done. The first own image is timed from the opening of the page, and the
page from the start of the program.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from tests.app.browser import free_port
from tests.benchmarks.harness import print_versions
from tests.chromium import CHROMIUM

ROOT = Path(__file__).resolve().parents[2]
CAPTION = "a small red bird with black wings and a long pointed beak and a white breast with brown spots"
WATCH = """() => {
  window.times = [];
  let start = null;
  document.addEventListener('input', (event) => {
    if (event.target.matches('#caption textarea')) start = {time: performance.now(), text: event.target.value.trim()};
  });
  new MutationObserver(async () => {
    const results = document.querySelector('#gallery .results');
    const image = results?.querySelector('.card .open img');
    const asked = start;
    if (!asked || !image || results.querySelector('.card .caption')?.textContent !== asked.text) return;
    const kind = results.classList.contains('preview') ? 'coarse' : 'fine';
    if (asked[kind] || asked.fine) return;
    asked[kind] = true;
    await image.decode().catch(() => null);
    window.times.push([asked.text, kind, performance.now() - asked.time]);
  }).observe(document.querySelector('#gallery'), {childList: true, subtree: true, attributes: true});
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="birds-256")
    parser.add_argument("--letters", type=int, default=50)
    parser.add_argument("--count", type=int, default=1, help="images at a time")
    arguments = parser.parse_args()
    print_versions()
    port, start = free_port(), time.monotonic()
    command = [sys.executable, "app.py", "--checkpoint", arguments.checkpoint, "--port", str(port)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as server,
        sync_playwright() as playwright,
    ):
        assert server.stdout is not None
        server.stdout.readline()
        served = time.monotonic() - start
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        opened = time.monotonic()
        page.goto(f"http://127.0.0.1:{port}")
        page.wait_for_selector(".card")
        shown = time.monotonic() - opened
        page.locator("#count input[type=number]").fill(str(arguments.count))
        page.evaluate(WATCH)
        box = page.locator("#caption textarea")
        box.click()
        first = None
        for number in range(arguments.letters):
            if not CAPTION[number].strip():
                page.keyboard.type(" ")
                continue
            page.keyboard.type(CAPTION[number])
            page.wait_for_function(
                "text => window.times.some(([caption, kind]) => caption === text && kind === 'fine')",
                arg=CAPTION[: number + 1].strip(),
            )
            first = first or time.monotonic() - opened
        times = page.evaluate("window.times")
        browser.close()
        server.terminate()
    print(f"from the start of the program until the page is served: {served:.2f} s")
    print(f"from opening the page until it shows images: {shown:.2f} s, until the first own one: {first:.2f} s")
    for kind, name in (("coarse", "coarsest stage"), ("fine", "all stages")):
        taken = np.array([milliseconds for _, which, milliseconds in times if which == kind])
        if len(taken):
            quantiles = f"median {np.median(taken):.0f} ms, p95 {np.quantile(taken, 0.95):.0f} ms"
            print(f"from a key to its image, {name}: {quantiles} ({len(taken)} letters)")


if __name__ == "__main__":
    main()
