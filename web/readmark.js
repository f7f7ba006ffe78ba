/** How far somebody has read one topic, remembered by this browser. */

import { recall, remember } from './local.js';

/** @typedef {import('./message.js').Message} Message */

export class ReadMark {
  /** @type {Message|null} the message the "new" line stands above */
  line = null;

  #key;
  #id; // of the newest message that was read, '' before the first visit

  /** @param {string} scope mesh id and topic */
  constructor(scope) {
    this.#key = `read/${scope}`;
    this.#id = recall(this.#key);
  }

  get firstVisit() {
    return this.#id === '';
  }

  /**
   * @param {Message[]} messages in order
   * @returns {Message[]} those of others that came after what was read
   */
  unread(messages) {
    if (this.firstVisit) return [];
    const read = messages.findLastIndex(({ id }) => id === this.#id);
    return messages.slice(read + 1).filter(({ own }) => !own);
  }

  /**
   * Puts the line above the first unread message, unless it already stands above
   * an unread one.
   * @param {Message[]} messages in order
   */
  placeLine(messages) {
    const unread = this.unread(messages);
    if (!unread.includes(this.line)) this.line = unread[0] ?? this.line;
  }

  /**
   * @param {string} id of the newest message of the topic, '' if there is none
   * @returns {boolean} whether that was news
   */
  advance(id) {
    if (!id || id === this.#id) return false;
    this.#id = id;
    remember(this.#key, id);
    return true;
  }
}
