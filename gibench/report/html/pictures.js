// The gallery: per defense three victims, chosen by rule, each as truth, as sent, and as rebuilt.
const captions = { truth: "truth", transmitted: "sent", undefended: "undefended", defended: "defended" };

function strip(shown, defense) {
  const victims = shown.map((victim) => {
    const images = victim.images.map(([kind, place]) =>
      make("span", {}, make("img", { src: data.pictures.images[place], alt: `${captions[kind]}, victim ${victim.index}` }), captions[kind]),
    );
    const known = victim.bare === "-" ? "" : `, undefended ${victim.bare} dB`;
    return make("figure", { class: "victim" }, make("div", {}, ...images), make("figcaption", {}, `${victim.rule}: ${victim.psnr} dB${known}`));
  });
  const head = spec(defense);
  head.append(make("span", { class: "remark" }, `${shown[0].attack} at ${shown[0].checkpoint}`));
  return make("div", { class: "strip" }, head, ...victims);
}

const picturesOf = (section, defense) => data.pictures.shown[`${section.dataset.table}|${defense}`];

function gallery(section) {
  const box = section.querySelector(".pictures");
  const found = shownRows(section).filter((row) => picturesOf(section, row.dataset.defense));
  box.hidden = !found.length;
  if (!box.open) return;
  for (const old of box.querySelectorAll(".strip, p")) old.remove();
  box.append(make("p", { class: "remark" }, "Per defense the strongest attack on average, at the checkpoint that leaks most, in its first seed; of its images the one with the highest, the median and the lowest PSNR." + (data.pictures.left ? ` ${data.pictures.left} defenses are left out to keep the page small.` : "")));
  for (const row of found) box.append(strip(picturesOf(section, row.dataset.defense), row.dataset.defense));
}
