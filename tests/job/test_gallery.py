"""The content and the files of a job's gallery and, if there is a browser, its controls."""

import hashlib
import html
import io
import json
import re
from base64 import b64encode

import browser
import numpy as np
import pytest
import torch
from jobs import CLASSES, LABELS, NASTY, make_job, morphs_of

from steerlens_fast.errors import REASONS, JobError
from steerlens_fast.job.folder import JobFolder
from steerlens_fast.job.gallery import write_gallery

pil = pytest.importorskip("PIL.Image")
pytest.importorskip("safetensors")

HAS_BROWSER = bool(browser.CHROMIUM and browser.DRIVER)


def data_of(page) -> dict:
    """Return the data in the page. As in a browser, the script element ends at the first "</script"."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script', page.read_text(), re.S | re.I)
    return json.loads(text)


def morphed(data: dict) -> list[dict]:
    return [example for example in data["examples"] if example["outcome"] != "failed"]


def files_of(folder) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def frames_in(strip: np.ndarray, data: dict) -> list[np.ndarray]:
    h, w, columns = data["height"], data["width"], data["columns"]
    places = [divmod(f, columns) for f in range(data["frames"])]
    return [strip[y * h : (y + 1) * h, x * w : (x + 1) * w] for y, x in places]


# --- Content


@pytest.mark.parametrize("kind", ["safetensors", "wds", "folder"])
@pytest.mark.parametrize("channels", [1, 3])
def test_examples_have_the_numbers_and_frames_of_the_job(kind, channels, tmp_path):
    frames, keys = morphs_of(6, 5, channels), [f"k/{i}" for i in range(6)]
    change = lambda record: record | ({"attained": False} if record["index"] == 3 else {})
    records = make_job(tmp_path, frames, keys, format=kind, failed=(2,), unscored=(3,), change=change)
    page = write_gallery(tmp_path)
    data = data_of(page)
    assert page == tmp_path / "gallery" / "index.html"
    assert (data["items"], data["ok"]) == (6, 5)
    assert data["failures"] == [["truncated", REASONS["truncated"], 1]]
    assert dict(data["facts"])["Model"] == "timm:resnet18" and dict(data["facts"])["Family"] == "csp-phase"
    assert [example["key"] for example in data["examples"]] == keys
    assert data["examples"][2]["image"] is None and data["examples"][2]["message"] == REASONS["truncated"]
    for example, place in zip(morphed(data), [0, 1, 3, 4, 5], strict=True):
        record = records[place]
        assert example["predictions"] == [None if p is None else CLASSES[p] for p in record["predictions"]]
        assert example["missed"] == ([2.0] if place == 3 else [])
        for name in ("key", "probability", "prediction_probability", "l2", "factors", "attained", "gradient_norm"):
            assert example[name] == record[name]
        assert example["source"] == CLASSES[place % 4] and example["target"] == CLASSES[(place + 1) % 4]
        assert example["label"] == LABELS[place % 4]
        strip = np.asarray(pil.open(page.parent / example["image"]))
        for shown, frame in zip(frames_in(strip, data), frames[place], strict=True):
            assert np.array_equal(shown, frame.movedim(0, -1).expand(20, 17, 3).numpy())


@pytest.mark.parametrize(
    "options, expected",
    [
        ({"max_l2": 3.0}, {"Max L2": "3.0"}),
        (
            {"distances": [0.5, 1.0, 2.0, 3.0, 4.0], "target": {"3": 8, "cat": "dog"}},
            {"Target": "map:3=8,cat=dog", "Distances": "0.5, 1.0, 2.0, 3.0, 4.0"},
        ),
        ({"factors": 2.0, "amplitude_factors": 1.0}, {"Factors": "2.0", "Amplitude factors": "1.0"}),
        ({}, {"Max L2": "2.0 (default)"}),
        (
            {"color": "luma", "regime": "live", "steps": 8, "smoothing": {"noise": 0.1, "samples": 4}, "max_l2": 3.0},
            {"Max L2": "3.0", "Color": "luma", "Steps": "8", "Smoothing": "noise=0.1,samples=4"},
        ),
    ],
)
def test_gallery_shows_target_distance_and_changed_settings(options, expected, tmp_path):
    """Target and distance are always shown, other settings only if they are not the defaults."""
    make_job(tmp_path, morphs_of(1), ["a"], **options)
    facts = dict(data_of(write_gallery(tmp_path))["facts"])
    names = ("Target", "Max L2", "Distances", "Factors", "Amplitude factors", "Color", "Steps", "Smoothing")
    assert {name: facts[name] for name in names if name in facts} == {"Target": "runner-up", **expected}


def test_many_wide_frames_are_stored_in_rows(tmp_path):
    """WebP images have at most 16,383 pixels a side."""
    frames = morphs_of(1, 9, 1, (8, 3000))
    make_job(tmp_path, frames, ["wide"])
    page = write_gallery(tmp_path)
    data = data_of(page)
    assert data["columns"] == 5
    strip = np.asarray(pil.open(page.parent / data["examples"][0]["image"]))
    assert strip.shape == (16, 15000, 3)
    assert all(np.array_equal(a[..., 0], b[0].numpy()) for a, b in zip(frames_in(strip, data), frames[0], strict=True))


@pytest.mark.parametrize("sample, shown", [(1, [0]), (2, [0, 9]), (4, [0, 3, 5, 9]), (8, None), (100, None)])
def test_sample_is_spread_evenly(sample, shown, tmp_path):
    """The items that are ok are 0, 2, 3, 4, 5, 6, 7 and 9 (``shown`` None: all of these)."""
    make_job(tmp_path, morphs_of(10, 2), [str(i) for i in range(10)], failed=(1, 8))
    data = data_of(write_gallery(tmp_path, sample=sample))
    keys = [example["key"] for example in morphed(data)]
    assert keys == list(map(str, shown or [0, 2, 3, 4, 5, 6, 7, 9]))
    failed = [example["key"] for example in data["examples"] if example["outcome"] == "failed"]
    assert failed == ["1", "8"][:sample]


def test_only_shards_with_examples_are_read(tmp_path, monkeypatch):
    """For 3 examples, 3 of 10 shards with 4 morphs are opened, and one morph is read from each."""
    make_job(tmp_path, morphs_of(40, 2), [str(i) for i in range(40)])
    reads, read = [], JobFolder.frames

    def watch(job, shard, records):
        reads.append((shard, [r["key"] for r in records]))
        return read(job, shard, records)

    monkeypatch.setattr(JobFolder, "frames", watch)
    write_gallery(tmp_path, sample=3)
    assert reads == [(0, ["0"]), (4, ["19"]), (9, ["39"])]


def test_gallery_that_replaces_an_old_one_has_the_same_files(tmp_path):
    """The files are equal, and nothing of the old gallery is left."""
    make_job(tmp_path, morphs_of(6, 3), [str(i) for i in range(6)])
    write_gallery(tmp_path)
    first, names = files_of(tmp_path / "gallery"), {p.name for p in tmp_path.iterdir()}
    (tmp_path / "gallery" / "images" / "old.webp").write_bytes(b"")
    write_gallery(tmp_path)
    assert files_of(tmp_path / "gallery") == first
    assert {p.name for p in tmp_path.iterdir()} == names


def test_gallery_that_fails_leaves_the_old_one(tmp_path):
    make_job(tmp_path, morphs_of(6, 3), [str(i) for i in range(6)])
    write_gallery(tmp_path)
    before = files_of(tmp_path / "gallery")
    file = tmp_path / "shards" / "00001.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(JobError, match="shard 1 is damaged: 00001.safetensors is damaged"):
        write_gallery(tmp_path)
    assert files_of(tmp_path / "gallery") == before
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("foreign", ["index.html", "images/logo.png", "images/00000099.webp", "maps/a/b", "notes.txt"])
@pytest.mark.parametrize("with_gallery", [False, True])
def test_folder_with_other_files_is_not_replaced(foreign, with_gallery, tmp_path):
    """A gallery is recognised by its content, not by the names of its files."""
    make_job(tmp_path / "job", morphs_of(2, 3), ["a", "b"])
    to = tmp_path / "site"
    if with_gallery:
        write_gallery(tmp_path / "job", to=to)
    (to / foreign).parent.mkdir(parents=True, exist_ok=True)
    (to / foreign).write_text("mine")
    before = files_of(to)
    with pytest.raises(JobError, match="to must be a new folder or a gallery's folder, got .*site with other files, e"):
        write_gallery(tmp_path / "job", to=to)
    assert files_of(to) == before


def test_folder_that_has_only_a_gallery_is_replaced(tmp_path):
    for name, n in (("a", 3), ("b", 2)):
        make_job(tmp_path / name, morphs_of(n, 3), [str(i) for i in range(n)], failed=(1,))
    to = tmp_path / "site"
    to.mkdir()
    for name in ("a", "b"):
        write_gallery(tmp_path / name, to=to)
    assert sorted(files_of(to)) == ["images/00000000.webp", "index.html", "maps/00000000.webp"]


def test_galleries_of_bad_jobs_raise(tmp_path):
    with pytest.raises(JobError, match="out must be a job's folder"):
        write_gallery(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(JobError, match="out must be a job's folder"):
        write_gallery(tmp_path / "file")
    make_job(tmp_path / "job", morphs_of(1), ["a"])
    with pytest.raises(JobError, match="to must be a folder, got .*file/site, but .*file is a file"):
        write_gallery(tmp_path / "job", to=tmp_path / "file" / "site")
    make_job(tmp_path / "out", morphs_of(1, channels=2), ["a"])
    with pytest.raises(JobError, match="1 channel .* or 3 .*, got 2"):
        write_gallery(tmp_path / "out")


def test_text_does_not_become_markup(tmp_path):
    """Keys, classes and settings are only data in the page; its content security policy allows only its own code."""
    evil = "</script><script>document.title = 'owned'</script><!--<script>"
    make_job(tmp_path, morphs_of(len(NASTY), 2), NASTY, classes=[evil] * 4)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"images/"', json.dumps(evil)))
    page = write_gallery(tmp_path)
    text, data = page.read_text(), data_of(page)
    assert [example["key"] for example in data["examples"]] == NASTY
    assert data["examples"][0]["source"] == dict(data["facts"])["Data"] == evil
    assert "owned'</script" not in text and evil not in text
    assert text.lower().count("<script") == 2 and text.lower().count("</script") == 2
    policy = html.unescape(re.search(r'Content-Security-Policy" content="(.*?)"', text)[1])
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for tag in ("style", "script"):
        (code,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.S)
        assert f"{tag}-src 'sha256-{b64encode(hashlib.sha256(code.encode()).digest()).decode()}'" in policy
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text)


# --- Success

RISING, FALLING, PEAK = (
    [0.1, 0.2, 0.3, 0.5, 0.7, 0.9],
    [0.3, 0.25, 0.2, 0.15, 0.1, 0.05],
    [0.1, 0.9, 0.9, 0.8, 0.6, 0.4],
)


def with_outcome(index: int, record: dict) -> dict:
    """Return the record of an item with the outcome number ``index``.

    0: target reached. 1: not reached; the last probability is below the source's. 2: not reached; the last probability
    is above the source's, but below an earlier frame's. 3: target already predicted for the source. 4: reached, and the
    label is not predicted. 5: not scored. 6: failed, with frames. 7: truncated file.
    """
    if index == 7:
        return record
    probability = {1: FALLING, 2: PEAK, 3: [0.9] * 6}.get(index, RISING)
    source, target = 0, 0 if index == 3 else 1
    answers = {"source": source, "target": target, "label": 2 if index == 4 else 0, "probability": probability}
    answers["predictions"] = [target if p >= 0.5 else source for p in probability]
    answers["prediction_probability"] = [max(p, round(1 - p, 2)) for p in probability]
    if index == 5:
        answers |= {"predictions": [0, *[None] * 5], "probability": [0.1, *[None] * 5]}
    return record | answers | ({"status": "gradient-zero", "message": "zero"} if index == 6 else {})


@pytest.fixture
def mixed_job(tmp_path):
    """A job with one example of each kind of outcome. Its target rule is "label", so that labels are compared."""
    change = lambda record: with_outcome(record["index"], record)
    make_job(tmp_path, morphs_of(8), [f"k/{i}" for i in range(8)], failed=(7,), target="label", change=change)
    return tmp_path


def test_outcomes_and_counts_are_those_of_the_records(mixed_job):
    data = data_of(write_gallery(mixed_job))
    kinds = ["reached", "not-reached", "not-reached", "already-predicted", "reached", "not-scored", "failed", "failed"]
    assert [example["outcome"] for example in data["examples"]] == kinds
    assert [example["fell_below_source"] for example in data["examples"]] == [i == 1 for i in range(8)]
    assert [example["fell_below_earlier"] for example in data["examples"]] == [i in (1, 2) for i in range(8)]
    assert [example["label_differs"] for example in data["examples"][:7]] == [i == 4 for i in range(7)]
    assert data["compare_labels"]
    success = data["success"]
    pairs = success.pop("pairs")
    assert success == {
        "morphs": 6,
        "counted": 4,
        "reached": 2,
        "target_probability": {"source": 0.1, "last": 0.65},
        "fell_below_source": 1,
        "fell_below_earlier": 2,
        "already_predicted": 1,
        "not_scored": 1,
        "labelled": 6,
        "label_differs": 1,
        "pairs_left_out": 0,
    }
    assert [(pair["names"], pair["morphs"], pair["reached"]) for pair in pairs] == [
        (["zero", "one"], 5, 2),
        (["zero", "zero"], 1, None),
    ]


def test_labels_that_are_hardly_predicted_are_not_compared(tmp_path):
    """If the model predicts hardly any label, labels are ignored unless they are the targets."""
    change = lambda record: record | {"label": 3, "source": 0}
    for target in ("runner-up", "label"):
        make_job(tmp_path / target, morphs_of(24, 2), [str(i) for i in range(24)], target=target, change=change)
        assert data_of(write_gallery(tmp_path / target))["compare_labels"] == (target == "label")


def test_head_counts_all_morphs_not_only_those_shown(mixed_job):
    assert data_of(write_gallery(mixed_job, sample=1))["success"]["morphs"] == 6


@pytest.mark.parametrize("channels", [1, 3])
def test_edit_maps_are_the_signed_scaled_differences(channels, tmp_path):
    frames = torch.full((1, 3, channels, 20, 17), 100, dtype=torch.uint8)
    frames[0, 1, 0, 0, 0], frames[0, 2, 0, 0, 0], frames[0, 2, 0, 0, 1] = 125, 0, 151
    make_job(tmp_path, frames, ["a"])
    page = write_gallery(tmp_path)
    data = data_of(page)
    (example,) = data["examples"]
    assert example["scale"] == pytest.approx(100 / 255)
    maps = frames_in(np.asarray(pil.open(page.parent / example["map"])), data)
    # Grey frames: shades of the map RdBu (morphs/differences.py). RGB frames: 128 + 127 * difference / scale
    same = [247] * 3 if channels == 1 else [128] * 3
    assert (maps[0] == same).all() and maps[1][1, 1].tolist() == same
    first = {1: [230, 191, 196], 3: [160, 128, 128]}  # difference 25
    # Differences -100 (the largest magnitude) and 51
    last = {1: ([33, 102, 172], [212, 133, 143]), 3: ([1, 128, 128], [193, 128, 128])}
    assert maps[1][0, 0].tolist() == first[channels]
    assert (maps[2][0, 0].tolist(), maps[2][0, 1].tolist()) == last[channels]


# --- In a browser


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    if not HAS_BROWSER:
        pytest.skip("gallery in a browser: there is no chromium, or no chromedriver")
    with browser.Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def morphs_page(window, tmp_path):
    """An open gallery of eight morphs. All pixels of frame f of morph m are 20 m + 10 f.

    The console of the browser must stay empty.
    """
    colours = torch.arange(8, dtype=torch.uint8)[:, None] * 20 + torch.arange(6, dtype=torch.uint8) * 10
    frames = colours[:, :, None, None, None].expand(8, 6, 3, 20, 17)
    keys = [NASTY[0], *(f"k/{i}" for i in range(1, 8))]
    make_job(tmp_path, frames, keys, unscored=(1,))
    window.log("browser"), window.requests()  # discards earlier entries
    window._post("/window/rect", {"width": 1200, "height": 1600})
    window.open(write_gallery(tmp_path).as_uri())
    window.wait("cards[0].image?.complete && cards[1].image?.complete")
    yield window
    assert [entry for entry in window.log("browser") if entry["level"] != "DEBUG"] == []


def colour_of(window, canvas: str) -> int:
    """Return the colour at the centre of an element."""
    picture = np.asarray(pil.open(io.BytesIO(window.picture(canvas))).convert("RGB"))
    middle = picture[picture.shape[0] // 2, picture.shape[1] // 2]
    assert len(set(middle.tolist())) == 1
    return int(middle[0])


def marker_of(window, card=1) -> str:
    """Return the position of the curve's marker, after it has stopped."""
    script = f"cards[{card - 1}].root.getAnimations({{subtree: true}}).length === 0"
    window.wait(script)
    return window.run(f"return getComputedStyle(cards[{card - 1}].find('.marker')).transform")


def test_gallery_opens_with_the_last_frame_next_to_the_source(morphs_page):
    assert colour_of(morphs_page, ".card .source") == 0
    assert colour_of(morphs_page, ".card .frame") == 50
    assert morphs_page.run("return document.querySelectorAll('.card').length") == 8
    lead = morphs_page.run("return document.getElementById('lead').innerText")
    assert lead == "8 items, 8 morphed, 8 shown"


def test_small_probabilities_are_not_shown_as_zero(morphs_page):
    assert morphs_page.run("return [8e-5, 6e-4, 0, 1, null].map(chance)") == ["< 0.001", "0.001", "0.000", "1.000", "–"]


def test_large_numbers_have_an_exponent_but_counts_have_all_digits(morphs_page):
    assert morphs_page.run("return [8.94e16, 123.45, 0, null].map(number)") == ["8.94e+16", "123", "0", "–"]
    assert morphs_page.run("return [12345, null].map(countText)") == ["12,345", "–"]


def test_distance_does_not_look_like_one_that_was_missed(morphs_page):
    script = "return [[11.9812, []], [11.9812, [12]], [11.9994, [12]], [3.3333, [12]], [null, [12]]]"
    expected = ["12", "11.98", "11.999", "3.33", "–"]
    assert morphs_page.run(f"{script}.map((values) => distance(...values))") == expected


def test_slider_moves_frame_curve_and_numbers(morphs_page):
    """The slider of one example is moved by the keyboard, and changes only this example."""
    before, other = marker_of(morphs_page), marker_of(morphs_page, 3)
    morphs_page.type(".card .slider", browser.KEYS["home"])
    assert colour_of(morphs_page, ".card .frame") == 0
    assert morphs_page.run("return cards[0].find('output').textContent") == "target: 0.002"
    first = marker_of(morphs_page)
    morphs_page.type(".card .slider", browser.KEYS["right"] * 2)
    assert colour_of(morphs_page, ".card .frame") == 20
    assert len({before, first, marker_of(morphs_page)}) == 3
    assert marker_of(morphs_page, 3) == other
    assert morphs_page.run("return cards[0].l2.textContent") == "1"
    assert "frame 3 of 6" in morphs_page.run("return cards[0].slider.getAttribute('aria-valuetext')")
    outline = "const s = getComputedStyle(cards[0].slider); return [s.outlineStyle, parseFloat(s.outlineWidth)]"
    assert morphs_page.run(outline) == ["solid", 2]


def test_all_examples_move_together(morphs_page):
    """All examples are moved by the common slider, by a key, or by playing."""
    frames = "return cards.map((card) => card.frame)"
    morphs_page.type("#all", browser.KEYS["home"])
    assert morphs_page.run(frames) == [0] * 8
    morphs_page.type("body", "..,.")
    assert morphs_page.run(frames) == [2] * 8
    morphs_page.click("#play")
    morphs_page.wait("cards.every((card) => card.frame === 5)")
    morphs_page.wait("cards.every((card) => card.frame === 4)")
    morphs_page.type("body", "p")
    stopped = morphs_page.run(frames)
    assert morphs_page.run("return [document.getElementById('play').textContent, timer]") == ["Play", None]
    assert len(set(stopped)) == 1


def test_frames_that_were_not_scored_are_reported(morphs_page):
    assert morphs_page.run("return cards[1].root.innerText").count("target") == 0
    assert morphs_page.run("return getComputedStyle(cards[1].find('.unscored')).display") != "none"
    assert morphs_page.run("return getComputedStyle(cards[1].find('.marker')).display") == "none"
    assert morphs_page.run("return getComputedStyle(cards[0].find('.unscored')).display") == "none"


def test_markup_in_a_key_is_text(morphs_page):
    assert morphs_page.run("return document.title") == "Morphs of images/, timm:resnet18"
    assert morphs_page.run("return cards[0].find('.key').textContent") == NASTY[0]
    assert morphs_page.run("return document.querySelectorAll('.card img, .card script').length") == 0


def test_right_to_left_class_names_do_not_change_the_order(window, tmp_path):
    """With Hebrew names, too, the source is left of the arrow, and a probability follows its class."""
    make_job(tmp_path, morphs_of(2, 2), ["a", "b"], classes=["אב", "גד", "הו", "זח"])
    window.open(write_gallery(tmp_path).as_uri())
    window.run("document.querySelector('.pairs').open = true")
    for selector in (".card h2", ".card .prediction", ".pairs td"):
        places = window.run(
            f"""const texts = document.createTreeWalker(document.querySelector("{selector}"), NodeFilter.SHOW_TEXT);
            const places = [], range = document.createRange();
            while (texts.nextNode()) if (texts.currentNode.data.trim()) {{
              range.selectNodeContents(texts.currentNode);
              places.push(range.getBoundingClientRect().left);
            }}
            return places"""
        )
        assert len(places) == 3 and places == sorted(places)


def test_gallery_loads_only_its_own_images(morphs_page, tmp_path):
    """Requests are checked after the last example was scrolled into view."""
    morphs_page.run("cards.at(-1).root.scrollIntoView()")
    morphs_page.wait("cards.at(-1).image?.complete && cards.at(-1).image.naturalWidth > 0")
    addresses = [address for address in morphs_page.requests() if not address.startswith(("data:", "about:", "chrome"))]
    root = (tmp_path / "gallery").as_uri()
    assert f"{root}/index.html" in addresses and f"{root}/images/00000007.webp" in addresses
    assert [address for address in addresses if not address.startswith(root)] == []


def test_images_inputs_and_buttons_have_labels(morphs_page):
    """Screen readers read these labels. Ids are unique."""
    script = "return [...document.querySelectorAll('[role=img], input, button')].map(e => e.ariaLabel || e.textContent)"
    names = morphs_page.run(script)
    assert len(names) == 8 * 5 + 3 and all(names)  # five in each card; Play, the common slider, the checkbox
    ids = morphs_page.run("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("width", [360, 1400])
def test_page_fits_the_window(morphs_page, width):
    """Nothing is cut off in the width of a phone or of a desktop."""
    morphs_page._post("/window/rect", {"width": width, "height": 900})
    morphs_page.run("document.querySelector('.pairs').open = true; document.getElementById('maps').click()")
    assert morphs_page.run("return document.documentElement.scrollWidth <= innerWidth")
    columns = morphs_page.run("return getComputedStyle(document.getElementById('cards')).gridTemplateColumns")
    assert len(columns.split()) == (1 if width < 1000 else 3)


@pytest.fixture
def mixed_page(window, mixed_job):
    """The open gallery with one example of each kind. The console of the browser must stay empty."""
    window.log("browser")
    window.open(write_gallery(mixed_job).as_uri())
    window.wait("cards[0].image?.complete")
    yield window
    assert [entry for entry in window.log("browser") if entry["level"] != "DEBUG"] == []


VISIBLE = "[...document.querySelectorAll('.card')].filter((c) => c.offsetParent).map((c) => Number(c.dataset.number))"


def choose(window, select: str, value: str) -> None:
    """Choose an option as by the keyboard, with an event for the page."""
    text = window.run(f"return document.querySelector('#{select} option[value={value}]').text")
    window.type(f"#{select}", text)


@pytest.mark.parametrize(
    "value, count, shown",
    [
        ("all", 8, [0, 1, 2, 3, 4, 5, 6, 7]),
        ("reached", 2, [0, 4]),
        ("not-reached", 2, [1, 2]),
        ("fell-source", 1, [1]),
        ("fell-earlier", 2, [1, 2]),
        ("already-predicted", 1, [3]),
        ("label-differs", 1, [4]),
        ("not-scored", 1, [5]),
        ("failed", 2, [6, 7]),
    ],
)
def test_filters_show_the_right_number(mixed_page, value, count, shown):
    choose(mixed_page, "filter", value)
    assert mixed_page.run("return document.getElementById('filter').value") == value
    assert mixed_page.run(f"return {VISIBLE}") == shown
    assert mixed_page.run("return document.getElementById('filter').selectedOptions[0].text").endswith(f"({count})")
    assert mixed_page.run("return document.getElementById('count').textContent") == f"{count} of 8 examples"


@pytest.mark.parametrize(
    "value, order",
    [
        ("data", [0, 1, 2, 3, 4, 5, 6, 7]),
        ("gain", [0, 4, 6, 2, 3, 1, 5, 7]),
        ("loss", [1, 3, 2, 0, 4, 6, 5, 7]),
        ("fall", [2, 1, 0, 3, 4, 6, 5, 7]),
        ("highest", [0, 3, 4, 6, 2, 1, 5, 7]),
        ("lowest", [1, 2, 0, 3, 4, 6, 5, 7]),
        ("distance", [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_orders_sort_the_examples(mixed_page, value, order):
    """Equal items have the order of the data; items without the number are last."""
    choose(mixed_page, "sort", value)
    assert mixed_page.run(f"return {VISIBLE}") == order


def test_shortcuts_are_off_in_drop_down_lists(mixed_page):
    mixed_page.type("#filter", "d")
    assert not mixed_page.run("return document.getElementById('maps').checked")


def test_only_reached_targets_are_green(mixed_page):
    badges = mixed_page.run("return cards.map((c) => [...c.root.querySelectorAll('.badge')].map((b) => b.innerText))")
    assert badges == [
        ["target reached"],
        ["target not reached", "probability fell below the source's"],
        ["target not reached", "probability fell below an earlier frame's"],
        ["target already predicted for the source"],
        ["target reached", "label differs: due"],
        ["not scored"],
        ["failed: gradient-zero"],
        ["failed: truncated"],
    ]
    green = "return cards.map((c) => c.root.querySelectorAll('.good, .reached').length)"
    assert mixed_page.run(green) == [2, 0, 0, 0, 2, 0, 0, 0]
    shown_classes = "return cards.slice(0, 4).map((c) => c.find('.prediction').textContent)"
    assert mixed_page.run(shown_classes) == [
        f"predicted: {text}" for text in ("one 0.900", "zero 0.950", "zero 0.600", "zero 0.900")
    ]


def test_head_shows_how_many_reached_their_target(mixed_page):
    entries = (
        "return [...document.querySelectorAll('#success dl > div')].map((e) => e.innerText.replace(/\\n+/g, ': '))"
    )
    assert mixed_page.run(entries) == [
        "Target reached: 2 of 4 (50 %)",
        "Median target probability: 0.100 → 0.650",
        "Probability fell below the source's: 1",
        "Probability fell below an earlier frame's: 2",
        "Target already predicted for the source: 1 not counted as reached",
        "Not scored: 1",
        "Label differs from the prediction: 1 of 6",
    ]
    cells = "return [...document.querySelectorAll('#success tr')].map((r) => [...r.children].map((c) => c.textContent))"
    assert mixed_page.run(cells)[1:] == [
        ["zero → one", "5", "2 of 4", "0.100 → 0.650", "1 / 2", "0"],
        ["zero → zero", "1", "–", "– → –", "– / –", "1"],
    ]


def test_head_says_that_the_last_frames_were_not_scored(window, tmp_path):
    make_job(tmp_path, morphs_of(2, 3), ["a", "b"], unscored=(0, 1), score="none")
    window.open(write_gallery(tmp_path).as_uri())
    head = window.run("return document.getElementById('success').innerText")
    assert "Success of all 2 morphs is not known: their last frames were not scored." in head
    assert "Target reached" not in head
    assert window.run("return document.querySelectorAll('.good, .reached').length") == 0


def test_differences_are_shown_when_asked_for(morphs_page):
    """The checkbox, or the key d, shows and loads the differences. They follow the slider."""
    assert not [address for address in morphs_page.requests() if "/maps/" in address]
    assert morphs_page.run("return cards[0].find('.difference').offsetParent") is None
    morphs_page.type("body", "d")
    morphs_page.wait("cards[0].mapImage?.complete")
    assert morphs_page.run("return document.getElementById('maps').checked")
    assert "/maps/00000000.webp" in "".join(morphs_page.requests())
    assert colour_of(morphs_page, ".card .map") == 255  # the last frame has the largest difference, 50 levels
    caption = morphs_page.run("return cards[0].find('.difference figcaption').textContent")
    assert caption == "difference of each channel, ±0.196"
    morphs_page.type(".card .slider", browser.KEYS["home"])
    assert colour_of(morphs_page, ".card .map") == 128
    morphs_page.click("#maps")
    assert morphs_page.run("return cards[0].find('.difference').offsetParent") is None


def test_images_outside_the_window_are_not_loaded(window, tmp_path):
    """All examples are sorted nevertheless."""
    make_job(tmp_path, morphs_of(400, 2, 1, (8, 8)), [str(i) for i in range(400)], shard_size=200)
    window.open(write_gallery(tmp_path, sample=400).as_uri())
    window.wait("cards[0].image?.complete")
    assert window.run("return cards.length") == 400
    assert window.run("return cards.filter((c) => c.image).length") < 60  # loaded up to 600 px from the window
    window.run("document.getElementById('sort').value = 'lowest'; arrange()")
    assert window.run(f"return {VISIBLE}.length") == 400
    window.run("window.scrollTo(0, document.body.scrollHeight)")
    last = window.run(f"return {VISIBLE}.at(-1)")
    window.wait(f"cards[{last}].image?.complete")


def test_page_without_morphs_says_why(window, tmp_path):
    make_job(tmp_path, morphs_of(3, 2), ["a", "b", "c"], failed=(0, 1, 2))
    window.open(write_gallery(tmp_path).as_uri())
    text = window.run("return document.body.innerText")
    assert "nothing to show" in text and REASONS["truncated"] in text and "Play" not in text
    assert "Target reached" not in text
    assert (
        window.run("return [...document.querySelectorAll('.card h2')].map((e) => e.innerText)") == ["not morphed"] * 3
    )
    assert window.log("browser") == []
