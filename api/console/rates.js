// What was done in each second of the last minute, as lines; the table below says the same in numbers.

import { byId, element, say, svgElement } from "./page.js";
import { count, rate } from "./words.js";

const OPERATIONS = ["reserve", "refuse", "commit", "release", "expire"];
const HEIGHT = 100;
const LATELY = 10;

const lines = new Map();

export function prepareRates() {
  for (const operation of OPERATIONS) {
    const line = svgElement("polyline", { class: operation });
    byId("rates").append(line);
    const [row, shown] = legendRow(operation);
    byId("legend").append(row);
    lines.set(operation, { line, row, shown });
  }
}

function legendRow(operation) {
  const shown = element("input", { type: "checkbox" });
  shown.checked = true;
  const sample = svgElement("svg", { class: "sample", viewBox: "0 0 24 8", "aria-hidden": "true" });
  sample.append(svgElement("polyline", { class: operation, points: "0,4 24,4" }));
  const numbers = ["lately", "minute", "most"].map((what) => element("td", { class: "number", "data-what": what }));
  const name = element("th", { scope: "row" }, element("label", {}, shown, sample, operation));
  return [element("tr", { "data-operation": operation }, name, ...numbers), shown];
}

export function showRates({ rates }) {
  // The newest second is still being told by the processes, each at a time of its own: it would look like a fall.
  const settled = (operation) => rates[operation].slice(0, -1);
  const drawn = OPERATIONS.filter((operation) => lines.get(operation).shown.checked);
  const top = scale(Math.max(1, ...drawn.flatMap(settled)));
  say(byId("rates-most"), `${count(top)}/s`);
  const told = OPERATIONS.map((operation) => {
    const { line, row } = lines.get(operation);
    const values = settled(operation);
    line.setAttribute("points", drawn.includes(operation) ? points(values, top) : "");
    const numbers = summary(values);
    for (const cell of row.querySelectorAll("[data-what]")) say(cell, rate(numbers[cell.dataset.what]));
    return `${operation} ${rate(numbers.lately)}, ${rate(numbers.minute)}, ${rate(numbers.most)}`;
  });
  say(byId("rates-words"), `A second: lately, over the minute, and at most. ${told.join("; ")}.`);
}

function summary(values) {
  return { lately: mean(values.slice(-LATELY)), minute: mean(values), most: Math.max(0, ...values) };
}

const mean = (values) => values.reduce((total, value) => total + value, 0) / Math.max(1, values.length);

/** The next of 1, 2, 5, 10, 20, 50 …: the scale must not twitch with every second. */
function scale(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= most);
}

const points = (values, top) => values.map((value, second) => `${second},${HEIGHT - (HEIGHT * value) / top}`).join(" ");
