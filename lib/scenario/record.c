/* SPDX-License-Identifier: MIT */
#include "lib/scenario/record.h"

#include "format/base/digest.h"
#include "format/base/error.h"
#include "format/base/text.h"
#include "lib/io/io.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_RECORD (UINT64_C(64) << 20) /* a million files */

lorafmt_status lk_text_begin(lk_text *text, lorafmt_error *err)
{
    *text = (lk_text){0};
    text->stream = open_memstream(&text->bytes, &text->size);
    return text->stream ? LORAFMT_OK : lf_no_memory(err);
}

lorafmt_status lk_text_finish(lk_text *text, lorafmt_error *err)
{
    const bool failed = ferror(text->stream) != 0;

    return fclose(text->stream) == 0 && !failed && text->bytes ? LORAFMT_OK
                                                               : lf_no_memory(err); // glibc may succeed without bytes
}

void lk_put_number(FILE *to, double number)
{
    static const char digits[] = "0123456789";
    char text[64];
    const char *point, *fraction;

    snprintf(text, sizeof text, "%.17g", number);
    point = text + (*text == '-');
    point += strspn(point, digits);
    fraction = point + strcspn(point, digits);
    if (!*point || *point == 'e')
        fputs(text, to);
    else
        fprintf(to, "%.*s.%s", (int)(point - text), text, fraction);
}

static int digit_of(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool lk_hex_parse(const char *hex, uint8_t digest[32])
{
    for (size_t i = 0; i < 32; i++) {
        const int high = digit_of(hex[2 * i]), low = high < 0 ? -1 : digit_of(hex[2 * i + 1]);
        if (low < 0)
            return false;
        digest[i] = (uint8_t)(high << 4 | low);
    }
    return hex[64] == '\0' || hex[64] == ' ' || hex[64] == '\n';
}

static lorafmt_status write_all(lf_output *output, const lk_text *lines, lorafmt_error *err)
{
    const int fd = lf_output_fd(output);
    const char *path = lf_output_path(output);
    uint8_t digest[LF_SHA256_SIZE];
    char hex[LF_HEX_SIZE], end[LF_HEX_SIZE + 1];

    lf_sha256_of(lines->bytes, lines->size, digest);
    snprintf(end, sizeof end, "%s\n", lf_hex(digest, hex));
    LF_TRY(lf_file_write(fd, path, 0, lines->bytes, lines->size, err));
    return lf_file_write(fd, path, lines->size, end, strlen(end), err);
}

lorafmt_status lk_record_write(const char *path, const lk_text *lines, lorafmt_error *err)
{
    lf_output *output;
    lorafmt_status st;

    LF_TRY(lf_output_begin_file(path, true, &output, err));
    st = write_all(output, lines, err);
    if (!st)
        return lf_output_commit(output, err);
    lf_output_abort(output);
    return st;
}

/* Is the text whole? Cuts its digest off. */
static bool check(char *text, size_t size)
{
    uint8_t said[LF_SHA256_SIZE], found[LF_SHA256_SIZE];

    if (size < LF_HEX_SIZE || !lk_hex_parse(text + size - LF_HEX_SIZE, said))
        return false;
    lf_sha256_of(text, size - LF_HEX_SIZE, found);
    text[size - LF_HEX_SIZE] = '\0';
    return memcmp(said, found, sizeof said) == 0;
}

lorafmt_status lk_record_load(const char *path, char **out, lorafmt_error *err)
{
    size_t size;

    if (lf_file_load(path, MAX_RECORD, out, &size, NULL) == LORAFMT_NO_MEMORY)
        return lf_no_memory(err);
    if (*out && !check(*out, size)) {
        free(*out);
        *out = NULL;
    }
    return LORAFMT_OK;
}

char *lk_record_line(char **lines)
{
    char *line = *lines, *end = strchr(line, '\n');

    if (!end)
        return NULL;
    *end = '\0';
    *lines = end + 1;
    return line;
}

bool lk_record_number(char **at, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(*at, &end, 10);
    if (errno || end == *at || *end != ' ')
        return false;
    *at = end + 1;
    return true;
}
