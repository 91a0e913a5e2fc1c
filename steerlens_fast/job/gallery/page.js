"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const last = data.frames - 1, byId = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const missing = (x) => x === null || x === undefined;
const number = (x) => (missing(x) ? "–" : Math.abs(x) >= 1e6 ? x.toExponential(2) : String(Number(x.toPrecision(3))));
// With 3 digits, or up to 7 where fewer would look like a distance that was missed (distance_text.py)
const distance = (x, missedDistances) => {
  let digits = 3;
  while (digits < 7 && missedDistances.some((d) => x?.toPrecision(digits) === d.toPrecision(digits))) digits += 1;
  return digits === 3 ? number(x) : String(Number(x.toPrecision(digits)));
};
const countText = (n) => (missing(n) ? "–" : n.toLocaleString("en"));
const chance = (p) => (missing(p) ? "–" : p > 0 && p < 0.0005 ? "< 0.001" : p.toFixed(3));
const many = (n, what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`;

function element(name, text, kind) {
  const node = document.createElement(name);
  node.textContent = text;  // never markup: keys and names come from the data
  if (kind) node.className = kind;
  return node;
}

function entry(list, term, text) {
  const item = document.createElement("div"), value = element("dd", text);
  item.append(element("dt", term), value);
  list.append(item);
  return value;
}

const isolated = (name) => element("bdi", name);  // a right-to-left name must not reorder the text around it

// --- One example

class Card {
  constructor(example) {
    this.example = example;
    this.root = byId("card").content.cloneNode(true).firstElementChild;
    this.find = (selector) => this.root.querySelector(selector);
    this.find(".from").textContent = example.source ?? "?";
    this.find(".to").textContent = example.target ?? "?";
    this.find(".key").textContent = example.key;
    this.badges();
    this.slider = this.find(".slider");
    this.hasFrames = example.image !== null;
    if (!this.hasFrames) {
      this.root.classList.add("without-frames");
      this.find("h2").textContent = "not morphed";
      for (const part of [".pair", ".slider", ".curve-and-numbers", ".numbers"]) this.find(part).hidden = true;
      return;
    }
    this.slider.max = last;
    this.slider.setAttribute("aria-label", `Frame of ${example.key}`);
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    for (const canvas of this.root.querySelectorAll("canvas")) {
      canvas.width = data.width;
      canvas.height = data.height;
    }
    this.describe();
    this.curve();
  }

  badges() {
    const {example} = this;
    for (const [text, kind] of badgesOf(example)) this.find(".badges").append(element("span", text, `badge ${kind}`));
    if (example.message) {
      this.find(".message").textContent = example.message;
      this.find(".message").hidden = false;
    }
    this.root.classList.toggle("quiet", example.already_predicted === true || example.outcome === "failed");
  }

  describe() {
    const {example} = this, list = this.find(".numbers"), {attained} = example;
    const startsAtSource = example.factors[example.start] === 0 || example.l2[example.start] === 0;
    this.find(".source").setAttribute("aria-label", `Source image of ${example.key}`);
    const place = `frame ${example.start + 1}, nearest to the source`;
    this.find("figure figcaption").textContent = startsAtSource ? "source" : place;
    const from = startsAtSource ? "" : ` from frame ${example.start + 1}`;
    this.mapOrigin = startsAtSource ? "the source" : `frame ${example.start + 1}`;
    const scale = `difference${data.channels === 1 ? "" : " of each channel"}${from}, ±${number(example.scale)}`;
    const caption = this.find(".difference figcaption");
    caption.textContent = scale;
    if (data.channels === 1) caption.append(element("span", "", "ramp"));
    caption.title = "pixel values range from 0 to 1; the middle colour means no difference";
    this.l2 = entry(list, "L2", "");
    this.factor = entry(list, "Factor", "");
    if (attained !== null) {
      const some = Array.isArray(attained) ? `${attained.filter(Boolean).length} of ${attained.length}` : null;
      entry(list, "Distance attained", some ?? (attained ? "yes" : "no"));
    }
    entry(list, "Gradient norm", number(example.gradient_norm));
    if (example.label !== null) entry(list, "Label", example.label);
  }

  at(frame) {  // position of a frame in the plot; null if it was not scored
    const p = this.example.probability[frame];
    return p === null ? null : {x: last ? 20 + 374 * frame / last : 207, y: 90 - 78 * p};
  }

  curve() {
    const known = this.example.probability.map((_, f) => this.at(f));
    let path = "";
    known.forEach((p, f) => { if (p) path += `${known[f - 1] ? "L" : "M"}${p.x.toFixed(1)} ${p.y.toFixed(1)}`; });
    this.find(".curve").setAttribute("d", path);
    for (const p of known.filter(Boolean)) {
      const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
      const attributes = {class: "dot", cx: p.x, cy: p.y, r: 2.5};
      for (const [name, value] of Object.entries(attributes)) dot.setAttribute(name, value);
      this.find(".dots").append(dot);
    }
    this.unscored = !known.some(Boolean);
    this.find(".unscored").toggleAttribute("hidden", !this.unscored);
    const texts = this.example.probability.map((p) => (p === null ? "not scored" : chance(p)));
    const scored = this.unscored ? "not scored" : texts.join(", ");
    this.find("svg").setAttribute("aria-label", `Probability of ${this.example.target} in each frame: ${scored}`);
  }

  show(frame) {
    if (!this.hasFrames) return;
    const {example} = this, p = example.probability[frame], place = `frame ${frame + 1} of ${data.frames}`;
    const prediction = this.find(".prediction"), predicted = example.predictions[frame];
    const probability = p === null ? "not scored" : chance(p);
    this.frame = frame;
    this.slider.value = frame;
    this.slider.setAttribute("aria-valuetext", `${place}, probability ${probability}`);
    this.find(".frame").setAttribute("aria-label", `${place} of ${example.key}`);
    this.find(".shown-frame figcaption").textContent = place;
    this.find(".map").setAttribute("aria-label", `Difference of ${place} from ${this.mapOrigin}, ${example.key}`);
    const share = example.prediction_probability[frame];
    const known = predicted === null ? [] : ["predicted: ", isolated(predicted), share === null ? "" : ` ${chance(share)}`];
    prediction.replaceChildren(...known);
    const counts = example.outcome !== "failed" && !example.already_predicted;
    prediction.classList.toggle("reached", counts && p !== null && predicted === example.target);
    this.find("output").textContent = p === null && this.unscored ? "" : `target: ${probability}`;
    this.l2.textContent = distance(example.l2[frame], example.missed);
    this.factor.textContent = number(example.factors[frame]);
    this.mark();
    this.draw(".frame", frame, this.image);
    this.draw(".map", frame, this.mapImage);
  }

  mark() {
    const p = this.at(this.frame);
    for (const name of [".marker", ".cursor"]) this.find(name).toggleAttribute("hidden", !p);
    if (!p) return;
    this.find(".marker").style.transform = `translate(${p.x}px, ${p.y}px)`;
    this.find(".cursor").style.transform = `translateX(${p.x}px)`;
  }

  load() {  // called when the card is near the window, since there may be hundreds
    if (!this.hasFrames) return;
    this.image ??= this.loaded(this.example.image, () => {
      this.draw(".source", this.example.start, this.image);
      this.draw(".frame", this.frame, this.image);
    });
    if (mapsShown()) this.mapImage ??= this.loaded(this.example.map, () => this.draw(".map", this.frame, this.mapImage));
  }

  loaded(address, draw) {
    const image = new Image();
    image.onload = draw;
    image.onerror = () => { this.find("figcaption").textContent = `${address} cannot be loaded`; };
    image.src = address;
    return image;
  }

  showMap(on) {
    if (!this.hasFrames) return;
    this.find(".difference").hidden = !on;
    this.find(".pair").classList.toggle("with-map", on);
    if (on && this.image) this.load();  // others are loaded when they are near the window
  }

  // Draws one frame of an image with all frames, if it is loaded.
  draw(canvas, frame, image) {
    if (!image?.complete || !image.naturalWidth) return;
    const {width: w, height: h, columns} = data, x = (frame % columns) * w, y = Math.floor(frame / columns) * h;
    this.find(canvas).getContext("2d").drawImage(image, x, y, w, h, 0, 0, w, h);
  }
}

// --- Outcomes

function badgesOf(example) {
  const badges = {
    reached: [["target reached", "good"]],
    "not-reached": [["target not reached", ""]],
    "already-predicted": [["target already predicted for the source", "warn"]],
    "not-scored": [["not scored", ""]],
    failed: [[`failed: ${example.status}`, "bad"]],
  }[example.outcome];
  if (example.outcome === "failed" && example.already_predicted) badges.push(["target already predicted for the source", "warn"]);
  if (example.fell_below_source) badges.push(["probability fell below the source's", "bad"]);
  else if (example.fell_below_earlier) badges.push(["probability fell below an earlier frame's", "warn"]);
  if (data.compare_labels && example.label_differs) badges.push([`label differs: ${example.label}`, "warn"]);
  if (example.status === "ok" && [example.attained].flat().includes(false)) badges.push(["distance not attained", "warn"]);
  return badges;
}

const FILTERS = {
  all: ["all examples", () => true],
  reached: ["target reached", (e) => e.outcome === "reached"],
  "not-reached": ["target not reached", (e) => e.outcome === "not-reached"],
  "fell-source": ["probability fell below the source's", (e) => e.fell_below_source === true],
  "fell-earlier": ["probability fell below an earlier frame's", (e) => e.fell_below_earlier === true],
  "already-predicted": ["target already predicted for the source", (e) => e.already_predicted === true],
  "label-differs": ["label differs from the prediction", (e) => data.compare_labels && e.label_differs === true],
  "not-scored": ["not scored", (e) => e.outcome === "not-scored"],
  failed: ["failed", (e) => e.outcome === "failed"],
};

const end = (e) => e.probability?.at(-1) ?? null;
const begin = (e) => e.probability?.[e.start] ?? null;
const best = (e) => (end(e) === null ? null : Math.max(...e.probability.filter((p) => p !== null)));
const minus = (a, b) => (a === null || b === null ? null : a - b);
const SORTS = {  // in decreasing order; examples without a value are last
  data: ["order of the data", (e) => -e.index],
  gain: ["largest gain of target probability", (e) => minus(end(e), begin(e))],
  loss: ["smallest gain of target probability", (e) => minus(begin(e), end(e))],
  fall: ["largest fall from the best frame", (e) => minus(best(e), end(e))],
  highest: ["highest target probability at the end", end],
  lowest: ["lowest target probability at the end", (e) => minus(0, end(e))],
  distance: ["largest L2", (e) => e.l2?.at(-1) ?? null],
};

// --- All examples

const cards = data.examples.map((example) => new Card(example));
let step = -1, timer = null;

function showAll(frame) {
  byId("all").value = frame;
  byId("place").textContent = `Frame ${frame + 1} of ${data.frames}`;
  for (const card of cards) card.show(frame);
}

const mapsShown = () => byId("maps").checked;

function showMaps() {
  for (const card of cards) card.showMap(mapsShown());
}

function arrange() {
  const [, passes] = FILTERS[byId("filter").value], [, value] = SORTS[byId("sort").value];
  const key = new Map(cards.map((card) => [card, value(card.example) ?? -Infinity]));
  const ordered = [...cards].sort((a, b) => (key.get(b) > key.get(a)) - (key.get(b) < key.get(a)));
  for (const card of cards) card.root.hidden = !passes(card.example);
  byId("cards").append(...ordered.map((card) => card.root));
  const shown = cards.filter((card) => !card.root.hidden).length;
  byId("count").textContent = `${shown} of ${many(cards.length, "example")}`;
}

function choices(select, entries, count) {
  for (const [value, [text]] of Object.entries(entries)) {
    const option = element("option", count ? `${text} (${count(value)})` : text);
    option.value = value;
    option.disabled = count !== undefined && count(value) === 0;
    select.append(option);
  }
  select.addEventListener("change", arrange);
}

function play(on) {
  clearTimeout(timer);
  timer = null;
  byId("play").textContent = on ? "Pause" : "Play";
  if (on) timer = setTimeout(next, 0);
}

function next() {  // forward and backward, with a pause at both ends
  const frame = Number(byId("all").value);
  if (frame + step > last || frame + step < 0) step = -step;
  const to = Math.min(Math.max(frame + step, 0), last), atEnd = to === 0 || to === last;
  showAll(to);
  timer = setTimeout(next, calm.matches ? 1500 : atEnd ? 900 : 150);
}

function move(by) {
  play(false);
  showAll(Math.min(Math.max(Number(byId("all").value) + by, 0), last));
}

byId("play").addEventListener("click", () => play(timer === null));
byId("maps").addEventListener("change", showMaps);
byId("all").addEventListener("input", () => { play(false); showAll(Number(byId("all").value)); });
document.addEventListener("keydown", (event) => {
  const differences = () => { byId("maps").checked = !mapsShown(); showMaps(); };
  const action = {",": () => move(-1), ".": () => move(1), p: () => play(timer === null), d: differences}[event.key];
  if (event.target.closest?.("select")) return;  // there, letters select an option
  if (!action || event.ctrlKey || event.metaKey || event.altKey || !cards.length) return;
  event.preventDefault();
  action();
});

// --- The page

function showSuccess() {
  const {success} = data, section = byId("success"), list = section.querySelector("dl");
  const percent = (n, all) => ` (${(100 * n / all).toFixed(0)} %)`, {source, last: end} = success.target_probability;
  const add = (term, n, rest = "") => entry(list, term, n.toLocaleString("en")).append(element("small", rest));
  section.hidden = success.morphs === 0;
  section.querySelector("p").textContent = success.counted
    ? `Success of all ${many(success.morphs, "morph")}:`
    : `Success of all ${many(success.morphs, "morph")} is not known: ` +
      (success.not_scored ? "their last frames were not scored." : "every target was already predicted for the source.");
  if (success.counted) {
    add("Target reached", success.reached, ` of ${success.counted.toLocaleString("en")}` +
      percent(success.reached, success.counted));
    entry(list, "Median target probability", `${chance(source)} → ${chance(end)}`);
    if (success.fell_below_source !== null) add("Probability fell below the source's", success.fell_below_source);
    if (success.fell_below_earlier !== null) add("Probability fell below an earlier frame's", success.fell_below_earlier);
  }
  add("Target already predicted for the source", success.already_predicted, success.already_predicted ? " not counted as reached" : "");
  if (success.not_scored) add("Not scored", success.not_scored);
  if (success.labelled && data.compare_labels) {
    add("Label differs from the prediction", success.label_differs, ` of ${success.labelled.toLocaleString("en")}`);
  }
  showPairs(section.querySelector("details"), success);
}

function showPairs(details, success) {
  const table = details.querySelector("table"), row = (cells, kind) => {
    const node = document.createElement("tr");
    node.append(...cells.map((text) => element(kind, text)));
    table.append(node);
    return node;
  };
  details.hidden = success.pairs.length === 0;
  details.querySelector("summary").textContent =
    `By class pair: ${many(success.pairs.length + success.pairs_left_out, "pair")}, the most frequent first`;
  row(["source → target", "morphs", "target reached", "median target probability",
    "probability fell below the source's / an earlier frame's", "target already predicted for the source"], "th");
  for (const pair of success.pairs) {
    const {source, last: end} = pair.target_probability;
    const cells = row(["", String(pair.morphs), pair.reached === null ? "–" : `${pair.reached} of ${pair.counted}`,
      `${chance(source)} → ${chance(end)}`, `${countText(pair.fell_below_source)} / ${countText(pair.fell_below_earlier)}`,
      String(pair.already_predicted)], "td");
    const [from, to] = pair.names.map(isolated);
    cells.firstElementChild.append(from, " → ", to);
  }
  const left = success.pairs_left_out;
  details.querySelector("p").textContent = left ? `${many(left, "more pair")} ${left === 1 ? "is" : "are"} not listed.` : "";
}

function start() {
  const shown = data.examples.length - data.examples.filter((e) => e.outcome === "failed").length;
  const failed = data.failures.reduce((sum, [, , n]) => sum + n, 0);
  byId("lead").textContent = `${many(data.items, "item")}, ${data.ok.toLocaleString("en")} morphed, ${shown} shown` +
    (failed ? `, ${failed.toLocaleString("en")} failed` : "");
  for (const [term, text] of data.facts) entry(byId("facts"), term, text);
  if (failed) {
    byId("failures").hidden = false;
    byId("failures").firstElementChild.textContent = `Failed: ${many(failed, "item")}, by reason`;
    for (const [reason, sentence, n] of data.failures) {
      const line = element("li", `${reason}: ${sentence} `);
      line.append(element("strong", n.toLocaleString("en")));
      byId("failures").lastElementChild.append(line);
    }
  }
  showSuccess();
  byId("nothing").hidden = shown > 0;
  byId("nothing").textContent = "There is nothing to show: no item has been morphed so far.";
  byId("tools").hidden = !cards.length;
  byId("bar").hidden = !cards.some((card) => card.hasFrames);
  choices(byId("filter"), FILTERS, (name) => data.examples.filter(FILTERS[name][1]).length);
  choices(byId("sort"), SORTS);
  byId("all").max = last;
  const small = data.width <= 96 && data.height <= 96;
  byId("cards").classList.toggle("small", small);
  byId("cards").style.setProperty("--image-width", `${data.width}px`);
  arrange();
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) cards[entry.target.dataset.number].load();
  }, {rootMargin: "600px"});
  cards.forEach((card, n) => { card.root.dataset.number = n; near.observe(card.root); });
  showAll(last);  // the last frame beside the source
}

start();
