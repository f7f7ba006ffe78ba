/**
 * A member at work: wires the connection to the states it feeds, and other tabs of
 * the same member to this one. Data goes one way: socket → state → view.
 */

import { saveIdentity, sessionId, sign } from './identity.js';
import { Outbox } from './local.js';
import { mentioned } from './mention.js';
import { fromWire } from './message.js';
import { Mesh } from './mesh.js';
import { Room } from './room.js';
import { Roster } from './roster.js';
import { BASE } from './route.js';
import { Connection } from './socket.js';
import { GENERAL, Topics } from './topics.js';

const POLL = 60_000; // ms between looks at what no event told of
const SETTLE = 150; // ms to wait for more news before asking what it is
const EASE = 5; // times as long as the last look took, if that is more
const READ_DELAY = 500; // ms to wait for more before telling the broker what was read

/**
 * Events: `room` (another topic is shown), `identity` (one's name, role or the
 * mesh's name changed), `mention` (detail: {topic, message}; also of what was sent
 * to this member alone), `updated` (this page is older than the meshbox that runs).
 */
export class Session extends EventTarget {
  #tabs;
  #rooms = new Map(); // by topic
  #told = new Map(); // by topic: the id up to which the broker knows this member has read
  #timers = {};
  #cost = 0; // ms that the last look at the people took

  /** @param {import('./identity.js').Identity} identity */
  constructor(identity) {
    super();
    this.identity = identity;
    this.connection = new Connection(socketURL(), () => this.#hello());
    const request = (type, fields) => this.connection.request(type, fields);
    this.request = request;
    this.topics = new Topics(request, identity.meshId);
    this.roster = new Roster(identity, request);
    this.mesh = new Mesh(request);
    this.room = this.#roomOf(GENERAL);
    this.#tabs = new BroadcastChannel(`meshbox/${identity.meshId}`);
    this.#wire();
  }

  start() {
    this.connection.start();
    setInterval(() => document.visibilityState === 'visible' && this.#poll(), POLL);
  }

  /** Call when the page or the network comes back: asks at once instead of waiting to find out. */
  resume() {
    this.connection.wake();
    if (!this.connection.online) return;
    this.room.sync();
    this.#poll();
  }

  /**
   * Shows a topic.
   * @param {string} topic name
   */
  open(topic) {
    if (topic === this.room.topic) return;
    this.room.look(false, true);
    this.room = this.#roomOf(topic);
    this.topics.setCurrent(topic);
    this.#syncRoom();
    this.dispatchEvent(new Event('room'));
  }

  /**
   * Measures this device's clock against the server's, for who is told that it is off.
   * @returns {Promise<number>} ms it is ahead, negative if behind, 0 if it can not be told
   */
  async clockAhead() {
    const response = await fetch(`${BASE}/health`, { method: 'HEAD', cache: 'no-store' }).catch(() => null);
    return Date.now() - Date.parse(response?.headers.get('Date')) || 0;
  }

  #roomOf(topic) {
    let room = this.#rooms.get(topic);
    if (room) return room;
    room = new Room(topic, this.identity, this.request);
    const known = this.topics.find(topic);
    if (known) room.setMembership(known);
    room.addEventListener('change', () => room === this.room && this.topics.setReading(room.reading));
    room.addEventListener('read', () => this.#later(`read/${topic}`, READ_DELAY, () => this.#tellRead(room)));
    room.addEventListener('sent', ({ detail: { id, clientId, text, replyTo, at } }) => {
      this.topics.note({ name: topic, at, encrypted: false, own: true });
      this.#tabs.postMessage({ topic, id, clientId, text, replyTo, at });
    });
    this.#rooms.set(topic, room);
    return room;
  }

  #wire() {
    const { connection, topics } = this;
    connection.addEventListener('hello', ({ detail }) => this.#greeted(detail));
    connection.addEventListener('push', ({ detail }) => this.#pushed(detail));
    connection.addEventListener('status', ({ detail }) => this.#statusChanged(detail));
    topics.addEventListener('list', () => this.#applyTopics());
    this.#tabs.onmessage = ({ data }) => this.#rooms.get(data.topic)?.receiveOwn(data);
  }

  async #hello() {
    const { meshId, memberId, pubkey, displayName, privateKey } = this.identity;
    const timestamp = Date.now();
    return {
      meshId, memberId, pubkey, displayName, timestamp,
      sessionId: sessionId(), pid: 0, cwd: '', peerType: 'human', channel: 'web', capabilities: ['client_ack', 'mesh_events', 'siblings'],
      signature: await sign(privateKey, `${meshId}|${memberId}|${pubkey}|${timestamp}`),
    };
  }

  #greeted({ memberDisplayName, meshName, memberRole }) {
    this.#becomes(memberDisplayName, meshName, memberRole);
    this.#quietly(this.topics.refresh());
    this.#quietly(this.#lookAtPeople('refreshAll'));
    for (const topic of Outbox.topics(this.identity.meshId)) this.#roomOf(topic).adopt();
    for (const room of this.#rooms.values()) this.#quietly(room.flush());
    this.#syncRoom();
    this.#quietly(this.#checkRelease());
  }

  /** The address of each script names the release it is of, and the server has one only. */
  async #checkRelease() {
    const { status } = await fetch(import.meta.url, { method: 'HEAD', cache: 'no-store' });
    if (status === 404) this.dispatchEvent(new Event('updated'));
  }

  /** Takes what the broker says about this member and its mesh. */
  #becomes(displayName, meshSlug, role) {
    const { identity } = this;
    const said = { displayName: displayName || identity.displayName, meshSlug: meshSlug || identity.meshSlug, role: role ?? '', refused: false };
    if (Object.entries(said).every(([name, value]) => identity[name] === value)) return;
    this.#keep(said);
    this.dispatchEvent(new Event('identity'));
  }

  #syncRoom() {
    const { room, connection } = this;
    if (!connection.online) return;
    this.#quietly(room.sync());
    this.#followReceipts();
  }

  #followReceipts() {
    const { room, connection } = this;
    connection.follow('topic_receipts', { topic: room.topic }, ({ receipts }) => room.setReceipts(receipts));
  }

  #pushed(push) {
    if (push.event === 'mesh_changed') return this.#changed(push.eventData);
    if (push.subtype === 'system') return; // mesh_changed tells of those, too
    const topic = push.topic ?? GENERAL;
    const message = fromWire(push, this.identity, !push.topic);
    const mention = message.note === 'direct' || mentioned(message.text, [this.identity.displayName]).length > 0 || this.#repliesToMe(topic, message);
    if (this.#rooms.get(topic)?.receive(push) === false) return;
    this.topics.note({ name: topic, at: message.at, encrypted: push.bodyVersion === 2, own: message.own, mention, outside: !push.topic });
    if (mention && !message.own) this.dispatchEvent(new CustomEvent('mention', { detail: { topic, message } }));
  }

  #repliesToMe(topic, message) {
    return this.#rooms.get(topic)?.parentOf(message)?.own ?? false;
  }

  /** Asks for what changed, together with what else changes in the same moment. */
  #changed({ what, meshName }) {
    const { topics, identity } = this;
    const refresh = { peers: () => this.#lookAtPeople('refresh'), members: () => this.#lookAtPeople('refreshAll'), topics: () => topics.refresh() };
    if (meshName) this.#becomes('', meshName, identity.role);
    for (const part of what) {
      this.#later(part, Math.max(SETTLE, part === 'topics' ? 0 : EASE * this.#cost), async () => {
        this.mesh.changed(part);
        await refresh[part]?.();
      });
    }
  }

  /** In a large mesh that is changing all the time, this page has other things to do as well. */
  async #lookAtPeople(how) {
    const began = performance.now();
    await this.roster[how]();
    this.#cost = performance.now() - began;
  }

  #poll() {
    this.#quietly(this.#lookAtPeople('refreshAll'));
    this.#quietly(this.topics.refresh());
  }

  /** Takes what the broker's list says of each topic; a room that is not in it is over. */
  #applyTopics() {
    for (const [name, room] of this.#rooms) {
      const topic = this.topics.find(name);
      const joined = room.setMembership(topic ?? { role: '', readUpTo: '' });
      if (joined && room === this.room) this.#followReceipts(); // who is outside is told nothing
      if (topic && topic.readUpTo === room.readUpTo) this.#told.set(name, topic.readUpTo);
      if (topic) this.#quietly(this.#tellRead(room)); // the last time it may have got lost
      else if (room !== this.room) this.#rooms.delete(name);
    }
  }

  async #tellRead({ topic, readUpTo }) {
    if (!readUpTo || this.#told.get(topic) === readUpTo || !this.topics.find(topic)?.role) return;
    await this.request('topic_mark_read', { topic, messageId: readUpTo });
    this.#told.set(topic, readUpTo);
  }

  #statusChanged({ phase, reason, closeCode }) {
    for (const room of this.#rooms.values()) room.interrupted();
    if (phase === 'ended' && reason !== 'kicked') this.#keep({ refused: true });
    if (phase !== 'waiting') return;
    if (reason === 'session_replaced') sessionId(true); // a duplicated tab took ours along
    if (closeCode !== 1009) return;
    for (const room of this.#rooms.values()) room.refuseInFlight('This message is larger than this meshbox allows. Send it in parts.');
  }

  #keep(change) {
    Object.assign(this.identity, change);
    this.#quietly(saveIdentity(this.identity));
  }

  /** Runs a task in a while, once for all who ask for it until then. */
  #later(name, delay, task) {
    this.#timers[name] ??= setTimeout(() => {
      delete this.#timers[name];
      this.#quietly(task());
    }, delay);
  }

  /** Lets a background request fail: the next hello or the next poll repeats it. */
  #quietly(promise) {
    promise.catch(() => {});
  }
}

function socketURL() {
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${BASE}/ws`;
}
