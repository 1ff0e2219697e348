"""The admin in a theme of bare elements, which has no colours by name: what it shows can be read and used all the same."""

from __future__ import annotations

import pytest

from tests.admin.every_page import every_page
from tests.admin.theme import dress
from tests.browser.driving import in_every_look

READABLE = """
const root = document.querySelector(".fm");
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const channels = color => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].map(channel => channel / 255);
};
const over = (upper, lower) => upper.slice(0, 3).map((channel, place) => channel * upper[3] + lower[place] * (1 - upper[3]));
const light = color => {
  const [red, green, blue] = color.map(channel => channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const contrast = (one, other) => (Math.max(light(one), light(other)) + 0.05) / (Math.min(light(one), light(other)) + 0.05);
const behind = element => {
  const layers = [];
  for (let each = element; each; each = each.parentElement) {
    layers.unshift(channels(getComputedStyle(each).backgroundColor));
  }
  return layers.reduce((lower, upper) => over(upper, lower), [1, 1, 1]);
};
const isSeen = element => element.getClientRects().length && getComputedStyle(element).visibility === "visible";
const told = element => element.id || element.className.baseVal || element.className || element.textContent.slice(0, 20);
const found = [];
const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.textContent.trim() || !isSeen(element) || element.closest("option, title, desc")) {
    continue;
  }
  const style = getComputedStyle(element);
  const ground = behind(element);
  const shown = over(channels(element.namespaceURI.endsWith("svg") ? style.fill : style.color), ground);
  if (contrast(shown, ground) < 4.5) {
    found.push(`${told(element)} can hardly be read: ${contrast(shown, ground).toFixed(1)}`);
  }
}
for (const bar of root.querySelectorAll(".fm-chart-bar, .fm-spark path")) {
  if (isSeen(bar) && contrast(over(channels(getComputedStyle(bar).fill), behind(bar)), behind(bar)) < 3) {
    found.push("a bar can hardly be seen");
    break;
  }
}
const controls = [...root.querySelectorAll("input:not([type=hidden]), select, textarea, button, a.button")].filter(isSeen);
for (const control of controls) {
  const style = getComputedStyle(control);
  const isPressed = control.matches("button, .button, [type=submit]");
  const around = behind(control.parentElement);
  const edge = parseFloat(style.borderTopWidth) ? contrast(over(channels(style.borderTopColor), around), around) : 1;
  const surface = contrast(behind(control), around);
  if (!control.matches("[type=checkbox]") && Math.max(isPressed ? 1 : edge, surface) < 1.4) {
    found.push(`${told(control)} does not look like a control`);
  }
  control.scrollIntoView({block: "center"});
  const place = control.getBoundingClientRect();
  const hit = document.elementFromPoint(place.left + place.width / 2, place.top + place.height / 2);
  if (hit !== control && !control.contains(hit)) {
    found.push(`${told(control)} lies under something else`);
  }
}
for (const link of root.querySelectorAll("a[href]:not(.button)")) {
  const parent = getComputedStyle(link.parentElement);
  if (isSeen(link) && !link.closest("svg") && getComputedStyle(link).color === parent.color) {
    found.push(`the link ${told(link)} looks like other text`);
  }
}
return [...new Set(found)];
"""


@pytest.fixture
def themed(settings):
    dress(settings)


@in_every_look
def test_all_that_a_page_shows_can_be_read_and_used(themed, signed_in):
    for name, address in every_page().items():
        if name.endswith("_history"):
            continue  # all of it is the theme's
        signed_in.open(address)
        assert signed_in.all("body.bare"), name
        assert signed_in.all(".fm"), name
        assert signed_in.run(READABLE) == [], name
        signed_in.screenshot(f"theme-{name}")


def test_a_list_is_narrowed_and_acted_on(themed, signed_in):
    every_page()
    signed_in.open("/admin/flexmeter/event/")
    signed_in.fill("#id_event_id", "e-2")
    signed_in.click(".fm-apply input")
    signed_in.see("1 event", "footer")
    signed_in.follow("Watch live")
    signed_in.see("e-2", "#live-rows")
    signed_in.open("/admin/flexmeter/meter/")
    signed_in.follow("m-total")
    signed_in.click("input[name=preview]")
    signed_in.see("Preview: nothing is saved yet")
    assert signed_in.run(READABLE) == []
