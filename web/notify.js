/** Desktop notifications and a sound for mentions, both only if one asked for them. */

import { recall, remember } from './local.js';
import { plain } from './markdown.js';
import { route } from './route.js';

const ICON = new URL('icon.svg', import.meta.url).href;
const LENGTH = 200; // characters of a message in a notification

/** @param {'notify'|'sound'} what @returns {boolean} whether one asked for it */
export const isOn = (what) => recall(what) === 'on' && (what === 'sound' || Notification.permission === 'granted');

/**
 * @param {'notify'|'sound'} what
 * @param {boolean} on
 * @returns {Promise<boolean>} whether it is on now: the browser may refuse
 */
export async function turn(what, on) {
  if (what === 'notify' && on && await Notification.requestPermission() !== 'granted') on = false;
  remember(what, on ? 'on' : '');
  if (what === 'sound' && on) beep(); // what one will hear, and leave for the browser to make sounds later
  return on;
}

/** @param {import('./session.js').Session} session */
export function announceMentions(session) {
  session.addEventListener('mention', ({ detail: { topic, message } }) => {
    const isLooking = document.visibilityState === 'visible' && document.hasFocus() && session.room.topic === topic && session.room.atLatest;
    if (isLooking) return;
    if (isOn('sound')) beep();
    if (isOn('notify')) show(topic, message);
  });
}

function show(topic, { id, author, text }) {
  const notification = new Notification(`${author.name} in #${topic}`, { body: plain(text, LENGTH), tag: id, icon: ICON });
  notification.onclick = () => {
    window.focus();
    location.hash = route(topic, id);
    notification.close();
  };
}

let context = null;

/** Two soft tones, made here: a sound file would weigh more than all of this page's scripts. */
function beep() {
  context ??= new AudioContext();
  const volume = context.createGain();
  volume.connect(context.destination);
  volume.gain.setValueAtTime(0.08, context.currentTime);
  volume.gain.exponentialRampToValueAtTime(0.0001, context.currentTime + 0.35);
  for (const [frequency, at] of [[660, 0], [880, 0.12]]) {
    const tone = context.createOscillator();
    tone.frequency.value = frequency;
    tone.connect(volume);
    tone.start(context.currentTime + at);
    tone.stop(context.currentTime + 0.35);
  }
}
