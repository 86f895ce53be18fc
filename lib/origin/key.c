/* SPDX-License-Identifier: MIT */
/* Key files. What is private is wiped from memory as soon as it is not needed, and is never in a message. */
#include "format/base/digest.h"
#include "format/base/error.h"
#include "lib/io/io.h"
#include "lib/origin/origin.h"

#include <errno.h>
#include <inttypes.h>
#include <nettle/eddsa.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- reading --- */

/* Who else could read a private key could sign with it. */
static lorafmt_status check_private(int fd, const char *path, lorafmt_error *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return lf_fail_os(err, errno, path, "cannot look at the file");
    if (st.st_uid != geteuid())
        return lf_fail(err, LORAFMT_UNTRUSTED, LORAFMT_NO_OFFSET, NULL,
                       "a private key of user %" PRIuMAX ", must be your own: user %" PRIuMAX, (uintmax_t)st.st_uid,
                       (uintmax_t)geteuid());
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        return lf_fail(err, LORAFMT_UNTRUSTED, LORAFMT_NO_OFFSET, NULL,
                       "a private key that others may use (mode %04o), must be yours alone: chmod 600 '%.400s'",
                       (unsigned)(st.st_mode & 07777), path);
    return LORAFMT_OK;
}

static lorafmt_status read_key(const char *path, lf_key_kind kind, uint8_t out[LF_KEY_SIZE], lorafmt_error *err)
{
    char text[LF_KEY_MAX_TEXT];
    lorafmt_status st;
    uint64_t size;
    int fd;

    LF_TRY(lf_file_open(path, &fd, &size, err));
    if (size > sizeof text)
        size = sizeof text;
    st = kind == LF_KEY_PRIVATE ? check_private(fd, path, err) : LORAFMT_OK;
    if (!st)
        st = lf_file_read(fd, path, 0, text, (size_t)size, err);
    if (!st)
        st = lf_key_parse(text, (size_t)size, kind, out, err);
    explicit_bzero(text, sizeof text);
    close(fd);
    if (st)
        lf_error_set_file(err, path);
    return st;
}

lorafmt_status lorafmt_public_key_load(const char *path, lorafmt_public_key *out, lorafmt_error *err)
{
    lorafmt_public_key key;

    memset(out, 0, sizeof *out);
    LF_TRY(read_key(path, LF_KEY_PUBLIC, key.bytes, err));
    if (lf_public_key_is_weak(key.bytes)) {
        lf_fail(err, LORAFMT_UNTRUSTED, LORAFMT_NO_OFFSET, NULL, "holds a point of small order, for which anybody can sign");
        lf_error_set_file(err, path);
        return LORAFMT_UNTRUSTED;
    }
    *out = key;
    return LORAFMT_OK;
}

lorafmt_status lorafmt_private_key_load(const char *path, lorafmt_private_key **out, lorafmt_error *err)
{
    lorafmt_private_key *key = calloc(1, sizeof *key);
    lorafmt_status st = key ? read_key(path, LF_KEY_PRIVATE, key->seed, err) : lf_no_memory(err);

    *out = NULL;
    if (st) {
        lorafmt_private_key_free(key);
        return st;
    }
    ed25519_sha512_public_key(key->public_key.bytes, key->seed);
    *out = key;
    return LORAFMT_OK;
}

void lorafmt_private_key_free(lorafmt_private_key *key)
{
    if (key)
        explicit_bzero(key, sizeof *key);
    free(key);
}

const lorafmt_public_key *lorafmt_private_key_public(const lorafmt_private_key *key)
{
    return &key->public_key;
}

void lorafmt_public_key_fingerprint(const lorafmt_public_key *key, uint8_t out[32])
{
    lf_sha256_of(key->bytes, sizeof key->bytes, out);
}

/* --- making --- */

static lorafmt_status make_seed(uint8_t seed[LF_KEY_SIZE], lorafmt_error *err)
{
    ssize_t n;

    do
        n = getrandom(seed, LF_KEY_SIZE, 0);
    while (n < 0 && errno == EINTR);
    return n == LF_KEY_SIZE ? LORAFMT_OK : lf_fail_os(err, n < 0 ? errno : EIO, NULL, "asking the system for random bytes");
}

static lorafmt_status write_key(lf_output *output, lf_key_kind kind, const uint8_t key[LF_KEY_SIZE], lorafmt_error *err)
{
    char text[LF_KEY_MAX_TEXT];
    const size_t n = lf_key_print(kind, key, text);
    const lorafmt_status st = lf_file_write(lf_output_fd(output), lf_output_path(output), 0, text, n, err);

    explicit_bzero(text, sizeof text);
    return st;
}

/* Both, or neither. */
static lorafmt_status commit_pair(lf_output *private_output, lf_output *public_output, const char *private_path,
                                  lorafmt_error *err)
{
    lorafmt_status st = lf_output_commit(private_output, err);

    if (st) {
        lf_output_abort(public_output);
        return st;
    }
    st = lf_output_commit(public_output, err);
    if (st)
        unlink(private_path);
    return st;
}

static lorafmt_status write_pair(const char *private_path, const char *public_path, const uint8_t seed[LF_KEY_SIZE],
                                 const lorafmt_public_key *public_key, lorafmt_error *err)
{
    lf_output *private_output = NULL, *public_output = NULL;
    lorafmt_status st = lf_output_begin_private_file(private_path, &private_output, err);

    if (!st)
        st = lf_output_begin_file(public_path, false, &public_output, err);
    if (!st)
        st = write_key(private_output, LF_KEY_PRIVATE, seed, err);
    if (!st)
        st = write_key(public_output, LF_KEY_PUBLIC, public_key->bytes, err);
    if (!st)
        return commit_pair(private_output, public_output, private_path, err);
    lf_output_abort(private_output);
    lf_output_abort(public_output);
    return st;
}

lorafmt_status lorafmt_key_generate(const char *private_path, const char *public_path, lorafmt_public_key *out,
                                    lorafmt_error *err)
{
    lorafmt_public_key public_key;
    uint8_t seed[LF_KEY_SIZE];
    lorafmt_status st;

    memset(out, 0, sizeof *out);
    LF_TRY(make_seed(seed, err));
    ed25519_sha512_public_key(public_key.bytes, seed);
    st = write_pair(private_path, public_path, seed, &public_key, err);
    explicit_bzero(seed, sizeof seed);
    if (!st)
        *out = public_key;
    return st;
}
