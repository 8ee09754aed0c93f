// PNG files of ids: with a palette, or in gray of 8 or 16 bits. Browsers write RGBA only, which loses the numbers.
// Source: the PNG specification, third edition.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const GRAY = 0;
const PALETTE = 3;

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function crc(bytes) {
  let value = ~0;
  for (const byte of bytes) value = TABLE[(value ^ byte) & 255] ^ (value >>> 8);
  return ~value >>> 0;
}

function chunk(type, content) {
  const bytes = new Uint8Array(12 + content.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, content.length);
  bytes.set([...type].map((sign) => sign.charCodeAt(0)), 4);
  bytes.set(content, 8);
  view.setUint32(8 + content.length, crc(bytes.subarray(4, 8 + content.length)));
  return bytes;
}

async function deflated(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function png(ids, width, wide, kind, palette) {
  const height = ids.length / width;
  const size = wide ? 2 : 1;
  const rows = new Uint8Array(height * (1 + size * width)); // each begins with its filter: 0, none
  for (let y = 0, i = 0, j = 0; y < height; y++) {
    j++;
    for (let x = 0; x < width; x++, i++) {
      if (wide) rows[j++] = ids[i] >> 8;
      rows[j++] = ids[i] & 255;
    }
  }
  const head = new Uint8Array(13);
  const view = new DataView(head.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  head.set([8 * size, kind], 8);
  const parts = [chunk("IHDR", head), ...(palette ? [chunk("PLTE", palette)] : []), chunk("IDAT", await deflated(rows)), chunk("IEND", [])];
  return new Blob([Uint8Array.from(SIGNATURE), ...parts], { type: "image/png" });
}

// ids: up to 255; palette: 256 colors, red, green and blue after each other.
export const palettePng = (ids, width, palette) => png(ids, width, false, PALETTE, palette);

// ids: up to 65535; 16 bits where one is above 255.
export const grayPng = (ids, width) => png(ids, width, ids.some((id) => id > 255), GRAY);
