// Runs the model beside the page. First message: {model, wasm}; then {pixels, width, height} → {labels, probability} or {error}.

import * as ort from "./runtime/ort.js";

let session = null; // a promise

function open({ model, wasm }) {
  ort.env.wasm.wasmBinary = wasm;
  ort.env.wasm.numThreads = 1; // more need headers (COOP, COEP) that most hosts of static files do not send
  return ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
}

self.onmessage = async ({ data }) => {
  if (data.model) {
    session = open(data);
    session.catch(() => {}); // told with the first image
    return;
  }
  try {
    const image = new ort.Tensor("uint8", data.pixels, [1, data.height, data.width, 3]);
    const { labels, probability } = await (await session).run({ image });
    self.postMessage({ labels: labels.data, probability: probability.data });
  } catch (error) {
    self.postMessage({ error: `${String(error.message || error).split("\n")[0].slice(0, 200)}.` });
  }
};
