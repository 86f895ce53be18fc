/* SPDX-License-Identifier: MIT */
#include "tools/origin.h"

#include "tools/command.h"
#include "tools/message.h"
#include "tools/text.h"

#include <stdlib.h>
#include <string.h>

int key_ring_open(const text_list *keys, const char *signature, key_ring *out)
{
    lorafmt_error err;

    memset(out, 0, sizeof *out);
    if (keys->n && !(out->keys = calloc(keys->n, sizeof *out->keys)))
        return message_no_memory();
    for (size_t i = 0; i < keys->n; i++)
        if (lorafmt_public_key_load(keys->items[i], &out->keys[i], &err))
            return message_failure(&err, keys->items[i]);
    if (signature && lorafmt_signature_load(signature, out->signature, &err))
        return message_failure(&err, signature);
    out->paths = keys->items;
    out->policy = (lorafmt_policy){.struct_size = sizeof out->policy,
                                   .n_keys = keys->n,
                                   .keys = out->keys,
                                   .signature = signature ? out->signature : NULL};
    return EXIT_DONE;
}

void key_ring_close(key_ring *ring)
{
    free(ring->keys);
    memset(ring, 0, sizeof *ring);
}

size_t key_ring_signer(const key_ring *ring, const lorafmt_adapter *adapter)
{
    size_t signer;

    lorafmt_policy_check(&ring->policy, adapter, &signer, NULL);
    return signer;
}

const char *fingerprint_text(const lorafmt_public_key *key, char buf[])
{
    uint8_t fingerprint[32];

    lorafmt_public_key_fingerprint(key, fingerprint);
    return digest_text(fingerprint, buf);
}

void json_fingerprint(json_out *j, const lorafmt_public_key *key)
{
    char text[DIGEST_TEXT_SIZE];

    json_text(j, "fingerprint", fingerprint_text(key, text));
}
