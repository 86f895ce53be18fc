/* SPDX-License-Identifier: MIT */
/*
 * Who made an adapter: Ed25519 keys, and signatures of adapter ids. This room does not know what an adapter is, and keeps no
 * private key longer than it is asked to.
 *
 *   pem.c        the text of a key file   key.c  key files   signature.c  signing and checking, detached signatures
 */
#ifndef LF_ORIGIN_H
#define LF_ORIGIN_H

#include "lorafmt/origin.h"

#define LF_KEY_SIZE 32

struct lorafmt_private_key {
    uint8_t seed[LF_KEY_SIZE]; /* what RFC 8032 calls the private key */
    lorafmt_public_key public_key;
};

typedef enum lf_key_kind { LF_KEY_PUBLIC, LF_KEY_PRIVATE } lf_key_kind;

/* No Ed25519 key file is longer; of a longer one this much says what it is instead. */
#define LF_KEY_MAX_TEXT 256

/*
 * A key file: PEM (RFC 7468) of one SubjectPublicKeyInfo or PKCS#8 PrivateKeyInfo of Ed25519 (RFC 8410), and nothing else.
 *
 * NOT_LORAFMT (no PEM, another kind of key); UNSUPPORTED (encrypted, another algorithm, a certificate); CORRUPT
 */
lorafmt_status lf_key_parse(const char *text, size_t size, lf_key_kind kind, uint8_t out[LF_KEY_SIZE], lorafmt_error *err);

/* The same the other way; returns the length. The text is not ended by a NUL. */
size_t lf_key_print(lf_key_kind kind, const uint8_t key[LF_KEY_SIZE], char out[LF_KEY_MAX_TEXT]);

/* Is it a point of small order, for which anybody can sign? Hogweed refuses other encodings of points, but not these. */
bool lf_public_key_is_weak(const uint8_t key[LF_KEY_SIZE]);

#endif
