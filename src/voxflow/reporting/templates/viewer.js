// The case viewer. Voxels are LPS: i runs to the patient's left, j to the back, k to the head.

const PLANES = {
  axial: { axis: 2, across: 0, down: 1, isFlipped: false, letters: ["R", "L", "A", "P"], title: "Axial" },
  coronal: { axis: 1, across: 0, down: 2, isFlipped: true, letters: ["R", "L", "S", "I"], title: "Coronal" },
  sagittal: { axis: 0, across: 1, down: 2, isFlipped: true, letters: ["A", "P", "S", "I"], title: "Sagittal" },
};
const content = JSON.parse(document.getElementById("content").textContent);
const byId = (id) => document.getElementById(id);
const state = { number: 0, channel: 0, low: 0, high: 1, isInverted: false, cross: [0, 0, 0], zoom: 1, pan: {}, layers: [], hidden: new Set(), hasCross: true, yaw: -0.5, pitch: 0.25, meshes: new Map(), serial: 0 };
let current = null; // the case with its voxels

async function inflate(number) {
  const bytes = Uint8Array.from(atob(byId(`blob-${number}`).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const voxels = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let n = 1; n < voxels.length; n++) voxels[n] += voxels[n - 1]; // differences, modulo 256
  return voxels;
}

async function openCase(number) {
  const serial = ++state.serial;
  state.number = (number + content.cases.length) % content.cases.length;
  const entry = content.cases[state.number];
  byId("case").value = state.number;
  byId("status").textContent = `Opening ${entry.id}`;
  const channel = Math.min(state.channel, entry.channels.length - 1);
  const image = await inflate(entry.channels[channel].data);
  const masks = await Promise.all(entry.layers.map((layer) => inflate(layer.data)));
  if (serial !== state.serial) return; // another case was chosen meanwhile
  state.channel = channel;
  current = { ...entry, images: { [channel]: image }, masks };
  current.boxes = masks.map((mask) => findBoxes(mask, entry.size));
  current.members = entry.layers.map((layer) => entry.classes.map((part) => Uint8Array.from(layer.values, (value) => +part.values.includes(value))));
  state.layers = entry.layers.map((_, n) => state.layers[n] ?? true);
  state.meshes = new Map();
  state.pan = {};
  state.zoom = 1;
  state.cross = findStart();
  Object.assign(ruler, { lines: [], pending: null });
  byId("distance").textContent = "";
  fillControls();
  chooseWindow(current.channels[channel].window);
  await chooseOverlay(fusion.channel);
  if (serial !== state.serial) return;
  byId("status").textContent = `${entry.id}, case ${state.number + 1} of ${content.cases.length}`;
  history.replaceState(null, "", `#${encodeURIComponent(entry.id)}`);
  document.body.dataset.ready = entry.id;
}

async function chooseChannel(number) {
  const [entry, index] = [current, number % current.channels.length];
  entry.images[index] ??= await inflate(entry.channels[index].data);
  if (entry !== current) return;
  state.channel = index;
  byId("channel").value = index;
  if (fusion.channel === index) fusion.channel = -1;
  fillOverlay();
  fillWindows();
  chooseWindow(current.channels[index].window);
}

// Amid a class of the first mask: the slice in its middle, or the fullest one where that holds little; else amid the image.
function findStart() {
  const [nx, ny, nz] = current.size;
  const first = current.masks.findIndex((voxels) => voxels.some((value) => value));
  if (first < 0) return [nx >> 1, ny >> 1, nz >> 1];
  const mask = current.masks[first], isInside = current.members[first].find((values) => current.boxes[first].some((_, value) => values[value]));
  const counts = new Array(nz).fill(0);
  mask.forEach((value, n) => { if (isInside[value]) counts[Math.floor(n / (nx * ny))]++; });
  const total = counts.reduce((sum, count) => sum + count), most = Math.max(...counts);
  const centre = Math.round(counts.reduce((sum, count, k) => sum + count * k, 0) / total);
  const slice = counts[centre] >= most / 2 ? centre : counts.indexOf(most);
  let x = 0, y = 0;
  for (let j = 0; j < ny; j++) for (let i = 0; i < nx; i++) if (isInside[mask[(slice * ny + j) * nx + i]]) { x += i; y += j; }
  return [Math.round(x / counts[slice]), Math.round(y / counts[slice]), slice];
}

// ---- controls ----

function makeElement(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) name in element ? (element[name] = value) : element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function fillControls() {
  byId("channel").replaceChildren(...current.channels.map((channel, n) => makeElement("option", { value: n, textContent: channel.name })));
  byId("channel").value = state.channel;
  byId("channel-group").hidden = current.channels.length < 2;
  fillWindows();
  byId("layer-switches").replaceChildren(...current.layers.map(makeSwitch));
  for (const [name, plane] of Object.entries(PLANES)) byId(`${name}-slice`).max = current.size[plane.axis] - 1;
  for (const element of document.querySelectorAll(".masks")) element.hidden = !current.layers.length;
  byId("planes").classList.toggle("flat", current.flat);
  document.querySelector(".tabs").classList.toggle("flat", current.flat);
  byId("notes").replaceChildren(...current.notes.map((note) => makeElement("p", { textContent: note })));
  byId("facts").replaceChildren(...Object.entries(current.facts).map(([name, value]) => makeElement("p", {}, makeElement("strong", { textContent: `${name}: ` }), value)));
  fillTable();
}

function fillWindows() {
  const { windows } = current.channels[state.channel];
  byId("window").replaceChildren(...windows.map(([name], n) => makeElement("option", { value: n, textContent: name })), makeElement("option", { value: -1, textContent: "By hand", hidden: true }));
}

function makeSwitch(layer, n) {
  const box = makeElement("input", { type: "checkbox", checked: state.layers[n], onchange: () => { state.layers[n] = box.checked; draw(); } });
  box.dataset.layer = n;
  const colour = usesSourceColours() ? content.sources[n % content.sources.length] : "currentColor";
  const sample = `<svg viewBox="0 0 22 12" aria-hidden="true"><rect x="1" y="1" width="20" height="10" rx="2" fill="${n || current.layers.length < 2 ? colour : "none"}" fill-opacity=".35" stroke="${colour}" stroke-width="${n ? 1 : 2}"/></svg>`;
  const label = makeElement("label", {}, box);
  label.insertAdjacentHTML("beforeend", sample);
  label.append(layer.name);
  return label;
}

function fillTable() {
  const { classes, layers } = current, judged = layers.slice(1);
  const hasDice = classes.some((part) => part.dice.some((dice) => dice !== null));
  const heads = ["class", ...layers.map((layer) => `${layer.name}, ${current.flat ? "px" : "ml"}`), ...(hasDice ? judged.map((layer) => (judged.length > 1 ? `Dice, ${layer.name}` : "Dice")) : [])];
  const head = makeElement("thead", {}, makeElement("tr", {}, ...heads.map((text, n) => makeElement("th", { scope: "col", className: n ? "number" : "", textContent: text }))));
  const rows = classes.map((part, n) => {
    const box = makeElement("input", { type: "checkbox", checked: !state.hidden.has(part.name), onchange: () => { state.hidden[box.checked ? "delete" : "add"](part.name); draw(); } });
    const chip = makeElement("i");
    chip.style.background = part.colour;
    const cells = [...part.ml.map((ml) => formatVolume(current.flat ? ml * 1000 : ml)), ...(hasDice ? part.dice.map((dice) => (dice === null ? "–" : dice.toFixed(3))) : [])];
    return makeElement("tr", {}, makeElement("td", {}, makeElement("label", {}, box, chip, part.name)), ...cells.map((text) => makeElement("td", { className: "number", textContent: text })));
  });
  byId("classes").replaceChildren(head, makeElement("tbody", {}, ...rows));
  byId("classes").parentElement.hidden = !classes.length;
}

const formatVolume = (ml) => (ml >= 100 ? ml.toFixed(0) : ml >= 1 ? ml.toFixed(1) : ml ? ml.toPrecision(2) : "0");
const usesSourceColours = () => byId("colours").value === "source";

function chooseWindow(number) {
  const { windows } = current.channels[state.channel], [, low, high, isInverted] = windows[(number + windows.length) % windows.length];
  Object.assign(state, { low, high, isInverted });
  byId("window").value = (number + windows.length) % windows.length;
  draw();
}

// ---- drawing ----

let isPlanned = false;
function draw() {
  if (isPlanned || !current) return;
  isPlanned = true;
  requestAnimationFrame(() => {
    isPlanned = false;
    for (const name of Object.keys(PLANES)) drawPlane(name);
    describeCross();
    // Making meshes may take a second; the planes need not wait for it.
    if (state.meshes.size) drawSurface();
    else setTimeout(drawSurface, 0);
  });
}

function parseColour(text) {
  return [1, 3, 5].map((n) => parseInt(text.slice(n, n + 2), 16));
}

// Where a plane lies on its canvas: pixels per mm, and the left upper corner of the image.
function layOut(name) {
  const canvas = byId(name), plane = PLANES[name], ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const mmWide = current.size[plane.across] * current.spacing[plane.across], mmHigh = current.size[plane.down] * current.spacing[plane.down];
  const scale = Math.min((width - 36 * ratio) / mmWide, (height - 36 * ratio) / mmHigh) * state.zoom;
  const [dx, dy] = state.pan[name] ?? [0, 0];
  return { canvas, plane, ratio, width, height, scale, mmWide, mmHigh, left: (width - mmWide * scale) / 2 + dx * scale, top: (height - mmHigh * scale) / 2 + dy * scale };
}

// Calls `visit(u, v, n)` for each voxel of a slice: column, row from the top, index.
function readSlice(plane, voxels, lookUp) {
  const [nx, ny] = current.size, steps = [1, nx, nx * ny], wide = current.size[plane.across], high = current.size[plane.down];
  const out = new lookUp.constructor(wide * high), start = state.cross[plane.axis] * steps[plane.axis];
  for (let v = 0, n = 0; v < high; v++) {
    let place = start + (plane.isFlipped ? high - 1 - v : v) * steps[plane.down];
    for (let u = 0; u < wide; u++, n++, place += steps[plane.across]) out[n] = lookUp[voxels[place]];
  }
  return out;
}

function drawPlane(name) {
  const layout = layOut(name), { canvas, plane, width, height, scale, left, top, mmWide, mmHigh } = layout;
  if (!width || !height) return;
  const context = canvas.getContext("2d"), channel = current.channels[state.channel];
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  const greys = Uint32Array.from(channel.steps, (value) => {
    const share = Math.min(1, Math.max(0, (value - state.low) / (state.high - state.low)));
    const grey = Math.round(255 * (state.isInverted ? 1 - share : share));
    return (255 << 24) | (grey << 16) | (grey << 8) | grey;
  });
  paint(context, readSlice(plane, current.images[state.channel], greys), plane, layout, true);
  if (hasOverlay()) paintOverlay(context, plane, layout);
  current.layers.forEach((layer, n) => {
    if (!state.layers[n]) return;
    const identity = Uint8Array.from({ length: 256 }, (_, value) => value), slice = readSlice(plane, current.masks[n], identity);
    if (n || current.layers.length < 2) paint(context, fillColours(slice, n), plane, layout, false);
    drawOutlines(context, slice, n, layout);
  });
  context.setLineDash([]);
  drawAnnotations(context, name, layout);
  if (hasOverlay()) drawColourBar(context, layout);
  drawLines(context, name, layout);
  byId(`${name}-slice`).value = state.cross[plane.axis];
  const text = `${plane.title}, slice ${state.cross[plane.axis] + 1} of ${current.size[plane.axis]}`;
  canvas.setAttribute("aria-label", current.flat ? "Image" : text);
  byId(`${name}-slice`).setAttribute("aria-valuetext", text);
}

function paint(context, colours, plane, { left, top, scale, mmWide, mmHigh }, isSmooth) {
  const wide = current.size[plane.across], high = current.size[plane.down], sheet = new OffscreenCanvas(wide, high);
  sheet.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(colours.buffer), wide, high), 0, 0);
  context.imageSmoothingEnabled = isSmooth;
  context.imageSmoothingQuality = "high";
  context.drawImage(sheet, left, top, mmWide * scale, mmHigh * scale);
}

// The colour of each value of a layer, as [r, g, b], or null where it is hidden; of several classes the last counts.
function colourValues(n) {
  const source = parseColour(content.sources[n % content.sources.length]);
  return Array.from({ length: 256 }, (_, value) => {
    let colour = null;
    current.classes.forEach((part, c) => { if (current.members[n][c][value] && !state.hidden.has(part.name)) colour = usesSourceColours() ? source : parseColour(part.colour); });
    return colour;
  });
}

function fillColours(slice, n) {
  const alpha = Math.round(2.55 * byId("opacity").value);
  const table = Uint32Array.from(colourValues(n), (rgb) => (rgb ? ((alpha << 24) | (rgb[2] << 16) | (rgb[1] << 8) | rgb[0]) >>> 0 : 0));
  return Uint32Array.from(slice, (value) => table[value]);
}

function drawOutlines(context, slice, n, { plane, left, top, scale, ratio }) {
  const wide = current.size[plane.across], high = current.size[plane.down];
  const stepX = current.spacing[plane.across] * scale, stepY = current.spacing[plane.down] * scale;
  const shown = current.classes.map((part, c) => (state.hidden.has(part.name) ? null : current.members[n][c]));
  const paths = shown.map(() => null);
  const compare = (a, b, x0, y0, x1, y1) => {
    for (let c = 0; c < shown.length; c++) {
      if (!shown[c] || shown[c][a] === shown[c][b]) continue;
      const path = (paths[c] ??= new Path2D());
      path.moveTo(left + x0 * stepX, top + y0 * stepY);
      path.lineTo(left + x1 * stepX, top + y1 * stepY);
    }
  };
  for (let v = 0; v < high; v++) for (let u = 0; u <= wide; u++) {
    const a = u ? slice[v * wide + u - 1] : 0, b = u < wide ? slice[v * wide + u] : 0;
    if (a !== b) compare(a, b, u, v, u, v + 1);
  }
  for (let v = 0; v <= high; v++) for (let u = 0; u < wide; u++) {
    const a = v ? slice[(v - 1) * wide + u] : 0, b = v < high ? slice[v * wide + u] : 0;
    if (a !== b) compare(a, b, u, v, u + 1, v);
  }
  context.lineWidth = (n ? 1.5 : 2) * ratio;
  context.lineCap = "square";
  paths.forEach((path, c) => {
    if (!path) return;
    // By class, the label has the lighter tone beside a prediction.
    const colour = parseColour(usesSourceColours() ? content.sources[n % content.sources.length] : current.classes[c].colour);
    const white = n || usesSourceColours() || current.layers.length < 2 ? 0 : 0.6;
    context.strokeStyle = `rgb(${colour.map((part) => Math.round(part + (255 - part) * white)).join(" ")})`;
    context.stroke(path);
  });
}

function writeText(context, text, x, y, ratio, align = "center", size = 13) {
  context.font = `600 ${size * ratio}px system-ui, sans-serif`;
  context.textAlign = align;
  context.textBaseline = "middle";
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "#000";
  context.strokeText(text, x, y);
  context.fillStyle = "#fff";
  context.fillText(text, x, y);
}

function drawAnnotations(context, name, layout) {
  const { plane, ratio, width, height, scale, left, top } = layout;
  if (current.flat) return drawGreyBar(context, layout);
  if (state.hasCross) {
    const x = left + (state.cross[plane.across] + 0.5) * current.spacing[plane.across] * scale;
    const row = plane.isFlipped ? current.size[plane.down] - 1 - state.cross[plane.down] : state.cross[plane.down];
    const y = top + (row + 0.5) * current.spacing[plane.down] * scale, gap = 14 * ratio;
    context.strokeStyle = "rgba(255, 255, 255, .45)";
    context.lineWidth = ratio;
    context.beginPath();
    for (const [x0, y0, x1, y1] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) { context.moveTo(x0, y0); context.lineTo(x1, y1); }
    context.stroke();
  }
  const [west, east, north, south] = plane.letters;
  writeText(context, west, 11 * ratio, height / 2, ratio);
  writeText(context, east, width - 11 * ratio, height / 2, ratio);
  writeText(context, north, width / 2, 12 * ratio, ratio);
  writeText(context, south, width / 2, height - 30 * ratio, ratio);
  writeText(context, `${plane.title} ${state.cross[plane.axis] + 1}/${current.size[plane.axis]}`, 8 * ratio, 13 * ratio, ratio, "left", 12);
  drawScale(context, layout);
  drawGreyBar(context, layout);
}

function drawScale(context, { ratio, height, scale }) {
  const mm = [500, 200, 100, 50, 20, 10, 5, 2, 1].find((length) => length * scale <= 110 * ratio) ?? 0.5;
  const x = 10 * ratio, y = height - 12 * ratio;
  for (const [colour, width] of [["#000", 5], ["#fff", 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = width * ratio;
    context.beginPath();
    context.moveTo(x, y - 4 * ratio); context.lineTo(x, y); context.lineTo(x + mm * scale, y); context.lineTo(x + mm * scale, y - 4 * ratio);
    context.stroke();
  }
  writeText(context, mm >= 10 ? `${mm / 10} cm` : `${mm} mm`, x, y - 13 * ratio, ratio, "left", 11);
}

// The bar of greys with the values of both ends.
function drawGreyBar(context, { ratio, width, height }) {
  const { unit } = current.channels[state.channel], x = width - 16 * ratio, high = Math.min(90 * ratio, height / 4), y = height - high - 14 * ratio;
  const shades = context.createLinearGradient(0, y, 0, y + high);
  shades.addColorStop(0, state.isInverted ? "#000" : "#fff");
  shades.addColorStop(1, state.isInverted ? "#fff" : "#000");
  context.fillStyle = shades;
  context.fillRect(x, y, 8 * ratio, high);
  context.strokeStyle = "#9aa5b1";
  context.lineWidth = ratio;
  context.strokeRect(x, y, 8 * ratio, high);
  writeText(context, formatValue(state.high), x - 5 * ratio, y + 4 * ratio, ratio, "right", 11);
  writeText(context, formatValue(state.low), x - 5 * ratio, y + high - 4 * ratio, ratio, "right", 11);
  if (unit) writeText(context, unit, x - 5 * ratio, y + high / 2, ratio, "right", 11);
}

const formatValue = (value, unit = current.channels[state.channel].unit) => (unit === "HU" || Math.abs(value) >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(3));

function describeCross() {
  const [nx, ny] = current.size, [i, j, k] = state.cross, n = (k * ny + j) * nx + i;
  const names = current.layers.map((layer, l) => {
    const value = current.masks[l][n], parts = current.classes.filter((_, c) => current.members[l][c][value]);
    return `${layer.name}: ${parts.map((part) => part.name).join(", ") || "–"}`;
  });
  const values = [state.channel, ...(hasOverlay() ? [fusion.channel] : [])].map((number) => {
    const { name, steps, unit } = current.channels[number];
    return `${name} ≈ ${formatValue(steps[current.images[number][n]], unit)} ${unit}`.trim();
  });
  byId("readout").textContent = [...values, ...names].join(" · ");
}

function drawSurface() {
  const canvas = byId("surface"), wide = canvas.clientWidth, tall = canvas.clientHeight;
  if (!wide || !tall || current.flat) return;
  const ratio = Math.min(1.5, 620 / Math.max(wide, tall)), width = Math.round(wide * ratio), height = Math.round(tall * ratio);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const shown = state.layers.flatMap((isOn, n) => (isOn ? [n] : [])), meshes = [];
  for (const n of shown) current.classes.forEach((part, c) => {
    if (state.hidden.has(part.name)) return;
    const key = `${n}-${c}`;
    if (!state.meshes.has(key)) state.meshes.set(key, makeSurface(current.masks[n], current.members[n][c], current.boxes[n], current.size, current.spacing));
    const mesh = state.meshes.get(key), source = content.sources[n % content.sources.length];
    if (mesh) meshes.push({ mesh, rgb: parseColour(usesSourceColours() ? source : part.colour), isSparse: shown.length > 1 && n === shown[0] });
  });
  let reach = 1;
  for (const { mesh } of meshes) for (let n = 0; n < mesh.positions.length; n += 3) reach = Math.max(reach, Math.hypot(mesh.positions[n] - middle(0), mesh.positions[n + 1] - middle(1), mesh.positions[n + 2] - middle(2)));
  function middle(axis) {
    if (!current.middle) {
      const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
      for (const { mesh } of meshes) mesh.positions.forEach((mm, n) => { low[n % 3] = Math.min(low[n % 3], mm); high[n % 3] = Math.max(high[n % 3], mm); });
      current.middle = low.map((mm, n) => (mm + high[n]) / 2);
    }
    return current.middle[axis];
  }
  const context = canvas.getContext("2d"), pixels = context.createImageData(width, height), turn = makeTurn(state.yaw, state.pitch);
  const centred = meshes.map((entry) => {
    entry.mesh.centred ??= entry.mesh.positions.map((mm, n) => mm - middle(n % 3));
    return { ...entry, mesh: { ...entry.mesh, positions: entry.mesh.centred } };
  });
  renderSurfaces(pixels, width, height, centred, turn, ((Math.min(width, height) * 0.46) / reach) * state.zoom);
  context.putImageData(pixels, 0, 0);
  drawAxes(context, turn, width, height, ratio);
  writeText(context, meshes.length ? "3D" : "3D: no mask shown", 8 * ratio, 13 * ratio, ratio, "left", 12);
}

function drawAxes(context, turn, width, height, ratio) {
  const x = 42 * ratio, y = height - 42 * ratio;
  const ends = [["L", 1, 0, 0], ["R", -1, 0, 0], ["P", 0, 1, 0], ["A", 0, -1, 0], ["S", 0, 0, 1], ["I", 0, 0, -1]].map(([letter, ...place]) => [letter, ...multiply(turn, ...place)]);
  for (const [letter, dx, dy, dz] of ends.sort((a, b) => b[3] - a[3])) {
    context.strokeStyle = "rgba(255, 255, 255, .5)";
    context.lineWidth = ratio;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + 22 * ratio * dx, y + 22 * ratio * dy);
    context.stroke();
    if (dz < 0.5) writeText(context, letter, x + 31 * ratio * dx, y + 31 * ratio * dy, ratio, "center", 11);
  }
}
