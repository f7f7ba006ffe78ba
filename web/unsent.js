/**
 * Own messages that the broker has not confirmed: kept over a reload, sent one
 * after the other as soon as that is possible, and never stored twice.
 */

import { Outbox } from './local.js';
import { ownMessage, toWire } from './message.js';

/** @typedef {import('./message.js').Message} Message */

const FIRST_WAIT = 1_000; // ms before a refused message is sent again, if the broker does not say
const OUTBOX_AGE = 24 * 3600_000; // ms the broker recognises a repeated client_message_id

/** Refusals that are over in a while (protocol section 5). */
const PASSING = new Set(['rate_limit', 'busy']);

/** Those of which the broker's sentence is for programs. */
const REFUSALS = {
  target_not_found: 'This topic is not there, or not any more.',
  topic_encrypted: 'This topic is encrypted now, and this page can not write to it.',
};

/** Events: `change` (of a message's state), `stored` (detail: a message the broker now has). */
export class Unsent extends EventTarget {
  #topic;
  #me;
  #request;
  #outbox;
  #waiting = new Map(); // by clientId
  #inFlight = null; // the message that is being sent: one after the other

  /**
   * @param {string} topic name
   * @param {import('./identity.js').Identity} me
   * @param {(type: string, fields: Object) => Promise<Object>} request
   */
  constructor(topic, me, request) {
    super();
    this.#topic = topic;
    this.#me = me;
    this.#request = request;
    this.#outbox = new Outbox(`${me.meshId}/${topic}`);
  }

  /** @returns {Message[]} in the order they were written */
  get list() {
    return [...this.#waiting.values()];
  }

  /**
   * Takes up what an earlier page or another tab has left.
   * @param {(clientId: string) => boolean} isStored whether the broker is known to have it
   */
  adopt(isStored) {
    for (const entry of this.#outbox.list()) {
      if (!this.#waiting.has(entry.clientId) && !isStored(entry.clientId)) this.#resume(entry);
    }
  }

  #resume(entry) {
    const stale = Date.now() - entry.at > OUTBOX_AGE;
    const error = entry.error ?? (stale ? 'This was written over a day ago and never reached meshbox.' : undefined);
    this.#waiting.set(entry.clientId, ownMessage({ replyTo: '', ...entry, error, state: error ? 'failed' : 'sending' }, this.#me));
  }

  /** @param {Message} message to be remembered and sent now, or as soon as there is a connection */
  add(message) {
    this.#outbox.put(message);
    this.#waiting.set(message.clientId, message);
    this.flush();
  }

  /** @param {Message} message that failed */
  retry(message) {
    Object.assign(message, { state: 'sending', error: undefined });
    this.#outbox.put(message);
    this.flush();
  }

  /** @param {Message} message that is not to be sent any more */
  discard(message) {
    this.#outbox.remove(message.clientId);
    this.#waiting.delete(message.clientId);
  }

  /**
   * Sends what waits, in the order it was written: one after the other, as the
   * broker may refuse one for the moment and take the next.
   */
  async flush() {
    if (this.#inFlight) return;
    try {
      while ((this.#inFlight = this.list.find(({ state }) => state === 'sending') ?? null)) {
        const wait = await this.#deliver(this.#inFlight);
        if (wait) await new Promise((done) => setTimeout(done, wait));
      }
    } catch {
      // Without an answer it stays "sending": the next hello repeats it under the
      // same client_message_id, so it can not double.
    }
    this.#inFlight = null;
  }

  /** @param {string} sentence why the broker will never take the message that is being sent */
  refuseInFlight(sentence) {
    if (this.#inFlight) this.#fail(this.#inFlight, sentence);
  }

  /**
   * @param {Message} message that came from the broker
   * @returns {Message} the own one that still waited for its ack, if that is what came, else what came
   */
  claim(message) {
    const waiting = message.own && this.#waiting.get(message.clientId);
    if (!waiting) return message;
    this.#confirm(waiting, message.id);
    return waiting;
  }

  /**
   * @returns {Promise<number>} ms to wait before it is sent again, 0 if that is over
   * @throws {import('./socket.js').RequestError} if there was no answer
   */
  async #deliver(message) {
    try {
      const ack = await this.#request('send', toWire(message, this.#topic));
      const [, code, sentence] = /^(\w+): (.*)$/s.exec(ack.error ?? '') ?? [];
      if (ack.queued) this.#confirm(message, ack.messageId);
      else if (PASSING.has(code)) return 1_000 * (/in (\d+) s/.exec(sentence)?.[1] ?? 0) || FIRST_WAIT;
      else this.#fail(message, REFUSALS[code] ?? capital(sentence ?? ack.error ?? 'meshbox did not take it and gave no reason'));
    } catch (error) {
      if (error.passing) throw error;
      this.#fail(message, error.message);
    }
    return 0;
  }

  #fail(message, sentence) {
    if (message.id) return; // another tab got it through
    Object.assign(message, { state: 'failed', error: sentence });
    this.#outbox.put(message);
    this.dispatchEvent(new Event('change'));
  }

  /** The broker has it; perhaps history or another tab has said so before. */
  #confirm(message, id) {
    if (message.id) return;
    this.discard(message);
    Object.assign(message, { id, state: 'sent', error: undefined });
    this.dispatchEvent(new CustomEvent('stored', { detail: message }));
  }
}

const capital = (sentence) => `${sentence.charAt(0).toUpperCase()}${sentence.slice(1).replace(/([^.!?])$/, '$1.')}`;
