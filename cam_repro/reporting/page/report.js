"use strict";

/* Shows what Python drew: images, their heatmaps as small grey images, and boxes [x1, y1, x2, y2], both corners inside,
   in the image's own pixels. */

/** Little-endian uint16 in base64 -> Uint16Array. */
const decoded = (base64) => new Uint16Array(Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0)).buffer);

const area = (box) => Math.max(box[2] - box[0] + 1, 0) * Math.max(box[3] - box[1] + 1, 0);

function iou(a, b) {
  const common = area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
  return common / (area(a) + area(b) - common);
}

const bestIou = (box, boxes) => Math.max(...boxes.map((other) => iou(box, other)));

/* What is shown. */

const FIRST = 12; // images shown before the rest is asked for
const CARD = 300, LARGE = 900; // pixels of the longer side that are drawn
const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const state = {
  sides: [0, -1], // numbers of runs; -1: nothing beside the first
  shown: "true", // whose map: the true class's, or the number of a guess
  rule: "paper", // or the release's "loose" or "tight" box
  threshold: 20, // percent of a map's maximum
  opacity: 0.6,
  kind: "", // the kind of guess that is shown alone
  sort: "",
  all: false,
  open: -1, // the image that is enlarged
};
const hasBoxes = data.images.some((image) => image.boxes.length);
const kinds = Object.keys(data.kinds);
const networks = [...new Set(data.runs.map((run) => run.network))];
const colours = Uint8Array.from({ length: 3 * 256 }, (_, at) => {
  const share = Math.floor(at / 3) / 255, centre = [0.75, 0.5, 0.25][at % 3];
  return 255 * Math.min(Math.max(1.5 - 4 * Math.abs(share - centre), 0), 1);
});
for (const run of data.runs) {
  for (const rule of Object.values(run.rules)) rule.corners = decoded(rule.boxes);
}

/** What is shown of a run: its boxes by the paper's rule, at every stop, or by the release's, loose and tight. */
const ruleOf = (run) => (state.rule === "paper" ? run.rules.paper : run.rules.release);
const stop = () => (state.rule === "paper" ? state.threshold / data.step : +(state.rule === "tight"));

/** The place of the true class's map among those of an image: a guess's, or the last. */
const truePlace = (rule, image) => (rule.right[image] < 0 ? rule.guesses[image].length : rule.right[image]);

function boxOf(rule, image, place) {
  const stops = rule.kinds[image].length, maps = rule.guesses[image].length + 1;
  const at = 4 * ((image * maps + place) * stops + stop());
  return [...rule.corners.subarray(at, at + 4)];
}

/** An image by a run at the present settings; where there is no true box, no box can be right or wrong. */
function judged(run, image) {
  const rule = ruleOf(run), last = rule.guesses[image].length - 1;
  const place = state.shown === "true" ? truePlace(rule, image) : Math.min(+state.shown, last);
  const boxes = data.images[image].boxes, box = boxOf(rule, image, place);
  const kind = kinds[rule.kinds[image][stop()]] || "";
  const view = { run, rule, place, box, kind, heat: rule.heats[image][place], iou: NaN, known: false };
  if (!boxes.length) return view;
  const known = bestIou(boxOf(rule, image, truePlace(rule, image)), boxes) >= 0.5;
  return { ...view, iou: bestIou(box, boxes), known };
}

const heats = new Map();

/** A heatmap's grey image, decoded once. */
function heatOf(base64) {
  if (!heats.has(base64)) {
    const image = new Image();
    image.src = `data:image/webp;base64,${base64}`;
    heats.set(base64, image.decode().then(() => image));
  }
  return heats.get(base64);
}

/** Heat and boxes over an image, at most `side` pixels wide or high. */
async function draw(canvas, number, view, side) {
  const { width, height, boxes } = data.images[number], scale = side / Math.max(width, height);
  canvas.view = view;
  const heat = await heatOf(view.heat);
  if (canvas.view !== view) return; // another was asked for since
  canvas.width = Math.max(Math.round(width * scale), 1);
  canvas.height = Math.max(Math.round(height * scale), 1);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(heat, 0, 0, canvas.width, canvas.height);
  const coloured = context.getImageData(0, 0, canvas.width, canvas.height), pixels = coloured.data;
  const cut = state.rule === "paper" ? (255 * state.threshold) / 100 : data.levels[0];
  for (let at = 0; at < pixels.length; at += 4) {
    const value = pixels[at];
    pixels[at] = colours[3 * value];
    pixels[at + 1] = colours[3 * value + 1];
    pixels[at + 2] = colours[3 * value + 2];
    pixels[at + 3] = 255 * state.opacity * (value > cut ? 1 : 0.35);
  }
  context.putImageData(coloured, 0, 0);
  const style = getComputedStyle(document.documentElement), thick = canvas.width / 130 + 1;
  const outline = ([x1, y1, x2, y2], colour, dash) => {
    for (const [stroke, width] of [["rgb(0 0 0 / 55%)", 2 * thick], [colour, thick]]) {
      context.lineWidth = width;
      context.strokeStyle = stroke;
      context.setLineDash(stroke === colour ? dash : []);
      const [across, down] = [(x2 + 1 - x1) * scale - 2 * thick, (y2 + 1 - y1) * scale - 2 * thick];
      context.strokeRect(x1 * scale + thick, y1 * scale + thick, Math.max(across, 1), Math.max(down, 1));
    }
  };
  boxes.forEach((of) => outline(of, style.getPropertyValue("--true"), [3 * thick, 2 * thick]));
  outline(view.box, style.getPropertyValue("--predicted"), []);
}

function made(tag, text = "", className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
}

const runName = (run) => `${run.network}, ${run.method}`;
const swatch = (kind) => {
  const node = made("i", "", "swatch");
  node.style.setProperty("--colour", `var(--${kind})`);
  return node;
};

/** As many frames, each the image under a canvas, as there are sides. */
function framed(pair, number, count) {
  while (pair.children.length > count) pair.lastChild.remove();
  while (pair.children.length < count) {
    const frame = made("span", "", "frame"), image = document.createElement("img");
    frame.append(image, document.createElement("canvas"));
    pair.append(frame);
  }
  const { name, label, src, width, height } = data.images[number];
  pair.style.setProperty("--ratio", width / height);
  for (const image of pair.querySelectorAll("img")) {
    if (image.dataset.number === String(number)) continue;
    Object.assign(image, { src, width, height, alt: `${label} (${name})` }).dataset.number = number;
  }
}

/** The true class, and below each frame the guess, the box's IoU and the failure; `whole`: all that is known. */
function words(node, number, views, whole) {
  const { label, name, boxes } = data.images[number];
  node.replaceChildren(made("b", label));
  for (const { run, rule, place, box, iou: overlap, kind } of views) {
    const column = made("span"), guesses = rule.guesses[number], guess = state.shown === "true" ? 0 : place;
    const why = place === 0 ? data.kinds[kind] : `best guess: ${data.kinds[kind]}`; // the box may be another class's
    const found = boxes.length ? `IoU ${overlap.toFixed(2)} · ${why}` : data.kinds[kind] || "no true box";
    const verdict = made("span", found, "kind");
    if (kind) verdict.prepend(swatch(kind));
    if (whole) column.append(made("small", runName(run)));
    column.append(made("span", `${rule.right[number] === guess ? "✓" : "✗"} ${guesses[guess]}`), verdict);
    if (whole) column.append(made("small", `box ${box.join(" ")}`), made("small", `guesses: ${guesses.join(" · ")}`));
    node.append(column);
  }
  if (whole) node.append(made("small", name));
}

const cards = data.images.map((_, number) => {
  const card = element("card").content.firstElementChild.cloneNode(true);
  card.addEventListener("click", () => open(number));
  return card;
});
const inSight = new Set();
let views = [], order = [];
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const number = cards.indexOf(target);
    if (isIntersecting) inSight.add(number), paint(number);
    else inSight.delete(number);
  }
}, { rootMargin: "200px" });
cards.forEach((card) => watcher.observe(card));

function paint(number) {
  framed(cards[number].querySelector(".pair"), number, views[number].length);
  const canvases = cards[number].querySelectorAll("canvas");
  canvases.forEach((canvas, side) => draw(canvas, number, views[number][side], CARD));
}

/** Everything that follows from the state: boxes, counts, filter, order, and what is in sight anew. */
function update() {
  const runs = state.sides.filter((number) => number >= 0).map((number) => data.runs[number]);
  const released = runs.every((run) => run.rules.release);
  if (!released) state.rule = "paper";
  for (const option of element("rule").options) option.disabled = option.value !== "paper" && !released;
  element("rule").value = state.rule;
  views = data.images.map((_, number) => runs.map((run) => judged(run, number)));
  const withBoxes = data.images.filter((image) => image.boxes.length).length;
  element("counts").replaceChildren(...runs.map((run, side) => {
    if (!hasBoxes) {
      const right = views.filter((view) => view[side].kind === kinds[0]).length;
      return made("span", `${runName(run)}: ${right} of ${views.length} right`);
    }
    const known = views.filter((view) => view[side].known).length;
    const share = `${Math.round((100 * known) / withBoxes)}\u00a0%`;
    return made("span", `${runName(run)}: GT-known ${known} of ${withBoxes}, ${share}`);
  }));
  for (const label of element("kinds").querySelectorAll("label")) {
    const kind = label.querySelector("input").value;
    const count = kind ? views.filter((view) => view[0].kind === kind).length : views.length;
    label.querySelector("span").textContent = `${kind ? data.kinds[kind] : "all"} ${count}`;
  }
  document.querySelectorAll(".threshold").forEach((slider) => {
    slider.value = state.threshold;
    slider.disabled = state.rule !== "paper";
  });
  document.querySelectorAll(".percent").forEach((output) => {
    output.textContent = state.rule === "paper" ? `${state.threshold} %` : `${data.levels.join(", ")} of 255`;
  });
  const sign = { falling: -1, rising: 1 }[state.sort];
  order = [...views.keys()].filter((number) => !state.kind || views[number][0].kind === state.kind);
  if (sign) order.sort((a, b) => sign * ((views[a][0].iou || 0) - (views[b][0].iou || 0)) || a - b);
  const shown = state.all ? order : order.slice(0, FIRST);
  const now = shown.map((number) => cards[number]), list = element("cards"), before = [...list.children];
  if (now.length !== before.length || now.some((card, place) => card !== before[place])) list.replaceChildren(...now);
  if (!now.length) list.replaceChildren(made("p", "There is no such image at this threshold.", "none"));
  list.classList.toggle("two", runs.length > 1);
  element("more").hidden = shown.length === order.length;
  element("more").textContent = `Show all ${order.length} images`;
  shown.forEach((number) => {
    framed(cards[number].querySelector(".pair"), number, runs.length);
    words(cards[number].querySelector(".words"), number, views[number], false);
  });
  inSight.forEach(paint);
  if (state.open >= 0) paintLarge();
}

function open(number) {
  state.open = number;
  paintLarge();
  if (!element("large").open) element("large").showModal();
}

function paintLarge() {
  const dialog = element("large"), pair = dialog.querySelector(".pair");
  framed(pair, state.open, views[state.open].length);
  pair.querySelectorAll("canvas").forEach((canvas, side) => draw(canvas, state.open, views[state.open][side], LARGE));
  words(dialog.querySelector(".words"), state.open, views[state.open], true);
}

function step(by) {
  const place = order.indexOf(state.open);
  if (order.length) open(order[(place + by + order.length) % order.length]);
}

let waiting = false;
function change(settings) {
  Object.assign(state, settings);
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; update(); });
}

/* The switches. */

function fill(select, names, chosen) {
  select.replaceChildren(...names.map(([value, text]) => Object.assign(made("option", text), { value })));
  select.value = chosen;
}

/** The methods of the chosen network, and the run that both name; the second side may be empty. */
function chooseSide(side) {
  const network = element(`network${side}`).value, method = element(`method${side}`);
  const methods = data.runs.filter((run) => run.network === network).map((run) => run.method);
  fill(method, methods.map((name) => [name, name]), methods.includes(method.value) ? method.value : methods[0]);
  method.disabled = !network;
  const sides = [...state.sides];
  sides[side] = data.runs.findIndex((run) => run.network === network && run.method === method.value);
  change({ sides });
}

fill(element("network0"), networks.map((name) => [name, name]), networks[0]);
fill(element("network1"), [["", "nothing"], ...networks.map((name) => [name, name])], networks[1] || "");
for (const side of [0, 1]) {
  element(`network${side}`).addEventListener("change", () => chooseSide(side));
  element(`method${side}`).addEventListener("change", () => chooseSide(side));
  chooseSide(side);
}
const guesses = Math.max(...data.runs.map((run) => run.rules.paper.guesses[0].length));
for (const option of element("shown").options) option.hidden = +option.value >= guesses;
for (const key of ["shown", "rule", "sort"]) {
  element(key).addEventListener("change", (event) => change({ [key]: event.target.value }));
}
element("opacity").addEventListener("input", (event) => change({ opacity: event.target.value / 100 }));
document.querySelectorAll(".threshold").forEach((slider) =>
  slider.addEventListener("input", () => change({ threshold: +slider.value })));
element("reset").addEventListener("click", () => change({ threshold: 20 }));
for (const kind of ["", ...Object.keys(data.kinds)]) {
  const label = made("label"), input = made("input");
  Object.assign(input, { type: "radio", name: "kind", value: kind, checked: !kind });
  input.addEventListener("change", () => change({ kind }));
  label.append(input, ...(kind ? [swatch(kind)] : []), made("span"));
  element("kinds").append(label);
}
element("more").addEventListener("click", () => change({ all: true }));
element("previous").addEventListener("click", () => step(-1));
element("next").addEventListener("click", () => step(1));
element("close").addEventListener("click", () => element("large").close());
element("large").addEventListener("close", () => { cards[state.open].focus(); state.open = -1; });
element("large").addEventListener("click", (event) => {
  if (event.target === element("large")) element("large").close(); // beside what is in it
});
document.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const { target } = event;
  if (!by || target.matches("input, select")) return;
  if (state.open >= 0) step(by);
  else if (target.matches(".card")) (by < 0 ? target.previousElementSibling : target.nextElementSibling)?.focus();
});

// A heading of a table of numbers sorts its rows: the largest number first, then the smallest; words by the alphabet.
function sortBy(heading) {
  const body = heading.closest("table").tBodies[0];
  const text = (row) => row.cells[heading.cellIndex].textContent.trim();
  const number = (row) => parseFloat(text(row).replace("−", "-").replaceAll(",", ""));
  const order = heading.ariaSort === "descending" ? "ascending" : "descending";
  const sign = order === "descending" ? -1 : 1;
  const compare = (a, b) => {
    if (isNaN(number(a)) && isNaN(number(b))) return -sign * text(a).localeCompare(text(b));
    return isNaN(number(a)) - isNaN(number(b)) || sign * (number(a) - number(b));
  };
  body.append(...[...body.rows].sort(compare));
  for (const other of heading.parentElement.cells) other.ariaSort = null;
  heading.ariaSort = order;
}
for (const heading of document.querySelectorAll(".numbers thead th")) {
  heading.tabIndex = 0;
  heading.addEventListener("click", () => sortBy(heading));
  heading.addEventListener("keydown", (event) => event.key === "Enter" && sortBy(heading));
}
