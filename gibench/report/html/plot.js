// Accuracy against gain over the floor: one point per defense, a line along those that none beats in both.
const SVG = "http://www.w3.org/2000/svg";
const [HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [300, 48, 16, 14, 40];
const [HIGH, FAR] = [5, 15]; // dB: beyond FAR the scale of gains is logarithmic from HIGH on, a doubling as long as a decibel
let WIDTH = 640; // of the figure as it is shown, so that letters keep their size

function drawn(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function ticks(low, high) {
  const rough = (high - low) / 5 || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9; k++) found.push(k * step);
  return { found, places: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

function points(section) {
  return shownRows(section)
    .filter((row) => row.dataset.leak !== "floor")
    .map((row) => ({ row, x: valueIn(row, "utility"), y: valueIn(row, "gain") }))
    .filter((point) => point.x !== null && point.y !== null);
}

// What a classifier that learned from auxiliary images alone reaches, where that can be told: no client is worth less.
function alone(section) {
  const floor = shownRows(section).find((row) => row.dataset.leak === "floor");
  return floor ? valueIn(floor, "utility") : null;
}

function span(values, least) {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const room = Math.max((high - low) * 0.06, least);
  return [low - room, high + room];
}

function plot(section) {
  const figure = section.querySelector(".plot");
  const found = points(section);
  figure.hidden = found.length < 2;
  figure.querySelector("svg")?.remove();
  if (figure.hidden) return;
  WIDTH = Math.max(300, figure.clientWidth - 26);
  const floor = alone(section);
  const [left, right] = span([...found.map((point) => point.x), ...(floor === null ? [] : [floor])], 0.01);
  const gains = [0, ...found.map((point) => point.y)];
  const far = Math.max(...gains) > FAR;
  const [bottom, top] = far ? [Math.min(...gains) - 0.5, Math.max(...gains) * 1.2] : span(gains, 0.5);
  const x = (value) => LEFT + ((value - left) / (right - left)) * (WIDTH - LEFT - RIGHT);
  const scaled = (value) => (far && value > HIGH ? HIGH + Math.log2(value / HIGH) : value);
  const share = (value) => (scaled(value) - scaled(bottom)) / (scaled(top) - scaled(bottom));
  const y = (value) => HEIGHT - BOTTOM - share(value) * (HEIGHT - TOP - BOTTOM);
  const up = far ? { found: [0, 1, 2, 3, 4, 5, 10, 20, 40, 80].filter((value) => value < top), places: 0 } : ticks(bottom, top);
  const svg = drawn("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group" });
  svg.setAttribute("aria-label", `Accuracy against gain over the floor of ${found.length} defenses`);
  axes(svg, x, y, ticks(left * 100, right * 100), up);
  const taken = found.map((point) => ({ x: x(point.x) - 5, y: y(point.y) - 5, w: 10, h: 10 }));
  if (floor !== null) taken.push(reference(svg, x(floor)));
  frontier(svg, found, x, y);
  const later = [...found].sort((one, other) => ("front" in one.row.dataset) - ("front" in other.row.dataset));
  for (const point of later) svg.append(mark(section, point, x(point.x), y(point.y)));
  for (const point of later.reverse()) label(svg, point, x(point.x), y(point.y), taken);
  figure.append(svg);
}

function axes(svg, x, y, across, up) {
  for (const value of up.found) {
    svg.append(drawn("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }));
    svg.append(drawn("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(up.places)));
  }
  for (const value of across.found) {
    const place = { x: x(value / 100), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" };
    svg.append(drawn("text", place, value.toFixed(across.places) + "%"));
  }
  svg.append(drawn("text", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "accuracy"));
  const turned = { transform: `translate(12 ${HEIGHT / 2 - 10}) rotate(-90)`, "text-anchor": "middle" };
  svg.append(drawn("text", turned, "gain over the floor, dB"));
}

// The room that its name takes is returned, for the names of the defenses to stay out of.
function reference(svg, at) {
  const name = "auxiliary images alone";
  const width = name.length * 5.6;
  const before = at + 6 + width > WIDTH;
  svg.append(drawn("line", { class: "alone", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
  const place = { x: before ? at - 6 : at + 6, y: TOP + 8, "text-anchor": before ? "end" : "start" };
  svg.append(drawn("text", { class: "name", ...place }, name));
  return { x: before ? at - 6 - width : at + 6, y: TOP - 2, w: width, h: 12 };
}

function frontier(svg, found, x, y) {
  const best = found.filter((point) => "front" in point.row.dataset).sort((one, other) => one.x - other.x);
  if (best.length < 2) return;
  const steps = best.map((point, k) => (k ? `V${y(point.y)}H${x(point.x)}` : `M${x(point.x)} ${y(point.y)}`));
  svg.append(drawn("path", { class: "front", d: steps.join("") }));
}

function mark(section, point, cx, cy) {
  const { defense, leak, targets } = point.row.dataset;
  const kind = "dot" + (leak === "unproven" || defense === "none" ? " open" : "");
  const shape = targets
    ? drawn("path", { class: kind, d: `M${cx} ${cy - 7}l7 7l-7 7l-7 -7z` })
    : drawn("circle", { class: kind, cx, cy, r: 5 });
  const said = `${defense}: accuracy ${(point.x * 100).toFixed(1)}%, gain ${point.y.toFixed(1)} dB, leak ${leak}`;
  const link = drawn("a", { class: `leak-${leak}`, tabindex: "0", role: "button", "aria-label": said });
  link.append(drawn("title", {}, said + (targets ? `, matched at ${targets.split("|").join(", ")}` : "")), shape);
  link.addEventListener("click", () => openAt(Number(section.dataset.table), point.row, "worst"));
  link.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") event.preventDefault(), openAt(Number(section.dataset.table), point.row, "worst");
  });
  return link;
}

// A name is written where no other is in its way; the others are read by pointing or in the table.
function label(svg, point, cx, cy, taken) {
  const spec = point.row.dataset.defense;
  const name = spec.length > 34 ? spec.slice(0, 33) + "…" : spec;
  const width = name.length * 5.6;
  const hit = (box) => (other) => box.x < other.x + other.w && other.x < box.x + box.w && box.y < other.y + other.h && other.y < box.y + box.h;
  for (const down of [0, -14, 14, 28, -28, 42]) {
    for (const before of [false, true]) {
      const box = { x: before ? cx - width - 9 : cx + 9, y: cy - 6 + down, w: width, h: 12 };
      const outside = box.x < LEFT || box.x + width > WIDTH - 2 || box.y < 0 || box.y + box.h > HEIGHT - BOTTOM + 4;
      if (outside || taken.some(hit(box))) continue;
      taken.push(box);
      const place = { x: before ? cx - 9 : cx + 9, y: cy + 4 + down, "text-anchor": before ? "end" : "start" };
      svg.append(drawn("text", { class: "name", ...place }, name));
      return;
    }
    if (!("front" in point.row.dataset)) return;
  }
}
