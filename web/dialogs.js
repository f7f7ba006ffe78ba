/** The dialogs of the room, which come to the page after its first paint. */

export { showHelp } from './help.js';
export { invite, manage } from './manage.js';
export { settings } from './settings.js';
export { openSwitcher } from './switcher.js';
export { aboutTopic, newTopic } from './topicdialogs.js';
