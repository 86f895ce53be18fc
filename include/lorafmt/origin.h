/* SPDX-License-Identifier: MIT */
/**
 * Who made an adapter: Ed25519 keys (RFC 8032) in PEM files (RFC 8410), and signatures of adapter ids (spec 4.10, 6.1). What is
 * signed is what an adapter does, so that re-packing it breaks no signature and changing a bit of it breaks all.
 * docs/signing.md says against whom this helps. Hogweed computes with GMP, which ends the process when a few kilobytes of memory are not
 * to be had.
 */
#ifndef LORAFMT_ORIGIN_H
#define LORAFMT_ORIGIN_H

#include "lorafmt/adapter.h"
#include "lorafmt/error.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lorafmt_public_key {
    uint8_t bytes[32];
} lorafmt_public_key;

enum { LORAFMT_SIGNATURE_SIZE = 64 }; /**< bytes of lorafmt_signature.signature */

/** A private key in memory; wiped when freed. */
typedef struct lorafmt_private_key lorafmt_private_key;

/**
 * Read a public key: a PEM file `PUBLIC KEY`, as `openssl pkey -pubout` writes it.
 *
 * @return LORAFMT_OK; NOT_LORAFMT (not such a file); UNSUPPORTED (another algorithm, a certificate); CORRUPT; UNTRUSTED (a point of
 *         small order: anybody can sign for it); NOT_FOUND, IO. On failure *out is zero, for which nothing is genuine.
 */
LORAFMT_API lorafmt_status lorafmt_public_key_load(const char *path, lorafmt_public_key *out, lorafmt_error *err);

/** SHA-256 of its 32 bytes: what people compare and write down. */
LORAFMT_API void lorafmt_public_key_fingerprint(const lorafmt_public_key *key, uint8_t out[32]);

/**
 * Read a private key: a PEM file `PRIVATE KEY`, as `openssl genpkey -algorithm ed25519` writes it; a regular file of the user's that
 * nobody else has any permission for.
 *
 * @param out  to be freed with lorafmt_private_key_free(); NULL on failure
 * @return as lorafmt_public_key_load(), with UNTRUSTED for owner and permissions; UNSUPPORTED (encrypted); NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_private_key_load(const char *path, lorafmt_private_key **out, lorafmt_error *err);
LORAFMT_API void lorafmt_private_key_free(lorafmt_private_key *key);

/** The public key that belongs to it; lives as long. */
LORAFMT_API const lorafmt_public_key *lorafmt_private_key_public(const lorafmt_private_key *key);

/**
 * Make a pair of keys from random bytes of the system. The private file has mode 0600 from its first byte on. Both files are
 * written, or none; one may be there when syncing its directory fails, which the text says.
 *
 * @param out  the public key; zero on failure
 * @return LORAFMT_OK; NOT_FOUND (a directory); IO (os_error EEXIST when a file is there, which is never replaced); NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_key_generate(const char *private_path, const char *public_path, lorafmt_public_key *out,
                                                lorafmt_error *err);

/** Sign an adapter by its id, which lorafmt_adapter_id() has. The same key and id give the same signature. */
LORAFMT_API void lorafmt_sign(const lorafmt_private_key *key, const uint8_t id[32], lorafmt_signature *out);

/**
 * Did the holder of signature->public_key sign that id? Whether to trust that key is for the caller to know. An algorithm of a newer
 * format proves nothing.
 */
LORAFMT_API bool lorafmt_signature_is_genuine(const lorafmt_signature *signature, const uint8_t id[32]);

/**
 * A signature in a file of its own: its 64 bytes, as `openssl pkeyutl -sign -rawin` writes them.
 *
 * @return LORAFMT_OK; NOT_LORAFMT (another size); NOT_FOUND, IO (saving without force: os_error EEXIST), NO_MEMORY
 */
LORAFMT_API lorafmt_status lorafmt_signature_load(const char *path, uint8_t out[LORAFMT_SIGNATURE_SIZE], lorafmt_error *err);
LORAFMT_API lorafmt_status lorafmt_signature_save(const lorafmt_signature *signature, const char *path, bool force,
                                                  lorafmt_error *err);

/**
 * Whose adapters are opened, for lorafmt_source_options.policy: every adapter that is read must have a genuine signature by one of
 * the keys. Its id is computed from its bytes, which are read into memory, so that nobody can change them after that.
 */
typedef struct lorafmt_policy {
    size_t struct_size; /**< sizeof(lorafmt_policy) */
    size_t n_keys;      /**< at least 1 */
    const lorafmt_public_key *keys;
    const uint8_t *signature; /**< LORAFMT_SIGNATURE_SIZE bytes, detached, that count as if they were in the file; NULL = none */
} lorafmt_policy;

/**
 * Which of the keys signed an adapter, in the file or detached?
 *
 * @param policy  as opening had it, or another
 * @param out     place among policy->keys of the first that did; SIZE_MAX on failure
 *
 * @return LORAFMT_OK; UNTRUSTED, with what was found instead; MISUSE
 */
LORAFMT_API lorafmt_status lorafmt_policy_check(const lorafmt_policy *policy, const lorafmt_adapter *adapter, size_t *out,
                                                lorafmt_error *err);

#ifdef __cplusplus
}
#endif

#endif
