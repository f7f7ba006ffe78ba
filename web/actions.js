/**
 * What can be done with a message: one small bar that comes to the message under
 * the pointer or the focus, and the keys for it. One bar for all of them spares
 * thousands of buttons.
 */

import { copyText, h, ICONS, iconButton } from './dom.js';
import { lettersAreKeys } from './keys.js';
import { isOfTopic } from './message.js';
import { permalink } from './route.js';

const COPIED_FOR = 1_500; // ms a button tells what it did

export class MessageActions {
  #list;
  #do;
  #bar;
  #copyLink = iconButton('Copy link (L)', ICONS.link, () => this.#copy(this.#copyLink, (message) => permalink(this.#do.topic(), message.id)));
  #copyText = iconButton('Copy text (C)', ICONS.copy, () => this.#copy(this.#copyText, (message) => message.text));
  #seen = iconButton('Who has seen it', ICONS.seen, () => this.#do.explain(this.#seen, this.#message(this.#bar).id));

  /**
   * @param {HTMLElement} list of messages
   * @param {Object} what
   * @param {(id: string) => import('./message.js').Message|undefined} what.find
   * @param {(message: import('./message.js').Message) => void} what.reply
   * @param {(anchor: HTMLElement, id: string) => void} what.explain
   * @param {() => string} what.topic
   */
  constructor(list, what) {
    this.#list = list;
    this.#do = what;
    this.#bar = h('div', { className: 'actions', role: 'toolbar', 'aria-label': 'This message' },
      this.#seen, iconButton('Reply (R)', ICONS.reply, () => what.reply(this.#message(this.#bar))), this.#copyLink, this.#copyText);
    list.addEventListener('pointerover', ({ target }) => this.#comeTo(target));
    list.addEventListener('focusin', ({ target }) => this.#comeTo(target));
    list.addEventListener('pointerleave', () => this.#list.contains(document.activeElement) || this.#bar.remove());
    list.addEventListener('keydown', (event) => this.#key(event));
  }

  /** @returns {import('./message.js').Message|undefined} the one under the pointer or the focus */
  get current() {
    return this.#bar.parentNode ? this.#message(this.#bar) : undefined;
  }

  #comeTo(target) {
    const row = target.closest('.message');
    const message = row && this.#message(row);
    if (!message || this.#bar.parentNode === row) return;
    this.#seen.hidden = !message.own || Boolean(message.note);
    row.append(this.#bar);
  }

  /** The message of a row, if it is one that the topic has. */
  #message(element) {
    const message = this.#do.find(element.closest('.message').dataset.messageId);
    return message && isOfTopic(message) ? message : undefined;
  }

  #key(event) {
    const row = event.target.closest('.message');
    if (!row || event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, textarea')) return;
    const acts = {
      l: () => this.#copy(this.#copyLink, (message) => permalink(this.#do.topic(), message.id)),
      c: () => this.#copy(this.#copyText, (message) => message.text),
      j: () => step(row, 'nextElementSibling'), ArrowDown: () => step(row, 'nextElementSibling'),
      k: () => step(row, 'previousElementSibling'), ArrowUp: () => step(row, 'previousElementSibling'),
      Enter: () => row.querySelector('.quote')?.click(),
    };
    const act = acts[event.key];
    const isLetter = event.key.length === 1;
    if (!act || (isLetter ? !lettersAreKeys() : event.target !== row)) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  }

  async #copy(button, textOf) {
    const message = this.#message(this.#bar);
    if (!message) return;
    const done = await copyText(textOf(message));
    button.dataset.said = done ? 'Copied' : 'Not allowed here';
    setTimeout(() => delete button.dataset.said, COPIED_FOR);
  }
}

/** Moves the focus to the next message in a direction, over what stands between. */
function step(row, direction) {
  let next = row[direction];
  while (next && !next.classList.contains('message')) next = next[direction];
  next?.focus();
}
