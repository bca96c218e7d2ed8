"use strict";

/* From a stored map to its box, as Python does: `enlarge` is OpenCV's bicubic resize (data/views.py), `paperBox` is
   localization/boxes.py, `kindOfGuess` is localization/failures.py. Boxes are [x1, y1, x2, y2], both corners inside. */

/** Little-endian float32 in base64 -> Float32Array. */
const decoded = (base64) => new Float32Array(Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0)).buffer);

/** For each of `to` pixels the four of `from` that it is made of, the edge's repeated, and their weights. */
function taps(from, to) {
  const scale = 1 / (to / from), places = new Int32Array(4 * to), weights = new Float32Array(4 * to);
  for (let pixel = 0; pixel < to; pixel++) {
    const at = Math.fround((pixel + 0.5) * scale - 0.5), first = Math.floor(at), t = Math.fround(at - first), a = -0.75;
    const of = [
      ((a * (t + 1) - 5 * a) * (t + 1) + 8 * a) * (t + 1) - 4 * a,
      ((a + 2) * t - (a + 3)) * t * t + 1,
      ((a + 2) * (1 - t) - (a + 3)) * (1 - t) * (1 - t) + 1,
    ].map(Math.fround);
    of.push(1 - of[0] - of[1] - of[2]);
    for (let tap = 0; tap < 4; tap++) {
      places[4 * pixel + tap] = Math.min(Math.max(first - 1 + tap, 0), from - 1);
      weights[4 * pixel + tap] = of[tap];
    }
  }
  return [places, weights];
}

/** A map of h rows of w values -> Float32Array of height rows of width values. */
function enlarge(map, h, w, height, width) {
  const [columns, across] = taps(w, width), [rows, down] = taps(h, height);
  const wide = new Float32Array(h * width), heat = new Float32Array(height * width);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (let tap = 4 * x; tap < 4 * x + 4; tap++) sum += across[tap] * map[y * w + columns[tap]];
      wide[y * width + x] = sum;
    }
  }
  for (let y = 0; y < height; y++) {
    const [r0, r1, r2, r3] = rows.subarray(4 * y, 4 * y + 4).map((row) => row * width);
    const [d0, d1, d2, d3] = down.subarray(4 * y, 4 * y + 4);
    for (let x = 0; x < width; x++) {
      heat[y * width + x] = d0 * wide[r0 + x] + d1 * wide[r1 + x] + d2 * wide[r2 + x] + d3 * wide[r3 + x];
    }
  }
  return heat;
}

function maximum(heat) {
  let top = -Infinity;
  for (const value of heat) if (value > top) top = value;
  return top;
}

/** The box of the largest 8-connected part above `threshold` of the maximum; the whole picture where there is none. */
function paperBox(heat, height, width, threshold) {
  const cut = Math.fround(Math.fround(threshold) * maximum(heat)); // as NumPy multiplies a float32
  // Each row's runs of kept pixels: y, first and last x, and the run that it was joined to.
  const ys = [], firsts = [], lasts = [], joined = [];
  const root = (run) => {
    while (joined[run] !== run) run = joined[run] = joined[joined[run]];
    return run;
  };
  let above = 0;
  for (let y = 0; y < height; y++) {
    const begin = ys.length;
    for (let x = 0; x < width; x++) {
      if (!(heat[y * width + x] > cut)) continue;
      const first = x, run = ys.length;
      while (x + 1 < width && heat[y * width + x + 1] > cut) x++;
      ys.push(y), firsts.push(first), lasts.push(x), joined.push(run);
      while (above < begin && lasts[above] < first - 1) above++;
      for (let other = above; other < begin && firsts[other] <= x + 1; other++) joined[root(other)] = root(run);
    }
    above = begin;
  }
  const parts = new Map();
  for (let run = 0; run < ys.length; run++) {
    const key = root(run), pixels = lasts[run] - firsts[run] + 1;
    const part = parts.get(key);
    if (!part) parts.set(key, { pixels, box: [firsts[run], ys[run], lasts[run], ys[run]] });
    else {
      part.pixels += pixels;
      part.box = [Math.min(part.box[0], firsts[run]), part.box[1], Math.max(part.box[2], lasts[run]), ys[run]];
    }
  }
  let best = null;
  for (const part of parts.values()) {
    const order = best && (part.pixels - best.pixels || best.box[1] - part.box[1] || best.box[0] - part.box[0]);
    if (!best || order > 0) best = part;
  }
  return best ? best.box : [0, 0, width - 1, height - 1];
}

const area = (box) => Math.max(box[2] - box[0] + 1, 0) * Math.max(box[3] - box[1] + 1, 0);

function intersection(a, b) {
  return area([Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])]);
}

function iou(a, b) {
  const common = intersection(a, b);
  return common / (area(a) + area(b) - common);
}

const bestIou = (box, boxes) => Math.max(...boxes.map((other) => iou(box, other)));

function kindOfGuess(box, classRight, boxes) {
  const overlaps = boxes.map((other) => iou(box, other)), best = overlaps.indexOf(Math.max(...overlaps));
  if (overlaps[best] >= 0.5) return classRight ? "right" : "wrong_class";
  if (!classRight) return "wrong_both";
  const covered = boxes.map((other) => intersection(box, other) / area(other));
  const onIt = intersection(box, boxes[best]) / area(box);
  if (covered.filter((share) => share >= 0.5).length > 1) return "several";
  if (onIt >= 0.5 && covered[best] < 0.5) return "part";
  return covered[best] >= 0.5 && onIt < 0.5 ? "too_large" : "elsewhere";
}

/* What is shown. */

const FIRST = 12; // pictures shown before the rest is asked for
const CARD = 300, LARGE = 900; // pixels of the longer side that are drawn
const element = (id) => document.getElementById(id);
const data = JSON.parse(element("data").textContent);
const state = {
  sides: [0, -1], // numbers of runs; -1: nothing beside the first
  shown: "true", // whose map: the true class's, or the number of a guess
  rule: "paper", // or the release's "loose" or "tight" box
  threshold: 0.2,
  opacity: 0.6,
  kind: "", // the failure that is shown alone
  sort: "",
  all: false,
  open: -1, // the picture that is enlarged
};
const networks = [...new Set(data.runs.map((run) => run.network))];
const colours = Uint8Array.from({ length: 3 * 256 }, (_, at) => {
  const share = Math.floor(at / 3) / 255, centre = [0.75, 0.5, 0.25][at % 3];
  return 255 * Math.min(Math.max(1.5 - 4 * Math.abs(share - centre), 0), 1);
});
data.runs.forEach((run) => { run.values = decoded(run.maps); run.heats = new Map(); run.boxes = new Map(); });

/** The place of the true class's map among those of a picture: a guess's, or the last. */
const truePlace = (run, picture) => (run.right[picture] < 0 ? run.guesses[picture].length : run.right[picture]);

function heatOf(run, picture, place) {
  const key = `${picture} ${place}`, { width, height } = data.pictures[picture], [h, w] = run.side;
  if (!run.heats.has(key)) {
    const number = picture * (run.guesses[picture].length + 1) + place;
    const heat = enlarge(run.values.subarray(number * h * w, (number + 1) * h * w), h, w, height, width);
    run.heats.set(key, Object.assign(heat, { top: maximum(heat) }));
  }
  return run.heats.get(key);
}

function boxOf(run, picture, place) {
  if (state.rule !== "paper") return run.release[picture][place][state.rule === "tight" ? 1 : 0];
  const key = `${picture} ${place}`, { width, height } = data.pictures[picture];
  if (!run.boxes.has(key)) run.boxes.set(key, paperBox(heatOf(run, picture, place), height, width, state.threshold));
  return run.boxes.get(key);
}

/** A picture by a run at the present settings; of a picture without a true box there is nothing to judge. */
function judged(run, picture) {
  const last = run.guesses[picture].length - 1;
  const place = state.shown === "true" ? truePlace(run, picture) : Math.min(+state.shown, last);
  const boxes = data.pictures[picture].boxes, box = boxOf(run, picture, place);
  if (!boxes.length) return { run, place, box, iou: NaN, known: false, kind: "" };
  return {
    run, place, box,
    iou: bestIou(box, boxes),
    known: bestIou(boxOf(run, picture, truePlace(run, picture)), boxes) >= 0.5,
    kind: kindOfGuess(boxOf(run, picture, 0), run.right[picture] === 0, boxes),
  };
}

/** Heat and boxes over a picture, at most `side` pixels wide or high. */
function draw(canvas, picture, { run, place, box }, side) {
  const { width, height, boxes } = data.pictures[picture], scale = side / Math.max(width, height);
  const heat = heatOf(run, picture, place), top = Math.max(heat.top, 1e-12);
  const cut = state.rule === "paper" ? state.threshold * top : 0;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  const columns = Int32Array.from({ length: canvas.width }, (_, x) => Math.min(x / scale, width - 1));
  const pixels = image.data;
  for (let y = 0, at = 0; y < canvas.height; y++) {
    const row = Math.min(Math.floor(y / scale), height - 1) * width;
    for (let x = 0; x < canvas.width; x++, at += 4) {
      const value = heat[row + columns[x]], colour = 3 * Math.round(255 * Math.min(Math.max(value / top, 0), 1));
      pixels[at] = colours[colour];
      pixels[at + 1] = colours[colour + 1];
      pixels[at + 2] = colours[colour + 2];
      pixels[at + 3] = 255 * state.opacity * (value > cut ? 1 : 0.35);
    }
  }
  context.putImageData(image, 0, 0);
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
  outline(box, style.getPropertyValue("--predicted"), []);
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

/** As many frames, each the picture under a canvas, as there are sides. */
function framed(pair, picture, count) {
  while (pair.children.length > count) pair.lastChild.remove();
  while (pair.children.length < count) {
    const frame = made("span", "", "frame"), image = document.createElement("img");
    frame.append(image, document.createElement("canvas"));
    pair.append(frame);
  }
  const { name, label, src, width, height } = data.pictures[picture];
  pair.style.setProperty("--ratio", width / height);
  for (const image of pair.querySelectorAll("img")) {
    if (image.dataset.picture === String(picture)) continue;
    Object.assign(image, { src, width, height, alt: `${label} (${name})` }).dataset.picture = picture;
  }
}

/** The true class, and below each frame the guess, the box's IoU and the failure; `whole`: all that is known. */
function words(node, picture, views, whole) {
  const { label, name, boxes } = data.pictures[picture];
  node.replaceChildren(made("b", label));
  for (const { run, place, box, iou: overlap, kind } of views) {
    const column = made("span"), guesses = run.guesses[picture], guess = state.shown === "true" ? 0 : place;
    const why = place === 0 ? data.kinds[kind] : `best guess: ${data.kinds[kind]}`; // the box may be another class's
    const found = boxes.length ? `IoU ${overlap.toFixed(2)} · ${why}` : "no true box";
    const verdict = made("span", found, "kind");
    if (kind) verdict.prepend(swatch(kind));
    if (whole) column.append(made("small", runName(run)));
    column.append(made("span", `${run.right[picture] === guess ? "✓" : "✗"} ${guesses[guess]}`), verdict);
    if (whole) column.append(made("small", `box ${box.join(" ")}`), made("small", `guesses: ${guesses.join(" · ")}`));
    node.append(column);
  }
  if (whole) node.append(made("small", name));
}

const cards = data.pictures.map((_, picture) => {
  const card = element("card").content.firstElementChild.cloneNode(true);
  card.addEventListener("click", () => open(picture));
  return card;
});
const inSight = new Set();
let views = [], order = [];
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const picture = cards.indexOf(target);
    if (isIntersecting) inSight.add(picture), paint(picture);
    else inSight.delete(picture);
  }
}, { rootMargin: "200px" });
cards.forEach((card) => watcher.observe(card));

function paint(picture) {
  framed(cards[picture].querySelector(".pair"), picture, views[picture].length);
  const canvases = cards[picture].querySelectorAll("canvas");
  canvases.forEach((canvas, side) => draw(canvas, picture, views[picture][side], CARD));
}

/** Everything that follows from the state: boxes, counts, filter, order, and what is in sight anew. */
function update() {
  const runs = state.sides.filter((number) => number >= 0).map((number) => data.runs[number]);
  views = data.pictures.map((_, picture) => runs.map((run) => judged(run, picture)));
  const withBoxes = data.pictures.filter((picture) => picture.boxes.length).length;
  element("counts").replaceChildren(...runs.map((run, side) => {
    const known = views.filter((view) => view[side].known).length;
    const share = withBoxes ? `, ${Math.round((100 * known) / withBoxes)}\u00a0%` : "";
    return made("span", `${runName(run)}: GT-known ${known} of ${withBoxes}${share}`);
  }));
  for (const label of element("kinds").querySelectorAll("label")) {
    const kind = label.querySelector("input").value;
    const count = kind ? views.filter((view) => view[0].kind === kind).length : views.length;
    label.querySelector("span").textContent = `${kind ? data.kinds[kind] : "all"} ${count}`;
  }
  document.querySelectorAll(".threshold").forEach((slider) => {
    slider.value = Math.round(100 * state.threshold);
    slider.disabled = state.rule !== "paper";
  });
  const percent = `${Math.round(100 * state.threshold)} %`;
  document.querySelectorAll(".percent").forEach((output) => {
    output.textContent = state.rule === "paper" ? percent : "20, 100, 110 of 255";
  });
  const sign = { falling: -1, rising: 1 }[state.sort];
  order = [...views.keys()].filter((picture) => !state.kind || views[picture][0].kind === state.kind);
  if (sign) order.sort((a, b) => sign * ((views[a][0].iou || 0) - (views[b][0].iou || 0)) || a - b);
  const shown = state.all ? order : order.slice(0, FIRST);
  const now = shown.map((picture) => cards[picture]), list = element("cards"), before = [...list.children];
  if (now.length !== before.length || now.some((card, place) => card !== before[place])) list.replaceChildren(...now);
  if (!now.length) list.replaceChildren(made("p", "No picture fails like that at this threshold.", "none"));
  list.classList.toggle("two", runs.length > 1);
  element("more").hidden = shown.length === order.length;
  element("more").textContent = `Show all ${order.length} pictures`;
  shown.forEach((picture) => {
    framed(cards[picture].querySelector(".pair"), picture, runs.length);
    words(cards[picture].querySelector(".words"), picture, views[picture], false);
  });
  inSight.forEach(paint);
  if (state.open >= 0) paintLarge();
}

function open(picture) {
  state.open = picture;
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
  if ("threshold" in settings) data.runs.forEach((run) => run.boxes.clear());
  if ("sides" in settings || "shown" in settings) data.runs.forEach((run) => run.heats.clear());
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
for (const key of ["shown", "rule", "sort"]) {
  element(key).addEventListener("change", (event) => change({ [key]: event.target.value }));
}
element("opacity").addEventListener("input", (event) => change({ opacity: event.target.value / 100 }));
document.querySelectorAll(".threshold").forEach((slider) =>
  slider.addEventListener("input", () => change({ threshold: slider.value / 100 })));
element("reset").addEventListener("click", () => change({ threshold: 0.2 }));
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
