// Segment an image with an exported ONNX file: writes class numbers as a grey PNG.
// npm install onnxruntime-node sharp && node segment.mjs street.onnx photo.jpg mask.png
import ort from "onnxruntime-node";
import sharp from "sharp";

const [model, photo, mask] = process.argv.slice(2);
if (!mask) {
  console.error("usage: node segment.mjs MODEL.onnx IMAGE MASK.png");
  process.exit(2);
}

const { data, info } = await sharp(photo)
  .rotate() // as its EXIF data say
  .removeAlpha()
  .toColourspace("srgb")
  .raw()
  .toBuffer({ resolveWithObject: true });
const { height, width } = info;

const session = await ort.InferenceSession.create(model);
const image = new ort.Tensor("uint8", new Uint8Array(data), [1, height, width, 3]);
const { labels } = await session.run({ image }, ["labels"]); // uint8 (1, height, width)

await sharp(Buffer.from(labels.data), { raw: { width, height, channels: 1 } })
  .toColourspace("b-w")
  .png()
  .toFile(mask);
console.log(`${mask}: ${width} x ${height}, classes ${[...new Set(labels.data)].sort((a, b) => a - b).join(" ")}`);
