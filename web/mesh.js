/**
 * Running the mesh, for its owner and its admins: members, invites and its name
 * (broker/wire/mesh.go). It asks the broker through a function it is given and
 * keeps nothing: what it returns is how things are.
 *
 * @typedef {Object} Invite
 * @property {string} id
 * @property {'open'|'used_up'|'expired'|'revoked'} state
 * @property {'member'|'admin'} role
 * @property {string} label
 * @property {number} uses
 * @property {number} maxUses
 * @property {string} expiresAt RFC 3339
 * @property {string} [code]
 * @property {string} [shortLink]
 * @property {string} [link]
 * @property {string[]} [qr] rows of 1 (dark) and 0
 * @property {{name: string, pubkey: string, joinedAt: string}[]} joined
 *
 * @typedef {Object} Member
 * @property {string} memberId
 * @property {string} pubkey
 * @property {string} displayName
 * @property {'owner'|'admin'|'member'} role
 * @property {string} joinedAt RFC 3339
 * @property {string|null} lastSeenAt
 * @property {boolean} online
 * @property {string|null} revokedAt
 */

/** Events: `members`, `invites`, `peers`, `mesh` (what was returned is no longer so). */
export class Mesh extends EventTarget {
  #request;

  /** @param {(type: string, fields?: Object) => Promise<Object>} request */
  constructor(request) {
    super();
    this.#request = request;
  }

  /** @returns {Promise<Invite[]>} newest first */
  async invites() {
    return (await this.#request('invite_list')).invites;
  }

  /**
   * @param {{role: string, uses: number, ttlSeconds: number, label: string}} terms
   * @returns {Promise<Invite>}
   */
  async invite(terms) {
    return (await this.#request('invite_create', terms)).invite;
  }

  /** @param {string} id */
  async withdraw(id) {
    await this.#request('invite_revoke', { id });
  }

  /** @returns {Promise<Member[]>} oldest first */
  async members() {
    return (await this.#request('member_list')).members;
  }

  /** @param {Member} member */
  async revoke({ pubkey }) {
    await this.#request('ban', { target: pubkey });
  }

  /** @param {Member} member */
  async restore({ pubkey }) {
    await this.#request('unban', { target: pubkey });
  }

  /** @param {string} name */
  async rename(name) {
    await this.#request('mesh_rename', { name });
  }

  /** @param {string} what the broker says has changed */
  changed(what) {
    this.dispatchEvent(new Event(what));
  }
}
