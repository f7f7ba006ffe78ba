/** How far one topic has been read, by the broker's word and since then. */

/** @typedef {import('./message.js').Message} Message */

export class ReadMark {
  /** @type {Message|null} the message the "new" line stands above */
  line = null;

  #known = false; // otherwise nothing counts as unread: one is not in the topic
  #id = ''; // of the newest message that was read, '' for none

  /**
   * Takes the broker's word. It may be older than what was read here since.
   * @param {string} id of the newest message that was read, '' for none
   * @param {Message[]} messages in order
   */
  set(id, messages) {
    const own = messages.findLastIndex((message) => message.id === this.#id);
    if (this.#known && own >= 0 && own > messages.findLastIndex((message) => message.id === id)) return;
    this.#known = true;
    this.#id = id;
    if (!this.unread(messages).includes(this.line)) this.line = null;
  }

  /**
   * @param {Message[]} messages in order
   * @returns {Message[]} those of others that came after what was read
   */
  unread(messages) {
    if (!this.#known) return [];
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
   * Moves the line up, when older messages that are unread too have been loaded.
   * @param {Message[]} messages in order
   */
  raiseLine(messages) {
    const unread = this.unread(messages);
    if (unread.includes(this.line)) [this.line] = unread;
  }

  /**
   * @param {string} id of the newest message of the topic, '' if there is none
   * @returns {boolean} whether that was news
   */
  advance(id) {
    if (!this.#known || !id || id === this.#id) return false;
    this.#id = id;
    return true;
  }
}
