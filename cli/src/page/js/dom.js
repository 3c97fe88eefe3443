// Building and changing elements. Text is always text: nothing that comes from outside is read as markup.

/** Finds the element that holds a part of the page. */
export const slot = (name) => document.querySelector(`[data-slot="${name}"]`);

/** Finds an element by its test id. */
export const byId = (name) => document.querySelector(`[data-testid="${name}"]`);

/** Makes an element; `on…` properties are listeners, the others attributes. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Sets a text where it differs: a selection and the screen reader's place survive. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute where it differs. */
export function setAttr(element, name, value) {
  if (value === null || value === undefined) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/**
 * Makes the children of `parent` show `items` in order. An item that was there keeps its element, and with it the focus and
 * whether it is open; `make` makes the element of a new one, `update` shows what changed.
 */
export function keyed(parent, items, keyOf, make, update = () => {}) {
  const keys = items.map((item) => String(keyOf(item)));
  const wanted = new Set(keys);
  const there = new Map();
  for (const child of [...parent.children]) {
    // What is not wanted goes first: moving the others around it would take their focus.
    if (wanted.has(child.dataset.key)) there.set(child.dataset.key, child);
    else child.remove();
  }
  let place = parent.firstElementChild;
  items.forEach((item, i) => {
    const element = there.get(keys[i]) ?? make(item);
    element.dataset.key = keys[i];
    update(element, item);
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
  });
}

/** Replaces the children of `parent` when what is shown differs from last time. */
export function redraw(parent, value, draw) {
  const now = JSON.stringify(value);
  if (parent.dataset.shown === now) return;
  parent.dataset.shown = now;
  parent.replaceChildren(...[draw(value)].flat());
}

/** A line of text that stands where there is nothing to show. */
export const empty = (text) => h("p", { class: "empty" }, text);
