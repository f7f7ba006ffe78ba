/** How the connection is, always to be seen, and what can be done about it. */

import { byId } from './dom.js';

const PHASE = { connecting: 'Connecting', online: 'Connected', waiting: 'Offline', ended: 'Disconnected' };

const KEPT = 'What you write is kept, and sent when the connection is back.';

/** What the banner says for a reason (protocol sections 1 and 2). */
const REASON = {
  capacity: 'This meshbox has as many connections as it allows. Close a tab or an agent you do not need.',
  slow_consumer: 'This page could not keep up with the messages. It comes back and fetches what it missed.',
  kicked: 'You were disconnected by whoever runs this meshbox.',
  revoked: 'You were removed from this mesh. If that is a mistake, ask whoever runs it to restore you.',
  unauthorized: 'This meshbox does not know you; it may have been set up anew. A new invite link lets you in again.',
};
const REFUSED = 'This meshbox did not accept the key of this browser. A new invite link lets you in again.';

export class Banner {
  #session;
  #onRejoin;
  #countdown = 0;

  /**
   * @param {import('./session.js').Session} session
   * @param {() => void} onRejoin called when somebody wants to join anew
   */
  constructor(session, onRejoin) {
    this.#session = session;
    this.#onRejoin = onRejoin;
    session.connection.addEventListener('status', ({ detail }) => this.#render(detail));
  }

  #render(status) {
    const { phase, attempt } = status;
    if (byId('connection').textContent !== PHASE[phase]) byId('connection').textContent = PHASE[phase];
    for (const id of ['connection', 'bar-connection', 'banner']) byId(id).dataset.phase = phase;
    // The first connect is a matter of an instant: no banner for it.
    byId('banner').hidden = phase === 'online' || (phase === 'connecting' && attempt === 0);
    clearInterval(this.#countdown);
    if (phase === 'online') return;
    this.#explain(status);
    this.#count(status);
    this.#countdown = setInterval(() => this.#count(status), 1000);
    this.#offerAction(status);
  }

  async #explain(status) {
    const sentence = await this.#sentence(status);
    if (status !== this.#session.connection.status) return; // things have moved on
    // The same words again would make a screen reader repeat them at every try.
    if (byId('banner-text').textContent !== sentence) byId('banner-text').textContent = sentence;
  }

  async #sentence({ phase, reason }) {
    if (reason === 'timestamp_skew') return clockSentence(await this.#session.clockAhead());
    if (REASON[reason]) return REASON[reason];
    if (phase === 'ended') return REFUSED;
    return `${navigator.onLine ? 'Connection lost.' : 'This device is offline.'} ${KEPT}`;
  }

  #count({ phase, retryAt }) {
    const seconds = Math.max(1, Math.ceil((retryAt - Date.now()) / 1000));
    const words = { waiting: `Next try in ${seconds} s`, connecting: 'Connecting…' };
    byId('banner-countdown').textContent = words[phase] ?? '';
  }

  #offerAction({ phase, reason }) {
    const button = byId('banner-action');
    const back = () => this.#session.connection.start(); // does nothing while it is connecting
    const [label, act] = phase !== 'ended' ? ['Retry now', back]
      : reason === 'kicked' ? ['Come back', back]
      : ['Use another invite', this.#onRejoin];
    button.textContent = label;
    button.onclick = act;
    byId('banner-again').hidden = act !== this.#onRejoin; // somebody may have been restored
    byId('banner-again').onclick = back;
  }
}

function clockSentence(ahead) {
  const minutes = Math.round(Math.abs(ahead) / 60_000);
  const off = minutes ? `about ${minutes} min ${ahead > 0 ? 'ahead' : 'behind'}` : 'more than a minute off';
  return `The clock of this device, or of the machine that runs meshbox, is ${off}, so you cannot be recognised. Set date and time to automatic in the system settings.`;
}
