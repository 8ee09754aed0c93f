// One image at a time: choose it, send it, paint its classes, ask it questions.
// States of the page, in body's data-state: empty, locked, working, result.

const find = (id) => document.getElementById(id);
const MOST_SIDE = 2048; // pixels of the canvas; downloads are made at full size
const STEPS = 48; // presses of an arrow key from one side to the other
const TRIES = 5;
const WAYS = {
  pca: "Places with like features have like colors.",
  mean: "How strongly each place is activated, dark to bright.",
  strongest: "The channel that varies most over this image, dark to bright.",
};

let labels = null; // what GET /labels says
let token = sessionStorage.getItem("hrseg-token") || "";
let image = null; // {file, name, bitmap}
let found = null; // {answer, ids, sure, width, height}: of the image, ids and sure at canvas size
let views = null; // what POST /features says
let hidden = new Set(); // train ids that are switched off
let running = null; // AbortController of the request in progress
let locked = null; // what is done again when a token was given
let place = null; // {x, y} of the cross-hair on the canvas

// The server

class Refused extends Error {}

async function ask(path, options = {}) {
  for (let tries = 1; ; tries++) {
    const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...options.headers };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Refused("The server does not answer. Is it still running?");
    }
    if (response.ok) return response.json();
    const detail = (await response.json().catch(() => ({}))).detail || `The server answered ${response.status}.`;
    if (response.status === 401) throw Object.assign(new Refused(detail), { locked: true });
    if (response.status !== 429 || tries === TRIES) throw new Refused(detail);
    const seconds = Number(response.headers.get("Retry-After")) || 1;
    tell(`The server is busy. Trying again in ${seconds} s …`);
    await pause(seconds, options.signal);
  }
}

const pause = (seconds, signal) => new Promise((done, stop) => {
  const timer = setTimeout(done, seconds * 1000);
  signal?.addEventListener("abort", () => { clearTimeout(timer); stop(new DOMException("", "AbortError")); });
});

async function start() {
  try {
    labels = await ask("labels");
  } catch (error) {
    if (error.locked) return lock(start);
    return complain(error.message);
  }
  find("model").textContent = labels.model;
  document.title = `hrseg · ${labels.model}`;
  find("takes").textContent = `PNG, JPEG, WebP, GIF, BMP or TIFF, up to ${Math.round(labels.max_bytes / 2 ** 20)} MB and `
    + `${Number((labels.max_pixels / 1e6).toPrecision(3))} megapixels. The model tells these ${labels.classes.length} classes apart:`;
  find("known").replaceChildren(...labels.classes.map((one) => make("li", {}, swatch(one), one.name)));
  find("branches").hidden = !labels.branches;
  state("empty");
}

function lock(again) {
  locked = again;
  complain(token ? "This token is not the right one." : "");
  state("locked");
  find("token").focus();
}

// From a file to its classes

async function open(file) {
  if (!file || !labels) return;
  running?.abort();
  complain("");
  if (file.size > labels.max_bytes) {
    return complain(`${file.name} has ${Math.ceil(file.size / 2 ** 20)} MB; the server takes ${Math.round(labels.max_bytes / 2 ** 20)} MB.`);
  }
  const before = { image, found, views };
  const control = (running = new AbortController());
  image = { file, name: (file.name || "image").replace(/\.[^.]*$/, ""), bitmap: await createImageBitmap(file).catch(() => null) };
  if (control.signal.aborted) return;
  [found, views, place] = [null, null, null];
  showPicture(image.bitmap?.width || 3, image.bitmap?.height || 2);
  tell("Finding classes …");
  state("working");
  try {
    const answer = await ask("predict?output=json&maps=true", {
      method: "POST", body: file, signal: control.signal, headers: { "Content-Type": "application/octet-stream" },
    });
    const [width, height] = fitted(answer.width, answer.height);
    const ids = await plane(answer.maps.train_ids, width, height);
    const sure = await plane(answer.maps.confidence, width, height);
    if (control.signal.aborted) return;
    found = { answer, ids, sure, width, height };
    hidden = new Set();
    showResult();
  } catch (error) {
    if (running !== control) return; // a newer image took over
    ({ image, found, views } = before);
    if (error.locked) return lock(() => open(file));
    if (found) showResult();
    else state("empty");
    if (error.name !== "AbortError") complain(error instanceof Refused ? error.message : `This page failed: ${error.message}`);
  } finally {
    if (running === control) running = null;
    find("file").value = "";
  }
}

const fitted = (width, height) => {
  const factor = Math.min(1, MOST_SIDE / Math.max(width, height));
  return [Math.max(1, Math.round(width * factor)), Math.max(1, Math.round(height * factor))];
};

const bytes = (base64) => Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
const pngBlob = (base64) => new Blob([bytes(base64)], { type: "image/png" });

// The values of a grey PNG, at a size of one's own, without any mixing of neighbours.
async function plane(base64, width, height) {
  const bitmap = await createImageBitmap(pngBlob(base64), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = sized(document.createElement("canvas"), width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return Uint8Array.from({ length: width * height }, (_, i) => data[4 * i]);
}

// Painting

function showPicture(fullWidth, fullHeight) {
  const [width, height] = fitted(fullWidth, fullHeight);
  const context = sized(find("picture"), width, height).getContext("2d");
  context.imageSmoothingQuality = "high";
  if (image.bitmap) context.drawImage(image.bitmap, 0, 0, width, height);
  document.querySelector("main").style.setProperty("--shape", fullWidth / fullHeight);
  find("cross").hidden = true;
  find("readout").textContent = "";
  find("facts").textContent = "";
}

function paint(canvas, ids, width, height) {
  const context = sized(canvas, width, height).getContext("2d");
  const pixels = context.createImageData(width, height);
  const colors = new Uint32Array(pixels.data.buffer);
  const table = new Uint32Array(256);
  for (const one of labels.classes) {
    const [r, g, b] = one.color;
    table[one.train_id] = hidden.has(one.train_id) ? 0 : (255 << 24) | (b << 16) | (g << 8) | r;
  }
  for (let i = 0; i < ids.length; i++) colors[i] = table[ids[i]];
  context.putImageData(pixels, 0, 0);
}

function showResult() {
  const { answer, ids, width, height } = found;
  showPicture(answer.width, answer.height);
  paint(find("classes"), ids, width, height);
  find("legend").replaceChildren(...answer.classes.map(entry));
  const missing = labels.classes.length - answer.classes.length;
  find("absent").textContent = missing ? `${missing} other ${missing > 1 ? "classes do" : "class does"} not occur.` : "";
  find("facts").textContent = `${answer.width} × ${answer.height}  ·  ${answer.classes.length ? `${percent(answer.confidence)} confident` : "no data"}  ·  ${answer.seconds.toFixed(2)} s`;
  if (image.bitmap) find("readout").replaceChildren(make("span", { className: "quiet" }, "Point at the image to read its classes."));
  else find("readout").textContent = "Your browser cannot show this kind of file, so its classes stand alone.";
  const link = find("get-mask");
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(pngBlob(answer.maps.mask));
  link.download = `${image.name}_mask.png`;
  showBranches();
  state("result");
  const largest = answer.classes.slice(0, 3).map((one) => `${one.name} ${percent(one.share)}`).join(", ");
  say(`Done. Largest classes: ${largest}.`);
}

function entry(one) {
  const box = make("input", { type: "checkbox", checked: !hidden.has(one.train_id) });
  box.addEventListener("change", () => {
    hidden[box.checked ? "delete" : "add"](one.train_id);
    paint(find("classes"), found.ids, found.width, found.height);
  });
  const label = make("label", {}, box, make("span", {}, one.name), make("small", {}, percent(one.share)), make("i", {}));
  label.style.setProperty("--color", css(one.color));
  label.style.setProperty("--share", `${100 * one.share}%`);
  return make("li", {}, label);
}

function switchAll(on) {
  hidden = new Set(on ? [] : labels.classes.map((one) => one.train_id));
  for (const box of find("legend").querySelectorAll("input")) box.checked = on;
  paint(find("classes"), found.ids, found.width, found.height);
  say(on ? "All classes are shown." : "No class is shown.");
}

async function downloadOverlay() {
  const { answer } = found;
  const canvas = sized(document.createElement("canvas"), answer.width, answer.height);
  const classes = document.createElement("canvas");
  paint(classes, await plane(answer.maps.train_ids, answer.width, answer.height), answer.width, answer.height);
  const context = canvas.getContext("2d");
  if (image.bitmap) context.drawImage(image.bitmap, 0, 0, answer.width, answer.height);
  context.globalAlpha = image.bitmap ? find("opacity").value / 100 : 1;
  context.drawImage(classes, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  const url = URL.createObjectURL(blob);
  make("a", { href: url, download: `${image.name}_overlay.png` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}

// Questions

function read(x, y) {
  const { answer, ids, sure, width, height } = found;
  const i = y * width + x;
  const one = labels.classes[ids[i]];
  if (!one) return (find("readout").textContent = "no data");
  const sureness = percent(sure[i] / 255);
  const [column, row] = [Math.floor((x + 0.5) * answer.width / width), Math.floor((y + 0.5) * answer.height / height)];
  find("readout").replaceChildren(
    swatch(one), make("b", {}, one.name), make("span", { className: "quiet" }, `  ·  ${sureness} sure  ·  row ${row}, column ${column}`),
  );
  return `${one.name}, ${sureness} sure, row ${row}, column ${column}`;
}

function point(event) {
  if (!found) return;
  const box = event.currentTarget.getBoundingClientRect();
  const x = clamp(Math.floor((event.clientX - box.left) / box.width * found.width), found.width);
  const y = clamp(Math.floor((event.clientY - box.top) / box.height * found.height), found.height);
  find("cross").hidden = true;
  place = { x, y };
  read(x, y);
}

function steer(event) {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!found || !(way || event.key === "Escape")) return;
  event.preventDefault();
  if (!way) return void (find("cross").hidden = true);
  const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(found.width, found.height) / STEPS));
  place ??= { x: found.width >> 1, y: found.height >> 1 };
  place = { x: clamp(place.x + step * way[0], found.width), y: clamp(place.y + step * way[1], found.height) };
  const cross = find("cross");
  cross.style.setProperty("--x", `${100 * (place.x + 0.5) / found.width}%`);
  cross.style.setProperty("--y", `${100 * (place.y + 0.5) / found.height}%`);
  cross.hidden = false;
  say(read(place.x, place.y));
}

const clamp = (value, end) => Math.min(end - 1, Math.max(0, value));

// Branches

async function loadBranches() {
  const [button, of] = [find("show-branches"), image];
  button.disabled = true;
  button.textContent = "Looking …";
  complain("");
  try {
    const answer = await ask("features", { method: "POST", body: image.file, headers: { "Content-Type": "application/octet-stream" } });
    if (image !== of) return;
    views = answer.branches;
    showBranches();
    say(`${views.length} branches are shown.`);
  } catch (error) {
    complain(error.message);
  } finally {
    button.disabled = false;
    button.textContent = "Show the branches";
  }
}

function showBranches() {
  find("show-branches").hidden = Boolean(views);
  find("ways").hidden = find("way-text").hidden = !views;
  const way = document.querySelector("[name=way]:checked").value;
  find("way-text").textContent = WAYS[way];
  find("film").replaceChildren(...(views || []).map((view) => {
    const one = view.strongest[0];
    const picture = way === "strongest" ? one.image : view[way];
    const title = `Branch ${view.index}` + (way === "strongest" ? `, channel ${one.channel}` : "");
    const text = `stride ${view.stride} · ${view.channels} × ${view.height} × ${view.width}`;
    const shown = make("img", { src: `data:image/png;base64,${picture}`, alt: `${title}, stride ${view.stride}. ${WAYS[way]}` });
    return make("figure", {}, shown, make("figcaption", {}, make("b", {}, title), make("span", {}, text)));
  }));
}

// Small things

function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function swatch(one) {
  const spot = make("span", { className: "swatch" });
  spot.style.setProperty("--color", css(one.color));
  return spot;
}

const sized = (canvas, width, height) => Object.assign(canvas, { width, height });
const css = (color) => `rgb(${color.join(" ")})`;
const percent = (part) => (part > 0 && part < 0.0005 ? "< 0.1 %" : `${(100 * part).toFixed(1)} %`);
const state = (name) => {
  document.body.dataset.state = name;
  find("door").hidden = name !== "locked";
};
const say = (text) => { find("said").textContent = text; };
const tell = (text) => { find("doing").textContent = text; say(text); };

function complain(text) {
  find("problem").hidden = !text;
  find("problem-text").textContent = text;
}

function fade() {
  const value = find("opacity").value;
  find("percent").textContent = `${value} %`;
  document.body.style.setProperty("--strength", value / 100);
}

find("file").addEventListener("change", (event) => open(event.target.files[0]));
find("another").addEventListener("click", () => find("file").click());
find("dismiss").addEventListener("click", () => complain(""));
find("cancel").addEventListener("click", () => running?.abort());
find("opacity").addEventListener("input", fade);
find("all").addEventListener("click", () => switchAll(true));
find("none").addEventListener("click", () => switchAll(false));
find("get-overlay").addEventListener("click", downloadOverlay);
find("show-branches").addEventListener("click", loadBranches);
find("ways").addEventListener("change", showBranches);
find("classes").addEventListener("pointermove", point);
find("classes").addEventListener("pointerdown", point);
find("classes").addEventListener("keydown", steer);
find("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value;
  sessionStorage.setItem("hrseg-token", token);
  complain("");
  locked();
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files][0];
  if (file) open(file);
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    document.body.classList.toggle("over", name === "dragover");
    if (name === "drop") open(event.dataTransfer.files[0]);
  });
}
fade();
start();
