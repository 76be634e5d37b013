// One further image of a case in colours over the grey one, such as a PET over its CT.

// Stops from 0 to 1; "Hot iron" is DICOM's palette (PS3.6 B.1.1), "Blue to yellow" keeps its order for colour-blind eyes.
const COLOUR_MAPS = {
  "Hot iron": [[0, 0, 0, 0], [0.5, 255, 0, 0], [0.75, 255, 128, 0], [1, 255, 255, 255]],
  "Blue to yellow": [[0, 0, 34, 78], [0.25, 53, 69, 108], [0.5, 125, 124, 120], [0.75, 187, 175, 113], [1, 254, 232, 56]],
  Grey: [[0, 0, 0, 0], [1, 255, 255, 255]],
};
const SOLID_SHARE = 0.2; // of the window: below, the overlay fades out towards its lower end
const fusion = { channel: -1, window: 0, low: 0, high: 1 };

function pickColour(map, share) {
  const stops = COLOUR_MAPS[map], n = Math.max(1, stops.findIndex(([at]) => at >= share)), [a, ...from] = stops[n - 1], [b, ...to] = stops[n];
  return from.map((part, c) => Math.round(part + ((to[c] - part) * (share - a)) / (b - a)));
}

const hasOverlay = () => fusion.channel >= 0;

async function chooseOverlay(number) {
  const entry = current, isValid = number >= 0 && number < entry.channels.length && number !== state.channel;
  if (isValid) entry.images[number] ??= await inflate(entry.channels[number].data);
  if (entry !== current) return;
  fusion.channel = isValid && number !== state.channel ? number : -1;
  fillOverlay();
  if (hasOverlay()) chooseOverlayWindow(entry.channels[fusion.channel].window);
  draw();
}

// None, then each of the other images.
function cycleOverlay() {
  const numbers = [-1, ...current.channels.keys()].filter((n) => n !== state.channel);
  chooseOverlay(numbers[(numbers.indexOf(fusion.channel) + 1) % numbers.length]);
}

function chooseOverlayWindow(number) {
  [, fusion.low, fusion.high] = current.channels[fusion.channel].windows[number];
  byId("overlay-window").value = fusion.window = number;
  draw();
}

function fillOverlay() {
  const options = current.channels.flatMap((channel, n) => (n === state.channel ? [] : [makeElement("option", { value: n, textContent: channel.name })]));
  byId("overlay").replaceChildren(makeElement("option", { value: -1, textContent: "none" }), ...options);
  byId("overlay").value = fusion.channel;
  for (const element of document.querySelectorAll(".fusion")) element.hidden = current.channels.length < 2;
  for (const element of document.querySelectorAll(".fused")) element.hidden = !hasOverlay();
  const windows = hasOverlay() ? current.channels[fusion.channel].windows : [];
  byId("overlay-window").replaceChildren(...windows.map(([name], n) => makeElement("option", { value: n, textContent: name })));
  byId("overlay-window").value = fusion.window;
}

function paintOverlay(context, plane, layout) {
  const { steps } = current.channels[fusion.channel], map = byId("overlay-map").value, opacity = byId("overlay-opacity").value / 100;
  const colours = Uint32Array.from(steps, (value) => {
    const share = Math.min(1, Math.max(0, (value - fusion.low) / (fusion.high - fusion.low))), [red, green, blue] = pickColour(map, share);
    const alpha = Math.round(255 * opacity * Math.min(1, share / SOLID_SHARE));
    return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
  paint(context, readSlice(plane, current.images[fusion.channel], colours), plane, layout, true);
}

function drawColourBar(context, { ratio, width, height }) {
  const { unit } = current.channels[fusion.channel], x = width - 84 * ratio, high = Math.min(90 * ratio, height / 4), y = height - high - 14 * ratio;
  const shades = context.createLinearGradient(0, y + high, 0, y);
  for (const [at, ...rgb] of COLOUR_MAPS[byId("overlay-map").value]) shades.addColorStop(at, `rgb(${rgb.join(" ")})`);
  context.fillStyle = shades;
  context.fillRect(x, y, 8 * ratio, high);
  context.strokeStyle = "#9aa5b1";
  context.lineWidth = ratio;
  context.strokeRect(x, y, 8 * ratio, high);
  writeText(context, formatValue(fusion.high, unit), x - 5 * ratio, y + 4 * ratio, ratio, "right", 11);
  writeText(context, formatValue(fusion.low, unit), x - 5 * ratio, y + high - 4 * ratio, ratio, "right", 11);
  if (unit) writeText(context, unit, x - 5 * ratio, y + high / 2, ratio, "right", 11);
}
