/** Invites: reading them, and redeeming one for a membership (protocol section 8). */

import { identities, makeKey, saveIdentity } from './identity.js';
import { BASE } from './route.js';

const ASK = 'Ask whoever runs this meshbox for a new link: `meshbox invite` makes one.';

const SENTENCES = {
  invite_expired: `This invite has expired. ${ASK}`,
  invite_exhausted: `This invite has been used up. ${ASK}`,
  invite_revoked: `This invite was taken back. ${ASK}`,
  member_revoked: 'This browser was removed from the mesh. Ask whoever runs meshbox to restore it.',
  invite_not_found: `This meshbox does not know this invite. ${ASK}`,
  mesh_not_found: 'This invite belongs to another meshbox. Open the link itself in your browser, or ask for one made here: `meshbox invite`.',
  invite_mesh_mismatch: `This invite belongs to another mesh. ${ASK}`,
  invite_owner_mismatch: `This invite was not made by the owner of the mesh. ${ASK}`,
  invite_bad_signature: 'This invite was changed on its way, so it can not be trusted. Copy the whole link once more, exactly as it was printed.',
  unknown_code: `This short link or code is not known here; perhaps it was taken back. ${ASK}`,
  garbled: 'This does not look like a meshbox invite. Copy the whole link, from http to its very end, or the short code of eight letters and digits.',
  no_answer: `meshbox at ${location.host} does not answer. Check that it is running, then try again.`,
};

/** An invite that can not be used; the message is a sentence for the person. */
export class InviteError extends Error {
  /** @param {string} problem a code of the protocol or of the table above, or a sentence */
  constructor(problem) {
    super(SENTENCES[problem] ?? problem);
  }
}

/**
 * Finds the invite in what somebody pasted: a join link, a short link, a token
 * or a code.
 * @param {string} text
 * @returns {{token?: string, code?: string}|null} null when there is none in it
 */
export function findInvite(text) {
  const found = text.trim();
  const token = found.match(/(?:\/join\/|^)([\w-]{40,})\/?$/)?.[1];
  const code = found.match(/(?:\/i\/|^)([0-9A-Za-z]{8})\/?$/)?.[1];
  if (token) return { token };
  return code ? { code } : null;
}

/**
 * Fetches the token behind a short code.
 * @param {string} code
 * @returns {Promise<string>} token
 * @throws {InviteError}
 */
export async function tokenOfCode(code) {
  const answer = await askServer(`/api/public/invite-code/${encodeURIComponent(code)}`);
  if (!answer.found) throw new InviteError('unknown_code');
  return answer.token;
}

/**
 * Reads a token. Its signature is for the broker to check; the page only shows
 * what it says.
 * @param {string} token base64url of the invite's JSON
 * @returns {{mesh_id: string, mesh_slug: string, expires_at: number}} expires_at in Unix seconds
 * @throws {InviteError}
 */
export function decodeToken(token) {
  try {
    const binary = atob(token.replaceAll('-', '+').replaceAll('_', '/'));
    const invite = JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (char) => char.charCodeAt(0))));
    if (typeof invite.mesh_id === 'string' && typeof invite.mesh_slug === 'string') return invite;
  } catch {
    // Falls through to the one sentence that helps, whatever was wrong.
  }
  throw new InviteError('garbled');
}

/**
 * Joins a mesh. The key is stored before it is sent: should the answer get lost,
 * the next try uses the same key, and the broker returns the same member without
 * consuming another use.
 * @param {string} token
 * @param {string} displayName
 * @returns {Promise<import('./identity.js').Identity>}
 * @throws {InviteError|import('./identity.js').StorageError}
 */
export async function join(token, displayName) {
  const invite = decodeToken(token);
  const known = (await identities()).find(({ meshId }) => meshId === invite.mesh_id);
  const identity = await saveIdentity({
    ...(known ?? { meshId: invite.mesh_id, memberId: '', ...(await makeKey()) }),
    meshSlug: invite.mesh_slug,
    displayName,
    usedAt: known?.usedAt ?? 0,
    refused: known?.refused ?? false,
  });
  const { memberId } = await askServer('/join', {
    invite_token: token,
    invite_payload: invite,
    peer_pubkey: identity.pubkey,
    display_name: displayName,
  });
  return saveIdentity({ ...identity, memberId, usedAt: Date.now(), refused: false });
}

async function askServer(path, body) {
  const response = await fetch(BASE + path, body && {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  }).catch(() => {
    throw new InviteError('no_answer');
  });
  const answer = await response.json().catch(() => ({}));
  if (response.ok && answer.ok !== false) return answer;
  throw new InviteError(answer.error ?? `meshbox answered with an error (${response.status}). Try again in a moment.`);
}
