/** Start-up: to the room, or to the screens in front of it. */

import { canMakeKeys, identities, StorageError } from './identity.js';
import { HOME, isHome, readRoute } from './route.js';
import { Session } from './session.js';
import { RoomView } from './view.js';

/** The address at which a member is asked for a fresh invite all the same. */
const REJOIN = '#invite';

async function start() {
  if (!window.isSecureContext) return problem('insecure');
  if (!(await canMakeKeys())) return problem('keys');
  const [newest] = (await identities()).filter(({ memberId }) => memberId);
  if (isHome() && newest && location.hash !== REJOIN) return enter(newest);
  const { join } = await import('./joining.js'); // who is a member does not need it
  await join(newest, enter);
}

/** Opens the room; the token leaves the address bar, where somebody might see or share it. */
function enter(identity) {
  history.replaceState(null, '', readRoute(location.hash) ? HOME + location.hash : HOME);
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

async function problem(kind) {
  const { showProblem } = await import('./screens.js');
  showProblem(kind);
}

start().catch((error) => {
  if (!(error instanceof StorageError)) throw error;
  return problem('storage');
});
