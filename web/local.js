/**
 * Small things this browser remembers: drafts, settings, unsent messages. Where
 * storage is forbidden nobody gets this far, as there is no key either.
 */

const PREFIX = 'meshbox/';

/** @param {string} key @returns {string} '' when there is none */
export const recall = (key) => localStorage.getItem(PREFIX + key) ?? '';

/** @param {string} key @param {string} value '' forgets the key */
export function remember(key, value) {
  try {
    if (value === '') localStorage.removeItem(PREFIX + key);
    else localStorage.setItem(PREFIX + key, value);
  } catch {
    // Storage is full: the value lives as long as the page.
  }
}

/** Something unfinished, by its key: what is being written, and to what it replies. */
export class Draft {
  #key;

  /** @param {string} scope mesh id and topic */
  constructor(scope) {
    this.#key = `writing/${scope}`;
  }

  /** @returns {{text: string, replyTo: string}} */
  read() {
    const kept = recall(this.#key);
    return kept ? JSON.parse(kept) : { text: '', replyTo: '' };
  }

  /** @param {{text: string, replyTo: string}} draft */
  write({ text, replyTo }) {
    remember(this.#key, text || replyTo ? JSON.stringify({ text, replyTo }) : '');
  }
}

/**
 * @typedef {Object} Unsent
 * @property {string} clientId
 * @property {string} text
 * @property {string} [replyTo] id of the message it answers
 * @property {string[]} [mentions] names that the broker would not find in the text
 * @property {number} at Unix ms
 * @property {string} [error] why it failed, a sentence
 */

/**
 * The unsent messages of one topic. Each has its own key, so that two tabs never
 * overwrite each other's list; both may send the same one, as the broker stores
 * a client_message_id only once (protocol section 5, guarantee 4).
 */
export class Outbox {
  #prefix;

  /** @param {string} scope mesh id and topic */
  constructor(scope) {
    this.#prefix = `outbox/${scope}/`;
  }

  /**
   * @param {string} meshId
   * @returns {Set<string>} the topics that have unsent messages
   */
  static topics(meshId) {
    const start = `${PREFIX}outbox/${meshId}/`;
    return new Set(Object.keys(localStorage).filter((key) => key.startsWith(start)).map((key) => key.slice(start.length).split('/')[0]));
  }

  /** @returns {Unsent[]} oldest first */
  list() {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX + this.#prefix));
    return keys.map((key) => JSON.parse(localStorage.getItem(key))).sort((a, b) => a.at - b.at);
  }

  /** @param {Unsent} message */
  put({ clientId, text, replyTo, mentions, at, error }) {
    remember(this.#prefix + clientId, JSON.stringify({ clientId, text, replyTo, mentions, at, error }));
  }

  /** @param {string} clientId */
  remove(clientId) {
    remember(this.#prefix + clientId, '');
  }
}
