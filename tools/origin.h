/* SPDX-License-Identifier: MIT */
/* Keys and signatures as commands name them: whom to trust, and who signed what. */
#ifndef TOOLS_ORIGIN_H
#define TOOLS_ORIGIN_H

#include "tools/json_out.h"
#include "tools/option.h"

#include "lorafmt/origin.h"

/* The public keys of a command line, and the detached signature that goes with them. */
typedef struct key_ring {
    lorafmt_policy policy; /* without keys when none was given */
    lorafmt_public_key *keys;
    const char *const *paths; /* of the keys; borrowed */
    uint8_t signature[LORAFMT_SIGNATURE_SIZE];
} key_ring;

/* signature may be NULL. To be closed in any case; returns an exit code, having said why it is not 0. */
int key_ring_open(const text_list *keys, const char *signature, key_ring *out);
void key_ring_close(key_ring *ring);

/* Which key signed an adapter of an input that was opened under this policy: its place. */
size_t key_ring_signer(const key_ring *ring, const lorafmt_adapter *adapter);

/* "fingerprint" */
void json_fingerprint(json_out *j, const lorafmt_public_key *key);
const char *fingerprint_text(const lorafmt_public_key *key, char buf[]); /* DIGEST_TEXT_SIZE; returns buf */

#endif
