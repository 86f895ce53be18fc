/* SPDX-License-Identifier: MIT */
#include "lib/front/policy.h"

#include "format/base/digest.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lorafmt/limits.h"

#include <inttypes.h>
#include <string.h>

bool lf_policy_in_memory(const lorafmt_source_options *options)
{
    return options && (options->in_memory || options->policy || options->paranoid);
}

static lorafmt_status check_policy(const lorafmt_policy *policy, lorafmt_error *err)
{
    LF_TRY(lf_check_struct_size(policy->struct_size, sizeof *policy, err));
    return policy->n_keys && policy->keys
               ? LORAFMT_OK
               : lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "n_keys", "0 keys, must be at least 1");
}

lorafmt_status lf_policy_check_options(const lorafmt_source_options *options, lorafmt_error *err)
{
    if (options->defer_digests && (options->policy || options->paranoid))
        return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "defer_digests",
                       "with %s all data is checked; leave one of both out", options->policy ? "a policy" : "paranoid");
    LF_TRY(lorafmt_limits_check(options->limits, err));
    return options->policy ? check_policy(options->policy, err) : LORAFMT_OK;
}

/* Is it by that key, in the file or detached? */
static bool is_signed_by(const lorafmt_policy *policy, const lorafmt_public_key *key, const lorafmt_adapter *adapter,
                         const uint8_t id[32])
{
    lorafmt_signature detached = {.algorithm = LORAFMT_SIGNATURE_ED25519};

    for (size_t i = 0; i < adapter->n_signatures; i++)
        if (memcmp(adapter->signatures[i].public_key, key->bytes, sizeof key->bytes) == 0 &&
            lorafmt_signature_is_genuine(&adapter->signatures[i], id))
            return true;
    if (!policy->signature)
        return false;
    memcpy(detached.public_key, key->bytes, sizeof detached.public_key);
    memcpy(detached.signature, policy->signature, sizeof detached.signature);
    return lorafmt_signature_is_genuine(&detached, id);
}

/* For the message alone, so that a file of a million signatures is not looked through. */
#define MOST_STRANGERS 16

static const lorafmt_signature *find_genuine(const lorafmt_adapter *adapter, const uint8_t id[32])
{
    for (size_t i = 0; i < adapter->n_signatures && i < MOST_STRANGERS; i++)
        if (lorafmt_signature_is_genuine(&adapter->signatures[i], id))
            return &adapter->signatures[i];
    return NULL;
}

static lorafmt_status fail_stranger(const lorafmt_adapter *adapter, const lorafmt_signature *signature, const char *keys,
                                    lorafmt_error *err)
{
    uint8_t fingerprint[LF_SHA256_SIZE];
    char hex[LF_HEX_SIZE];

    lf_sha256_of(signature->public_key, sizeof signature->public_key, fingerprint);
    return lf_fail(err, LORAFMT_UNTRUSTED, LORAFMT_NO_OFFSET, adapter->name, "is signed by key %s, must be by %s",
                   lf_hex(fingerprint, hex), keys);
}

static lorafmt_status fail_unsigned(const lorafmt_policy *policy, const lorafmt_adapter *adapter, const uint8_t id[32],
                                    lorafmt_error *err)
{
    const char *keys = policy->n_keys == 1 ? "the key that is trusted" : "a key that is trusted";
    const lorafmt_signature *genuine = find_genuine(adapter, id);
    const size_t n = adapter->n_signatures + (policy->signature != NULL);

    if (genuine)
        return fail_stranger(adapter, genuine, keys, err);
    return lf_fail(err, LORAFMT_UNTRUSTED, LORAFMT_NO_OFFSET, adapter->name,
                   n ? "no signature of %s is genuine: the key is another, or the adapter is" : "is not signed, must be by %s",
                   keys);
}

lorafmt_status lorafmt_policy_check(const lorafmt_policy *policy, const lorafmt_adapter *adapter, size_t *out, lorafmt_error *err)
{
    uint8_t id[32];

    *out = SIZE_MAX;
    LF_TRY(check_policy(policy, err));
    lorafmt_adapter_id(adapter, id);
    for (size_t i = 0; i < policy->n_keys; i++)
        if (is_signed_by(policy, &policy->keys[i], adapter, id)) {
            *out = i;
            return LORAFMT_OK;
        }
    return fail_unsigned(policy, adapter, id, err);
}

static lorafmt_status check_all(const lorafmt_source *source, lorafmt_error *err)
{
    lorafmt_verify_result result;

    LF_TRY(lorafmt_verify(source, &result, err));
    return result.n_nonfinite ? lf_fail(err, LORAFMT_UNSUPPORTED, LORAFMT_NO_OFFSET, NULL,
                                        "%" PRIu64 " elements are NaN or infinite, none may be", result.n_nonfinite)
                              : LORAFMT_OK;
}

static lorafmt_status check_signed(const lorafmt_policy *policy, const lorafmt_source *source, lorafmt_error *err)
{
    size_t key;

    if (source->container && lf_container_is_recovered(source->container))
        return lf_fail(err, LORAFMT_UNTRUSTED, LORAFMT_NO_OFFSET, "root_slot",
                       "recovered: a root slot is damaged, so that it may be an older state of the file; must be whole");
    for (size_t i = 0; i < source->n_adapters; i++)
        LF_TRY(lorafmt_policy_check(policy, &source->adapters[i], &key, err));
    return LORAFMT_OK;
}

lorafmt_status lf_policy_check_source(const lorafmt_source_options *options, const lorafmt_source *source, lorafmt_error *err)
{
    if (options->paranoid)
        LF_TRY(check_all(source, err));
    return options->policy ? check_signed(options->policy, source, err) : LORAFMT_OK;
}
