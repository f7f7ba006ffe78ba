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

/**
 * Something unfinished: what is being written, and to what it replies. Each tab has
 * its own, also after a reload; a new tab begins with what was written last in any.
 */
export class Draft {
  #key;
  #draft;

  /** @param {string} scope mesh id and topic */
  constructor(scope) {
    this.#key = `writing/${scope}`;
    const kept = sessionStorage.getItem(PREFIX + this.#key) ?? recall(this.#key);
    this.#draft = kept ? JSON.parse(kept) : { text: '', replyTo: '' };
  }

  /** @returns {{text: string, replyTo: string}} */
  read() {
    return this.#draft;
  }

  /** @param {{text: string, replyTo: string}} draft */
  write({ text, replyTo }) {
    this.#draft = { text, replyTo };
    const kept = JSON.stringify(this.#draft);
    remember(this.#key, text || replyTo ? kept : '');
    try {
      sessionStorage.setItem(PREFIX + this.#key, kept);
    } catch {
      // Full: it lives as long as the page.
    }
  }
}

const MOST_KEPT = 30; // messages
const LARGEST_KEPT = 8_000; // characters of one

/**
 * Messages that were pushed to this member and are in no history: what was sent to
 * it, to a group or to everyone. The broker forgets them once they are acked.
 */
export class Keepsakes {
  #key;

  /** @param {string} scope mesh id and topic where they are shown */
  constructor(scope) {
    this.#key = `kept/${scope}`;
  }

  /** @returns {Object[]} pushes, oldest first */
  list() {
    return JSON.parse(recall(this.#key) || '[]');
  }

  /** @param {Object} push */
  add({ messageId, senderPubkey, senderMemberId, senderName, senderPeerType, ciphertext, bodyVersion, createdAt }) {
    const others = this.list().filter((kept) => kept.messageId !== messageId);
    if (ciphertext.length > LARGEST_KEPT) return;
    const push = { messageId, senderPubkey, senderMemberId, senderName, senderPeerType, ciphertext, bodyVersion, createdAt };
    remember(this.#key, JSON.stringify([...others, push].slice(-MOST_KEPT)));
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
    const entries = keys.map((key) => JSON.parse(localStorage.getItem(key))); // null: another tab has just sent it
    return entries.filter(Boolean).sort((a, b) => a.at - b.at);
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
