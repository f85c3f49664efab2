"use strict";
// Tells the values under the pointer, and switches between the whole time and the migration.
for (const view of document.querySelectorAll(".view[data-hover]")) {
  const data = JSON.parse(view.dataset.hover), svg = view.querySelector("svg");
  const cross = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const tip = document.createElement("div");
  cross.setAttribute("class", "cross");
  tip.className = "tip";
  tip.hidden = true;
  svg.append(cross);
  view.append(tip);
  const leave = () => { tip.hidden = true; cross.removeAttribute("d"); };
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / box.width;
    const [left, right] = data.x, [from, to] = data.t;
    const x = (event.clientX - box.left) * scale;
    const bin = Math.floor((x - left) / (right - left) * (to - from) / data.bin);
    if (x < left || x >= right) return leave();
    const start = from + bin * data.bin, digits = Math.max(0, Math.ceil(-Math.log10(data.bin)));
    const value = ([name, line]) => `${name}: ${(line[bin] ?? 0).toFixed(1)} ${data.unit}`;
    tip.textContent = [`${start.toFixed(digits)}–${(start + data.bin).toFixed(digits)} s`, ...data.lines.map(value)].join("\n");
    cross.setAttribute("d", `M${x} ${data.y[0]}V${data.y[1]}`);
    tip.hidden = false;
    const beside = event.clientX - box.left + 14;
    tip.style.left = `${beside + tip.offsetWidth > box.width ? beside - tip.offsetWidth - 28 : beside}px`;
    tip.style.top = `${Math.max(0, event.clientY - box.top - tip.offsetHeight - 8)}px`;
  });
}
for (const button of document.querySelectorAll("figure > button")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const near = button.parentElement.classList.toggle("zoomed");
    button.textContent = near ? "show the whole time" : "zoom on the migration";
    button.setAttribute("aria-pressed", String(near));
  });
}
