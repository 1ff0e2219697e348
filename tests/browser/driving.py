"""A browser as a test sees it: opens pages, reads them, and keeps what went wrong in them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client

from tests.polling import eventually

SCREENSHOTS = "FLEXMETER_SCREENSHOTS"
"""Environment variable: the directory that screenshots are written to; without it there are none."""

HEIGHTS = {390: 844, 1280: 900}


class Look(NamedTuple):
    """How a page is looked at: the width in pixels, and whether the reader prefers dark colours."""

    width: int = 1280
    dark: bool = False

    def __str__(self) -> str:
        return f"{self.width}-{'dark' if self.dark else 'light'}"


MANY = os.environ.get("EXAMPLES", "1") != "1"
LOOKS = [Look(width, dark) for width in (1280, 390) for dark in (False, True) if MANY or dark == (width == 390)]

in_every_look = pytest.mark.parametrize("browser", LOOKS, indirect=True, ids=str)
"""Run a test wide in light and narrow in dark; with EXAMPLES in the environment at both widths in both."""

on_a_phone = pytest.mark.parametrize("browser", [Look(390)], indirect=True, ids=str)


class Browser:
    """Chromium on one test's live server. `driver` is Selenium's, for what this does not offer."""

    def __init__(self, driver: Any, base_url: str, look: Look) -> None:
        self.driver, self.base_url, self.look = driver, base_url, look
        self.forget()
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": look.width, "height": HEIGHTS[look.width], "deviceScaleFactor": 1, "mobile": look.width < 600},
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if look.dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})

    def forget(self) -> None:
        """Drop cookies, what pages stored, and what was logged."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": self.base_url, "storageTypes": "all"})
        self.driver.get_log("browser")
        self.driver.get_log("performance")

    def sign_in(self, user: User) -> None:
        client = Client()
        client.force_login(user)
        name = settings.SESSION_COOKIE_NAME
        cookie = {"name": name, "value": client.cookies[name].value, "url": self.base_url, "httpOnly": True}
        self.driver.execute_cdp_cmd("Network.setCookie", cookie)

    def open(self, path: str, query: Mapping[str, str] | None = None) -> None:
        """Load a page and hold it against what every page must be."""
        self.driver.get(self.base_url + path + (f"?{urlencode(query)}" if query else ""))
        self.check_layout()

    def click(self, selector: str) -> None:
        """Click the one element that is meant, as a reader would."""
        element = self.one(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def follow(self, text: str) -> None:
        """Click the first link with just that text and wait for another page."""
        before = self.driver.current_url
        link = eventually(lambda: self.driver.find_elements("link text", text))[0]
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)
        link.click()
        eventually(lambda: self.driver.current_url != before)
        self.check_layout()

    def fill(self, selector: str, text: str) -> None:
        element = self.one(selector)
        element.clear()
        element.send_keys(text)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        """The one element that is meant; what has been clicked before may take a moment to bring it."""
        eventually(lambda: self.all(selector))
        elements = self.all(selector)
        assert len(elements) == 1, f"{selector} is there {len(elements)} times"
        return elements[0]

    def text(self, selector: str = "#content") -> str:
        """The text that can be read, as laid out."""
        return "\n".join(self.texts(selector))

    def texts(self, selector: str) -> list[str]:
        """What can be read in each element, one after the other."""
        script = "return [...document.querySelectorAll(arguments[0])].map(element => element.innerText)"
        return list(self.run(script, selector))

    def see(self, text: str, selector: str = "#content") -> None:
        """Wait until a text can be read."""
        from selenium.common.exceptions import WebDriverException

        def is_read() -> bool:
            with suppress(WebDriverException):  # the page may just be giving way to the next
                return text in self.text(selector)
            return False

        eventually(is_read)

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def screenshot(self, name: str, *, whole: bool = True) -> None:
        """Keep how it looks, as `NAME-WIDTH-SCHEME.png`."""
        if directory := os.environ.get(SCREENSHOTS):
            path = Path(directory)
            path.mkdir(parents=True, exist_ok=True)
            height = self.run("return document.documentElement.scrollHeight") if whole else HEIGHTS[self.look.width]
            self._resize(min(int(height), 6_000))
            (path / f"{name}-{self.look}.png").write_bytes(self.driver.get_screenshot_as_png())
            self._resize(HEIGHTS[self.look.width])

    def _resize(self, height: int) -> None:
        width = self.look.width
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def check_layout(self) -> None:
        """No page is wider than the screen."""
        width = self.run("return document.documentElement.scrollWidth")
        assert width <= self.look.width, f"{self.driver.current_url} is {width} pixels wide on a screen of {self.look.width}"

    def check_log(self) -> None:
        """Nothing failed on any page, nothing was refused by the policy, and no other host was asked for anything."""
        severe = [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
        severe = [message for message in severe if "/favicon.ico " not in message]  # asked for by the browser, not by a page
        assert not severe, severe
        foreign = [url for url in self._requested() if urlsplit(url).scheme in ("http", "https", "ws", "wss")]
        foreign = [url for url in foreign if not url.startswith(self.base_url)]
        assert not foreign, foreign
        assert not self.run("return window.hacked"), "a script of an event has run"

    def _requested(self) -> list[str]:
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
