/* SPDX-License-Identifier: MIT */
/* Ed25519 (RFC 8032) over the adapter id: spec 4.10. */
#include "lib/origin/origin.h"

#include "format/base/digest.h"
#include "format/base/error.h"
#include "lib/io/io.h"

#include <inttypes.h>
#include <nettle/eddsa.h>
#include <string.h>
#include <unistd.h>

/* --- keys that are none --- */

/* The y of the eight points whose order divides eight, little-endian as RFC 8032 writes them; the highest bit is the sign of x. */
static const uint8_t small_order[][LF_KEY_SIZE] = {
    {0},
    {1},
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
     0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
     0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
};

bool lf_public_key_is_weak(const uint8_t key[LF_KEY_SIZE])
{
    uint8_t y[LF_KEY_SIZE];

    memcpy(y, key, sizeof y);
    y[LF_KEY_SIZE - 1] &= 0x7f;
    for (size_t i = 0; i < sizeof small_order / sizeof small_order[0]; i++)
        if (memcmp(y, small_order[i], sizeof y) == 0)
            return true;
    return false;
}

/* --- signatures --- */

static const char domain[] = "lora adapter sig v1"; // its NUL is signed too

#define MESSAGE_SIZE (sizeof domain + LF_SHA256_SIZE)

static void make_message(const uint8_t id[LF_SHA256_SIZE], uint8_t out[MESSAGE_SIZE])
{
    memcpy(out, domain, sizeof domain);
    memcpy(out + sizeof domain, id, LF_SHA256_SIZE);
}

void lorafmt_sign(const lorafmt_private_key *key, const uint8_t id[32], lorafmt_signature *out)
{
    uint8_t message[MESSAGE_SIZE];

    make_message(id, message);
    memset(out, 0, sizeof *out);
    out->algorithm = LORAFMT_SIGNATURE_ED25519;
    memcpy(out->public_key, key->public_key.bytes, sizeof out->public_key);
    ed25519_sha512_sign(out->public_key, key->seed, sizeof message, message, out->signature);
}

bool lorafmt_signature_is_genuine(const lorafmt_signature *signature, const uint8_t id[32])
{
    uint8_t message[MESSAGE_SIZE];

    if (signature->algorithm != LORAFMT_SIGNATURE_ED25519 || lf_public_key_is_weak(signature->public_key))
        return false;
    make_message(id, message);
    return ed25519_sha512_verify(signature->public_key, sizeof message, message, signature->signature) == 1;
}

/* --- detached --- */

static lorafmt_status read_signature(int fd, const char *path, uint64_t size, uint8_t out[LORAFMT_SIGNATURE_SIZE],
                                     lorafmt_error *err)
{
    if (size != LORAFMT_SIGNATURE_SIZE)
        return lf_fail(err, LORAFMT_NOT_LORAFMT, LORAFMT_NO_OFFSET, NULL,
                       "is no detached signature: %" PRIu64 " bytes, must be %d, as Ed25519 makes them", size,
                       LORAFMT_SIGNATURE_SIZE);
    return lf_file_read(fd, path, 0, out, LORAFMT_SIGNATURE_SIZE, err);
}

lorafmt_status lorafmt_signature_load(const char *path, uint8_t out[LORAFMT_SIGNATURE_SIZE], lorafmt_error *err)
{
    lorafmt_status st;
    uint64_t size;
    int fd;

    memset(out, 0, LORAFMT_SIGNATURE_SIZE);
    LF_TRY(lf_file_open(path, &fd, &size, err));
    st = read_signature(fd, path, size, out, err);
    close(fd);
    if (st)
        lf_error_set_file(err, path);
    return st;
}

lorafmt_status lorafmt_signature_save(const lorafmt_signature *signature, const char *path, bool force, lorafmt_error *err)
{
    lf_output *output;
    lorafmt_status st;

    LF_TRY(lf_output_begin_file(path, force, &output, err));
    st = lf_file_write(lf_output_fd(output), path, 0, signature->signature, sizeof signature->signature, err);
    if (!st)
        return lf_output_commit(output, err);
    lf_output_abort(output);
    return st;
}
