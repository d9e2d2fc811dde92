// Values under the pointer, for each plot.
for (const plot of document.querySelectorAll(".plot")) {
  const data = JSON.parse(plot.dataset.plot), canvas = plot.querySelector(".canvas");
  const cursor = plot.querySelector(".cursor"), tip = plot.querySelector(".tip");
  const count = Math.max(...data.lines.map(([, , values]) => values.length));
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const share = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    const at = Math.round(share * (count - 1)), left = (at / Math.max(count - 1, 1)) * box.width;
    tip.replaceChildren(`${(at * data.step).toFixed(0)} s`);
    for (const [name, colour, values] of [...data.lines].reverse()) {
      const row = document.createElement("span");
      row.className = `key ${colour}`;
      row.append(document.createElement("i"), `${name} ${values[at] ?? "–"}`);
      tip.append(row);
    }
    cursor.hidden = tip.hidden = false;
    cursor.style.left = `${left}px`;
    tip.style.left = left < box.width / 2 ? `${left + 10}px` : "auto";
    tip.style.right = left < box.width / 2 ? "auto" : `${box.width - left + 10}px`;
  });
  canvas.addEventListener("pointerleave", () => { cursor.hidden = tip.hidden = true; });
}
