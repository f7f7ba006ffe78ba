/**
 * Who is in the mesh: its members, with the sessions that run under them. It asks
 * the broker through a function it is given.
 *
 * @typedef {Object} Person a member, or a session of one
 * @property {string} key public key it writes with: of a session, else of the member
 * @property {string} name
 * @property {string} [type] ai, human or connector
 * @property {'idle'|'working'|'dnd'|'away'} status
 * @property {string} summary
 * @property {string} model
 * @property {string} folder working directory
 * @property {string} host
 * @property {number} since Unix ms it has been here, 0 if it is away
 * @property {boolean} you
 * @property {Person[]} sessions of a member, as far as they are not all there is of it
 * @property {string} parent name of the member of a session that stands for itself, else ''
 */

import { GENERAL } from './topics.js';

/** The channel of a claudemesh daemon: it carries others' sessions and is nobody itself. */
const DAEMON = 'claudemesh-daemon';

const BUSIEST = ['working', 'dnd', 'idle'];

/** Events: `change`. */
export class Roster extends EventTarget {
  /** @type {Person[]} */
  people = [];
  /** @type {Person[]} agents, and whoever does not say what it is */
  agents = [];
  /** @type {Person[]} members without a presence */
  away = [];

  #me;
  #request;
  #types = new Map(); // peer type by key, kept when the peer leaves: its messages stay
  #peers = [];
  #members = new Map(); // by public key

  /**
   * @param {import('./identity.js').Identity} me
   * @param {(type: string, fields?: Object) => Promise<Object>} request
   */
  constructor(me, request) {
    super();
    this.#me = me;
    this.#request = request;
  }

  /** @returns {Person[]} everybody, who is here first */
  get everybody() {
    return [...this.people, ...this.agents, ...this.away];
  }

  /** @returns {{memberId: string, pubkey: string, displayName: string}[]} all of them, as topic_members has them */
  get members() {
    return [...this.#members.values()];
  }

  /** @returns {string[]} display names of all members and sessions, each once */
  get names() {
    const all = this.everybody.flatMap((person) => [person, ...person.sessions]);
    return [...new Set([...all.map(({ name }) => name), ...this.members.map(({ displayName }) => displayName)])];
  }

  /**
   * What wrote a message: what the broker says, else what was seen of that key.
   * @param {{key: string, type?: string}} author
   * @returns {string|undefined} ai, human or connector
   */
  typeOf({ key, type }) {
    return type || this.#types.get(key);
  }

  /** Asks who is here. */
  async refresh() {
    const { peers } = await this.#request('list_peers');
    this.#peers = peers;
    for (const { pubkey, peerType } of peers) if (peerType) this.#types.set(pubkey, peerType);
    this.#arrange();
  }

  /** Asks also for the members. */
  async refreshAll() {
    const { members } = await this.#request('topic_members', { topic: GENERAL });
    this.#members = new Map(members.map((member) => [member.pubkey, member]));
    await this.refresh();
  }

  #arrange() {
    const byMember = Map.groupBy(this.#peers, ({ memberPubkey, pubkey }) => memberPubkey ?? pubkey);
    const here = [...byMember].map(([key, peers]) => this.#member(key, peers)).filter(Boolean).sort(byName);
    if (!here.some(({ you }) => you)) here.unshift(this.#self());
    this.people = here.filter(({ type }) => type === 'human');
    this.agents = here.filter(({ type }) => type !== 'human');
    this.away = this.members.filter(({ pubkey }) => !byMember.has(pubkey) && pubkey !== this.#me.pubkey)
      .map((member) => this.#person({ ...member, status: 'away', peerType: this.#types.get(member.pubkey) })).sort(byName);
    this.dispatchEvent(new Event('change'));
  }

  /** One entry for a member: its own connections, which are one, and its sessions. */
  #member(key, peers) {
    const [sessions, own] = split(peers, ({ peerRole }) => peerRole === 'session');
    const shown = own.filter(({ channel }) => channel !== DAEMON);
    const human = shown.find(({ peerType }) => peerType === 'human');
    const agents = human ? shown.filter(({ peerType }) => peerType !== 'human') : shown.slice(1);
    const nested = [...sessions, ...agents].map((peer) => this.#person(peer)).sort(byName);
    const self = human ?? shown[0];
    const name = this.#members.get(key)?.displayName ?? peers[0].displayName;
    if (self) return { ...this.#person({ ...self, status: busiest(shown) }), sessions: nested };
    if (nested.length === 1) return { ...nested[0], parent: nested[0].name === name ? '' : name };
    if (nested.length === 0) return null; // a daemon without agents
    return { ...this.#person({ pubkey: key, displayName: name, status: busiest(peers), peerType: nested[0].type }), sessions: nested };
  }

  #person(peer) {
    return {
      key: peer.pubkey,
      name: peer.displayName || peer.pubkey.slice(0, 8),
      type: peer.peerType,
      status: peer.status,
      summary: peer.summary ?? '',
      model: peer.model ?? '',
      folder: peer.cwd ?? '',
      host: peer.hostname ?? '',
      since: peer.connectedAt ? Date.parse(peer.connectedAt) : 0,
      you: peer.pubkey === this.#me.pubkey,
      sessions: [],
      parent: '',
    };
  }

  #self() {
    const { pubkey, displayName } = this.#me;
    return this.#person({ pubkey, displayName, peerType: 'human', status: 'idle' });
  }
}

function split(list, test) {
  return [list.filter(test), list.filter((entry) => !test(entry))];
}

const busiest = (peers) => BUSIEST.find((status) => peers.some((peer) => peer.status === status)) ?? 'idle';

const byName = (a, b) => b.you - a.you || a.name.localeCompare(b.name) || a.since - b.since;
