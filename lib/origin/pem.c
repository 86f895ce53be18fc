/* SPDX-License-Identifier: MIT */
/* RFC 7468 and RFC 8410: of Ed25519 every key file is three lines, of which the second begins with the same bytes. */
#include "lib/origin/origin.h"

#include "format/base/error.h"

#include <stdio.h>
#include <string.h>

#define MAX_LINE 64 /* characters of base64 in a line of PEM, 4 for 3 bytes */
#define MAX_DER (MAX_LINE / 4 * 3)

/* SEQUENCE { SEQUENCE { OID 1.3.101.112 }, BIT STRING of 32 bytes } */
static const uint8_t public_der[] = {0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00};

/* SEQUENCE { INTEGER 0, SEQUENCE { OID 1.3.101.112 }, OCTET STRING of an OCTET STRING of 32 bytes } */
static const uint8_t private_der[] = {0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06,
                                      0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20};

static const struct form {
    const char *label;
    const uint8_t *der; /* what is before the key */
    size_t n_der;
} forms[] = {
    [LF_KEY_PUBLIC] = {"PUBLIC KEY", public_der, sizeof public_der},
    [LF_KEY_PRIVATE] = {"PRIVATE KEY", private_der, sizeof private_der},
};

typedef struct span {
    const char *text;
    size_t n;
} span;

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/* --- what it is instead --- */

static const struct {
    const char *label, *what;
} other_labels[] = {
    {"ENCRYPTED PRIVATE KEY", "is encrypted, and is read only as it is: openssl pkey -in OLD -out NEW decrypts it"},
    {"OPENSSH PRIVATE KEY", "is a key of OpenSSH, must be PKCS#8: openssl genpkey -algorithm ed25519 makes one"},
    {"RSA PRIVATE KEY", "is an RSA key, must be Ed25519"},
    {"RSA PUBLIC KEY", "is an RSA key, must be Ed25519"},
    {"EC PRIVATE KEY", "is a key of ECDSA, must be Ed25519"},
    {"DSA PRIVATE KEY", "is a DSA key, must be Ed25519"},
    {"CERTIFICATE", "is a certificate, must be a key: openssl x509 -in FILE -pubkey -noout takes it out"},
};

static const struct {
    const char *oid, *what; /* with its DER head */
} other_algorithms[] = {
    {"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", "is an RSA key, must be Ed25519"},
    {"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01", "is a key of ECDSA, must be Ed25519"},
    {"\x06\x07\x2a\x86\x48\xce\x38\x04\x01", "is a DSA key, must be Ed25519"},
    {"\x06\x03\x2b\x65\x6e", "is an X25519 key, which signs nothing; must be Ed25519"},
    {"\x06\x03\x2b\x65\x6f", "is an X448 key, which signs nothing; must be Ed25519"},
    {"\x06\x03\x2b\x65\x71", "is an Ed448 key, must be Ed25519"},
    {"\x06\x03\x2b\x65\x70",
     "is an Ed25519 key with more than RFC 8410 asks for: openssl pkey -in OLD -out NEW writes it plainly"},
};

static lorafmt_status fail(lorafmt_error *err, lorafmt_status status, const char *what)
{
    return lf_fail(err, status, LORAFMT_NO_OFFSET, NULL, "%s", what);
}

static bool is_line(span line, const char *head, const char *label)
{
    char expected[64];
    const int n = snprintf(expected, sizeof expected, "-----%s %s-----", head, label);

    return line.n == (size_t)n && memcmp(line.text, expected, line.n) == 0;
}

static lorafmt_status fail_label(span line, lf_key_kind kind, lorafmt_error *err)
{
    const bool is_ssh = line.n > 4 && memcmp(line.text, "ssh-", 4) == 0;

    for (size_t i = 0; i < sizeof other_labels / sizeof other_labels[0]; i++)
        if (is_line(line, "BEGIN", other_labels[i].label))
            return fail(err, LORAFMT_UNSUPPORTED, other_labels[i].what);
    if (is_ssh)
        return fail(err, LORAFMT_UNSUPPORTED, "is a public key of OpenSSH, must be PEM");
    if (is_line(line, "BEGIN", forms[!kind].label))
        return fail(err, LORAFMT_NOT_LORAFMT,
                    kind == LF_KEY_PUBLIC ? "is a private key, must be the public one"
                                          : "is a public key, must be the private one");
    return lf_fail(err, LORAFMT_NOT_LORAFMT, LORAFMT_NO_OFFSET, NULL, "is no key: must begin with the line -----BEGIN %s-----",
                   forms[kind].label);
}

static lorafmt_status fail_der(const uint8_t *der, size_t n, lorafmt_error *err)
{
    for (size_t i = 0; i < sizeof other_algorithms / sizeof other_algorithms[0]; i++)
        if (memmem(der, n, other_algorithms[i].oid, strlen(other_algorithms[i].oid)))
            return fail(err, LORAFMT_UNSUPPORTED, other_algorithms[i].what);
    return fail(err, LORAFMT_CORRUPT, "holds no key of an algorithm that is known here, must be Ed25519");
}

/* --- reading --- */

/* The line at *at without its end, LF or CRLF; moves *at behind it. */
static span take_line(const char **at, const char *end)
{
    const char *newline = *at < end ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;
    span line = {*at, (size_t)((newline ? newline : end) - *at)};

    *at = newline ? newline + 1 : end;
    if (newline && line.n && line.text[line.n - 1] == '\r')
        line.n--;
    return line;
}

/* RFC 4648, the one encoding of its bytes. 0 for what is none. */
static size_t decode_base64(span line, uint8_t out[MAX_DER])
{
    size_t n_digits = line.n, n = 0;
    uint32_t bits = 0;

    if (line.n == 0 || line.n > MAX_LINE || line.n % 4)
        return 0;
    while (line.n - n_digits < 2 && line.text[n_digits - 1] == '=')
        n_digits--;
    for (size_t i = 0; i < line.n; i++) {
        const char *digit = i < n_digits ? memchr(digits, line.text[i], sizeof digits - 1) : digits;
        if (!digit)
            return 0;
        bits = bits << 6 | (uint32_t)(digit - digits);
        for (int shift = 16; i % 4 == 3 && shift >= 0; shift -= 8)
            out[n++] = (uint8_t)(bits >> shift);
    }
    for (; n_digits < line.n; n_digits++)
        if (out[--n]) // bits that stand for nothing
            return 0;
    return n;
}

static lorafmt_status parse(const char *text, size_t size, lf_key_kind kind, uint8_t der[MAX_DER], lorafmt_error *err)
{
    const struct form *form = &forms[kind];
    const char *at = text, *end = text + size;
    const span head = take_line(&at, end), body = take_line(&at, end), tail = take_line(&at, end);
    size_t n;

    if (!is_line(head, "BEGIN", form->label))
        return fail_label(head, kind, err);
    n = decode_base64(body, der);
    if (!n)
        return fail(err, LORAFMT_CORRUPT, "the second line is not base64");
    if (n != form->n_der + LF_KEY_SIZE || memcmp(der, form->der, form->n_der) != 0)
        return fail_der(der, n, err);
    if (!is_line(tail, "END", form->label) || at != end)
        return lf_fail(err, LORAFMT_CORRUPT, LORAFMT_NO_OFFSET, NULL, "must end with the line -----END %s-----", form->label);
    return LORAFMT_OK;
}

lorafmt_status lf_key_parse(const char *text, size_t size, lf_key_kind kind, uint8_t out[LF_KEY_SIZE], lorafmt_error *err)
{
    uint8_t der[MAX_DER];
    const lorafmt_status st = parse(text, size, kind, der, err);

    memset(out, 0, LF_KEY_SIZE);
    if (!st)
        memcpy(out, der + forms[kind].n_der, LF_KEY_SIZE);
    explicit_bzero(der, sizeof der);
    return st;
}

/* --- writing --- */

static void encode_base64(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i += 3) {
        const uint32_t bits =
            (uint32_t)bytes[i] << 16 | (i + 1 < n ? (uint32_t)bytes[i + 1] << 8 : 0) | (i + 2 < n ? (uint32_t)bytes[i + 2] : 0);
        *out++ = digits[bits >> 18];
        *out++ = digits[bits >> 12 & 63];
        *out++ = i + 1 < n ? digits[bits >> 6 & 63] : '=';
        *out++ = i + 2 < n ? digits[bits & 63] : '=';
    }
    *out = '\0';
}

size_t lf_key_print(lf_key_kind kind, const uint8_t key[LF_KEY_SIZE], char out[LF_KEY_MAX_TEXT])
{
    const struct form *form = &forms[kind];
    char base64[MAX_LINE + 1];
    uint8_t der[MAX_DER];
    int n;

    memcpy(der, form->der, form->n_der);
    memcpy(der + form->n_der, key, LF_KEY_SIZE);
    encode_base64(der, form->n_der + LF_KEY_SIZE, base64);
    n = snprintf(out, LF_KEY_MAX_TEXT, "-----BEGIN %s-----\n%s\n-----END %s-----\n", form->label, base64, form->label);
    explicit_bzero(der, sizeof der);
    explicit_bzero(base64, sizeof base64);
    return (size_t)n;
}
