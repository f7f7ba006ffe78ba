/**
 * Small things this browser remembers: drafts, what was read, unsent messages.
 * Where storage is forbidden nobody gets this far, as there is no key either.
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

  /** @returns {{clientId: string, text: string, at: number, error?: string}[]} oldest first */
  list() {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX + this.#prefix));
    return keys.map((key) => JSON.parse(localStorage.getItem(key))).sort((a, b) => a.at - b.at);
  }

  /** @param {{clientId: string, text: string, at: number, error?: string}} message */
  put({ clientId, text, at, error }) {
    remember(this.#prefix + clientId, JSON.stringify({ clientId, text, at, error }));
  }

  /** @param {string} clientId */
  remove(clientId) {
    remember(this.#prefix + clientId, '');
  }
}
