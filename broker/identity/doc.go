// Package identity says who may speak: the keys of members and sessions, the exact bytes they sign,
// and whether a signature over them counts (wire protocol §2, §3 and §8).
//
// It promises:
//
//   - Signatures verify as in libsodium's crypto_sign_verify_detached. Nobody but the signer can make a
//     second signature out of a valid one, so a signature is a safe name for the hello that carried it
//     (see [ReplayGuard]).
//   - Canonical strings equal, byte for byte, what claudemesh clients build with JavaScript template
//     literals, and are unambiguous: no field that passes verification contains a delimiter.
//   - A check either returns nil or an [*Error] whose code is the protocol's. Checks run in the order of
//     the protocol's tables, and what they say is about the caller's own frame, never about a mesh.
//   - Nothing here reads a clock, a file or a socket: times are arguments. Secrets come from
//     crypto/rand, and a [Key] and a [TopicKey] do not print their secrets.
//
// Public keys are 64 and signatures 128 lowercase hex characters. Times are Unix milliseconds in
// float64, as JSON carries them, except in invites, which count whole seconds.
package identity
