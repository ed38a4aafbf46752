// What is behind a number: the attacks on this defense, their cells, and how to make a cell again.
const dialog = document.getElementById("cell");
const ATTACK_HEADS = ["PSNR dB [95 %]", "SSIM", "MSE", "attack acc.", "identified", "labels", "sent dB", "floor dB", "undef. dB", "s/image"];
const PSEUDO = ["worst", "oblivious"];

// row: of a table's line, with its defense and checkpoint; the floor of a table is any prior in it.
function openAt(table, row, attack) {
  const { defense, checkpoint, leak } = row.dataset;
  const floor = leak === "floor";
  const fits = (line) => (floor && checkpoint === "-") || (text(line.d) === defense && text(line.c) === checkpoint);
  const here = data.attacks[table].filter((line) => line.p !== null && !PSEUDO.includes(text(line.a)) && (!floor || line.f) && fits(line));
  const fitting = here.filter((line) => attack !== "oblivious" || !line.k || line.f);
  const best = (fitting.length ? fitting : here).sort((one, other) => other.p - one.p)[0];
  const cell = best && data.cells.find((one) => one.t === table && one.d === best.d && one.c === best.c && one.a === best.a);
  if (cell) show(cell.id);
  else showNothing(defense);
}

function openAttack(table, line) {
  const cell = data.cells.find((one) => one.t === table && one.d === line.d && one.c === line.c && (PSEUDO.includes(text(line.a)) || one.a === line.a));
  if (cell) show(cell.id);
}

function pairs(title, places) {
  const list = make("dl");
  for (const [name, value] of places) list.append(make("dt", {}, name), make("dd", {}, value));
  return places.length ? [make("h3", {}, title), list] : [];
}

function show(id) {
  const cell = data.cells.find((one) => one.id === id);
  if (!cell) return;
  const section = sections.find((one) => Number(one.dataset.table) === cell.t);
  document.getElementById("cell-title").textContent = `${text(cell.a)} on ${text(cell.d)}, ${text(cell.c)}, seed ${cell.seed}`;
  const shown = section && picturesOf(section, text(cell.d));
  dialog.querySelector(".body").replaceChildren(
    make("p", {}, `Cell ${cell.id}: ${text(cell.r)}`),
    ...again(cell),
    ...(shown ? [make("h3", {}, "Pictures"), strip(shown, text(cell.d))] : []),
    ...pairs("Settings", cell.s.map(text)),
    ...pairs("Client", text(cell.u)),
    ...pairs("Comes from", cell.o.map(text)),
    ...beside(cell),
  );
  choose("cell", id);
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function showNothing(defense) {
  document.getElementById("cell-title").textContent = defense;
  dialog.querySelector(".body").replaceChildren(make("p", {}, "No cell with a result is behind this number."));
  dialog.showModal();
}

function again(cell) {
  const command = cell.w.map(text).join(" ");
  const copy = make("button", { type: "button", class: "quiet" }, "Copy");
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(copy.previousElementSibling);
      copy.textContent = "Selected: copy with the keyboard";
    }
  });
  return [make("h3", {}, "Make it again"), make("div", { class: "command" }, make("pre", { tabindex: "0" }, command), copy)];
}

// The other attacks, checkpoints and seeds of the same defense in the same setting.
function beside(cell) {
  const others = data.cells.filter((one) => one.t === cell.t && one.d === cell.d);
  const body = make("tbody");
  for (const one of others) {
    const link = make("button", { type: "button", onclick: () => show(one.id) }, text(one.a));
    const line = make("tr", {}, make("td", {}, link), make("td", {}, text(one.c)), make("td", { class: "number" }, String(one.seed)), make("td", {}, text(one.r)));
    if (one.id === cell.id) line.setAttribute("aria-current", "true");
    body.append(line);
  }
  const heads = ["attack", "checkpoint", "seed", "result"].map((head) => make("th", { scope: "col" }, head));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  return [make("h3", {}, "All cells of this defense here"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "All cells" }, table)];
}

function attacks(section) {
  const box = section.querySelector(".attacks");
  if (!box.open) return;
  box.querySelector(".scroll")?.remove();
  const table = Number(section.dataset.table);
  const kept = new Set(shownRows(section).map((row) => row.dataset.defense));
  const body = make("tbody");
  for (const line of data.attacks[table].filter((one) => kept.has(text(one.d)))) {
    const [psnr, ...rest] = line.t.map(text);
    const number = psnr === "-" ? psnr : make("button", { type: "button", onclick: () => openAttack(table, line) }, psnr);
    const cells = rest.map((value) => make("td", { class: "number" }, value));
    body.append(make("tr", {}, make("td", {}, spec(text(line.d))), make("td", {}, text(line.c)), make("td", {}, spec(text(line.a)), line.k ? " (adaptive)" : ""), make("td", { class: "number" }, String(line.n)), make("td", { class: "number" }, number), ...cells, make("td", {}, text(line.m))));
  }
  const heads = ["defense", "checkpoint", "attack", "n", ...ATTACK_HEADS, "notes"];
  const row = make("tr", {}, ...heads.map((head, k) => make("th", { scope: "col", class: k > 2 && k < 14 ? "number" : "text" }, head)));
  box.append(make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Every attack and checkpoint" }, make("table", {}, make("thead", {}, row), body)));
}
