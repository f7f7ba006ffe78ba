/** The way in: from an invite, or from the question for one, to a membership. */

import { identities, saveIdentity } from './identity.js';
import { decodeToken, findInvite, InviteError, tokenOfCode } from './invite.js';
import { isHome } from './route.js';
import { showJoin, showWelcome } from './screens.js';

/**
 * Follows the invite in the address, or asks for one.
 * @param {import('./identity.js').Identity|undefined} newest what this browser is a member of
 * @param {(identity: import('./identity.js').Identity) => void} enter
 */
export async function join(newest, enter) {
  const use = (invite) => useInvite(invite, enter);
  if (isHome()) return showWelcome(use, '', newest?.meshSlug);
  try {
    await use(findInvite(location.pathname) ?? {});
  } catch (problem) {
    if (!(problem instanceof InviteError)) throw problem;
    showWelcome(use, problem.message, newest?.meshSlug);
  }
}

/** Follows an invite: to the join screen, or straight to the room if this browser is a member already. */
async function useInvite({ token, code }, enter) {
  const whole = token ?? (code ? await tokenOfCode(code) : '');
  const invite = decodeToken(whole);
  const known = (await identities()).find(({ meshId }) => meshId === invite.mesh_id);
  if (known?.memberId && !known.refused) return enter(await saveIdentity({ ...known, usedAt: Date.now() }));
  showJoin(whole, invite, enter);
}
