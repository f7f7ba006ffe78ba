/** A topic as a file: its whole history as Markdown, or as one JSON object per line. */

import { fromWire } from './message.js';

const PAGE = 200; // messages per request; the broker's most

const FORMATS = {
  markdown: { extension: 'md', type: 'text/markdown', head: (topic) => `# #${topic}\n`, entry: asMarkdown },
  jsonl: { extension: 'jsonl', type: 'application/jsonl', head: () => '', entry: asJson },
};

/**
 * Fetches the whole history of a topic and hands it to the browser as a download.
 * @param {import('./session.js').Session} session
 * @param {string} topic name
 * @param {'markdown'|'jsonl'} format
 * @param {(count: number) => void} onProgress how many messages there are so far
 * @returns {Promise<number>} how many messages it has
 * @throws {import('./socket.js').RequestError} when the connection breaks on the way
 */
export async function exportTopic({ request, identity }, topic, format, onProgress) {
  const { extension, type, head, entry } = FORMATS[format];
  const pages = [];
  let count = 0;
  for (let beforeId; ;) {
    const { messages } = await request('topic_history', { topic, limit: PAGE, beforeId });
    pages.push(messages.reverse());
    count += messages.length;
    onProgress(count);
    if (messages.length < PAGE) break;
    beforeId = messages[0].id;
  }
  const all = pages.reverse().flat();
  const authors = new Map(all.map(({ id, senderName }) => [id, senderName]));
  const text = head(topic) + all.map((message) => entry(message, fromWire(message, identity), authors)).join('');
  download(`${identity.meshSlug}-${topic}.${extension}`, new Blob([text], { type }));
  return count;
}

/** A text is quoted: nothing that somebody writes can pass for a message of somebody else. */
function asMarkdown({ replyToId }, { author, text, note, at }, authors) {
  const reply = replyToId ? ` in reply to ${authors.has(replyToId) ? escaped(authors.get(replyToId)) : 'an earlier message'}` : '';
  const body = note === 'sealed' ? '*This message is encrypted.*' : text;
  return `\n**${escaped(author.name)}**, ${new Date(at).toISOString()}${reply}\n\n${body.replace(/^/gm, '> ').replace(/ +$/gm, '')}\n`;
}

const escaped = (name) => name.replace(/[\\`*_[\]<>&]/g, '\\$&');

/** What the broker has, and the text instead of its base64, if it is one. */
function asJson({ nonce, ciphertext, ...entry }, { text, note }) {
  const body = note === 'sealed' ? { nonce, ciphertext } : { text };
  return `${JSON.stringify({ ...entry, ...body })}\n`;
}

function download(name, blob) {
  const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
