/* SPDX-License-Identifier: MIT */
/* Keys, signatures, and what a policy lets through. Files that openssl made are in tests/test_sign.py. */
#include "tests/container_files.h"

#include "lib/origin/origin.h"
#include "lorafmt/files.h"
#include "tests/adapters.h"
#include "tests/temporary_directory.h"

#include <errno.h>
#include <fcntl.h>

/* --- key files --- */

#define BEGIN_PUBLIC "-----BEGIN PUBLIC KEY-----\n"
#define END_PUBLIC "-----END PUBLIC KEY-----\n"
#define BEGIN_PRIVATE "-----BEGIN PRIVATE KEY-----\n"
#define END_PRIVATE "-----END PRIVATE KEY-----\n"

/* RFC 8410, 10.1 and 10.3 */
#define RFC_PUBLIC "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
#define RFC_PRIVATE "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"
#define RFC_PRIVATE_2                                                                                                            \
    "MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n"                                                         \
    "oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB\nZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"

static const uint8_t rfc_public[32] = {0x19, 0xbf, 0x44, 0x09, 0x69, 0x84, 0xcd, 0xfe, 0x85, 0x41, 0xba,
                                       0xc1, 0x67, 0xdc, 0x3b, 0x96, 0xc8, 0x50, 0x86, 0xaa, 0x30, 0xb6,
                                       0xb6, 0xcb, 0x0c, 0x5c, 0x38, 0xad, 0x70, 0x31, 0x66, 0xe1};

static const struct {
    lf_key_kind kind;
    lorafmt_status status;
    const char *file, *text;
} key_files[] = {
    {LF_KEY_PUBLIC, LORAFMT_OK, BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC, ""},
    {LF_KEY_PUBLIC, LORAFMT_OK, BEGIN_PUBLIC RFC_PUBLIC "-----END PUBLIC KEY-----", ""},
    {LF_KEY_PRIVATE, LORAFMT_OK, BEGIN_PRIVATE RFC_PRIVATE END_PRIVATE, ""},
    {LF_KEY_PUBLIC, LORAFMT_OK,
     "-----BEGIN PUBLIC KEY-----\r\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\r\n-----END PUBLIC KEY-----\r\n",
     ""},
    {LF_KEY_PUBLIC, LORAFMT_NOT_LORAFMT, "", "is no key: must begin with the line -----BEGIN PUBLIC KEY-----"},
    {LF_KEY_PUBLIC, LORAFMT_NOT_LORAFMT, "\n" BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC,
     "is no key: must begin with the line -----BEGIN PUBLIC KEY-----"},
    {LF_KEY_PUBLIC, LORAFMT_NOT_LORAFMT, BEGIN_PRIVATE RFC_PRIVATE END_PRIVATE, "is a private key, must be the public one"},
    {LF_KEY_PRIVATE, LORAFMT_NOT_LORAFMT, BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC, "is a public key, must be the private one"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC, "the second line is not base64"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC "\n" RFC_PUBLIC END_PUBLIC, "the second line is not base64"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC " " RFC_PUBLIC END_PUBLIC, "the second line is not base64"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC "====\n" END_PUBLIC, "the second line is not base64"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC "MCow=QYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n" END_PUBLIC,
     "the second line is not base64"},
    /* the last digit with a bit that stands for nothing */
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuF=\n" END_PUBLIC,
     "the second line is not base64"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC RFC_PUBLIC, "must end with the line -----END PUBLIC KEY-----"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC "\n", "must end with the line -----END PUBLIC KEY-----"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC,
     "must end with the line -----END PUBLIC KEY-----"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC RFC_PUBLIC END_PRIVATE, "must end with the line -----END PUBLIC KEY-----"},
    {LF_KEY_PUBLIC, LORAFMT_CORRUPT, BEGIN_PUBLIC "AAAA\n" END_PUBLIC,
     "holds no key of an algorithm that is known here, must be Ed25519"},
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, BEGIN_PRIVATE RFC_PRIVATE_2 END_PRIVATE,
     "is an Ed25519 key with more than RFC 8410 asks for: openssl pkey -in OLD -out NEW writes it plainly"},
    /* the first lines of what openssl and ssh-keygen write */
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3",
     "is encrypted, and is read only as it is: openssl pkey -in OLD -out NEW decrypts it"},
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUA",
     "is a key of OpenSSH, must be PKCS#8: openssl genpkey -algorithm ed25519 makes one"},
    {LF_KEY_PUBLIC, LORAFMT_UNSUPPORTED, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA x\n", "is a public key of OpenSSH, must be PEM"},
    {LF_KEY_PUBLIC, LORAFMT_UNSUPPORTED, "-----BEGIN CERTIFICATE-----\nMIIB",
     "is a certificate, must be a key: openssl x509 -in FILE -pubkey -noout takes it out"},
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, "-----BEGIN RSA PRIVATE KEY-----\nMIIEogIB", "is an RSA key, must be Ed25519"},
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE", "is a key of ECDSA, must be Ed25519"},
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, BEGIN_PRIVATE "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCvSZ6PIEfJdaL9\n",
     "is an RSA key, must be Ed25519"},
    {LF_KEY_PUBLIC, LORAFMT_UNSUPPORTED, BEGIN_PUBLIC "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAr0mejyBHyXWi/Qd5fosQ\n",
     "is an RSA key, must be Ed25519"},
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, BEGIN_PRIVATE "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgpnfv6mLhHcokMDQ+\n",
     "is a key of ECDSA, must be Ed25519"},
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, BEGIN_PRIVATE "MC4CAQAwBQYDK2VuBCIEINCz767jrlWgC5Fc23lIwDOtOgaJoTEMeSuuZ3Tx3ohz\n",
     "is an X25519 key, which signs nothing; must be Ed25519"},
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, BEGIN_PRIVATE "MEYCAQAwBQYDK2VvBDoEOLAJysl2R/wMnMH0Y9Xnwy1LCtm10r9ri6d+E3TJdXCm\n",
     "is an X448 key, which signs nothing; must be Ed25519"},
    {LF_KEY_PRIVATE, LORAFMT_UNSUPPORTED, BEGIN_PRIVATE "MEcCAQAwBQYDK2VxBDsEOWoXFLF1C21dbJ+Oy487LWQzpBy7mJBUZtBkIMHMLmMo\n",
     "is an Ed448 key, must be Ed25519"},
};

static void test_key_files(void **state)
{
    uint8_t key[32];

    (void)state;
    for (size_t i = 0; i < COUNT(key_files); i++) {
        lorafmt_error err = {0};
        const lorafmt_status st = lf_key_parse(key_files[i].file, strlen(key_files[i].file), key_files[i].kind, key, &err);
        if (st != key_files[i].status || strcmp(err.text, key_files[i].text) != 0)
            fail_msg("%zu: %s: %s", i, lorafmt_status_name(st), err.text);
        if (st)
            assert_true(lf_all_zero(key, sizeof key));
        else if (key_files[i].kind == LF_KEY_PUBLIC)
            assert_memory_equal(key, rfc_public, 32);
    }
}

/* Any change of a byte of a key file is refused, or is another key. */
static void test_changed_key_file(void **state)
{
    char text[] = BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC;
    uint8_t key[32];

    (void)state;
    for (size_t i = 0; i < sizeof text - 2; i++) // without the last newline, which may be missing
        for (unsigned bit = 0; bit < 8; bit++) {
            text[i] ^= (char)(1 << bit);
            if (lf_key_parse(text, sizeof text - 1, LF_KEY_PUBLIC, key, NULL) == LORAFMT_OK)
                assert_memory_not_equal(key, rfc_public, 32);
            text[i] ^= (char)(1 << bit);
        }
}

static void test_print(void **state)
{
    char text[LF_KEY_MAX_TEXT];
    uint8_t seed[32];

    (void)state;
    assert_int_equal(lf_key_print(LF_KEY_PUBLIC, rfc_public, text), strlen(BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC));
    assert_memory_equal(text, BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC, strlen(BEGIN_PUBLIC RFC_PUBLIC END_PUBLIC));
    assert_int_equal(lf_key_parse(BEGIN_PRIVATE RFC_PRIVATE END_PRIVATE, strlen(BEGIN_PRIVATE RFC_PRIVATE END_PRIVATE),
                                  LF_KEY_PRIVATE, seed, NULL),
                     LORAFMT_OK);
    assert_int_equal(lf_key_print(LF_KEY_PRIVATE, seed, text), strlen(BEGIN_PRIVATE RFC_PRIVATE END_PRIVATE));
    assert_memory_equal(text, BEGIN_PRIVATE RFC_PRIVATE END_PRIVATE, strlen(BEGIN_PRIVATE RFC_PRIVATE END_PRIVATE));
}

static void write_file(const char *path, const void *bytes, size_t n, mode_t mode)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    assert_int_equal(fchmod(fd, mode), 0); // past the umask
    close(fd);
}

static void write_private_key(const char *path, const uint8_t seed[32], mode_t mode)
{
    char text[LF_KEY_MAX_TEXT];

    write_file(path, text, lf_key_print(LF_KEY_PRIVATE, seed, text), mode);
}

static void test_permissions(void **state)
{
    static const mode_t wrong[] = {0640, 0620, 0610, 0604, 0602, 0601, 0666, 0777};
    static const mode_t good[] = {0600, 0400, 0700};
    lorafmt_private_key *key;
    lorafmt_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(good); i++) {
        write_private_key("k", rfc_public, good[i]);
        assert_int_equal(lorafmt_private_key_load("k", &key, &err), LORAFMT_OK);
        lorafmt_private_key_free(key);
        assert_int_equal(unlink("k"), 0);
    }
    for (size_t i = 0; i < COUNT(wrong); i++) {
        write_private_key("k", rfc_public, wrong[i]);
        assert_int_equal(lorafmt_private_key_load("k", &key, &err), LORAFMT_UNTRUSTED);
        assert_null(key);
        assert_string_equal(err.file, "k");
        assert_non_null(strstr(err.text, "chmod 600 'k'"));
        assert_int_equal(unlink("k"), 0);
    }
    assert_int_equal(mkfifo("p", 0600), 0);
    assert_int_equal(lorafmt_private_key_load("p", &key, &err), LORAFMT_NOT_LORAFMT);
    assert_int_equal(lorafmt_private_key_load("none", &key, &err), LORAFMT_NOT_FOUND);
}

/* Somebody else's, when the test may give a file away. */
static void test_owner(void **state)
{
    lorafmt_private_key *key;
    lorafmt_error err;

    (void)state;
    if (geteuid() != 0)
        skip();
    write_private_key("k", rfc_public, 0600);
    assert_int_equal(chown("k", 12345, (gid_t)-1), 0);
    assert_int_equal(lorafmt_private_key_load("k", &key, &err), LORAFMT_UNTRUSTED);
    assert_string_equal(err.text, "a private key of user 12345, must be your own: user 0");
}

static void test_generate(void **state)
{
    lorafmt_public_key made, read, again;
    lorafmt_private_key *key;
    lorafmt_error err;
    struct stat st;

    (void)state;
    const mode_t mask = umask(0);
    assert_int_equal(lorafmt_key_generate("k", "k.pub", &made, NULL), LORAFMT_OK);
    umask(mask);
    assert_int_equal(stat("k", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(lorafmt_public_key_load("k.pub", &read, NULL), LORAFMT_OK);
    assert_memory_equal(&read, &made, sizeof made);
    assert_int_equal(lorafmt_private_key_load("k", &key, NULL), LORAFMT_OK);
    assert_memory_equal(lorafmt_private_key_public(key), &made, sizeof made);
    lorafmt_private_key_free(key);

    assert_int_equal(lorafmt_key_generate("k", "other.pub", &again, &err), LORAFMT_IO);
    assert_int_equal(err.os_error, EEXIST);
    assert_int_equal(lorafmt_key_generate("other", "k.pub", &again, &err), LORAFMT_IO);
    assert_int_equal(access("other.pub", F_OK), -1);
    assert_int_equal(access("other", F_OK), -1);
    assert_true(lf_all_zero(again.bytes, sizeof again.bytes));
    assert_int_equal(lorafmt_key_generate("k2", "k2.pub", &again, NULL), LORAFMT_OK);
    assert_memory_not_equal(&again, &made, sizeof made);
}

/* --- signing --- */

/* RFC 8032, 7.1: private and public keys of tests 1, 2, 3 and SHA(abc). */
static const struct {
    uint8_t seed[32], public_key[32];
} vectors[] = {
    {{0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4,
      0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60},
     {0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
      0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a}},
    {{0x4c, 0xcd, 0x08, 0x9b, 0x28, 0xff, 0x96, 0xda, 0x9d, 0xb6, 0xc3, 0x46, 0xec, 0x11, 0x4e, 0x0f,
      0x5b, 0x8a, 0x31, 0x9f, 0x35, 0xab, 0xa6, 0x24, 0xda, 0x8c, 0xf6, 0xed, 0x4f, 0xb8, 0xa6, 0xfb},
     {0x3d, 0x40, 0x17, 0xc3, 0xe8, 0x43, 0x89, 0x5a, 0x92, 0xb7, 0x0a, 0xa7, 0x4d, 0x1b, 0x7e, 0xbc,
      0x9c, 0x98, 0x2c, 0xcf, 0x2e, 0xc4, 0x96, 0x8c, 0xc0, 0xcd, 0x55, 0xf1, 0x2a, 0xf4, 0x66, 0x0c}},
    {{0xc5, 0xaa, 0x8d, 0xf4, 0x3f, 0x9f, 0x83, 0x7b, 0xed, 0xb7, 0x44, 0x2f, 0x31, 0xdc, 0xb7, 0xb1,
      0x66, 0xd3, 0x85, 0x35, 0x07, 0x6f, 0x09, 0x4b, 0x85, 0xce, 0x3a, 0x2e, 0x0b, 0x44, 0x58, 0xf7},
     {0xfc, 0x51, 0xcd, 0x8e, 0x62, 0x18, 0xa1, 0xa3, 0x8d, 0xa4, 0x7e, 0xd0, 0x02, 0x30, 0xf0, 0x58,
      0x08, 0x16, 0xed, 0x13, 0xba, 0x33, 0x03, 0xac, 0x5d, 0xeb, 0x91, 0x15, 0x48, 0x90, 0x80, 0x25}},
    {{0x83, 0x3f, 0xe6, 0x24, 0x09, 0x23, 0x7b, 0x9d, 0x62, 0xec, 0x77, 0x58, 0x75, 0x20, 0x91, 0x1e,
      0x9a, 0x75, 0x9c, 0xec, 0x1d, 0x19, 0x75, 0x5b, 0x7d, 0xa9, 0x01, 0xb9, 0x6d, 0xca, 0x3d, 0x42},
     {0xec, 0x17, 0x2b, 0x93, 0xad, 0x5e, 0x56, 0x3b, 0xf4, 0x93, 0x2c, 0x70, 0xe1, 0x24, 0x50, 0x34,
      0xc3, 0x54, 0x67, 0xef, 0x2e, 0xfd, 0x4d, 0x64, 0xeb, 0xf8, 0x19, 0x68, 0x34, 0x67, 0xe2, 0xbf}},
};

/* What `openssl pkeyutl -sign -rawin` makes with the first of these keys of the 52 bytes for this id. */
static const uint8_t known_id[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                     16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
static const uint8_t known_signature[64] = {0xb0, 0x66, 0x01, 0xd9, 0xb1, 0xaa, 0xf4, 0xe9, 0x09, 0x6e, 0xb8, 0x3b, 0x57,
                                            0x31, 0x0c, 0x96, 0xce, 0x25, 0x54, 0x12, 0x57, 0x56, 0x40, 0xad, 0x7e, 0x11,
                                            0x07, 0xe7, 0x9d, 0xe8, 0xef, 0x06, 0x53, 0xd1, 0x88, 0xfc, 0x17, 0x1f, 0xac,
                                            0x19, 0xbb, 0x2f, 0xa1, 0x0d, 0x1d, 0x22, 0xd6, 0x4a, 0xa6, 0x5f, 0x83, 0xee,
                                            0xda, 0xcd, 0xd6, 0x21, 0x3a, 0xce, 0xb9, 0x15, 0xbb, 0x00, 0x85, 0x0d};

static lorafmt_private_key *load_vector(size_t i)
{
    lorafmt_private_key *key;

    write_private_key("k", vectors[i].seed, 0600);
    assert_int_equal(lorafmt_private_key_load("k", &key, NULL), LORAFMT_OK);
    return key;
}

static void test_keys_of_the_rfc(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(vectors); i++) {
        lorafmt_private_key *key = load_vector(i);
        assert_memory_equal(lorafmt_private_key_public(key)->bytes, vectors[i].public_key, 32);
        lorafmt_private_key_free(key);
    }
}

static void test_known_signature(void **state)
{
    lorafmt_private_key *key = load_vector(0);
    lorafmt_signature s;

    (void)state;
    lorafmt_sign(key, known_id, &s);
    lorafmt_private_key_free(key);
    assert_int_equal(s.algorithm, 1);
    assert_memory_equal(s.public_key, vectors[0].public_key, 32);
    assert_memory_equal(s.signature, known_signature, 64);
    assert_true(lorafmt_signature_is_genuine(&s, known_id));
}

static void test_changed_signature(void **state)
{
    lorafmt_signature s = {.algorithm = 1};
    uint8_t id[32];

    (void)state;
    memcpy(s.public_key, vectors[0].public_key, 32);
    memcpy(s.signature, known_signature, 64);
    memcpy(id, known_id, 32);
    for (size_t bit = 0; bit < 8 * sizeof s; bit++) {
        uint8_t *byte = (uint8_t *)&s + bit / 8;
        *byte ^= (uint8_t)(1 << bit % 8);
        assert_false(lorafmt_signature_is_genuine(&s, id));
        *byte ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t bit = 0; bit < 8 * sizeof id; bit++) {
        id[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(lorafmt_signature_is_genuine(&s, id));
        id[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    assert_true(lorafmt_signature_is_genuine(&s, id));
}

/* The same signature with the order of the group added to its second half: RFC 8032 5.1.7 wants it below that. */
static void test_second_form_of_a_signature(void **state)
{
    static const uint8_t order[32] = {0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58,       0xd6,
                                      0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10};
    lorafmt_signature s = {.algorithm = 1};
    unsigned carry = 0;

    (void)state;
    memcpy(s.public_key, vectors[0].public_key, 32);
    memcpy(s.signature, known_signature, 64);
    for (size_t i = 0; i < 32; i++) {
        carry += s.signature[32 + i] + order[i];
        s.signature[32 + i] = (uint8_t)carry;
        carry >>= 8;
    }
    assert_false(lorafmt_signature_is_genuine(&s, known_id));
}

/* The points whose order divides 8, and encodings that are none. With one as key, each as R and S = 0 would sign much. */
static const uint8_t points[][32] = {
    {0},
    {[31] = 0x80},
    {1},
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
     0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
     0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x85},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
     0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
     0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0xfa},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
};

static const uint8_t no_points[][32] = {
    {[0] = 1, [31] = 0x80}, // x = 0 with a sign
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    {0xed, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // y = p, which is 0
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    {0xee, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, // y = p + 1
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    {2}, // not on the curve
};

static void check_signs_nothing(const uint8_t key[32])
{
    lorafmt_signature s = {.algorithm = 1};

    memcpy(s.public_key, key, 32);
    for (unsigned n = 0; n < 32; n++)
        for (size_t i = 0; i < COUNT(points); i++) {
            const uint8_t id[32] = {(uint8_t)n};
            memcpy(s.signature, points[i], 32);
            assert_false(lorafmt_signature_is_genuine(&s, id));
        }
}

static void test_weak_keys(void **state)
{
    char text[LF_KEY_MAX_TEXT];
    lorafmt_public_key key;
    lorafmt_error err;

    (void)state;
    for (size_t i = 0; i < COUNT(points); i++) {
        check_signs_nothing(points[i]);
        write_file("weak", text, lf_key_print(LF_KEY_PUBLIC, points[i], text), 0644);
        assert_int_equal(lorafmt_public_key_load("weak", &key, &err), LORAFMT_UNTRUSTED);
        assert_string_equal(err.text, "holds a point of small order, for which anybody can sign");
        assert_true(lf_all_zero(key.bytes, 32));
    }
    for (size_t i = 0; i < COUNT(no_points); i++)
        check_signs_nothing(no_points[i]);
}

static void test_detached(void **state)
{
    lorafmt_signature s = {.algorithm = 1};
    lorafmt_error err;
    uint8_t read[64];

    (void)state;
    memcpy(s.signature, known_signature, 64);
    assert_int_equal(lorafmt_signature_save(&s, "s", false, &err), LORAFMT_OK);
    assert_int_equal(lorafmt_signature_load("s", read, &err), LORAFMT_OK);
    assert_memory_equal(read, known_signature, 64);
    assert_int_equal(lorafmt_signature_save(&s, "s", false, &err), LORAFMT_IO);
    assert_int_equal(lorafmt_signature_save(&s, "s", true, &err), LORAFMT_OK);
    for (size_t n = 63; n < 66; n += 2) {
        write_file("s", points, n, 0644);
        assert_int_equal(lorafmt_signature_load("s", read, &err), LORAFMT_NOT_LORAFMT);
        assert_true(lf_all_zero(read, 64));
    }
}

/* --- what a signature covers: every field of spec 6.1 --- */

typedef struct changed {
    lorafmt_adapter adapter;
    lorafmt_site site;
    lorafmt_factor factors[2];
    lorafmt_metadata metadata;
    uint8_t data[32];
    char base_name[8], base_revision[8], target[8], key[8], value[8];
} changed;

/* Every field is used, and lies where a bit of it can be turned. */
static void begin_change(changed *c)
{
    memset(c, 0, sizeof *c);
    strcpy(c->base_name, "base");
    strcpy(c->base_revision, "main");
    strcpy(c->target, "w");
    strcpy(c->key, "k");
    strcpy(c->value, "v");
    c->factors[0] =
        (lorafmt_factor){LORAFMT_ROLE_A, {.dtype = LORAFMT_F32, .n_dims = 2, .shape = {2, 4}, .size = 32, .data = c->data}};
    c->factors[1] =
        (lorafmt_factor){LORAFMT_ROLE_B, {.dtype = LORAFMT_F32, .n_dims = 2, .shape = {3, 2}, .size = 24, .data = b_data}};
    c->metadata = (lorafmt_metadata){c->key, c->value, LORAFMT_METADATA_SEMANTIC};
    c->site = first_sites[3]; // with ranges of rows and columns
    c->site.flags |= LORAFMT_SITE_BASE_SHA256;
    c->site.target = c->target;
    c->site.factors = c->factors;
    c->adapter = first_adapter;
    c->adapter.base_name = c->base_name;
    c->adapter.base_revision = c->base_revision;
    c->adapter.n_sites = c->adapter.n_metadata = 1;
    c->adapter.sites = &c->site;
    c->adapter.metadata = &c->metadata;
}

static changed subject;

#define FIELD(member)                                                                                                            \
    {                                                                                                                            \
#member, &subject.member, sizeof subject.member                                                                          \
    }

static const struct {
    const char *name;
    void *at;
    size_t size;
} covered[] = {
    {"base_name", subject.base_name, 4},
    {"base_revision", subject.base_revision, 4},
    FIELD(adapter.base_structure),
    {"target", subject.target, 1},
    FIELD(site.kind),
    FIELD(site.orientation),
    FIELD(site.scaling),
    FIELD(site.rank),
    FIELD(site.flags),
    FIELD(site.alpha),
    FIELD(site.scale),
    FIELD(site.row_begin),
    FIELD(site.row_end),
    FIELD(site.col_begin),
    FIELD(site.col_end),
    FIELD(site.base_sha256),
    FIELD(factors[0].role),
    {"factors[0].dtype", &subject.factors[0].tensor.dtype, 1},
    {"factors[0].shape", subject.factors[0].tensor.shape, 16},
    FIELD(data),
    {"metadata.key", subject.key, 1},
    {"metadata.value", subject.value, 1},
};

static void test_every_bit_counts(void **state)
{
    lorafmt_private_key *key = load_vector(0);
    lorafmt_signature s;
    uint8_t id[32];

    (void)state;
    begin_change(&subject);
    lorafmt_adapter_id(&subject.adapter, id);
    lorafmt_sign(key, id, &s);
    lorafmt_private_key_free(key);
    for (size_t i = 0; i < COUNT(covered); i++)
        for (size_t bit = 0; bit < 8 * covered[i].size; bit++) {
            uint8_t *byte = (uint8_t *)covered[i].at + bit / 8;
            *byte ^= (uint8_t)(1 << bit % 8);
            lorafmt_adapter_id(&subject.adapter, id);
            if (lorafmt_signature_is_genuine(&s, id))
                fail_msg("bit %zu of %s counts for nothing", bit, covered[i].name);
            *byte ^= (uint8_t)(1 << bit % 8);
        }
    lorafmt_adapter_id(&subject.adapter, id);
    assert_true(lorafmt_signature_is_genuine(&s, id));
}

/* Counts, flags and order, which are no fields of their own. */
static void test_structure_counts(void **state)
{
    lorafmt_private_key *key = load_vector(0);
    lorafmt_signature s;
    uint8_t id[32];

    (void)state;
    begin_change(&subject);
    lorafmt_adapter_id(&subject.adapter, id);
    lorafmt_sign(key, id, &s);
    lorafmt_private_key_free(key);
    for (unsigned i = 0; i < 5; i++) {
        begin_change(&subject);
        subject.adapter.has_base_structure = i != 0;
        subject.adapter.n_sites = i != 1;
        subject.adapter.n_metadata = i != 2;
        subject.metadata.flags = i == 3 ? 0 : LORAFMT_METADATA_SEMANTIC;
        subject.site.n_factors = i == 4 ? 1 : 2;
        lorafmt_adapter_id(&subject.adapter, id);
        assert_false(lorafmt_signature_is_genuine(&s, id));
    }
    begin_change(&subject);
    subject.adapter.name = "other"; // the one thing that may change
    lorafmt_adapter_id(&subject.adapter, id);
    assert_true(lorafmt_signature_is_genuine(&s, id));
}

/* --- policies --- */

/* The first adapter of the sample signed by the first key, and a policy that trusts the second key, and that. */
typedef struct trust {
    file container;
    lorafmt_public_key keys[2];
    lorafmt_signature signature;
    lorafmt_policy policy;
    lorafmt_source_options options;
} trust;

static void begin_trust(trust *t)
{
    const lorafmt_adapter *const one[] = {&first_adapter};
    lorafmt_private_key *key = load_vector(0);
    uint8_t id[32];

    memset(t, 0, sizeof *t);
    t->container = encode(one, 1, 6);
    lorafmt_adapter_id(&first_adapter, id);
    lorafmt_sign(key, id, &t->signature);
    lorafmt_private_key_free(key);
    memcpy(t->keys[0].bytes, vectors[1].public_key, 32);
    memcpy(t->keys[1].bytes, vectors[0].public_key, 32);
    t->policy =
        (lorafmt_policy){.struct_size = sizeof t->policy, .n_keys = 2, .keys = t->keys, .signature = t->signature.signature};
    t->options.struct_size = sizeof t->options;
    t->options.policy = &t->policy;
}

static lorafmt_status open_trusted(const trust *t, lorafmt_error *err)
{
    const lorafmt_memory memory = {.bytes = t->container.bytes, .size = t->container.size};
    lorafmt_source *source;
    const lorafmt_status st = lorafmt_source_open_memory(&memory, &t->options, &source, err);

    assert_int_equal(st != LORAFMT_OK, source == NULL);
    lorafmt_source_free(source);
    return st;
}

static void test_policy(void **state)
{
    lorafmt_error err;
    trust t;

    (void)state;
    begin_trust(&t);
    assert_int_equal(open_trusted(&t, &err), LORAFMT_OK);
    t.policy.n_keys = 1;
    assert_int_equal(open_trusted(&t, &err), LORAFMT_UNTRUSTED);
    assert_string_equal(err.field, "first");
    assert_string_equal(err.text, "no signature of the key that is trusted is genuine: the key is another, or the adapter is");
    t.policy.n_keys = 2;
    t.policy.signature = NULL;
    assert_int_equal(open_trusted(&t, &err), LORAFMT_UNTRUSTED);
    assert_string_equal(err.text, "is not signed, must be by a key that is trusted");
    free(t.container.bytes);
}

/* The same with the signature in the file, and nothing beside it. */
static void put_signature_in(trust *t)
{
    lorafmt_adapter adapter = first_adapter;
    const lorafmt_adapter *const one[] = {&adapter};

    adapter.has_id = true; // the one that the signature is of
    lorafmt_adapter_id(&first_adapter, adapter.id);
    adapter.n_signatures = 1;
    adapter.signatures = &t->signature;
    free(t->container.bytes);
    t->container = encode(one, 1, 6);
    t->policy.signature = NULL;
}

/* Genuine; by a stranger, whose fingerprint is that of RFC 8032's first key; changed; of an algorithm that nobody knows. */
static void test_signature_in_the_file(void **state)
{
    lorafmt_error err;
    trust t;

    (void)state;
    begin_trust(&t);
    put_signature_in(&t);
    assert_int_equal(open_trusted(&t, &err), LORAFMT_OK);
    t.policy.n_keys = 1;
    assert_int_equal(open_trusted(&t, &err), LORAFMT_UNTRUSTED);
    assert_string_equal(err.text,
                        "is signed by key 21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9, must be by the "
                        "key that is trusted");
    t.policy.n_keys = 2;
    t.signature.signature[0] ^= 1;
    put_signature_in(&t);
    assert_int_equal(open_trusted(&t, &err), LORAFMT_UNTRUSTED);
    assert_string_equal(err.text, "no signature of a key that is trusted is genuine: the key is another, or the adapter is");
    t.signature.signature[0] ^= 1;
    t.signature.algorithm = 2;
    put_signature_in(&t);
    assert_int_equal(open_trusted(&t, &err), LORAFMT_UNTRUSTED);
    t.signature.algorithm = 1;
    put_signature_in(&t);
    assert_int_equal(open_trusted(&t, &err), LORAFMT_OK);
    free(t.container.bytes);
}

/* Of many strangers none is told after the first ones, which takes no longer than it may; who is trusted is found behind them. */
static void test_many_signatures(void **state)
{
    static lorafmt_signature all[100];
    lorafmt_adapter adapter = first_adapter;
    lorafmt_error err;
    size_t key;
    trust t;

    (void)state;
    begin_trust(&t);
    t.policy.signature = NULL;
    for (size_t i = 0; i < COUNT(all); i++) {
        all[i] = t.signature;
        all[i].public_key[0] ^= 1;
    }
    all[COUNT(all) - 1] = t.signature;
    adapter.n_signatures = COUNT(all);
    adapter.signatures = all;
    assert_int_equal(lorafmt_policy_check(&t.policy, &adapter, &key, &err), LORAFMT_OK);
    assert_int_equal(key, 1);
    t.policy.n_keys = 1;
    assert_int_equal(lorafmt_policy_check(&t.policy, &adapter, &key, &err), LORAFMT_UNTRUSTED);
    assert_int_equal(key, SIZE_MAX);
    assert_string_equal(err.text, "no signature of the key that is trusted is genuine: the key is another, or the adapter is");
    free(t.container.bytes);
}

static void test_policy_misused(void **state)
{
    lorafmt_error err;
    trust t;

    (void)state;
    begin_trust(&t);
    t.policy.n_keys = 0;
    assert_int_equal(open_trusted(&t, &err), LORAFMT_MISUSE);
    t.policy.n_keys = 2;
    t.policy.struct_size--;
    assert_int_equal(open_trusted(&t, &err), LORAFMT_MISUSE);
    t.policy.struct_size++;
    t.options.defer_digests = true;
    assert_int_equal(open_trusted(&t, &err), LORAFMT_MISUSE);
    assert_string_equal(err.field, "defer_digests");
    free(t.container.bytes);
}

/* A second adapter, signed by nobody. */
static void test_policy_wants_all(void **state)
{
    lorafmt_error err;
    trust t;

    (void)state;
    begin_trust(&t);
    free(t.container.bytes);
    t.container = sample_file();
    assert_int_equal(open_trusted(&t, &err), LORAFMT_UNTRUSTED);
    assert_string_equal(err.field, second_adapter.name);
    t.options.adapter = "first";
    assert_int_equal(open_trusted(&t, &err), LORAFMT_OK);
    free(t.container.bytes);
}

/* Data changed, and all that states what it is made right again but the id: opening computes that. */
static void test_policy_believes_no_id(void **state)
{
    lorafmt_error err;
    uint8_t *record;
    trust t;

    (void)state;
    begin_trust(&t);
    record = tensor_record(&t.container, 0);
    t.container.bytes[lf_load_u64le(record + LF_TENSOR_OFFSET)] ^= 1;
    assert_int_equal(open_trusted(&t, &err), LORAFMT_CORRUPT);
    lf_sha256_of(t.container.bytes + lf_load_u64le(record + LF_TENSOR_OFFSET),
                 (size_t)lf_load_u64le(record + LF_TENSOR_STORED_SIZE), record + LF_TENSOR_SHA256);
    reseal(&t.container, 0);
    assert_int_equal(open_trusted(&t, &err), LORAFMT_CORRUPT);
    assert_string_equal(err.text, "adapter_id is not the id of what the adapter holds");
    free(t.container.bytes);
}

static void test_policy_refuses_recovered(void **state)
{
    lorafmt_error err;
    trust t;

    (void)state;
    begin_trust(&t);
    slot_of(&t.container, 1)[0] = 1; // damaged, and not in use
    assert_int_equal(open_trusted(&t, &err), LORAFMT_UNTRUSTED);
    assert_string_equal(err.field, "root_slot");
    t.options.policy = NULL;
    assert_int_equal(open_trusted(&t, &err), LORAFMT_OK);
    free(t.container.bytes);
}

/* Opened, and then its tensors' file is overwritten: what was checked is still what is used. */
static void assert_keeps(const char *path, const char *tensors, bool by_fd, const lorafmt_source_options *options)
{
    const int fd = by_fd ? open(path, O_RDONLY) : -1;
    lorafmt_source *source;
    lorafmt_verify_result result;

    assert_int_equal(by_fd ? lorafmt_source_open_fd(fd, NULL, options, &source, NULL)
                           : lorafmt_source_open(path, options, &source, NULL),
                     LORAFMT_OK);
    if (by_fd)
        close(fd);
    assert_int_equal(truncate(tensors, 0), 0);
    assert_int_equal(lorafmt_verify(source, &result, NULL), LORAFMT_OK);
    lorafmt_source_free(source);
}

static void test_policy_keeps_what_it_checked(void **state)
{
    trust t;

    (void)state;
    begin_trust(&t);
    for (int by_fd = 0; by_fd < 2; by_fd++) {
        write_file("a.lora", t.container.bytes, t.container.size, 0644);
        assert_keeps("a.lora", "a.lora", by_fd, &t.options);
    }
    free(t.container.bytes);
}

static void test_paranoid_keeps_what_it_checked(void **state)
{
    static const float a[] = {1, 2, 3}, b[] = {4, 5};
    const lorafmt_source_options options = {.struct_size = sizeof options, .has_alpha = true, .alpha = 1, .paranoid = true},
                                 says_itself = {.struct_size = sizeof options, .paranoid = true};
    lorafmt_factor factors[2];
    const lorafmt_site site = test_low_rank("w.weight", LORAFMT_KIND_LINEAR, 1, 3, 2, a, b, factors);
    const lorafmt_adapter adapter = test_adapter("a", &site, 1), *const all[] = {&adapter};

    (void)state;
    for (int by_fd = 0; by_fd < 2; by_fd++) {
        file container = encode(all, 1, 6);
        write_file("a.lora", container.bytes, container.size, 0644);
        free(container.bytes);
        assert_keeps("a.lora", "a.lora", by_fd, &says_itself);
    }
    assert_int_equal(lorafmt_unpack(&adapter, "peft", false, NULL), LORAFMT_OK);
    assert_keeps("peft", "peft/adapter_model.safetensors", false, &says_itself);
    assert_int_equal(lorafmt_unpack(&adapter, "peft", true, NULL), LORAFMT_OK);
    assert_int_equal(unlink("peft/adapter_config.json"), 0);
    assert_keeps("peft/adapter_model.safetensors", "peft/adapter_model.safetensors", false, &options);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_key_files),
        cmocka_unit_test(test_changed_key_file),
        cmocka_unit_test(test_print),
        IN_DIRECTORY(test_permissions),
        IN_DIRECTORY(test_owner),
        IN_DIRECTORY(test_generate),
        IN_DIRECTORY(test_keys_of_the_rfc),
        IN_DIRECTORY(test_known_signature),
        cmocka_unit_test(test_changed_signature),
        cmocka_unit_test(test_second_form_of_a_signature),
        IN_DIRECTORY(test_weak_keys),
        IN_DIRECTORY(test_detached),
        IN_DIRECTORY(test_every_bit_counts),
        IN_DIRECTORY(test_structure_counts),
        IN_DIRECTORY(test_policy),
        IN_DIRECTORY(test_signature_in_the_file),
        IN_DIRECTORY(test_many_signatures),
        IN_DIRECTORY(test_policy_misused),
        IN_DIRECTORY(test_policy_wants_all),
        IN_DIRECTORY(test_policy_believes_no_id),
        IN_DIRECTORY(test_policy_refuses_recovered),
        IN_DIRECTORY(test_policy_keeps_what_it_checked),
        IN_DIRECTORY(test_paranoid_keeps_what_it_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
