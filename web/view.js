/** The room on the page: its parts, and what they have to do with each other. */

import { Banner } from './banner.js';
import { Composer } from './composer.js';
import { byId, h, icon, ICONS } from './dom.js';
import { listenToKeys } from './keys.js';
import { MessageLog } from './messages.js';
import { TopicList } from './nav.js';
import { Announcer } from './notify.js';
import { PeopleList } from './people.js';
import { readRoute, route } from './route.js';
import { SearchPanel } from './search.js';
import { badgeCount } from './text.js';
import { GENERAL } from './topics.js';

export class RoomView {
  #session;
  #log;
  #composer;
  #search;
  #topics;
  #announcer;

  /**
   * @param {import('./session.js').Session} session
   * @param {() => void} onRejoin called when somebody wants to join anew
   */
  constructor(session, onRejoin) {
    this.#session = session;
    byId('screen').hidden = true;
    byId('room').hidden = false;
    this.#log = new MessageLog(session, (message) => this.#composer.replyTo(message));
    this.#composer = new Composer(session, () => this.#log.follow());
    this.#search = new SearchPanel(session);
    this.#topics = new TopicList(session, () => this.#dialog((dialogs) => dialogs.newTopic(session)));
    new PeopleList(session.roster, session.connection);
    new Banner(session, onRejoin);
    this.#announcer = new Announcer(session);
    this.#wire();
    this.#wireSheet();
    this.#fitKeyboard();
    this.#render();
    this.#follow({ isFirst: true });
  }

  #wire() {
    const session = this.#session;
    for (const source of [session.topics, session]) {
      for (const type of ['change', 'room', 'identity']) source.addEventListener(type, () => this.#render());
    }
    session.addEventListener('updated', () => this.#log.say('meshbox was updated. Reload the page when it suits you.', true));
    session.connection.addEventListener('status', ({ detail: { phase } }) => {
      if (phase === 'ended') for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
    });
    window.addEventListener('hashchange', () => this.#follow());
    document.addEventListener('click', (event) => {
      // To where one is already: nothing changes in the address, but one may have scrolled away.
      const isPlain = !event.defaultPrevented && !event.ctrlKey && !event.metaKey && !event.shiftKey;
      const hash = event.target.closest?.('a[href^="#/"]')?.hash;
      if (isPlain && hash && hash === location.hash) this.#follow();
    });
    const opens = {
      'topic-button': ({ aboutTopic }) => aboutTopic(session, session.room.topic),
      privacy: ({ aboutTopic }) => aboutTopic(session, session.room.topic),
      'invite-button': ({ invite }) => invite(session),
      'beginning-invite': ({ invite }) => invite(session),
      'manage-button': ({ manage }) => manage(session),
      'settings-button': ({ settings }) => settings(session),
      'help-button': ({ showHelp }) => showHelp(),
    };
    for (const [id, open] of Object.entries(opens)) byId(id).onclick = () => this.#dialog(open);
    listenToKeys(this.#acts());
    whenIdle(() => this.#dialog(() => {}));
  }

  #acts() {
    const session = this.#session;
    return {
      switcher: () => this.#dialog(({ openSwitcher }) => openSwitcher(session, (name) => this.#composer.insert(`@${name} `))),
      help: () => this.#dialog(({ showHelp }) => showHelp()),
      search: () => this.#search.open(),
      topicBefore: () => this.#go(this.#topics.neighbour(-1)),
      topicAfter: () => this.#go(this.#topics.neighbour(1)),
      messages: () => this.#log.focusLast(),
      reply: () => this.#log.reply(),
      latest: () => this.#log.follow(),
      write: () => this.#composer.focus(),
      escape: () => this.#escape(),
    };
  }

  /** Opens one of the dialogs, which are not part of the first paint. */
  #dialog(open) {
    import('./dialogs.js').then(open, () => this.#log.say('This part of the page could not be loaded. If meshbox was updated meanwhile, reload the page.'));
  }

  #go(topic) {
    location.hash = route(topic);
  }

  /** Goes where the address leads. */
  #follow({ isFirst = false } = {}) {
    const place = readRoute(location.hash) ?? { topic: GENERAL, id: '' };
    this.#closeSheet();
    const isHere = this.#session.room.topic === place.topic;
    this.#session.open(place.topic);
    if (place.id) this.#log.show(place.id);
    else if (isHere && !isFirst) this.#log.follow();
  }

  #escape() {
    if (this.#closeSheet() || this.#search.close() || this.#composer.cancel()) return;
    this.#composer.focus();
  }

  #render() {
    const { identity, topics, room } = this.#session;
    const topic = topics.find(room.topic);
    byId('mesh-name').textContent = identity.meshSlug;
    byId('topic-button').textContent = `#${room.topic}`;
    byId('topic-description').textContent = topic?.description ?? '';
    byId('privacy').replaceChildren(...privacyBadge(topic));
    byId('privacy').hidden = !topic;
    this.#announcer.lookAt(topics.reading);
    const runs = identity.role === 'owner' || identity.role === 'admin';
    for (const id of ['invite-button', 'manage-button', 'beginning-invite']) byId(id).hidden = !runs;
    const { unread, mentions } = topics.countsExcept('');
    document.title = `${unread ? `(${mentions ? '@' : ''}${badgeCount(unread)}) ` : ''}#${room.topic} · ${identity.meshSlug}`;
  }

  /** On a phone the side bar is a sheet: out of the way of keys and readers until it is opened. */
  #wireSheet() {
    const narrow = matchMedia('(max-width: 720px)');
    byId('sidebar-button').onclick = () => {
      this.#showSheet(true);
      byId('sidebar-close').focus();
    };
    byId('sidebar-close').onclick = byId('backdrop').onclick = () => this.#closeSheet();
    narrow.onchange = () => this.#showSheet(false);
    this.#showSheet(false);
  }

  #showSheet(open) {
    byId('room').classList.toggle('sheet-open', open);
    byId('sidebar').inert = matchMedia('(max-width: 720px)').matches && !open;
    byId('backdrop').hidden = !open;
    byId('sidebar-button').setAttribute('aria-expanded', open);
  }

  /** @returns {boolean} whether it was open */
  #closeSheet() {
    if (!byId('room').classList.contains('sheet-open')) return false;
    this.#showSheet(false);
    byId('sidebar-button').focus();
    return true;
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

/** Who can read a topic. Never a promise for what is written here: that goes out as it is, whatever others do. */
function privacyBadge(topic) {
  if (topic?.keyed) return [icon(ICONS.locked), h('span', {}, 'End-to-end encrypted')];
  return [icon(ICONS.readable), h('span', {}, topic?.encrypted ? 'Partly encrypted' : 'Readable by the meshbox')];
}

/** Runs something when the page is done with what is more urgent. */
function whenIdle(task) {
  if ('requestIdleCallback' in window) requestIdleCallback(task, { timeout: 5_000 });
  else setTimeout(task, 2_000);
}
