"""The rating form in a browser.

It is filled in by keys and clicks, closed and opened again, saved and tallied.
"""

import json
import time

import browser
import pytest
from jobs import make_jobs

from steerlens_fast.rating import tally, write_form

KEYS = browser.KEYS
HAS_BROWSER = bool(browser.CHROMIUM and browser.DRIVER)


@pytest.fixture
def window(tmp_path):
    if not HAS_BROWSER:
        pytest.skip("form in a browser: there is no chromium, or no chromedriver")
    with browser.Browser(tmp_path / "profile") as opened:
        yield opened


@pytest.fixture
def form(tmp_path):
    return write_form(make_jobs(tmp_path)[0], tmp_path / "form", count=6)


def ready(window, place: int) -> None:
    window.wait(f"place === {place} && shownAt !== null")


def saved(folder, window):
    """Save the answers as a file and return its path."""
    window.download_to(folder)
    window.click("#download")
    name = window.run("return document.querySelector('#done').textContent").removeprefix("Saved as ").removesuffix(".")
    end = time.monotonic() + 20
    while not (folder / name).exists() and time.monotonic() < end:  # a complete file gets this name
        time.sleep(0.05)
    return folder / name


def test_form_is_filled_in_by_keys_and_tallied(window, form, tmp_path):
    """The answers are the target for every morph, and the source for other images. The form is reopened in between."""
    key = {trial["id"]: trial for trial in json.loads(form.key.read_text())["trials"]}
    window.requests()  # discards earlier requests
    window.open(form.page.as_uri())
    window.type("#rater", f"zwölf 12{KEYS['enter']}")
    for place in range(6):
        if place == 3:
            window.open("about:blank")
            window.open(form.page.as_uri())
        ready(window, place)
        trial = key[window.run("return trialAt(place).id")]
        # Whether the choice to make is on the left: for a morph the target, for an unedited image the source.
        left = (trial["target_choice"] == "first") == (trial["condition"] != "unedited")
        offered = window.run("return [...document.querySelectorAll('#choices bdi')].map((e) => e.textContent)")
        assert offered[0 if left else 1] == trial["target_name" if trial["condition"] != "unedited" else "source_name"]
        window.type("body", KEYS["left" if left else "right"])
        window.type("body", "5" if trial["condition"] == "unedited" else "2")
    window.wait("!byId('end').hidden")
    assert window.run("return byId('summary').textContent") == "zwölf 12: 6 of 6 images are rated."
    result = tally(form.key.parent, saved(tmp_path, window))
    assert (
        result["raters"][0]["rater"] == "zwölf 12" and result["raters"][0]["answered"] == 2 * 6
    )  # two questions for each image
    for family in ("csp-phase", "pixel"):
        condition = result["conditions"][family]
        assert (condition["target"]["value"], condition["naturalness"]["value"]) == (1.0, 2.0)
        assert condition["seconds"] is not None
    unedited = result["conditions"]["unedited"]
    assert (unedited["source"]["value"], unedited["naturalness"]["value"]) == (1.0, 5.0)
    requests = [
        address for address in window.requests() if address.partition(":")[0] not in ("chrome", "about", "data")
    ]
    assert {address for address in requests if not address.startswith("blob:")} == {form.page.as_uri()}
    assert [entry for entry in window.log("browser") if entry["level"] != "DEBUG"] == []


def test_form_can_be_used_on_a_phone(window, form):
    """The page fits the window. Answers can be changed, skipped images are shown again, another rater can begin."""
    window.resize(390, 844)
    window.open(form.page.as_uri())
    window.type("#rater", "bo")
    window.click("#begin button")
    ready(window, 0)
    fits = "document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight"
    assert window.run(f"return {fits}")
    answer = "return [state.answers[trialAt(0).id].choice, state.answers[trialAt(0).id].naturalness]"
    window.click("[data-value=neither]")
    window.click("#scale [data-value='4']")
    ready(window, 1)
    window.click("#back")
    ready(window, 0)
    window.click("[data-value=first]")
    assert window.run(answer) == ["first", 4]
    window.click("#next")
    ready(window, 1)
    window.click("#next")  # skipped
    ready(window, 2)
    window.click("#stop")
    exported = json.loads(window.run("return byId('text').value"))
    assert [(a["choice"], a["naturalness"], a["position"]) for a in exported["answers"]] == [("first", 4, 0)]
    window.click("#resume")
    ready(window, 1)
    window.click("#stop")
    window.run("window.confirm = () => true")
    window.click("#another")
    assert window.run("return [localStorage.length, byId('start').hidden]") == [0, False]
