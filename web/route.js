/**
 * Addresses: where the chat is served, and within the page #/topic, and #/topic/id for
 * one message.
 */

/** What all addresses of this meshbox begin with, '' or /mesh: scripts come from BASE/web/RELEASE/. */
export const BASE = new URL('../..', import.meta.url).pathname.slice(0, -1);

/** The address of the chat itself. */
export const HOME = `${BASE}/`;

/** Whether the address is that; without BASE it is for who asks the server behind a proxy directly. */
export const isHome = () => location.pathname === HOME || location.pathname === '/';

const ROUTE = /^#\/([a-z0-9][a-z0-9_-]{0,49})(?:\/([A-Za-z0-9]{8,32}))?$/;

/**
 * @param {string} topic name
 * @param {string} [id] of a message
 * @returns {string} the hash of an address
 */
export const route = (topic, id) => `#/${topic}${id ? `/${id}` : ''}`;

/**
 * @param {string} hash
 * @returns {{topic: string, id: string}|null} null if it leads nowhere
 */
export function readRoute(hash) {
  const [, topic, id = ''] = ROUTE.exec(hash) ?? [];
  return topic ? { topic, id } : null;
}

/** @param {string} topic @param {string} id @returns {string} a whole address, to be sent to others of the mesh */
export const permalink = (topic, id) => location.origin + location.pathname + route(topic, id);

/** Changes the address without going anywhere. */
export const setRoute = (topic) => history.replaceState(null, '', location.pathname + route(topic));
