"use strict";
// What a reader has chosen lives in the address, so that a link shows the same page again.
const data = JSON.parse(document.getElementById("data").textContent);
const text = (place) => data.pool[place];
const state = new URLSearchParams(location.hash.slice(1));

function choose(name, value) {
  if (value) state.set(name, value);
  else state.delete(name);
  const hash = state.toString();
  history.replaceState(null, "", hash ? "#" + hash : location.pathname + location.search);
}

// Elements are made, never parsed: a text from the results stays a text.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// A spec may go on in the next line after a bracket or a comma.
function spec(name) {
  const parts = name.split(/(?<=[(,])/);
  return make("span", { class: "spec" }, ...parts.flatMap((part, k) => (k ? [make("wbr"), part] : [part])));
}

const sections = [...document.querySelectorAll("main > section[data-table]")];
const rowsOf = (section) => [...section.querySelectorAll(".board tbody tr")];
const shownRows = (section) => rowsOf(section).filter((row) => !row.hidden);

const themes = { "": "automatic", light: "light", dark: "dark" };
function showTheme() {
  const chosen = state.get("theme") || "";
  if (chosen) document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
  document.getElementById("theme").textContent = "Theme: " + themes[chosen in themes ? chosen : ""];
}
document.getElementById("theme").addEventListener("click", () => {
  const names = Object.keys(themes);
  choose("theme", names[(names.indexOf(state.get("theme") || "") + 1) % names.length]);
  showTheme();
});
