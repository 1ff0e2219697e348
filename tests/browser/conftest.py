import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from tests.browser.driving import Browser, Look
from tests.requirements import PROGRAMS, only_on, requires

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--lang=en-GB",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(requires("chromium", "chromedriver", "selenium"))
            item.add_marker(only_on("sqlite"))  # what a browser shows does not depend on the database


def program(name: str) -> str:
    return next(filter(None, map(shutil.which, PROGRAMS[name])))


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium.common.exceptions import WebDriverException

    try:
        driver = started(tmp_path_factory.mktemp("chromium"))
    except WebDriverException:  # a busy machine may take longer than the programs wait for each other
        driver = started(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


def started(profile: Path) -> Any:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program("chromium")
    for argument in [*ARGUMENTS, f"--user-data-dir={profile}"]:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=program("chromedriver")))
    driver.set_page_load_timeout(180)
    driver.set_script_timeout(180)
    driver.command_executor.client_config.timeout = 240
    return driver


@pytest.fixture
def browser(request: pytest.FixtureRequest, driver: Any, live_server: Any) -> Iterator[Browser]:
    """A signed-out browser at 1280 pixels in light colours, or as parametrised with a Look."""
    browser = Browser(driver, live_server.url, getattr(request, "param", Look()))
    yield browser
    browser.check_layout()
    browser.check_log()
    browser.forget()


@pytest.fixture
def signed_in(browser: Browser, transactional_db: None) -> Browser:
    """A browser of somebody who may do everything."""
    browser.sign_in(User.objects.create_superuser("root", password="root"))
    return browser


@pytest.fixture
def looking(browser: Browser, transactional_db: None) -> Browser:
    """A browser of somebody who may look at everything of flexmeter, and do nothing."""
    user = User.objects.create_user("viewer", password="viewer", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="flexmeter", codename__startswith="view_"))
    browser.sign_in(user)
    return browser
