// What the page of the server and the page of an exported site share: choose an image, paint its classes, ask it questions.
// States of the page, in body's data-state: empty, camera, working, result, and those of each page.
//
// A model, for `begin`:
//   classes: [{train_id, id, name, color}], by train_id
//   name, takes: texts
//   refuse(file): a sentence where a file cannot be taken, else ""
//   predict({file, bitmap}, signal): found, or throws Refused
//   failed(error, again): true where it deals with an error itself
//   shown(): called after a result is shown
// found: {answer: {width, height, classes (with share, largest first), confidence, seconds, notes}, mask: Blob, gray: Blob,
//   ids, sure: values at canvas size, 0 to 255, width, height: of the canvas, full(): the ids at full size}

export const find = (id) => document.getElementById(id);
const MOST_SIDE = 2048; // pixels of the canvas; downloads are made at full size
const STEPS = 48; // presses of an arrow key from one side to the other

export class Refused extends Error {}

let model = null;
let image = null; // {file, name, bitmap}
let found = null;
let hidden = new Set(); // train ids that are switched off
let running = null; // AbortController of the request in progress
let place = null; // {x, y} of the cross-hair on the canvas
let stream = null; // of the camera

export function begin(given) {
  model = given;
  find("model").textContent = model.name;
  document.title = `hrseg · ${model.name}`;
  find("takes").textContent = `${model.takes} The model knows these ${model.classes.length} classes:`;
  find("known").replaceChildren(...model.classes.map((one) => make("li", {}, swatch(one), one.name)));
  find("use-camera").hidden = !navigator.mediaDevices?.getUserMedia; // browsers give it to https and localhost only
  state("empty");
}

export const current = () => image;

// From a file to its classes

export async function open(file) {
  if (!file || !model) return;
  running?.abort();
  closeCamera();
  complain("");
  const refused = model.refuse(file);
  if (refused) return complain(refused);
  const before = { image, found };
  const control = (running = new AbortController());
  image = { file, name: (file.name || "image").replace(/\.[^.]*$/, ""), bitmap: await createImageBitmap(file).catch(() => null) };
  if (control.signal.aborted) return;
  [found, place] = [null, null];
  showPicture(image.bitmap?.width || 3, image.bitmap?.height || 2);
  tell("Finding classes …");
  state("working");
  try {
    const answer = await model.predict(image, control.signal);
    if (control.signal.aborted) return;
    found = answer;
    hidden = new Set();
    showResult();
  } catch (error) {
    if (running !== control) return; // a newer image took over
    ({ image, found } = before);
    if (model.failed?.(error, () => open(file))) return;
    if (found) showResult();
    else state("empty");
    if (error.name !== "AbortError") complain(error instanceof Refused ? error.message : `This page failed: ${error.message}`);
  } finally {
    if (running === control) running = null;
    find("file").value = "";
  }
}

export const fitted = (width, height) => {
  const factor = Math.min(1, MOST_SIDE / Math.max(width, height));
  return [Math.max(1, Math.round(width * factor)), Math.max(1, Math.round(height * factor))];
};

// The camera

async function openCamera() {
  complain("");
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment", width: { ideal: 1280 } } });
  } catch (error) {
    return complain(`The camera cannot be used: ${error.message || error.name}. Allow it in the browser, or choose a file.`);
  }
  find("live").srcObject = stream;
  find("live").play();
  state("camera");
}

function closeCamera() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = find("live").srcObject = null;
}

async function shoot() {
  const live = find("live");
  const canvas = sized(document.createElement("canvas"), live.videoWidth, live.videoHeight);
  canvas.getContext("2d").drawImage(live, 0, 0);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
  if (blob) open(new File([blob], "camera.png", { type: "image/png" })); // none before the first frame
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
  for (const one of model.classes) {
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
  const missing = model.classes.length - answer.classes.length;
  find("absent").textContent = missing ? `${missing} other ${missing > 1 ? "classes do" : "class does"} not occur.` : "";
  const sure = answer.classes.length ? `${percent(answer.confidence)} confident` : "no data";
  find("facts").textContent = [`${answer.width} × ${answer.height}`, sure, `${answer.seconds.toFixed(2)} s`, ...(answer.notes || [])].join("  ·  ");
  if (image.bitmap) find("readout").replaceChildren(make("span", { className: "quiet" }, "Point at the image to read its classes."));
  else find("readout").textContent = "Your browser cannot show this kind of file, so its classes stand alone.";
  offer("get-mask", found.mask, "mask");
  if (found.gray) offer("get-gray", found.gray, "ids");
  model.shown?.();
  state("result");
  const largest = answer.classes.slice(0, 3).map((one) => `${one.name} ${percent(one.share)}`).join(", ");
  say(`Done. Largest classes: ${largest}.`);
}

function offer(id, blob, ending) {
  const link = find(id);
  if (link.href) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(blob);
  link.download = `${image.name}_${ending}.png`;
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
  hidden = new Set(on ? [] : model.classes.map((one) => one.train_id));
  for (const box of find("legend").querySelectorAll("input")) box.checked = on;
  paint(find("classes"), found.ids, found.width, found.height);
  say(on ? "All classes are shown." : "No class is shown.");
}

async function downloadOverlay() {
  const { answer } = found;
  const canvas = sized(document.createElement("canvas"), answer.width, answer.height);
  const classes = document.createElement("canvas");
  paint(classes, await found.full(), answer.width, answer.height);
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
  const one = model.classes[ids[i]];
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

// Small things

export function make(name, properties, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function swatch(one) {
  const spot = make("span", { className: "swatch" });
  spot.style.setProperty("--color", css(one.color));
  return spot;
}

export const sized = (canvas, width, height) => Object.assign(canvas, { width, height });
const css = (color) => `rgb(${color.join(" ")})`;
const percent = (part) => (part > 0 && part < 0.0005 ? "< 0.1 %" : `${(100 * part).toFixed(1)} %`);
export const state = (name) => { document.body.dataset.state = name; };
export const say = (text) => { find("said").textContent = text; };
export const tell = (text) => { find("doing").textContent = text; say(text); };

export function complain(text) {
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
find("use-camera").addEventListener("click", openCamera);
find("shoot").addEventListener("click", shoot);
find("leave").addEventListener("click", () => { closeCamera(); state("empty"); });
find("dismiss").addEventListener("click", () => complain(""));
find("cancel").addEventListener("click", () => running?.abort());
find("opacity").addEventListener("input", fade);
find("all").addEventListener("click", () => switchAll(true));
find("none").addEventListener("click", () => switchAll(false));
find("get-overlay").addEventListener("click", downloadOverlay);
find("classes").addEventListener("pointermove", point);
find("classes").addEventListener("pointerdown", point);
find("classes").addEventListener("keydown", steer);
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
