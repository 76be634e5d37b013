// Surfaces of masks, by naive surface nets (Gibson 1998) on a smoothed, coarser copy, and a small renderer with a depth
// buffer. It needs no WebGL: a viewer must also work over remote desktops and on PCs without a graphics card.

const SURFACE_CELLS = 84; // along the longest side

// The lowest and highest index along each axis of every value of a mask.
function findBoxes(voxels, [nx, ny, nz]) {
  const boxes = [];
  for (let k = 0, n = 0; k < nz; k++) for (let j = 0; j < ny; j++) for (let i = 0; i < nx; i++, n++) {
    if (!voxels[n]) continue;
    const [low, high] = (boxes[voxels[n]] ??= [[i, j, k], [i, j, k]]);
    if (i < low[0]) low[0] = i; if (i > high[0]) high[0] = i;
    if (j < low[1]) low[1] = j; if (j > high[1]) high[1] = j;
    high[2] = k;
  }
  return boxes;
}

// Makes the surface of the voxels whose value `isInside` marks; positions in mm from the image's centre (LPS).
function makeSurface(voxels, isInside, boxes, size, spacing) {
  const parts = boxes.filter((_, value) => isInside[value]), [nx, ny] = size;
  if (!parts.length) return null;
  const low = [0, 1, 2].map((a) => Math.min(...parts.map((box) => box[0][a]))), high = [0, 1, 2].map((a) => Math.max(...parts.map((box) => box[1][a])));
  const longest = Math.max(...[0, 1, 2].map((a) => (high[a] - low[a] + 1) * spacing[a]));
  const edge = Math.max(longest / SURFACE_CELLS, Math.min(...spacing));
  const step = spacing.map((mm) => Math.max(1, Math.round(edge / mm)));
  const dims = [0, 1, 2].map((a) => Math.ceil((high[a] - low[a] + 1) / step[a]) + 4);
  let field = new Float32Array(dims[0] * dims[1] * dims[2]);
  const share = 1 / (step[0] * step[1] * step[2]);
  for (let k = low[2]; k <= high[2]; k++) for (let j = low[1]; j <= high[1]; j++) for (let i = low[0]; i <= high[0]; i++) {
    if (!isInside[voxels[(k * ny + j) * nx + i]]) continue;
    const x = 2 + Math.floor((i - low[0]) / step[0]), y = 2 + Math.floor((j - low[1]) / step[1]), z = 2 + Math.floor((k - low[2]) / step[2]);
    field[(z * dims[1] + y) * dims[0] + x] += share;
  }
  for (const stride of [1, dims[0], dims[0] * dims[1]]) field = blurAlong(field, stride);
  let peak = 0;
  for (const value of field) if (value > peak) peak = value;
  const mesh = extractNets(field, dims, Math.min(0.5, peak / 2));
  const centre = size.map((n, a) => ((n - 1) * spacing[a]) / 2);
  for (let n = 0; n < mesh.positions.length; n++) {
    const a = n % 3;
    mesh.positions[n] = (low[a] + (mesh.positions[n] - 2) * step[a] + (step[a] - 1) / 2) * spacing[a] - centre[a];
    mesh.normals[n] /= step[a] * spacing[a];
  }
  for (let n = 0; n < mesh.normals.length; n += 3) {
    const length = Math.hypot(mesh.normals[n], mesh.normals[n + 1], mesh.normals[n + 2]) || 1;
    for (let a = 0; a < 3; a++) mesh.normals[n + a] /= length;
  }
  return mesh;
}

function blurAlong(field, stride) {
  const out = new Float32Array(field.length);
  for (let n = stride; n < field.length - stride; n++) out[n] = field[n - stride] / 4 + field[n] / 2 + field[n + stride] / 4;
  return out;
}

function extractNets(field, dims, level) {
  const [nx, ny, nz] = dims, steps = [1, nx, nx * ny];
  const offsets = [], places = [];
  for (let c = 0; c < 8; c++) { places.push([c & 1, (c >> 1) & 1, c >> 2]); offsets.push((c & 1) + ((c >> 1) & 1) * nx + (c >> 2) * nx * ny); }
  const edges = [];
  for (let a = 0; a < 8; a++) for (const bit of [1, 2, 4]) if (!(a & bit)) edges.push([a, a | bit]);
  const vertexOf = new Int32Array(field.length).fill(-1), positions = [], normals = [], triangles = [];
  for (let k = 0; k < nz - 1; k++) for (let j = 0; j < ny - 1; j++) for (let i = 0; i < nx - 1; i++) {
    const n = (k * ny + j) * nx + i;
    let inside = 0;
    for (let c = 0; c < 8; c++) if (field[n + offsets[c]] >= level) inside |= 1 << c;
    if (inside === 0 || inside === 255) continue;
    let x = 0, y = 0, z = 0, count = 0;
    for (const [a, b] of edges) {
      if (((inside >> a) & 1) === ((inside >> b) & 1)) continue;
      const va = field[n + offsets[a]], t = (level - va) / (field[n + offsets[b]] - va);
      x += places[a][0] + t * (places[b][0] - places[a][0]);
      y += places[a][1] + t * (places[b][1] - places[a][1]);
      z += places[a][2] + t * (places[b][2] - places[a][2]);
      count++;
    }
    vertexOf[n] = positions.length / 3;
    positions.push(i + x / count, j + y / count, k + z / count);
    for (let axis = 0; axis < 3; axis++) {
      let slope = 0;
      for (let c = 0; c < 8; c++) slope += (places[c][axis] ? -1 : 1) * field[n + offsets[c]];
      normals.push(slope);
    }
  }
  for (let k = 1; k < nz - 1; k++) for (let j = 1; j < ny - 1; j++) for (let i = 1; i < nx - 1; i++) {
    const n = (k * ny + j) * nx + i, isIn = field[n] >= level;
    for (let axis = 0; axis < 3; axis++) {
      if (isIn === field[n + steps[axis]] >= level) continue;
      const u = steps[(axis + 1) % 3], v = steps[(axis + 2) % 3];
      const quad = [vertexOf[n], vertexOf[n - u], vertexOf[n - u - v], vertexOf[n - v]];
      if (quad.every((vertex) => vertex >= 0)) triangles.push(quad[0], quad[1], quad[2], quad[0], quad[2], quad[3]);
    }
  }
  return { positions: new Float32Array(positions), normals: new Float32Array(normals), triangles: new Uint32Array(triangles) };
}

// Draws meshes [{mesh, rgb, isSparse}] turned by a 3×3 matrix; x to the right, y down, z away from the viewer.
function renderSurfaces(pixels, width, height, meshes, turn, pixelsPerMm) {
  const depth = new Float32Array(width * height).fill(Infinity), out = pixels.data;
  for (let n = 0; n < out.length; n += 4) { out[n] = out[n + 1] = out[n + 2] = 0; out[n + 3] = 255; }
  for (const { mesh, rgb, isSparse } of meshes) {
    const count = mesh.positions.length / 3, px = new Float32Array(count), py = new Float32Array(count), pz = new Float32Array(count), light = new Float32Array(count);
    for (let n = 0; n < count; n++) {
      const [x, y, z] = multiply(turn, mesh.positions[3 * n], mesh.positions[3 * n + 1], mesh.positions[3 * n + 2]);
      px[n] = width / 2 + x * pixelsPerMm; py[n] = height / 2 + y * pixelsPerMm; pz[n] = z;
      const [a, b, c] = multiply(turn, mesh.normals[3 * n], mesh.normals[3 * n + 1], mesh.normals[3 * n + 2]);
      light[n] = 0.28 + 0.72 * Math.max(0, -0.35 * a - 0.45 * b - 0.82 * c);
    }
    const { triangles } = mesh;
    for (let t = 0; t < triangles.length; t += 3) {
      const a = triangles[t], b = triangles[t + 1], c = triangles[t + 2];
      const area = (px[b] - px[a]) * (py[c] - py[a]) - (px[c] - px[a]) * (py[b] - py[a]);
      if (!area) continue;
      const x0 = Math.max(0, Math.ceil(Math.min(px[a], px[b], px[c]))), x1 = Math.min(width - 1, Math.floor(Math.max(px[a], px[b], px[c])));
      const y0 = Math.max(0, Math.ceil(Math.min(py[a], py[b], py[c]))), y1 = Math.min(height - 1, Math.floor(Math.max(py[a], py[b], py[c])));
      for (let y = y0; y <= y1; y++) for (let x = x0; x <= x1; x++) {
        if (isSparse && (x + y) & 1) continue;
        const u = ((x - px[a]) * (py[c] - py[a]) - (px[c] - px[a]) * (y - py[a])) / area;
        const v = ((px[b] - px[a]) * (y - py[a]) - (x - px[a]) * (py[b] - py[a])) / area;
        if (u < -1e-4 || v < -1e-4 || u + v > 1.0002) continue;
        const z = pz[a] + u * (pz[b] - pz[a]) + v * (pz[c] - pz[a]), n = y * width + x;
        if (z >= depth[n]) continue;
        depth[n] = z;
        const shade = light[a] + u * (light[b] - light[a]) + v * (light[c] - light[a]);
        out[4 * n] = rgb[0] * shade; out[4 * n + 1] = rgb[1] * shade; out[4 * n + 2] = rgb[2] * shade;
      }
    }
  }
}

function multiply(m, x, y, z) {
  return [m[0] * x + m[1] * y + m[2] * z, m[3] * x + m[4] * y + m[5] * z, m[6] * x + m[7] * y + m[8] * z];
}

// The view from the patient's front, turned about the long axis by `yaw` and tilted by `pitch` (radians).
function makeTurn(yaw, pitch) {
  const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
  // x: left of the patient → right of the screen; z: head → up; y: back → away.
  return [cy, -sy, 0, sp * sy, sp * cy, -cp, cp * sy, cp * cy, sp];
}
