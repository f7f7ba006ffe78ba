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
    pages.push(messages.map((message) => entry(message, fromWire(message, identity))).reverse());
    count += messages.length;
    onProgress(count);
    if (messages.length < PAGE) break;
    beforeId = messages.at(-1).id;
  }
  const text = head(topic) + pages.reverse().flat().join('');
  download(`${identity.meshSlug}-${topic}.${extension}`, new Blob([text], { type }));
  return count;
}

function asMarkdown(entry, { author, text, note, at }) {
  const reply = entry.replyToId ? ' (a reply)' : '';
  const body = note === 'sealed' ? '*This message is encrypted.*' : text;
  return `\n**${author.name.replace(/[\\`*_[\]<>]/g, '\\$&')}**, ${new Date(at).toISOString()}${reply}\n\n${body}\n`;
}

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
