// Everything that listens, and the first look: what is far below is drawn when it comes near.
const near = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => plot(entry.target)),
  { rootMargin: "600px" },
);

function refresh(section) {
  near.unobserve(section);
  near.observe(section);
  gallery(section);
  attacks(section);
}

form.addEventListener("input", filter);
form.addEventListener("submit", (event) => event.preventDefault());
document.getElementById("clear").addEventListener("click", () => {
  form.reset();
  filter();
});
for (const section of sections) {
  section.querySelector(".board").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.attack) openAt(Number(section.dataset.table), button.closest("tr"), button.dataset.attack);
    else sortBy(button.closest("th").dataset.column);
  });
  section.querySelector(".pictures").addEventListener("toggle", () => gallery(section));
  section.querySelector(".attacks").addEventListener("toggle", () => attacks(section));
}
for (const setting of settings) {
  setting.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) openAt(Number(setting.dataset.table), button.closest("tr"), button.dataset.attack);
  });
}
dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("close", () => choose("cell", ""));

function start() {
  showTheme();
  readFilters();
  sort();
  const cell = state.get("cell");
  filter();
  if (cell) show(cell);
}
addEventListener("hashchange", () => {
  for (const key of [...state.keys()]) state.delete(key);
  new URLSearchParams(location.hash.slice(1)).forEach((value, key) => state.set(key, value));
  form.reset();
  start();
});
start();
