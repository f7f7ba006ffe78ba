/** The room on the page: header, connection banner, side sheet, title; and its parts. */

import { Composer } from './composer.js';
import { byId } from './dom.js';
import { MessageLog } from './messages.js';
import { PeopleList } from './people.js';

const PHASE = { connecting: 'Connecting', online: 'Connected', waiting: 'Offline', ended: 'Disconnected' };

const KEPT = 'What you write is kept, and sent when the connection is back.';

/** What the banner says for a reason (protocol sections 1 and 2). */
const REASON = {
  capacity: 'This meshbox has as many connections as it allows. Close a tab or an agent you do not need.',
  slow_consumer: 'This page could not keep up with the messages. It comes back and fetches what it missed.',
  kicked: 'You were disconnected by whoever runs this meshbox.',
  revoked: 'You were removed from this mesh. If that is a mistake, ask whoever runs it for a new invite.',
  unauthorized: 'This meshbox does not know you; it may have been set up anew. A new invite link lets you in again.',
};
const REFUSED = 'This meshbox did not accept the key of this browser. A new invite link lets you in again.';

export class RoomView {
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
    byId('screen').hidden = true;
    byId('room').hidden = false;
    byId('mesh-name').textContent = session.identity.meshSlug;
    const log = new MessageLog(session);
    new PeopleList(session.roster);
    new Composer(session.room, () => log.follow());
    session.connection.addEventListener('status', ({ detail }) => this.#renderStatus(detail));
    session.room.addEventListener('change', () => this.#renderTitle());
    this.#renderTitle();
    this.#wireSheet();
    this.#fitKeyboard();
  }

  #renderTitle() {
    const { room, identity } = this.#session;
    const { unread } = room;
    document.title = `${unread ? `(${unread}) ` : ''}#${room.topic} · ${identity.meshSlug}`;
  }

  #renderStatus(status) {
    const { phase, attempt } = status;
    byId('connection').dataset.phase = phase;
    byId('connection').textContent = PHASE[phase];
    // The first connect is a matter of an instant: no banner for it.
    byId('banner').hidden = phase === 'online' || (phase === 'connecting' && attempt === 0);
    byId('banner').dataset.phase = phase;
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
    const back = () => this.#session.connection.start();
    const [label, act] = phase !== 'ended' ? ['Retry now', back]
      : reason === 'kicked' ? ['Come back', back]
      : ['Use another invite', this.#onRejoin];
    button.textContent = label;
    button.onclick = act;
    button.disabled = phase === 'connecting';
  }

  /** On a phone the side bar is a sheet: out of the way of keys and readers until it is opened. */
  #wireSheet() {
    const narrow = matchMedia('(max-width: 720px)');
    const show = (open) => {
      byId('room').classList.toggle('sheet-open', open);
      byId('sidebar').inert = narrow.matches && !open;
      byId('backdrop').hidden = !open;
      byId('people-button').setAttribute('aria-expanded', open);
    };
    const close = () => {
      if (!byId('room').classList.contains('sheet-open')) return;
      show(false);
      byId('people-button').focus();
    };
    byId('people-button').onclick = () => {
      show(true);
      byId('people-close').focus();
    };
    byId('people-close').onclick = byId('backdrop').onclick = close;
    document.addEventListener('keydown', ({ key }) => key === 'Escape' && close());
    narrow.onchange = () => show(false);
    show(false);
  }

  /** iOS lays its keyboard over the page; the page then ends where the keyboard begins. */
  #fitKeyboard() {
    const viewport = window.visualViewport;
    viewport?.addEventListener('resize', () => {
      const covered = window.innerHeight - viewport.height * viewport.scale > 1;
      document.documentElement.style.setProperty('--height', covered ? `${viewport.height}px` : '100dvh');
    });
  }
}

function clockSentence(ahead) {
  const minutes = Math.round(Math.abs(ahead) / 60_000);
  const off = minutes ? `about ${minutes} min ${ahead > 0 ? 'ahead' : 'behind'}` : 'more than a minute off';
  return `The clock of this device, or of the machine that runs meshbox, is ${off}, so you cannot be recognised. Set date and time to automatic in the system settings.`;
}
