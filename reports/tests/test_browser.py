"""The page in a real Chromium, driven by keyboard and mouse."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

selenium = pytest.importorskip("selenium", reason="selenium is not installed (extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="no chromium and chromedriver (Debian: chromium, chromium-driver)"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1280,1000",
    ):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, page_path: Path) -> Any:
    browser.get("about:blank")
    browser.get_log("browser"), browser.get_log("performance")
    browser.get(page_path.as_uri())
    return browser


def _all(page: Any, css: str) -> list[Any]:
    from selenium.webdriver.common.by import By

    return list(page.find_elements(By.CSS_SELECTOR, css))


def _shown(page: Any) -> list[str]:
    return [panel.get_attribute("id") for panel in _all(page, "[role=tabpanel]") if panel.is_displayed()]


def _wait(condition: Any) -> None:
    limit = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < limit, "nothing happened in 10 s"
        time.sleep(0.05)


def test_opens_without_an_error_and_without_the_network(page: Any) -> None:
    _wait(lambda: _all(page, ".explorer")[0].get_attribute("data-ready"))
    assert page.get_log("browser") == []
    requests = [entry["message"] for entry in page.get_log("performance") if 'requestWillBeSent"' in entry["message"]]
    assert not any('"url":"http' in message for message in requests)
    assert _all(page, "#verdict")[0].is_displayed()
    assert _all(page, "#verdict")[0].location["y"] < 200


def test_tabs_by_mouse_and_keyboard(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    buttons = _all(page, "[role=tab]")
    assert _shown(page) == ["r0-overview"]
    for button in buttons:
        button.click()
        assert _shown(page) == [button.get_attribute("aria-controls")]
        assert button.get_attribute("aria-selected") == "true"
    buttons[-1].send_keys(Keys.HOME)
    assert _shown(page) == ["r0-overview"]
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert _shown(page) == ["r0-clips"]
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    page.switch_to.active_element.send_keys(Keys.END)
    assert _shown(page) == ["r0-method"]
    assert [b.get_attribute("tabindex") for b in buttons].count("0") == 1
    assert page.current_url.endswith("#r0-method")
    page.refresh()
    assert _shown(page) == ["r0-method"]


def test_sorting_by_value_with_empty_cells_last(page: Any) -> None:
    _all(page, "#tab-r0-clips")[0].click()

    def column() -> list[str]:
        return [row.text.split("\n")[0] for row in _all(page, "#r0-table-clips tbody tr > :nth-child(5)")]

    head = _all(page, "#r0-table-clips thead th:nth-child(5)")[0]
    button = _all(page, "#r0-table-clips thead th:nth-child(5) button")[0]
    before = column()
    button.click()
    up = column()
    assert head.get_attribute("aria-sort") == "ascending"
    button.click()
    down = column()
    assert head.get_attribute("aria-sort") == "descending"
    numbers = [float(text.split()[0]) for text in up[:-1]]
    assert numbers == sorted(numbers) and len(numbers) == 2
    assert down[:-1] == up[:-1][::-1]
    assert up[-1] == down[-1] == "–"
    assert sorted(before) == sorted(up)


def test_traces_follow_the_choice_and_the_arrow_keys(page: Any, made: dict[str, Any]) -> None:
    from selenium.webdriver.common.keys import Keys
    from selenium.webdriver.support.select import Select

    _all(page, "#tab-r0-units")[0].click()
    _wait(lambda: _all(page, ".explorer")[0].get_attribute("data-ready"))
    Select(_all(page, ".explorer .clip")[0]).select_by_visible_text("first")
    Select(_all(page, ".explorer .au")[0]).select_by_visible_text("AU12")
    _all(page, ".plot")[0].send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    both = made["clips"][0]["series"]["intensity"]["AU12_r"]
    text = _all(page, ".read")[0].text
    assert text.startswith("frame 3 (n = 60)")
    assert f"C++ {both['reference'][2]:.2f}, pyfaceau {both['other'][2]:.2f}" in text
    drawn = _all(page, ".plot .ref")[0].get_attribute("d")
    assert drawn.count("L") == 59 and drawn.count("M") == 1


def test_filter_of_a_long_table(page: Any) -> None:
    from selenium.webdriver.support.select import Select

    _all(page, "#tab-r0-units")[0].click()
    _all(page, "details summary")[0].click()
    Select(_all(page, "select.filter")[0]).select_by_visible_text("first")
    rows = [row for row in _all(page, "#r0-table-au_r tbody tr") if row.is_displayed()]
    assert len(rows) == 4 and all(row.text.startswith("first") for row in rows)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone_and_is_readable_on_both_papers(page: Any, scheme: str) -> None:
    size = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        for button in _all(page, "[role=tab]"):
            page.execute_script("arguments[0].click()", button)
            assert page.execute_script("return document.documentElement.scrollWidth") <= 390, button.text
        # Ink and notes on paper: the contrast that WCAG 2 asks for small text (AA).
        assert page.execute_script(_CONTRAST, "--ink") > 7
        for name in ("--muted", "--pass", "--fail", "--unsure"):
            assert page.execute_script(_CONTRAST, name) > 4.5, name
        for name in ("--ours", "--ref"):
            assert page.execute_script(_CONTRAST, name) > 3, name
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


_CONTRAST = """
const style = getComputedStyle(document.documentElement);
const luminance = (name) => {
  const hex = style.getPropertyValue(name).trim().slice(1);
  const parts = [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
};
const [a, b] = [luminance(arguments[0]), luminance("--paper")].sort((x, y) => y - x);
return (a + 0.05) / (b + 0.05);
"""


def test_all_is_there_without_javascript(page: Any, page_path: Path) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.get(page_path.as_uri())
        assert len(_shown(page)) == len(_all(page, "[role=tabpanel]")) == 9
        assert not _all(page, "[role=tablist]")[0].is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
