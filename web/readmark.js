/** How far one topic has been read: by the broker's word, and since then. */

/** @typedef {import('./message.js').Message} Message */

export class ReadMark {
  id = ''; // of the newest message that was read, '' for none

  #known = false; // otherwise nothing counts as unread: one is not in the topic
  #line = null; // id behind which the "new" line stands; null: there is none
  #passed = false; // what stood behind the line was read

  /**
   * Takes the broker's word. It may be older than what was read here since, or of
   * a message that was read elsewhere and is not loaded yet: then their ids tell,
   * which begin with the time.
   * @param {string} id of the newest message that was read, '' for none
   * @param {Message[]} messages in order
   */
  learn(id, messages) {
    const [here, there] = [this.id, id].map((one) => messages.findLastIndex((message) => message.id === one));
    const isOlder = here >= 0 && there >= 0 ? there < here : id < this.id;
    if (this.#known && isOlder) return;
    this.#known = true;
    if (id === this.id) return;
    this.id = id;
    this.#passed = true;
  }

  /**
   * @param {string} id of the newest message that was on the screen
   * @returns {boolean} whether that was news
   */
  advance(id) {
    if (!this.#known || !id || id === this.id) return false;
    this.id = id;
    this.#passed = true;
    return true;
  }

  /** @returns {boolean} whether others have written since, as far as is loaded */
  isBehind(messages) {
    return this.#known && messages.slice(messages.findLastIndex(({ id }) => id === this.id) + 1).some(countsAsNew);
  }

  /** Draws the line behind what was read; one behind which something is unread stays. */
  draw() {
    if (!this.#known || (this.#line !== null && !this.#passed)) return;
    this.#line = this.id;
    this.#passed = false;
  }

  /** Takes the line away. */
  erase() {
    this.#line = null;
  }

  /**
   * @param {Message[]} messages in order
   * @param {boolean} complete the first one ever is among them
   * @returns {Message|null} the one above which the line stands; null also if that is not loaded
   */
  lineIn(messages, complete) {
    if (this.#line === null) return null;
    const place = messages.findLastIndex(({ id }) => id === this.#line);
    if (place < 0 && !(complete && this.#line === '')) return null;
    return messages.slice(place + 1).find(countsAsNew) ?? null;
  }
}

/** What was sent to peers and not to the topic has no place in its read mark. */
const countsAsNew = ({ own, note }) => !own && note !== 'outside' && note !== 'direct';
