package identity

import (
	"crypto/ed25519"
	"encoding/hex"
)

// Verify reports whether sig (64 bytes) is pub's (32 bytes) Ed25519 signature over message. Other
// lengths verify as false.
//
// It behaves as libsodium's crypto_sign_verify_detached (§2; held against version 1.0.22):
//
//   - S ≥ L is refused, by crypto/ed25519: else every signature has a twin that a replay guard does
//     not know.
//   - A public key that is not the canonical encoding of its point is refused: else one key has
//     several names.
//   - A public key of small order is refused: under the identity point, say, R = S·B is a signature
//     over any message, so whoever claims that key need not know a secret.
//   - An R that is not canonical or has small order is refused.
//   - The equation must hold as it stands, not only multiplied by the cofactor.
//
// Rejected: decoding A and R with edwards25519 and asking p.Bytes() == enc and
// MultByCofactor(p) != identity. It says the same (the tests hold this function against exactly
// that), but decodes two more points, at 20 % to 40 % more time (BenchmarkVerify). Only eight
// points have small order, with five y-coordinates between them, so comparing bytes decides it too.
func Verify(pub, message, sig []byte) bool {
	if len(pub) != ed25519.PublicKeySize || len(sig) != ed25519.SignatureSize {
		return false
	}
	// crypto/ed25519 re-encodes the R it expects and compares bytes, which already refuses an R that
	// is not canonical; that is how it is written, not what it promises, so ask anyway.
	return isStrictPoint(pub) && isStrictPoint(sig[:32]) && ed25519.Verify(pub, message, sig)
}

// VerifyHex is Verify for the wire's hex strings. It is false when pubHex is not 64 or sigHex not 128
// lowercase hex characters.
func VerifyHex(pubHex, canonical, sigHex string) bool {
	if !IsPublicKey(pubHex) || !IsSignature(sigHex) {
		return false
	}
	var pub [ed25519.PublicKeySize]byte
	var sig [ed25519.SignatureSize]byte
	hex.Decode(pub[:], []byte(pubHex)) // cannot fail: the shapes were checked
	hex.Decode(sig[:], []byte(sigHex))
	return Verify(pub[:], []byte(canonical), sig[:])
}

// isStrictPoint reports whether enc (32 bytes), provided it encodes a point at all, does so canonically
// and the point's order is not small. Branches on data are fine: keys and signatures are public.
func isStrictPoint(enc []byte) bool {
	y := [32]byte(enc)
	y[31] &= 0x7f // the top bit is the sign of x
	return isReduced(&y) && !isSmallOrderY(&y)
}

// isReduced reports whether y, little-endian, is below p = 2^255 - 19. The other encodings that are
// not canonical, x = 0 with the sign bit set, have y = ±1 and thus a small order.
func isReduced(y *[32]byte) bool {
	if y[31] != 0x7f || y[0] < 0xed {
		return true
	}
	for _, b := range y[1:31] {
		if b != 0xff {
			return true
		}
	}
	return false
}

// smallOrderY holds the y-coordinates, little-endian, of the points whose order divides 8. A test
// derives them from the curve.
var smallOrderY = [...][32]byte{
	{},     // order 4
	{0: 1}, // the identity
	unhex32("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"), // -1, order 2
	unhex32("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), // order 8
	unhex32("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), // order 8, its negative
}

func isSmallOrderY(y *[32]byte) bool {
	for i := range smallOrderY {
		if *y == smallOrderY[i] {
			return true
		}
	}
	return false
}

func unhex32(s string) (out [32]byte) {
	if n, err := hex.Decode(out[:], []byte(s)); err != nil || n != len(out) {
		panic("identity: not 32 bytes of hex: " + s)
	}
	return out
}
