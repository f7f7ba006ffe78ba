/** Who has got an own message, by name: a small window beside what tells how many. */

import { h } from './dom.js';
import { plural } from './text.js';

const NAMES = 30; // of one kind; more are a number

/** What became of a copy, in the order to be shown. */
const KINDS = [
  ['Handed to the agent', ({ state }) => state === 'handed'],
  ['Seen by', ({ seen }) => seen],
  ['Delivered to', ({ state }) => state === 'acked'],
  ['Connected, has not taken it yet', ({ state, status }) => state === 'pushed' || status === 'held'],
  ['Away, gets it when back', ({ state }) => state === 'stored'],
  ['Left to the history', ({ state }) => state === 'expired'],
  ['Takes nothing from you', ({ state }) => state === 'dropped_by_grant'],
];

export class ReceiptWindow {
  #request;
  #window = h('div', { id: 'receipt-window', role: 'tooltip', hidden: true });
  #anchor = null;

  /** @param {(type: string, fields: Object) => Promise<Object>} request */
  constructor(request) {
    this.#request = request;
    document.body.append(this.#window);
    document.addEventListener('focusout', ({ target }) => target === this.#anchor && this.close());
    document.addEventListener('keydown', ({ key }) => key === 'Escape' && this.close());
    document.addEventListener('scroll', () => this.#window.hidden || this.close(), { capture: true, passive: true });
  }

  /**
   * Shows who has a message, beside an element, until that is left.
   * @param {HTMLElement} anchor
   * @param {string} messageId
   */
  async open(anchor, messageId) {
    if (this.#anchor === anchor) return;
    this.#anchor = anchor;
    anchor.onpointerleave = () => this.#anchor === anchor && this.close();
    const content = await this.#describe(messageId);
    if (this.#anchor !== anchor) return;
    this.#window.replaceChildren(...content);
    this.#window.hidden = false;
    anchor.setAttribute('aria-describedby', this.#window.id);
    this.#place(anchor.getBoundingClientRect());
  }

  close() {
    this.#anchor?.removeAttribute('aria-describedby');
    this.#anchor = null;
    this.#window.hidden = true;
  }

  async #describe(messageId) {
    try {
      const { recipients } = await this.#request('message_status', { messageId });
      return recipients.length ? sections(recipients) : [h('p', {}, 'Stored. Nobody else was here yet.')];
    } catch (error) {
      return [h('p', {}, error.message)];
    }
  }

  /** Above the anchor if there is room, and never out of the page. */
  #place(anchor) {
    const { offsetWidth: width, offsetHeight: height } = this.#window;
    const left = Math.max(8, Math.min(anchor.left, innerWidth - width - 8));
    const top = anchor.top - height - 6;
    this.#window.style.left = `${left}px`;
    this.#window.style.top = `${top > 8 ? top : Math.min(anchor.bottom + 6, innerHeight - height - 8)}px`;
  }
}

function sections(recipients) {
  let rest = recipients;
  return KINDS.flatMap(([title, matches]) => {
    const these = rest.filter(matches);
    rest = rest.filter((copy) => !matches(copy));
    if (!these.length) return [];
    const names = these.slice(0, NAMES).map(({ name }) => name);
    if (these.length > NAMES) names.push(plural(these.length - NAMES, 'other'));
    return [h('p', {}, h('strong', {}, title), h('span', { dir: 'auto' }, names.join(', ')))];
  });
}
