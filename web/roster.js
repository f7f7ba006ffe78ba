/**
 * Who is in the room: the presences the broker lists and the members that are
 * away. It asks the broker through a function it is given.
 *
 * @typedef {Object} Person
 * @property {string} key public key it writes with: of a session, else of the member
 * @property {string} name
 * @property {string} [type] ai, human or connector
 * @property {'idle'|'working'|'dnd'|'away'} status
 * @property {string} summary
 * @property {string} model
 * @property {string} folder working directory
 * @property {string} host
 * @property {boolean} you
 */

/** The channel of a claudemesh daemon: it carries others' sessions and is nobody itself. */
const DAEMON = 'claudemesh-daemon';

/** Events: `change`. */
export class Roster extends EventTarget {
  /** @type {Person[]} */
  people = [];
  /** @type {Person[]} agents, and whoever does not say what it is */
  agents = [];
  /** @type {Person[]} members of the topic without a presence */
  away = [];

  #topic;
  #me;
  #request;
  #types = new Map(); // peer type by key, kept when the peer leaves: its messages stay
  #peers = [];
  #members = [];

  /**
   * @param {string} topic name
   * @param {import('./identity.js').Identity} me
   * @param {(type: string, fields?: Object) => Promise<Object>} request
   */
  constructor(topic, me, request) {
    super();
    this.#topic = topic;
    this.#me = me;
    this.#request = request;
  }

  /** Number of people and agents here. */
  get present() {
    return this.people.length + this.agents.length;
  }

  /**
   * What wrote a message: what the broker says, else what was seen of that key.
   * @param {{key: string, type?: string}} author
   * @returns {string|undefined} ai, human or connector
   */
  typeOf({ key, type }) {
    return type || this.#types.get(key);
  }

  /** Asks for statuses and summaries; the broker sends no word when they change. */
  async refresh() {
    const { peers } = await this.#request('list_peers');
    this.#peers = peers.filter(({ channel }) => channel !== DAEMON);
    for (const { pubkey, peerType } of peers) if (peerType) this.#types.set(pubkey, peerType);
    this.#arrange();
  }

  /** Asks for everything, also for the members; call when somebody came or went. */
  async refreshAll() {
    const { members } = await this.#request('topic_members', { topic: this.#topic });
    this.#members = members;
    await this.refresh();
  }

  #arrange() {
    const here = distinct(this.#peers).map((peer) => this.#person(peer)).sort(byName);
    if (!here.some(({ you }) => you)) here.unshift(this.#self());
    this.people = here.filter(({ type }) => type === 'human');
    this.agents = here.filter(({ type }) => type !== 'human');
    const present = new Set(this.#peers.map(({ memberPubkey, pubkey }) => memberPubkey ?? pubkey));
    present.add(this.#me.pubkey);
    this.away = this.#members.filter(({ pubkey }) => !present.has(pubkey))
      .map((member) => this.#person({ ...member, status: 'away', peerType: this.#types.get(member.pubkey) })).sort(byName);
    this.dispatchEvent(new Event('change'));
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
      you: peer.pubkey === this.#me.pubkey,
    };
  }

  #self() {
    const { pubkey, displayName } = this.#me;
    return this.#person({ pubkey, displayName, peerType: 'human', status: 'idle' });
  }
}

/** One entry per agent session, but one per person, however many tabs they have open. */
function distinct(peers) {
  const entries = new Map();
  for (const peer of peers) entries.set(peer.peerType === 'human' ? peer.pubkey : peer.pubkey + peer.sessionId, peer);
  return [...entries.values()];
}

const byName = (a, b) => b.you - a.you || a.name.localeCompare(b.name);
