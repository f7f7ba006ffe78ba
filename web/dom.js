/**
 * DOM nodes without HTML strings: whatever text goes in comes out as text, so no
 * name or message can become markup.
 */

/**
 * Creates an element.
 * @param {string} tag
 * @param {Object<string, *>} [props] DOM properties (className, onclick, hidden…),
 *   `dataset` as an object, and anything else as an attribute (aria-label…)
 * @param {...(Node|string)} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === 'dataset') Object.assign(element.dataset, value);
    else if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** @param {string} id of an element that index.html promises @returns {HTMLElement} */
export const byId = (id) => document.getElementById(id);

const SVG = 'http://www.w3.org/2000/svg';

/**
 * A small picture of lines, as those in index.html are.
 * @param {string} d path in a square of 20
 * @returns {SVGElement}
 */
export function icon(d) {
  return svg('svg', {
    viewBox: '0 0 20 20', width: 18, height: 18, 'aria-hidden': true, fill: 'none',
    stroke: 'currentColor', 'stroke-width': 1.7, 'stroke-linecap': 'round', 'stroke-linejoin': 'round',
  }, svg('path', { d }));
}

/** Creates an SVG element; all of its props are attributes. */
export function svg(tag, props, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The drawings that are used more than once. */
export const ICONS = {
  close: 'm5 5 10 10M15 5 5 15',
  reply: 'M8 5 3.5 9.5 8 14M4 9.5h7c3.5 0 5.5 2 5.5 5.5',
  link: 'M8.5 11.5a3 3 0 0 0 4.2 0l3-3a3 3 0 0 0-4.2-4.2l-.8.8M11.5 8.5a3 3 0 0 0-4.2 0l-3 3a3 3 0 0 0 4.2 4.2l.8-.8',
  copy: 'M7 7V4.5h8.5V13H13M4.5 7H13v8.5H4.5z',
  seen: 'm2.5 10.5 3.5 3.5 7-8M9.5 13.5l.5.5 7-8',
  locked: 'M5 9h10v7.5H5zM7 9V6.5a3 3 0 0 1 6 0V9',
  readable: 'M1.5 10S5 4.5 10 4.5 18.5 10 18.5 10 15 15.5 10 15.5 1.5 10 1.5 10zM7.5 10a2.5 2.5 0 1 0 5 0 2.5 2.5 0 1 0-5 0',
};

/** A button that shows a picture and says what it does. */
export function iconButton(label, d, onclick) {
  return h('button', { type: 'button', className: 'icon small', ariaLabel: label, title: label, onclick }, icon(d));
}

/**
 * Walks through the children of a list and makes them what is put. What goes has
 * to be dropped: the nodes between then stay where they are, and keep their focus
 * and known heights.
 */
export class Cursor {
  #list;
  #next;

  /** @param {HTMLElement} list */
  constructor(list) {
    this.#list = list;
    this.#next = list.firstChild;
  }

  put(node) {
    if (node === this.#next) this.#next = node.nextSibling;
    else this.#list.insertBefore(node, this.#next);
  }

  drop(node) {
    if (!node) return;
    if (node === this.#next) this.#next = node.nextSibling;
    node.remove();
  }
}

/**
 * Makes the children of a list those nodes, moving as few as possible.
 * @param {HTMLElement} list
 * @param {Node[]} nodes
 */
export function arrange(list, nodes) {
  const wanted = new Set(nodes);
  for (const child of [...list.childNodes]) if (!wanted.has(child)) child.remove();
  const cursor = new Cursor(list);
  for (const node of nodes) cursor.put(node);
}

/** @param {string} text @returns {Promise<boolean>} whether it is in the clipboard now */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/**
 * Replaces a part of what is written in a field so that it can be undone. The
 * command is deprecated and without a successor; where it fails, undoing is lost.
 * @param {HTMLTextAreaElement} field gets the focus
 * @param {number} start
 * @param {number} end
 * @param {string} text
 */
export function replaceRange(field, start, end, text) {
  field.focus();
  field.setSelectionRange(start, end);
  if (document.execCommand('insertText', false, text)) return;
  field.setRangeText(text, start, end, 'end');
  field.dispatchEvent(new Event('input', { bubbles: true }));
}
