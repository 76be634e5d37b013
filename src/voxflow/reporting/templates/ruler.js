// Distances in the planes: each lies on one slice, and is kept in mm from the left upper corner of the whole image.

const ruler = { isOn: false, lines: [], pending: null };

function switchRuler() {
  ruler.isOn = !ruler.isOn;
  ruler.pending = null;
  byId("measure").setAttribute("aria-pressed", ruler.isOn);
  byId("distance").textContent = ruler.isOn ? "Measuring: drag in a plane; or focus one, move the cross with the arrow keys and press Enter at both ends." : describeLines();
  draw();
}

function clearLines() {
  if (!ruler.lines.length && !ruler.pending) return;
  Object.assign(ruler, { lines: [], pending: null });
  byId("distance").textContent = "Distances cleared.";
  draw();
}

// Where a pointer is, in mm within the image.
function locatePointer(name, event) {
  const { ratio, scale, left, top, mmWide, mmHigh } = layOut(name);
  return [[event.offsetX, left, mmWide], [event.offsetY, top, mmHigh]].map(([at, start, most]) => Math.min(most, Math.max(0, (at * ratio - start) / scale)));
}

// The middle of the cross's voxel, in mm within the image.
function locateCross(name) {
  const plane = PLANES[name], row = plane.isFlipped ? current.size[plane.down] - 1 - state.cross[plane.down] : state.cross[plane.down];
  return [(state.cross[plane.across] + 0.5) * current.spacing[plane.across], (row + 0.5) * current.spacing[plane.down]];
}

function startLine(name, point) {
  ruler.pending = { name, slice: state.cross[PLANES[name].axis], start: point, end: point };
  draw();
}

function moveLine(name, point) {
  if (!isPending(name)) return;
  ruler.pending.end = point;
  draw();
}

// A line that was begun on this slice of this plane.
function isPending(name) {
  return ruler.pending?.name === name && ruler.pending.slice === state.cross[PLANES[name].axis];
}

function endLine() {
  const line = ruler.pending;
  ruler.pending = null;
  if (line && measureLine(line) > 0) {
    ruler.lines.push(line);
    byId("distance").textContent = describeLines();
  }
  draw();
}

const measureLine = ({ start, end }) => Math.hypot(end[0] - start[0], end[1] - start[1]);

function formatLength(length) {
  return `${length.toFixed(length < 100 ? 1 : 0)} ${current.flat ? "px" : "mm"}`;
}

function describeLines() {
  return ruler.lines.map((line) => `${formatLength(measureLine(line))}${current.flat ? "" : `, ${line.name} slice ${line.slice + 1}`}`).reverse().map((text, n) => (n ? text : `Distance: ${text}`)).join("; ");
}

// Arrow keys move the cross in the plane, by ten voxels with Shift; Enter begins and ends a line there.
function handleRulerKey(name, event) {
  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }, plane = PLANES[name];
  if (event.key in steps) {
    const [across, down] = steps[event.key].map((step) => step * (event.shiftKey ? 10 : 1));
    for (const [axis, by] of [[plane.across, across], [plane.down, plane.isFlipped ? -down : down]]) state.cross[axis] = Math.min(current.size[axis] - 1, Math.max(0, state.cross[axis] + by));
    moveLine(name, locateCross(name));
    draw();
  } else if (event.key === "Enter") {
    if (isPending(name)) { endLine(); return true; }
    startLine(name, locateCross(name));
    byId("distance").textContent = "First end set; move with the arrow keys, and press Enter at the other end.";
  } else return false;
  return true;
}

function drawLines(context, name, { plane, ratio, scale, left, top }) {
  const lines = ruler.pending ? [...ruler.lines, ruler.pending] : ruler.lines;
  for (const line of lines.filter((entry) => entry.name === name && entry.slice === state.cross[plane.axis])) {
    const [x0, y0, x1, y1] = [...line.start, ...line.end].map((mm, n) => (n % 2 ? top : left) + mm * scale);
    const length = Math.hypot(x1 - x0, y1 - y0) || 1, dx = (-(y1 - y0) / length) * 5 * ratio, dy = ((x1 - x0) / length) * 5 * ratio;
    for (const [colour, width] of [["#000", 4], ["#ffe14d", 1.6]]) {
      context.strokeStyle = colour;
      context.lineWidth = width * ratio;
      context.beginPath();
      for (const [x, y, u, v] of [[x0, y0, x1, y1], [x0 - dx, y0 - dy, x0 + dx, y0 + dy], [x1 - dx, y1 - dy, x1 + dx, y1 + dy]]) { context.moveTo(x, y); context.lineTo(u, v); }
      context.stroke();
    }
    const isRight = x1 > context.canvas.width - 80 * ratio;
    writeText(context, formatLength(measureLine(line)), x1 + (isRight ? -8 : 8) * ratio, Math.max(12 * ratio, y1 - 12 * ratio), ratio, isRight ? "right" : "left", 13);
  }
}
