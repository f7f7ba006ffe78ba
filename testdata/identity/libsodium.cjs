// Asks libsodium what it says to the vectors beside this file, and JavaScript how it writes what is
// signed. Prints the answers as JSON, by file and by name of the case.
//
//   go test ./broker/identity -run TestVectorFiles -update                          # writes the cases
//   (in any folder) npm i libsodium-wrappers && node <this file> > answers.json     # answers them
//   go test ./broker/identity -run TestVectorFiles -update -libsodium answers.json  # files the answers
"use strict";
const fs = require("fs");
const path = require("path");
const { createRequire } = require("module");
const sodium = createRequire(path.join(process.cwd(), "x"))("libsodium-wrappers");

const read = (file) => JSON.parse(fs.readFileSync(path.join(__dirname, file), "utf8"));
const unhex = (s) => new Uint8Array(Buffer.from(s, "hex"));
const hex = (bytes) => Buffer.from(bytes).toString("hex");
const base64 = (bytes) => Buffer.from(bytes).toString("base64");
const unbase64 = (s) => new Uint8Array(Buffer.from(s, "base64"));
const pairOf = (seed) => sodium.crypto_sign_seed_keypair(unhex(seed));
const tryTo = (f) => { try { return f(); } catch { return null; } };

// verifies is crypto_sign_verify_detached; the wrapper throws on wrong lengths.
const verifies = (sig, message, pub) => tryTo(() => sodium.crypto_sign_verify_detached(sig, message, pub)) ?? false;
const lowerHex = (s, n) => typeof s === "string" && s.length === n && /^[0-9a-f]*$/.test(s);
const verifiesHex = (sig, text, pub) =>
  lowerHex(sig, 128) && lowerHex(pub, 64) && verifies(unhex(sig), sodium.from_string(text), unhex(pub));

// signed answers for one signed text: how it reads, whether its signature counts, what its signer signs.
const signed = (canonical, pub, signature, seed) => ({
  canonical,
  verifies: verifiesHex(signature, canonical, pub),
  ...(seed && { signature: hex(sodium.crypto_sign_detached(sodium.from_string(canonical), pairOf(seed).privateKey)) }),
});

const helloText = (h) => `${h.meshId}|${h.memberId}|${h.pubkey}|${h.timestamp}`;

const attestationText = (a) => {
  if (a.version !== 2 && !Array.isArray(a.allowed_caps)) {
    return `claudemesh-session-attest|${a.parentMemberPubkey}|${a.sessionPubkey}|${a.expiresAt}`;
  }
  const caps = (a.allowed_caps ?? []).map((c) => c.toLowerCase()).sort().join(",");
  return `claudemesh-session-attest-v2|${a.parentMemberPubkey}|${a.sessionPubkey}|${a.expiresAt}|${caps}`;
};

const sessionHelloText = (h) =>
  `claudemesh-session-hello|${h.meshId}|${h.parentMemberPubkey}|${h.sessionPubkey}|${h.timestamp}`;

const inviteText = (i) =>
  `${i.v}|${i.mesh_id}|${i.mesh_slug}|${i.broker_url}|${i.expires_at}|${i.mesh_root_key}|${i.role}|${i.owner_pubkey}`;

const answers = {}; // file -> name of the case -> answer
const answer = (file, cases, f) => {
  answers[file] ??= {};
  for (const c of cases) {
    const said = f(c);
    if (said !== undefined) answers[file][c.name] = said;
  }
};

function hello(file, { seeds, cases, numbers }) {
  answer(file, cases, ({ hello: h, signer }) =>
    Number.isFinite(h.timestamp) ? signed(helloText(h), h.pubkey, h.signature, seeds[signer]) : undefined);
  answer(file, numbers, ({ value }) => `${value}`);
}

function attestation(file, { seeds, cases }) {
  answer(file, cases, ({ attestation: a, signer }) =>
    Number.isFinite(a.expiresAt) ? signed(attestationText(a), a.parentMemberPubkey, a.signature, seeds[signer]) : undefined);
}

function sessionHello(file, { seeds, cases }) {
  answer(file, cases, ({ hello: h, signer }) =>
    Number.isFinite(h.timestamp) ? signed(sessionHelloText(h), h.sessionPubkey, h.signature, seeds[signer]) : undefined);
}

function invite(file, { seeds, cases }) {
  answer(file, cases, ({ invite: i, signer }) => ({
    ...signed(inviteText(i), i.owner_pubkey, i.signature, seeds[signer]),
    token: Buffer.from(JSON.stringify(i)).toString("base64url"),
  }));
}

function verify(file, { cases }) {
  answer(file, cases, (c) => verifies(unhex(c.signature), unhex(c.message), unhex(c.public)));
}

function box(file, { seeds, keys, peers, boxes, recipients, sealed }) {
  const x = (name) => sodium.crypto_sign_ed25519_sk_to_curve25519(pairOf(seeds[name]).privateKey);
  const xPublic = (pub) => sodium.crypto_sign_ed25519_pk_to_curve25519(pub);
  answer(file, keys, (k) => ({
    public: hex(pairOf(seeds[k.key]).publicKey),
    x25519_public: hex(xPublic(pairOf(seeds[k.key]).publicKey)),
    x25519_secret: hex(x(k.key)),
  }));
  answer(file, peers, (p) => tryTo(() => xPublic(unhex(p.public))) !== null);
  answer(file, boxes, (b) => {
    const to = xPublic(pairOf(seeds[b.recipient]).publicKey);
    const from = xPublic(pairOf(seeds[b.sender]).publicKey);
    const opened = sodium.crypto_box_open_easy(unbase64(b.ciphertext), unbase64(b.nonce), from, x(b.recipient));
    return {
      ciphertext: base64(sodium.crypto_box_easy(unhex(b.plaintext), unbase64(b.nonce), to, x(b.sender))),
      opened: hex(opened),
    };
  });
  answer(file, recipients, (r) => tryTo(() => sodium.crypto_box_seal(new Uint8Array([1]), unhex(r.x25519))) !== null);
  answer(file, sealed, (s) => {
    const to = xPublic(pairOf(seeds[s.recipient]).publicKey);
    return {
      sealed: base64(sodium.crypto_box_seal(unhex(s.message), to)), // differs from run to run
      opened: hex(sodium.crypto_box_seal_open(unbase64(s.sealed), to, x(s.recipient))),
    };
  });
}

function topicKey(file, { seeds, seals, bodies }) {
  const x = (name) => sodium.crypto_sign_ed25519_sk_to_curve25519(pairOf(seeds[name]).privateKey);
  const xPublic = (name) => sodium.crypto_sign_ed25519_pk_to_curve25519(pairOf(seeds[name]).publicKey);
  answer(file, seals, (s) => {
    const copy = unbase64(s.encrypted_key);
    const opened = tryTo(() => sodium.crypto_box_open_easy(copy.subarray(32), unbase64(s.nonce), copy.subarray(0, 32), x(s.recipient)));
    const box = sodium.crypto_box_easy(unhex(s.topic_key), unbase64(s.nonce), xPublic(s.recipient), x(s.sealer));
    return { sealer_key: hex(xPublic(s.sealer)), encrypted_key: base64(Buffer.concat([xPublic(s.sealer), box])), opened: opened && hex(opened) };
  });
  answer(file, bodies, (b) => {
    const opened = tryTo(() => sodium.crypto_secretbox_open_easy(unbase64(b.ciphertext), unbase64(b.nonce), unhex(b.topic_key)));
    return {
      ciphertext: base64(sodium.crypto_secretbox_easy(unhex(b.plaintext), unbase64(b.nonce), unhex(b.topic_key))),
      opened: opened && hex(opened),
    };
  });
}

sodium.ready.then(() => {
  const files = {
    "hello.json": hello, "attestation.json": attestation, "session_hello.json": sessionHello,
    "invite.json": invite, "verify.json": verify, "box.json": box, "topickey.json": topicKey,
  };
  for (const [file, f] of Object.entries(files)) f(file, read(file));
  console.log(JSON.stringify(answers, null, 2));
});
