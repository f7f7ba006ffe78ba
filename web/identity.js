/**
 * Who this browser is: one Ed25519 key per mesh, made here, never extractable,
 * kept in IndexedDB. A page that gets hold of it can sign but not copy it.
 *
 * @typedef {Object} Identity
 * @property {string} meshId
 * @property {string} meshSlug the mesh's name
 * @property {string} memberId '' until the broker has accepted the key
 * @property {string} pubkey 64 lowercase hex
 * @property {CryptoKey} privateKey
 * @property {string} displayName
 * @property {number} usedAt Unix ms; the newest is the mesh to show
 * @property {boolean} refused the broker no longer knows this member
 */

const STORE = 'identities';

/** Thrown when this browser can not keep a key; private windows are the usual reason. */
export class StorageError extends Error {}

/**
 * Finds out by trying whether this browser can make Ed25519 keys. Safari 17,
 * Firefox 129 and Chrome 137 can; nothing but trying tells.
 * @returns {Promise<boolean>}
 */
export async function canMakeKeys() {
  try {
    await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify']);
    return true;
  } catch {
    return false;
  }
}

/** @returns {Promise<{pubkey: string, privateKey: CryptoKey}>} */
export async function makeKey() {
  const pair = await crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify']);
  const raw = await crypto.subtle.exportKey('raw', pair.publicKey);
  return { pubkey: hex(raw), privateKey: pair.privateKey };
}

/**
 * Signs the canonical bytes of a hello (protocol section 2).
 * @param {CryptoKey} privateKey
 * @param {string} canonical
 * @returns {Promise<string>} 128 lowercase hex
 */
export async function sign(privateKey, canonical) {
  return hex(await crypto.subtle.sign('Ed25519', privateKey, new TextEncoder().encode(canonical)));
}

/**
 * All identities of this browser, the most recently used mesh first.
 * @returns {Promise<Identity[]>}
 * @throws {StorageError}
 */
export async function identities() {
  const all = await inStore('readonly', (store) => store.getAll());
  return all.sort((a, b) => b.usedAt - a.usedAt);
}

/**
 * @param {Identity} identity
 * @returns {Promise<Identity>} as it was read back: some private windows store a
 *   key and return something else
 * @throws {StorageError}
 */
export async function saveIdentity(identity) {
  await inStore('readwrite', (store) => store.put(identity));
  const kept = await inStore('readonly', (store) => store.get(identity.meshId));
  if (!(kept?.privateKey instanceof CryptoKey)) throw new StorageError('the key was not kept');
  return kept;
}

/**
 * This tab's session id: it survives a reload, so that the broker resumes the
 * same presence (protocol section 4), and is another one in every tab.
 * @param {boolean} [renew] true when another tab turned out to have the same,
 *   which happens when a tab is duplicated
 * @returns {string}
 */
export function sessionId(renew = false) {
  const key = 'meshbox/session';
  if (renew || !sessionStorage.getItem(key)) sessionStorage.setItem(key, crypto.randomUUID());
  return sessionStorage.getItem(key);
}

let database;

async function inStore(mode, work) {
  try {
    database ??= openDatabase();
    const store = (await database).transaction(STORE, mode).objectStore(STORE);
    return await settled(work(store));
  } catch (error) {
    database = undefined;
    throw new StorageError(error?.message ?? 'IndexedDB failed', { cause: error });
  }
}

async function openDatabase() {
  const request = indexedDB.open('meshbox', 1);
  request.onupgradeneeded = () => request.result.createObjectStore(STORE, { keyPath: 'meshId' });
  const db = await settled(request);
  db.onversionchange = () => db.close(); // let a newer page in another tab upgrade
  return db;
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, '0')).join('');
