/**
 * An unbroken run of messages of a topic in the broker's order: that of its pushes
 * and of its history. Ids begin with the time, but many messages may be of one
 * millisecond, and of two senders the later one may be the first to be stored.
 */

import { isOfTopic } from './message.js';

/** @typedef {import('./message.js').Message} Message */

export class Timeline {
  /** @type {Message[]} oldest first */
  list = [];
  complete = false; // the first message ever is among them

  #byId = new Map();
  #arrived = new Set(); // what was appended since the last markStart
  #start = ''; // id of the oldest message of the last merge

  /** @param {Message[]} [list] oldest first */
  constructor(list = []) {
    this.#replace(list);
  }

  get oldestId() {
    return this.list.find(isOfTopic)?.id ?? '';
  }

  get newestId() {
    return this.list.findLast(isOfTopic)?.id ?? '';
  }

  /** @param {string} id @returns {Message|undefined} */
  get(id) {
    return this.#byId.get(id);
  }

  /**
   * Adds the newest message. Nothing happens if it is known, or if it is one of
   * those that waited for this member and are older than what was fetched: between
   * them and that there may be a hole, and scrolling back brings them.
   * @param {Message} message
   */
  append(message) {
    if (this.#byId.has(message.id) || (isOfTopic(message) && message.id < this.#start)) return;
    this.#byId.set(message.id, message);
    this.#arrived.add(message);
    this.list.push(message);
  }

  /** @param {Message[]} page what comes before the oldest message, oldest first */
  prepend(page) {
    this.#replace([...page.filter(({ id }) => !this.#byId.has(id)), ...this.list]);
  }

  /** @param {Message[]} page what comes after the newest message, oldest first */
  extend(page) {
    this.#replace([...this.list, ...page.filter(({ id }) => !this.#byId.has(id))]);
  }

  /** @param {number} count of the oldest messages; the others go */
  keepOldest(count) {
    this.#replace(this.list.slice(0, count));
  }

  /** @param {number} count of the newest messages; the others go */
  keepNewest(count) {
    if (this.list.length <= count) return;
    this.complete = false;
    this.#replace(this.list.slice(-count));
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
    // Of what was pushed, some waited for this member and is older than the run. Ids
    // tell: they are near enough the order to say on which side of it one is.
    const middle = run[run.length >> 1]?.id ?? '';
    const isNewer = (message) => this.#arrived.has(message) && message.id > middle;
    const older = others.filter((message) => !isNewer(message) && !(isOfTopic(message) && (gap || this.#arrived.has(message))));
    this.#start = run[0]?.id ?? '';
    this.#replace([...older, ...run.map((message) => this.#byId.get(message.id) ?? message), ...others.filter(isNewer)]);
  }

  #replace(list) {
    this.list = list;
    this.#byId = new Map(list.map((message) => [message.id, message]));
  }
}
