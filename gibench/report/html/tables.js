// Filters and sorting of the tables; the floor stays on top, and what is not known goes last.
const form = document.getElementById("filters");
const ofSection = ["dataset", "model", "threat"];
const settings = [...document.querySelectorAll("#matched .setting")];
const inside = (element, wanted) => ofSection.every((name) => !wanted[name] || element.dataset[name] === wanted[name]);

function fits(row, wanted) {
  if (row.dataset.leak === "floor") return true;
  const bare = row.dataset.defense === "none";
  if (wanted.find && !row.dataset.defense.toLowerCase().includes(wanted.find.toLowerCase())) return false;
  if (wanted.family && !bare && row.dataset.family !== wanted.family) return false;
  if (wanted.place && !bare && row.dataset.place !== wanted.place) return false;
  return !(wanted.target && !bare && !row.dataset.targets.split("|").includes(wanted.target));
}

function filter() {
  const wanted = Object.fromEntries(new FormData(form));
  let count = 0;
  for (const section of sections) {
    const here = inside(section, wanted);
    for (const row of rowsOf(section)) {
      row.hidden = !fits(row, wanted);
      count += here && !row.hidden && row.dataset.leak !== "floor" ? 1 : 0;
    }
    section.hidden = !here || !shownRows(section).some((row) => row.dataset.leak !== "floor");
    if (!section.hidden) refresh(section);
  }
  filterMatched(wanted);
  document.getElementById("none").hidden = !sections.length || sections.some((section) => !section.hidden);
  document.getElementById("count").textContent = count === 1 ? "1 defense shown" : `${count} defenses shown`;
  for (const name of form.elements) if (name.name) choose(name.name, wanted[name.name]);
}

// Ranks are among all families of a target: they stay what they are when some of them are not shown.
function filterMatched(wanted) {
  for (const setting of settings) {
    for (const group of setting.querySelectorAll("tbody")) {
      group.hidden = Boolean(wanted.target) && group.dataset.target !== wanted.target;
    }
    for (const row of setting.querySelectorAll("tr[data-defense]")) row.hidden = !fits(row, { ...wanted, target: "" });
    const left = [...setting.querySelectorAll(".families tbody")].some((group) => !group.hidden);
    setting.hidden = !inside(setting, wanted) || !left;
  }
}

function valueIn(row, column) {
  if (column === "defense") return row.dataset.defense;
  const cell = row.querySelector(`td[data-column="${column}"]`);
  if (cell.dataset.value === undefined) return null;
  return cell.classList.contains("text") && column !== "leak" ? cell.dataset.value : Number(cell.dataset.value);
}

function compare(one, other, column, sign) {
  const [a, b] = [valueIn(one, column), valueIn(other, column)];
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
}

function sort() {
  const [column, direction] = (state.get("sort") || "").split(".");
  const known = document.querySelector(`thead th[data-column="${CSS.escape(column)}"]`);
  for (const section of sections) {
    const rows = rowsOf(section).sort((one, other) => {
      const floor = (other.dataset.leak === "floor") - (one.dataset.leak === "floor");
      const sign = direction === "down" ? -1 : 1;
      return floor || (known && compare(one, other, column, sign)) || one.dataset.order - other.dataset.order;
    });
    section.querySelector(".board tbody").append(...rows);
    for (const head of section.querySelectorAll(".board thead th")) {
      const mine = head.dataset.column === column && known;
      head.setAttribute("aria-sort", mine ? (direction === "down" ? "descending" : "ascending") : "none");
    }
  }
}

function sortBy(column) {
  const current = state.get("sort");
  choose("sort", current === `${column}.up` ? `${column}.down` : current === `${column}.down` ? "" : `${column}.up`);
  sort();
}

function readFilters() {
  for (const field of form.elements) if (field.name && state.has(field.name)) field.value = state.get(field.name);
  for (const field of form.querySelectorAll("select")) if (field.selectedIndex < 0) field.value = "";
}
