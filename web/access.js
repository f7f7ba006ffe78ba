/**
 * How scripts, agents without meshbox and services get in: API keys and webhooks
 * (broker/wire/apikey.go and webhook.go), one's own, for who runs the mesh those of
 * all. It asks the broker through a function it is given and keeps nothing, least of
 * all a secret.
 *
 * @typedef {Object} ApiKey
 * @property {string} id
 * @property {string} label
 * @property {string} prefix the first characters of the secret
 * @property {('send'|'read'|'state_write'|'admin')[]} capabilities
 * @property {string[]|null} topicScopes null: all topics
 * @property {string} createdAt RFC 3339
 * @property {string|null} [lastUsedAt]
 * @property {string|null} [revokedAt]
 * @property {string|null} expiresAt
 * @property {string} [issuedBy] name of the member whose it is
 * @property {string} [secret] of a new one only
 *
 * @typedef {Object} Webhook
 * @property {string} name
 * @property {string} url of a new one with its secret, else it ends with …
 * @property {string} topic name
 * @property {boolean} [active] false: its member may not post to the topic any more
 * @property {string} [createdAt] RFC 3339
 * @property {string} [madeBy] name of the member whose it is
 */
export class Access {
  #request;

  /** @param {(type: string, fields?: Object) => Promise<Object>} request */
  constructor(request) {
    this.#request = request;
  }

  /** @returns {Promise<ApiKey[]>} those that work first, each newest first */
  async keys() {
    return (await this.#request('apikey_list')).keys;
  }

  /**
   * @param {{label: string, capabilities: string[], topicScopes?: string[], expiresAt?: string}} wanted
   * @returns {Promise<ApiKey>} with its secret
   */
  async createKey(wanted) {
    return this.#request('apikey_create', wanted);
  }

  /** @param {ApiKey} key */
  async revokeKey({ id }) {
    await this.#request('apikey_revoke', { id });
  }

  /** @returns {Promise<Webhook[]>} by name */
  async webhooks() {
    return (await this.#request('list_webhooks')).webhooks;
  }

  /** @param {string} name @param {string} topic @returns {Promise<Webhook>} with its secret in the url */
  async createWebhook(name, topic) {
    return this.#request('create_webhook', { name, topic });
  }

  /** @param {Webhook} webhook */
  async deleteWebhook({ name }) {
    await this.#request('delete_webhook', { name });
  }
}

/** @param {ApiKey} key @returns {boolean} */
export const works = ({ revokedAt, expiresAt }) => !revokedAt && !(Date.parse(expiresAt) <= Date.now());
