/**
 * An unbroken run of messages of a topic in the broker's order: that of its pushes
 * and of its history. Ids begin with the time, but many messages may be of one
 * millisecond, and of two senders the later one may be the first to be stored.
 *
 * Messages that were sent to peers and not to the topic are in no history. They
 * stand among the others where their ids put them.
 */

import { isOfTopic } from './message.js';

/** @typedef {import('./message.js').Message} Message */

export class Timeline {
  /** @type {Message[]} oldest first */
  list = [];
  complete = false; // the first message ever is among them

  #run = []; // the messages of the topic
  #outside = []; // the others, by id
  #byId = new Map();
  #arrived = null; // what was appended since markStart, until it is merged
  #start = ''; // id of the oldest message of the last merge

  /** @param {Message[]} [run] oldest first */
  constructor(run = []) {
    this.#replace(run);
  }

  get oldestId() {
    return this.#run[0]?.id ?? '';
  }

  get newestId() {
    return this.#run.at(-1)?.id ?? '';
  }

  /** @returns {Message[]} those of the topic, oldest first */
  get run() {
    return this.#run;
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
   * @returns {boolean} whether it was added
   */
  append(message) {
    if (this.#byId.has(message.id)) return false;
    if (!isOfTopic(message)) {
      this.#replace(this.#run, [...this.#outside, message]);
      return true;
    }
    if (message.id < this.#start) return false;
    this.#run.push(message);
    this.#arrived?.add(message);
    this.#byId.set(message.id, message);
    this.list.push(message);
    return true;
  }

  /** @param {Message[]} page what comes before the oldest message, oldest first */
  prepend(page) {
    this.#replace([...page.filter(({ id }) => !this.#byId.has(id)), ...this.#run]);
  }

  /** @param {Message[]} page what comes after the newest message, oldest first */
  extend(page) {
    this.#replace([...this.#run, ...page.filter(({ id }) => !this.#byId.has(id))]);
  }

  /** @param {number} count of the oldest messages; the others go */
  keepOldest(count) {
    this.#replace(this.#run.slice(0, count));
  }

  /** @param {number} count of the newest messages; the others go */
  keepNewest(count) {
    if (this.#run.length <= count) return;
    this.complete = false;
    this.#replace(this.#run.slice(-count));
  }

  /** Call before asking for what is to be merged. */
  markStart() {
    this.#arrived = new Set();
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
    const others = this.#run.filter(({ id }) => !inRun.has(id));
    // Of what was pushed, some had waited for this member and is older than the run:
    // between it and the run there may be a hole. Ids tell, as they are near enough
    // the order: with a run of 4 to 6, the pushed 7 and a late 5 are newer, 1 is not.
    const arrived = this.#arrived ?? new Set();
    const middle = run[run.length >> 1]?.id ?? '';
    const isNewer = (message) => arrived.has(message) && message.id > middle;
    const older = gap ? [] : others.filter((message) => !arrived.has(message));
    this.#arrived = null;
    this.#start = run[0]?.id ?? '';
    this.#replace([...older, ...run.map((message) => this.#byId.get(message.id) ?? message), ...others.filter(isNewer)]);
  }

  #replace(run, outside = this.#outside) {
    this.#run = run;
    this.#outside = outside;
    this.list = weave(run, outside);
    this.#byId = new Map([...run, ...outside].map((message) => [message.id, message]));
  }
}

/** Puts messages among those of a run by their ids; what is older than the run has to wait for it. */
function weave(run, others) {
  if (!others.length) return [...run];
  const waiting = others.filter(({ id }) => !run.length || id > run[0].id).sort((a, b) => (a.id < b.id ? -1 : 1));
  const woven = [];
  for (const message of run) {
    while (waiting.length && waiting[0].id < message.id) woven.push(waiting.shift());
    woven.push(message);
  }
  return [...woven, ...waiting];
}
