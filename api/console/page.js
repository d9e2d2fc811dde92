// Making and changing what is on the page. Text goes in as text nodes only: names and reasons come from outside.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

/** An element; children are elements or text. */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

export function svgElement(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

function filled(made, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Writes only what differs, so that a selection, and what a screen reader has read, stay as they are. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Makes the children of `parent` those of `items`. One whose key stays is kept and not moved: it keeps the focus. */
export function keep(parent, items, keyOf, make, update = () => {}) {
  const keys = new Set(items.map(keyOf));
  for (const child of [...parent.children]) if (!keys.has(child.dataset.key)) child.remove();
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    let child = known.get(key);
    if (!child) {
      child = make(item);
      child.dataset.key = key;
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
}

/** Names and values; a value of "" is left out. */
export function facts(list, pairs) {
  keep(
    list,
    pairs.filter(([, value]) => value !== ""),
    ([name]) => name,
    ([name]) => element("div", {}, element("dt", {}, name), element("dd")),
    (made, [, value]) => say(made.lastElementChild, value),
  );
}
