/**
 * The messages of a topic in the broker's order: that of its pushes and of its
 * history. Neither ids nor times give it, as many messages may be of one
 * millisecond and clocks differ.
 */

import { isOfTopic } from './message.js';

/** @typedef {import('./message.js').Message} Message */

const CLOCK_SLACK = 2_000; // ms by which createdAt may disagree with the broker's order

export class Timeline {
  /** @type {Message[]} oldest first */
  list = [];

  #byId = new Map();
  #arrived = new Set(); // what was appended since the last markStart

  get oldestId() {
    return this.list.find(isOfTopic)?.id ?? '';
  }

  get newestId() {
    return this.list.findLast(isOfTopic)?.id ?? '';
  }

  /** @param {Message} message the newest; nothing happens if it is known */
  append(message) {
    if (this.#byId.has(message.id)) return;
    this.#byId.set(message.id, message);
    this.#arrived.add(message);
    this.list.push(message);
  }

  /** @param {Message[]} page what comes before the oldest message, oldest first */
  prepend(page) {
    this.#replace([...page.filter(({ id }) => !this.#byId.has(id)), ...this.list]);
  }

  /** Call before asking for what is to be merged. */
  markStart() {
    this.#arrived.clear();
  }

  /**
   * Puts the newest messages of the history in their place: between what is older
   * and what was pushed since {@link markStart}.
   * @param {Message[]} run oldest first
   * @param {boolean} gap some are missing before the run: what is older goes, as
   *   scrolling back fetches it again
   */
  merge(run, gap) {
    const inRun = new Set(run.map(({ id }) => id));
    const others = this.list.filter(({ id }) => !inRun.has(id));
    const newest = run.at(-1)?.at ?? 0;
    // After a reconnect the broker also pushes what is old; its time tells.
    const isNewer = (message) => this.#arrived.has(message) && (message.own || message.at > newest - CLOCK_SLACK);
    const older = others.filter((message) => !isNewer(message) && !(gap && isOfTopic(message)));
    this.#replace([...older, ...run.map((message) => this.#byId.get(message.id) ?? message), ...others.filter(isNewer)]);
  }

  #replace(list) {
    this.list = list;
    this.#byId = new Map(list.map((message) => [message.id, message]));
  }
}
