const IGNORED = 255, tip = document.getElementById('tip'), fade = document.getElementById('fade');
const legend = document.querySelector('.legend'), sheets = [];
let alone = null;

const paint = ({ context, ids, width, height }) => {
  const picture = context.createImageData(width, height), out = picture.data;
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i], shown = alone === null || alone === id, color = PALETTE[id];
    if (id === IGNORED) {
      const stripe = (i % width + Math.floor(i / width)) % 9 < 4;
      out.set([128, 128, 128, shown ? (stripe ? 235 : 110) : 0], 4 * i);
    } else if (color && shown) out.set([...color, 255], 4 * i);
    else if (alone !== null) out.set([0, 0, 0, 90], 4 * i);
  }
  context.putImageData(picture, 0, 0);
};
const set = () => document.documentElement.style.setProperty('--fade', fade.value / 100);
fade.addEventListener('input', set);
set();

for (const canvas of document.querySelectorAll('canvas')) {
  const source = new Image();
  source.onload = () => {
    const { width, height } = canvas, context = canvas.getContext('2d', { willReadFrequently: true });
    context.drawImage(source, 0, 0);
    const pixels = context.getImageData(0, 0, width, height).data, ids = new Uint8Array(width * height);
    for (let i = 0; i < ids.length; i++) ids[i] = pixels[4 * i];
    const sheet = { context, ids, width, height };
    sheets.push(sheet);
    paint(sheet);
    canvas.addEventListener('mousemove', (event) => {
      const box = canvas.getBoundingClientRect();
      const x = Math.floor((event.clientX - box.left) / box.width * width);
      const y = Math.floor((event.clientY - box.top) / box.height * height);
      const id = ids[y * width + x];
      tip.textContent = id === IGNORED ? 'ignored' : LABELS[id] ?? '';
      tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 160)}px`;
      tip.style.top = `${event.clientY + 16}px`;
      tip.style.opacity = tip.textContent ? 1 : 0;
    });
    canvas.addEventListener('mouseleave', () => { tip.style.opacity = 0; });
  };
  source.src = canvas.dataset.ids;
}
legend.addEventListener('click', (event) => {
  const button = event.target.closest('button');
  if (!button) return;
  const id = Number(button.dataset.class);
  alone = alone === id ? null : id;
  for (const other of legend.children) other.classList.toggle('on', Number(other.dataset.class) === alone);
  legend.classList.toggle('alone', alone !== null);
  sheets.forEach(paint);
});
let before = fade.value;
addEventListener('keydown', (event) => {
  if (event.key !== 'm' || event.ctrlKey || event.metaKey) return;
  if (Number(fade.value)) { before = fade.value; fade.value = 0; } else fade.value = before;
  set();
});
