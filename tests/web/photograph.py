"""Takes the pictures of the page that are in docs: ``python -m tests.web.photograph``.

Needs Chromium: see ``CONTRIBUTING.rst``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.web.browser import Browser, browser
from tests.web.scenes import Scene, busy_scene, states

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "figures"


def photograph(page: Browser, scene: Scene, folder: Path) -> list[Path]:
    """Take all pictures; their files."""
    taken = []

    def take(name: str) -> None:
        page.run("return new Promise((done) => setTimeout(done, 600))")
        taken.append(folder / f"page-{name}.png")
        assert page.driver.save_screenshot(str(taken[-1]))

    job = states(scene.client, 3)[20]
    page.shape(1280, 1180)
    page.prefer("light")
    page.open(f"{scene.url}/")
    page.wait_for(".map .boards path.powering")
    page.run(
        "document.querySelector('.map .boards path.powering')"
        ".dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    take("light")
    page.prefer("dark")
    take("dark")
    page.prefer("light")
    page.shape(390, 844, 2, phone=True)
    take("phone")
    page.shape(1280, 1240)
    page.go(f"#/job/{job}")
    page.wait_for(".map .boards path.other")
    page.wait_for("section:not([hidden]) tbody tr")
    take("job")
    return taken


def main(folder: Path) -> None:
    """Take all pictures into a folder."""
    with (
        tempfile.TemporaryDirectory() as state,
        busy_scene(Path(state)) as scene,
        browser() as page,
    ):
        for path in photograph(page, scene, folder):
            print(path)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
