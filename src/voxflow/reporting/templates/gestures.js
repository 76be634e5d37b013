// Mouse, touch and keys of the case viewer.

function moveSlice(name, by) {
  const { axis } = PLANES[name];
  state.cross[axis] = Math.min(current.size[axis] - 1, Math.max(0, state.cross[axis] + by));
  draw();
}

function zoomBy(factor) {
  state.zoom = Math.min(20, Math.max(1, state.zoom * factor));
  if (state.zoom === 1) state.pan = {};
  draw();
}

function fit() {
  Object.assign(state, { zoom: 1, pan: {} });
  draw();
}

function panBy(name, dx, dy) {
  const { scale, ratio } = layOut(name), [x, y] = state.pan[name] ?? [0, 0];
  state.pan[name] = [x + (dx * ratio) / scale, y + (dy * ratio) / scale];
  draw();
}

function changeWindow(dx, dy) {
  const width = state.high - state.low, level = (state.high + state.low) / 2 - (dy * width) / 300;
  const wider = width * Math.exp(dx / 200);
  Object.assign(state, { low: level - wider / 2, high: level + wider / 2 });
  byId("window").value = -1;
  draw();
}

function placeCross(name, event) {
  const { plane, ratio, scale, left, top } = layOut(name);
  const place = (at, start, axis) => Math.min(current.size[axis] - 1, Math.max(0, Math.floor((at * ratio - start) / scale / current.spacing[axis])));
  const row = place(event.offsetY, top, plane.down);
  state.cross[plane.across] = place(event.offsetX, left, plane.across);
  state.cross[plane.down] = plane.isFlipped ? current.size[plane.down] - 1 - row : row;
  draw();
}

function listenToPlane(name) {
  const canvas = byId(name), touches = new Map();
  let travelled = 0, pinch = 0;
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    event.ctrlKey ? zoomBy(Math.exp(-event.deltaY / 300)) : moveSlice(name, event.deltaY > 0 ? -1 : 1);
  }, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", fit);
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    touches.set(event.pointerId, event);
    travelled = pinch = 0;
    const isMain = event.button === 0 && !event.shiftKey;
    if (ruler.isOn && isMain) touches.size === 1 ? startLine(name, locatePointer(name, event)) : (ruler.pending = null);
    else if (event.pointerType === "mouse" && isMain) placeCross(name, event);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = touches.get(event.pointerId);
    if (!before) return;
    const dx = event.offsetX - before.offsetX, dy = event.offsetY - before.offsetY;
    touches.set(event.pointerId, event);
    if (event.pointerType === "mouse") {
      if (event.buttons & 2) changeWindow(dx, dy);
      else if (event.shiftKey || event.buttons & 4) panBy(name, dx, dy);
      else ruler.isOn ? moveLine(name, locatePointer(name, event)) : placeCross(name, event);
    } else if (touches.size > 1) {
      const [a, b] = [...touches.values()], apart = Math.hypot(a.offsetX - b.offsetX, a.offsetY - b.offsetY);
      if (pinch) zoomBy(apart / pinch);
      pinch = apart;
      panBy(name, dx / 2, dy / 2);
    } else if (ruler.isOn) moveLine(name, locatePointer(name, event));
    else {
      travelled += dy;
      const slices = Math.trunc(travelled / 7);
      if (slices) { moveSlice(name, -slices); travelled -= 7 * slices; canvas.dataset.hasMoved = 1; }
    }
  });
  const release = (event) => {
    const isTap = event.type === "pointerup" && event.pointerType !== "mouse" && touches.size === 1 && !canvas.dataset.hasMoved && !pinch;
    touches.delete(event.pointerId);
    if (ruler.isOn) event.type === "pointerup" ? endLine() : (ruler.pending = null);
    else if (isTap) placeCross(name, event);
    if (!touches.size) delete canvas.dataset.hasMoved;
  };
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("keydown", (event) => {
    const steps = { ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
    if (ruler.isOn && handleRulerKey(name, event)) return event.preventDefault();
    if (!(event.key in steps)) return;
    event.preventDefault();
    moveSlice(name, steps[event.key]);
  });
  byId(`${name}-slice`).addEventListener("input", (event) => {
    state.cross[PLANES[name].axis] = +event.target.value;
    draw();
  });
}

function listenToSurface() {
  const canvas = byId("surface");
  const turn = (dx, dy) => {
    state.yaw -= dx / 120;
    state.pitch = Math.min(1.57, Math.max(-1.57, state.pitch + dy / 120));
    draw();
  };
  canvas.addEventListener("pointermove", (event) => { if (event.buttons) turn(event.movementX, event.movementY); });
  canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomBy(Math.exp(-event.deltaY / 300)); }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const turns = { ArrowLeft: [-18, 0], ArrowRight: [18, 0], ArrowUp: [0, -18], ArrowDown: [0, 18] };
    if (!(event.key in turns)) return;
    event.preventDefault();
    turn(...turns[event.key]);
  });
}

const KEYS = {
  n: () => openCase(state.number + 1),
  b: () => openCase(state.number - 1),
  w: () => chooseWindow(+byId("window").value + 1),
  c: () => chooseChannel(state.channel + 1),
  m: switchRuler,
  escape: clearLines,
  o: cycleOverlay,
  x: () => { state.hasCross = !state.hasCross; draw(); },
  0: fit,
  "+": () => zoomBy(1.25),
  "=": () => zoomBy(1.25),
  "-": () => zoomBy(0.8),
};

function listenToPage() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !current || (event.key !== "Escape" && event.target.matches("select, input[type=range]"))) return;
    const box = document.querySelector(`[data-layer="${+event.key - 1}"]`);
    if (box && /^[1-9]$/.test(event.key)) box.click();
    else KEYS[event.key.toLowerCase()]?.();
  });
  byId("case").replaceChildren(...content.cases.map((entry, n) => makeElement("option", { value: n, textContent: `${entry.id}${describeDice(entry)}` })));
  byId("case").onchange = (event) => openCase(+event.target.value);
  byId("previous").onclick = KEYS.b;
  byId("next").onclick = KEYS.n;
  byId("channel").onchange = (event) => chooseChannel(+event.target.value);
  byId("window").onchange = (event) => chooseWindow(+event.target.value);
  byId("measure").onclick = switchRuler;
  byId("overlay").onchange = (event) => chooseOverlay(+event.target.value);
  byId("overlay-window").onchange = (event) => chooseOverlayWindow(+event.target.value);
  byId("overlay-map").onchange = byId("overlay-opacity").oninput = draw;
  byId("opacity").oninput = draw;
  byId("reset").onclick = fit;
  byId("colours").onchange = () => { byId("layer-switches").replaceChildren(...current.layers.map(makeSwitch)); draw(); };
  for (const button of document.querySelectorAll(".tabs button")) button.onclick = () => {
    byId("planes").dataset.view = button.dataset.view;
    for (const other of document.querySelectorAll(".tabs button")) other.setAttribute("aria-pressed", other === button);
    draw();
  };
  addEventListener("resize", draw);
  addEventListener("hashchange", openNamedCase);
}

function describeDice(entry) {
  const values = entry.classes.map((part) => part.dice[0]).filter((dice) => dice !== null && dice !== undefined);
  return values.length ? ` · Dice ${(values.reduce((sum, dice) => sum + dice, 0) / values.length).toFixed(3)}` : "";
}

function openNamedCase() {
  const name = decodeURIComponent(location.hash.slice(1)), number = content.cases.findIndex((entry) => entry.id === name);
  openCase(Math.max(0, number)).catch((error) => {
    byId("readout").textContent = typeof DecompressionStream === "undefined" ? "This browser is too old to unpack the images: Chrome 80, Firefox 113, Safari 16.4 or newer can." : String(error);
  });
}

for (const name of Object.keys(PLANES)) listenToPlane(name);
listenToSurface();
listenToPage();
// Of one class, or of two models, colours tell who drew it; else which class it is.
const tellsClass = content.cases.some((entry) => entry.classes.length > 1) && content.cases.every((entry) => entry.layers.length < 3);
byId("colours").value = tellsClass ? "class" : "source";
openNamedCase();
