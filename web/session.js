/**
 * A member at work: wires the connection to the states it feeds, and other tabs of
 * the same member to this one. Data goes one way: socket → state → view.
 */

import { saveIdentity, sessionId, sign } from './identity.js';
import { Roster } from './roster.js';
import { Room } from './room.js';
import { Connection } from './socket.js';

const POLL = 20_000; // ms between looks at statuses and summaries
const SETTLE = 300; // ms to wait for more comings and goings before asking who is here
const READ_DELAY = 800; // ms to wait for more before telling the broker what was read

const TOPIC = 'general';

export class Session {
  #tabs;
  #timers = {};

  /** @param {import('./identity.js').Identity} identity */
  constructor(identity) {
    this.identity = identity;
    this.connection = new Connection(socketURL(), () => this.#hello());
    const request = (type, fields) => this.connection.request(type, fields);
    this.room = new Room(TOPIC, identity, request);
    this.roster = new Roster(TOPIC, identity, request);
    this.#tabs = new BroadcastChannel(`meshbox/${identity.meshId}`);
    this.#wire();
  }

  start() {
    this.connection.start();
    setInterval(() => document.visibilityState === 'visible' && this.#quietly(this.roster.refresh()), POLL);
  }

  /** Call when the page or the network comes back: asks at once instead of waiting to find out. */
  resume() {
    this.connection.wake();
    if (!this.connection.online) return;
    this.room.sync();
    this.#quietly(this.roster.refresh());
  }

  /**
   * Measures this device's clock against the server's, for who is told that it is off.
   * @returns {Promise<number>} ms it is ahead, negative if behind, 0 if it can not be told
   */
  async clockAhead() {
    const response = await fetch('/health', { method: 'HEAD', cache: 'no-store' }).catch(() => null);
    return Date.now() - Date.parse(response?.headers.get('Date')) || 0;
  }

  #wire() {
    const { connection, room } = this;
    connection.addEventListener('hello', ({ detail }) => this.#greeted(detail));
    connection.addEventListener('push', ({ detail }) => this.#pushed(detail));
    connection.addEventListener('status', ({ detail }) => this.#statusChanged(detail));
    room.addEventListener('read', () => this.#later('read', READ_DELAY, () => connection.request('topic_mark_read', { topic: TOPIC })));
    room.addEventListener('sent', ({ detail: { id, clientId, text, at } }) => this.#tabs.postMessage({ id, clientId, text, at }));
    this.#tabs.onmessage = ({ data }) => room.receiveOwn(data);
  }

  async #hello() {
    const { meshId, memberId, pubkey, displayName, privateKey } = this.identity;
    const timestamp = Date.now();
    return {
      meshId, memberId, pubkey, displayName, timestamp,
      sessionId: sessionId(), pid: 0, cwd: '', peerType: 'human', channel: 'web', capabilities: ['client_ack'],
      signature: await sign(privateKey, `${meshId}|${memberId}|${pubkey}|${timestamp}`),
    };
  }

  async #greeted({ memberDisplayName }) {
    const { identity } = this;
    this.#quietly(this.roster.refreshAll());
    if (identity.refused || (memberDisplayName && memberDisplayName !== identity.displayName)) {
      identity.displayName = memberDisplayName || identity.displayName;
      this.#keep({ refused: false });
    }
    await this.room.flush();
    await this.room.sync();
  }

  #pushed(push) {
    if (push.subtype === 'system') this.#later('roster', SETTLE, () => this.roster.refreshAll());
    else if (!push.topic || push.topic === TOPIC) this.room.receive(push);
  }

  #statusChanged({ phase, reason, closeCode }) {
    this.room.interrupted();
    if (phase === 'ended' && reason !== 'kicked') this.#keep({ refused: true });
    if (phase !== 'waiting') return;
    if (reason === 'session_replaced') sessionId(true); // a duplicated tab took ours along
    if (closeCode === 1009) this.room.refuseUnsent('This message is larger than this meshbox allows. Send it in parts.');
  }

  #keep(change) {
    Object.assign(this.identity, change);
    this.#quietly(saveIdentity(this.identity));
  }

  /** Runs a task once things have been quiet for a while. */
  #later(name, delay, task) {
    clearTimeout(this.#timers[name]);
    this.#timers[name] = setTimeout(() => this.#quietly(task()), delay);
  }

  /** Lets a background request fail: the next hello or the next poll repeats it. */
  #quietly(promise) {
    promise.catch(() => {});
  }
}

function socketURL() {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}/ws`;
}
