// The page of the server: asks it for classes and branches, and for the token where it wants one.

import { Refused, begin, complain, current, find, fitted, make, say, sized, state, tell } from "./view.js";

const TRIES = 5;
const WAYS = {
  pca: "Places with like features have like colors.",
  mean: "How strongly each place is activated, dark to bright.",
  strongest: "The channel that varies most over this image, dark to bright.",
};

let token = sessionStorage.getItem("hrseg-token") || "";
const views = new WeakMap(); // image → what POST /features says
let locked = null; // what is done again when a token was given

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
  let labels;
  try {
    labels = await ask("labels");
  } catch (error) {
    if (error.locked) return lock(start);
    return complain(error.message);
  }
  const most = `${Math.round(labels.max_bytes / 2 ** 20)} MB`;
  find("branches").hidden = !labels.branches;
  find("door").hidden = true;
  begin({
    name: labels.model,
    classes: labels.classes,
    takes: `PNG, JPEG, WebP, GIF, BMP or TIFF, up to ${most} and ${Number((labels.max_pixels / 1e6).toPrecision(3))} megapixels.`,
    refuse: (file) => (file.size > labels.max_bytes
      ? `${file.name} has ${Math.ceil(file.size / 2 ** 20)} MB; the server takes ${most}.` : ""),
    predict,
    failed: (error, again) => Boolean(error.locked) && (lock(again), true),
    shown: showBranches,
  });
}

function lock(again) {
  locked = again;
  complain(token ? "This token is not the right one." : "");
  find("door").hidden = false;
  state("locked");
  find("token").focus();
}

async function predict({ file }, signal) {
  const answer = await ask("predict?output=json&maps=true", {
    method: "POST", body: file, signal, headers: { "Content-Type": "application/octet-stream" },
  });
  const [width, height] = fitted(answer.width, answer.height);
  const { train_ids, confidence, mask } = answer.maps;
  return {
    answer, width, height,
    ids: await plane(train_ids, width, height),
    sure: await plane(confidence, width, height),
    full: () => plane(train_ids, answer.width, answer.height),
    mask: pngBlob(mask),
  };
}

const bytes = (base64) => Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
const pngBlob = (base64) => new Blob([bytes(base64)], { type: "image/png" });

// The values of a gray PNG, at a size of one's own, without any mixing of neighbors.
async function plane(base64, width, height) {
  const bitmap = await createImageBitmap(pngBlob(base64), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = sized(document.createElement("canvas"), width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(bitmap, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return Uint8Array.from({ length: width * height }, (_, i) => data[4 * i]);
}

// Branches

async function loadBranches() {
  const [button, of] = [find("show-branches"), current()];
  button.disabled = true;
  button.textContent = "Looking …";
  complain("");
  try {
    const answer = await ask("features", { method: "POST", body: of.file, headers: { "Content-Type": "application/octet-stream" } });
    views.set(of, answer.branches);
    if (current() !== of) return;
    showBranches();
    say(`${answer.branches.length} branches are shown.`);
  } catch (error) {
    complain(error.message);
  } finally {
    button.disabled = false;
    button.textContent = "Show the branches";
  }
}

function showBranches() {
  const shown = views.get(current());
  find("show-branches").hidden = Boolean(shown);
  find("ways").hidden = find("way-text").hidden = !shown;
  const way = document.querySelector("[name=way]:checked").value;
  find("way-text").textContent = WAYS[way];
  find("film").replaceChildren(...(shown || []).map((view) => {
    const one = view.strongest[0];
    const picture = way === "strongest" ? one.image : view[way];
    const title = `Branch ${view.index}` + (way === "strongest" ? `, channel ${one.channel}` : "");
    const text = `stride ${view.stride} · ${view.channels} × ${view.height} × ${view.width}`;
    const drawn = make("img", { src: `data:image/png;base64,${picture}`, alt: `${title}, stride ${view.stride}. ${WAYS[way]}` });
    return make("figure", {}, drawn, make("figcaption", {}, make("b", {}, title), make("span", {}, text)));
  }));
}

find("show-branches").addEventListener("click", loadBranches);
find("ways").addEventListener("change", showBranches);
find("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value;
  sessionStorage.setItem("hrseg-token", token);
  complain("");
  find("door").hidden = true;
  locked();
});
start();
