/** Start-up: decides which screen to show, and brings member and room together. */

import { canMakeKeys, identities, saveIdentity, StorageError } from './identity.js';
import { decodeToken, findInvite, InviteError, tokenOfCode } from './invite.js';
import { showJoin, showProblem, showWelcome } from './screens.js';
import { Session } from './session.js';
import { RoomView } from './view.js';

/** The address at which a member is asked for a fresh invite all the same. */
const REJOIN = '#invite';

async function start() {
  if (!window.isSecureContext) return showProblem('insecure');
  if (!(await canMakeKeys())) return showProblem('keys');
  const [newest] = (await identities()).filter(({ memberId }) => memberId);
  if (location.pathname === '/') return newest && location.hash !== REJOIN ? enter(newest) : showWelcome(useInvite);
  try {
    await useInvite(findInvite(location.pathname) ?? {});
  } catch (problem) {
    if (!(problem instanceof InviteError)) throw problem;
    showWelcome(useInvite, problem.message, newest?.meshSlug);
  }
}

/** Follows an invite: to the join screen, or straight to the room if this browser is a member already. */
async function useInvite({ token, code }) {
  const whole = token ?? (code ? await tokenOfCode(code) : '');
  const invite = decodeToken(whole);
  const known = (await identities()).find(({ meshId }) => meshId === invite.mesh_id);
  if (known?.memberId && !known.refused) return enter(await saveIdentity({ ...known, usedAt: Date.now() }));
  showJoin(whole, invite, enter);
}

/** Opens the room; the token leaves the address bar, where somebody might see or share it. */
function enter(identity) {
  history.replaceState(null, '', '/');
  const session = new Session(identity);
  new RoomView(session, () => {
    // A fresh page rather than two rooms in one.
    history.replaceState(null, '', REJOIN);
    location.reload();
  });
  document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && session.resume());
  window.addEventListener('online', () => session.resume());
  session.start();
}

start().catch((problem) => {
  if (!(problem instanceof StorageError)) throw problem;
  showProblem('storage');
});
