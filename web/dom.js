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
