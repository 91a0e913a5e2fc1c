"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const many = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;
const storageKey = `steerlens-fast rating ${data.form}`;
const count = data.trials.length;
const SCALE = [1, 2, 3, 4, 5];
const SECONDS = 6;  // time that an image takes, for the estimate on the first page
const PAUSE = 180;  // milliseconds for which the last answer stays visible before the next image

let state = load();  // {rater, session, started, answers: {id: {...}}}
let place = 0;  // position in this rater's order
let timer = null;  // timer of the step to the next image
let shownAt = null;  // time at which the image was drawn; null before that, and after both answers

// --- Answers, kept in the browser

function load() {
  try {
    const stored = JSON.parse(localStorage.getItem(storageKey));
    return stored?.rater && stored.answers ? stored : null;
  } catch {
    return null;
  }
}

function save() {
  try {
    localStorage.setItem(storageKey, JSON.stringify(state));
  } catch {
    byId("unsaved").hidden = false;
  }
}

function begin(rater) {
  const session = [...crypto.getRandomValues(new Uint8Array(8))].map((b) => b.toString(16).padStart(2, "0")).join("");
  state = {rater, session, started: new Date().toISOString(), answers: {}};
  save();
  show(0);
}

// The pseudonym decides where in the order a rater starts. Most raters therefore have different first and last images.
const offset = () => [...state.rater].reduce((hash, letter) => (31 * hash + letter.codePointAt(0)) % count, 0);
const trialAt = (position) => data.trials[(position + offset()) % count];
const answerTo = (trial) => state.answers[trial.id] ?? {};
const isComplete = (answer) => Boolean(answer.choice && answer.naturalness);
const missing = () => [...Array(count).keys()].filter((position) => !isComplete(answerTo(trialAt(position))));

function answer(name, value) {
  if (shownAt === null) return;  // the image is not drawn yet, or the next one is about to be shown
  const trial = trialAt(place), before = answerTo(trial);
  const milliseconds = Math.round(performance.now() - shownAt);
  const now = {...before, [name]: value, [`${name}_ms`]: milliseconds, answered: new Date().toISOString(), position: place};
  state.answers[trial.id] = now;
  save();
  mark();
  if (!isComplete(before) && isComplete(now)) {
    shownAt = null;
    timer = setTimeout(forward, PAUSE);
  }
}

// --- One image

function show(position) {
  place = position;
  shownAt = null;
  const trial = trialAt(place), images = byId("images"), [height, width] = trial.size;
  clearTimeout(timer);
  section("trial");
  // If the last answer's button kept the focus, Enter would give the same answer to this image.
  if (document.activeElement?.matches(".choices *, .scale *")) document.activeElement.blur();
  images.classList.add("waiting");
  images.classList.toggle("small", Math.max(height, width) <= 96);
  images.style.setProperty("--width", `${width}px`);
  images.style.setProperty("--ratio", width / height);
  images.style.setProperty("--count", data.show_source ? 2 : 1);
  images.style.setProperty("--zoom", Math.max(1, Math.floor(448 / Math.max(height, width))));
  byId("image").src = trial.image;
  byId("source-figure").hidden = byId("caption").hidden = !data.show_source;
  if (data.show_source) byId("source").src = trial.source;
  for (const [value, text] of [["first", trial.choices[0]], ["second", trial.choices[1]]]) {
    byId("choices").querySelector(`[data-value=${value}] bdi`).textContent = text;
  }
  byId("bar").max = count;
  byId("place").textContent = `${place + 1} of ${count}`;
  byId("back").disabled = place === 0;
  mark();
  const loaded = [byId("image"), ...(data.show_source ? [byId("source")] : [])].map((image) => image.decode());
  Promise.all(loaded).catch(() => {}).then(() => requestAnimationFrame(() => {
    if (position !== place || byId("trial").hidden) return;
    images.classList.remove("waiting");
    shownAt = performance.now();
  }));
}

function mark() {
  const {choice, naturalness} = answerTo(trialAt(place));
  for (const button of byId("choices").children) button.setAttribute("aria-pressed", button.dataset.value === choice);
  for (const button of byId("scale").children) button.setAttribute("aria-pressed", Number(button.dataset.value) === naturalness);
  byId("bar").value = count - missing().length;
  byId("next").textContent = isComplete({choice, naturalness}) ? "Next" : "Skip";
}

function forward() {
  if (place + 1 < count) show(place + 1);
  else finish();
}

function back() {
  if (place > 0) show(place - 1);
}

// --- The end

function finish() {
  const left = missing().length;
  section("end");
  byId("end-title").textContent = left ? "Your answers so far" : "Thank you";
  byId("summary").textContent = `${state.rater}: ${count - left} of ${count} images are rated.`;
  byId("resume").textContent = left ? `Rate the other ${left}` : "Look at the answers again";
  byId("text").value = JSON.stringify(exported(), null, 1);
  byId("done").textContent = "";
}

function exported() {
  const {rater, session, started} = state;
  const answers = data.trials.filter((trial) => state.answers[trial.id]).map(({id}) => ({id, ...state.answers[id]}));
  const about = {format: "steerlens-fast ratings", form: data.form, jobs: data.jobs, rater, session, started};
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const screen = {width: innerWidth, height: innerHeight, density: devicePixelRatio, dark};
  return {...about, exported: new Date().toISOString(), screen, images: count, answers};
}

function download() {
  const link = document.createElement("a");
  const name = state.rater.replace(/[^\p{L}\p{N}_-]+/gu, "-");
  link.href = URL.createObjectURL(new Blob([byId("text").value], {type: "application/json"}));
  link.download = `ratings-${data.form}-${name}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  byId("done").textContent = `Saved as ${link.download}.`;
}

async function copy() {
  try {
    await navigator.clipboard.writeText(byId("text").value);
  } catch {  // not allowed for local files in some browsers
    byId("text").select();
    document.execCommand("copy");
  }
  byId("done").textContent = "Copied.";
}

function resume() {
  const left = missing();
  show(left.length ? left[0] : 0);
}

function another() {
  const text = `The answers of ${state.rater} will be removed from this browser. Are they saved as a file?`;
  if (!confirm(text)) return;
  state = null;
  try {
    localStorage.removeItem(storageKey);
  } catch { /* nothing was kept */ }
  start();
}

// --- The page

function section(name) {
  for (const part of document.querySelectorAll("section")) part.hidden = part.id !== name;
}

function start() {
  if (state) return missing().length ? resume() : finish();
  section("start");
  byId("rater").value = "";
  byId("lead").textContent = `${many(count, "image")}, about ${many(Math.ceil(count * SECONDS / 60), "minute")}.`;
  byId("shown").textContent = data.show_source
    ? "You will see pairs of images, one pair at a time. The right one may have been changed by a computer. For each:"
    : "You will see one image at a time. Each may have been changed by a computer. For each:";
}

for (const value of SCALE) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.value = button.textContent = value;
  byId("scale").append(button);
}
for (const [id, name, read] of [["choices", "choice", String], ["scale", "naturalness", Number]]) {
  for (const button of byId(id).children) button.addEventListener("click", () => answer(name, read(button.dataset.value)));
}
byId("begin").addEventListener("submit", (event) => {
  event.preventDefault();
  const rater = byId("rater").value.trim();
  if (rater) begin(rater);
});
byId("back").addEventListener("click", back);
byId("next").addEventListener("click", forward);
byId("stop").addEventListener("click", finish);
byId("download").addEventListener("click", download);
byId("copy").addEventListener("click", copy);
byId("resume").addEventListener("click", resume);
byId("another").addEventListener("click", another);

document.addEventListener("keydown", (event) => {
  if (byId("trial").hidden || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const arrows = {ArrowLeft: "first", ArrowRight: "second", ArrowDown: "neither"};
  const number = SCALE.find((value) => String(value) === event.key);
  if (event.key in arrows) answer("choice", arrows[event.key]);
  else if (number) answer("naturalness", number);
  else if (event.key === "Backspace") back();
  else return;
  event.preventDefault();
});
addEventListener("storage", (event) => {  // the form is open in another tab, too
  if (event.key !== storageKey) return;
  state = load();
  start();
});

start();
