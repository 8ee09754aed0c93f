// The page of an exported site: the model runs in a worker of this browser.

import { grayPng, palettePng } from "./png.js";
import { Refused, begin, complain, fitted, sized, state, tell } from "./view.js";

const MEMORY = 1.2e9; // bytes for the maps of all classes: wasm has 4 GB, and a telephone less
const MOST_PIXELS = 4e6;

let card = null; // model.json
let files = null; // promise of {model, wasm}: ArrayBuffers
let worker = null;
let loaded = 0;

async function start() {
  try {
    card = await (await get("model.json")).json();
  } catch (error) {
    state("failed");
    return complain(error.message);
  }
  files = Promise.all(["model.onnx", "runtime/ort.wasm"].map(bytes)).then(([model, wasm]) => ({ model, wasm }));
  files.then(open, () => {}); // an image that is chosen meets the error
  const most = Math.min(MOST_PIXELS, MEMORY / (12 * card.classes.length));
  begin({
    name: card.name,
    classes: card.classes,
    takes: `Any picture that this browser shows. Model and runtime (${megabytes(card.bytes)}) run here; no picture leaves this device.`,
    refuse: () => "",
    predict: (image, signal) => predict(image, signal, most),
  });
}

const megabytes = (count) => `${(count / 1e6).toFixed(1)} MB`;

async function get(name) {
  const response = await fetch(name).catch(() => null);
  if (!response?.ok) throw new Refused(`${name} cannot be loaded (${response ? response.status : "no answer"}). Is the folder whole?`);
  return response;
}

async function bytes(name) {
  const chunks = [];
  const reader = (await get(name)).body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Blob(chunks).arrayBuffer();
    chunks.push(value);
    loaded += value.length;
    if (document.body.dataset.state === "working") tell(`Loading the model: ${Math.min(99, Math.round(100 * loaded / card.bytes))} %`);
  }
}

// Give the worker that holds the model; a cancelled image has ended the last one.
function open({ model, wasm }) {
  if (!worker) {
    worker = new Worker("worker.js", { type: "module" });
    worker.postMessage({ model, wasm });
  }
  return worker;
}

async function predict({ bitmap }, signal, most) {
  if (!bitmap) throw new Refused("This browser cannot read the file as a picture. PNG, JPEG and WebP work everywhere.");
  const { width, height, pixels, empty } = read(bitmap, most);
  const ready = await files;
  signal.throwIfAborted();
  const begun = performance.now();
  tell("Finding classes …");
  const { labels, probability } = await run(open(ready), { width, height, pixels }, signal);
  const seconds = (performance.now() - begun) / 1000;
  if (empty) for (let i = 0; i < labels.length; i++) if (empty[i]) labels[i] = 255; // as hrseg predict has it
  return result(labels, probability, width, height, seconds, (bitmap.width !== width) && [`shrunk from ${bitmap.width} × ${bitmap.height}`]);
}

function run(target, image, signal) {
  return new Promise((done, fail) => {
    const stop = (error) => {
      worker?.terminate();
      worker = null;
      fail(error);
    };
    signal.addEventListener("abort", () => stop(new DOMException("", "AbortError")), { once: true });
    target.onerror = (event) => stop(new Refused(`The model cannot be started here: ${event.message || "the browser gives no reason"}.`));
    target.onmessage = ({ data }) => {
      if (data.error) stop(new Refused(`The model failed on this picture: ${data.error} Try a smaller one.`));
      else done(data);
    };
    target.postMessage(image, [image.pixels.buffer]);
  });
}

// The pixels as the network takes them: RGB on white, shrunk where they are more than `most`; and which are transparent.
function read(bitmap, most) {
  const factor = Math.min(1, Math.sqrt(most / (bitmap.width * bitmap.height)));
  const [width, height] = [bitmap.width, bitmap.height].map((side) => Math.max(1, Math.floor(side * factor)));
  const context = sized(document.createElement("canvas"), width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, width, height);
  let { data } = context.getImageData(0, 0, width, height);
  const alpha = data.filter((_, i) => i % 4 === 3);
  if (alpha.some((value) => value < 255)) {
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    ({ data } = context.getImageData(0, 0, width, height));
  }
  const pixels = new Uint8Array(3 * width * height);
  for (let i = 0, j = 0; i < data.length; i += 4) {
    pixels[j++] = data[i];
    pixels[j++] = data[i + 1];
    pixels[j++] = data[i + 2];
  }
  return { width, height, pixels, empty: alpha.includes(0) ? alpha.map((value) => value === 0) : null };
}

async function result(labels, probability, fullWidth, fullHeight, seconds, notes) {
  const counts = new Uint32Array(256);
  let total = 0;
  for (let i = 0; i < labels.length; i++) {
    counts[labels[i]]++;
    if (labels[i] < 255) total += probability[i];
  }
  const valid = labels.length - counts[255];
  const classes = card.classes.map((one) => ({ ...one, share: counts[one.train_id] / Math.max(1, valid) }))
    .filter((one) => one.share > 0).sort((one, other) => other.share - one.share);
  const sure = Uint8Array.from(probability, (value) => Math.round(255 * value));
  const [width, height] = fitted(fullWidth, fullHeight);
  const ids = Uint16Array.from({ length: 256 }, (_, i) => card.classes[i]?.id ?? card.nodata_id);
  const own = Uint16Array.from(labels, (label) => ids[label]);
  return {
    answer: { width: fullWidth, height: fullHeight, classes, confidence: total / Math.max(1, valid), seconds, notes },
    width, height,
    ids: nearest(labels, fullWidth, fullHeight, width, height),
    sure: nearest(sure, fullWidth, fullHeight, width, height),
    full: async () => labels,
    mask: await (own.some((id) => id > 255) ? grayPng(own, fullWidth) : palettePng(own, fullWidth, card.palette.flat())),
    gray: await grayPng(own, fullWidth),
  };
}

// Values at another size, without any mixing of neighbors.
function nearest(values, fullWidth, fullHeight, width, height) {
  if (width === fullWidth && height === fullHeight) return values;
  const columns = Array.from({ length: width }, (_, x) => Math.floor((x + 0.5) * fullWidth / width));
  const reduced = new Uint8Array(width * height);
  for (let y = 0, i = 0; y < height; y++) {
    const row = Math.floor((y + 0.5) * fullHeight / height) * fullWidth;
    for (const x of columns) reduced[i++] = values[row + x];
  }
  return reduced;
}

start();
