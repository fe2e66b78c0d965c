"""A real browser, without a window."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import (
    NoSuchElementException,
    StaleElementReferenceException,
)
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from tests.support import wait_until

AXE = Path(__file__).parent / "axe" / "axe.min.js"

CHROMIUM = "/usr/bin/chromium"
DRIVER = "/usr/bin/chromedriver"

FLAGS = (
    *("--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb"),
    # No process of its own for each page that is opened, nor one beforehand.
    *("--renderer-process-limit=1", "--disable-site-isolation-trials"),
    "--disable-features=IsolateOrigins,site-per-process,SpareRendererForSitePerProcess",
)


class Browser:
    """A Chromium with one page."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def shape(
        self, width: int, height: int, scale: float = 1, phone: bool = False
    ) -> None:
        """Set the size of the page, in CSS pixels."""
        metrics: dict[str, Any] = {"width": width, "height": height}
        metrics |= {"deviceScaleFactor": scale, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefer(self, scheme: str) -> None:
        """Have the system prefer light or dark."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [feature]}
        )

    def open(self, url: str) -> None:
        """Go to a page, and wait for what the server tells it."""
        self.driver.get(url)
        self.wait_for("#connection.live")
        self.wait_for(".panel")

    def go(self, fragment: str) -> None:
        """Follow a link within the page."""
        self.run(f"location.hash = {fragment!r}")

    def all(self, selector: str) -> list[WebElement]:
        """All elements that a selector of CSS finds."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        """The first element that a selector of CSS finds."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """The text of the first such element, "" where there is none."""
        with contextlib.suppress(
            NoSuchElementException, StaleElementReferenceException
        ):
            return str(self.one(selector).text)
        return ""

    def texts(self, selector: str) -> list[str]:
        """The texts of all such elements, shown or not."""
        found = self.run(
            "return [...document.querySelectorAll(arguments[0])]"
            ".map((element) => element.textContent)",
            selector,
        )
        assert isinstance(found, list)
        return found

    def choose(self, selector: str, value: str) -> None:
        """Choose one of a list."""
        Select(self.one(selector)).select_by_value(value)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript; what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait_for(self, selector: str) -> WebElement:
        """Wait for an element."""
        return wait_until(lambda: self.all(selector))[0]

    def wait_while(self, selector: str) -> None:
        """Wait until there is no such element."""
        wait_until(lambda: not self.all(selector))

    def wait_for_text(self, selector: str, *parts: str) -> None:
        """Wait until a text contains all parts."""
        wait_until(lambda: all(part in self.text(selector) for part in parts))

    def wait(self, condition: Callable[[], Any]) -> Any:
        """Wait until something is true, on a page that is changing meanwhile."""

        def safe() -> Any:
            with contextlib.suppress(
                NoSuchElementException,
                StaleElementReferenceException,
                LookupError,
            ):
                return condition()
            return None

        return wait_until(safe)

    def wheel(self, at: tuple[float, float], down: float) -> None:
        """Turn the wheel at a point of the window, so many pixels downwards."""
        self.driver.execute_cdp_cmd(
            "Input.dispatchMouseEvent",
            {
                **{"type": "mouseWheel", "x": at[0], "y": at[1]},
                **{"deltaX": 0, "deltaY": down},
            },
        )

    def drag(self, *way: tuple[float, float]) -> None:
        """Drag with the left button, from the first point of the window to the last."""
        kinds = ["mousePressed", *["mouseMoved"] * len(way[1:]), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*way, way[-1]], strict=True):
            event = {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1}
            event["buttons"] = 0 if kind == "mouseReleased" else 1
            self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", event)

    def touch(self, *steps: list[tuple[float, float]]) -> None:
        """Put fingers to points of the window, move them in steps, and lift them."""
        kinds = ["touchStart", *["touchMove"] * len(steps[1:]), "touchEnd"]
        for kind, points in zip(kinds, [*steps, []], strict=True):
            fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
            event = {"type": kind, "touchPoints": fingers}
            self.driver.execute_cdp_cmd("Input.dispatchTouchEvent", event)

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of an element, in the window."""
        x, y, width, height = self.run(
            "const box = document.querySelector(arguments[0]).getBoundingClientRect();"
            "return [box.x, box.y, box.width, box.height]",
            selector,
        )
        return x + width / 2, y + height / 2

    def audit(self) -> list[str]:
        """What axe finds on the page against the WCAG, levels A and AA."""
        if not self.run("return Boolean(window.axe)"):
            self.run(AXE.read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0];"
            "axe.run(document, {"
            "  runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'],"
            "  resultTypes: ['violations']"
            "}).then(({violations}) => done(violations), (e) => done([String(e)]))"
        )
        assert isinstance(found, list)
        return [
            f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}"
            for one in found
            for node in one["nodes"]
        ]

    def complaints(self) -> list[str]:
        """What the browser has complained about since the last time: its console."""
        # Chromium complains of connections that are refused, which is no fault of ours.
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")  # type: ignore[no-untyped-call]
            if "ERR_CONNECTION_REFUSED" not in entry["message"]
            and "ERR_INCOMPLETE_CHUNKED_ENCODING" not in entry["message"]
        ]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """Run a browser until left."""
    for program in (CHROMIUM, DRIVER):
        if not os.path.exists(program):
            problem = f"no {program}: apt-get install chromium chromium-driver"
            if os.environ.get("SPALLOC_TESTS_NEED_BROWSER"):
                raise FileNotFoundError(problem)
            pytest.skip(problem)
    options = Options()
    options.binary_location = CHROMIUM
    profile = tempfile.mkdtemp(prefix="spalloc-page-")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield Browser(driver)
    finally:
        driver.quit()
        shutil.rmtree(profile, ignore_errors=True)
