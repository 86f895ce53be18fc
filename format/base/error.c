/* SPDX-License-Identifier: MIT */
#include "format/base/error.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* UTF-8 stays so: of a text that did not fit, a character that was cut is taken away. */
static void end_whole(char *text, size_t size)
{
    const size_t n = strlen(text);
    size_t lead = n;

    if (n + 1 < size)
        return;
    while (lead && n - lead < 3 && ((unsigned char)text[lead - 1] & 0xc0) == 0x80)
        lead--;
    if (lead && (unsigned char)text[lead - 1] >= 0xc0)
        if (n - (lead - 1) < (size_t)((unsigned char)text[lead - 1] < 0xe0 ? 2 : (unsigned char)text[lead - 1] < 0xf0 ? 3 : 4))
            text[lead - 1] = '\0';
}

static void copy_text(char *dst, size_t size, const char *src)
{
    snprintf(dst, size, "%s", src ? src : "");
    end_whole(dst, size);
}

static void fill(lorafmt_error *err, lorafmt_status status, int os_error, uint64_t offset, const char *field)
{
    err->status = status;
    err->os_error = os_error;
    err->offset = offset;
    err->hint = LORAFMT_HINT_NONE;
    err->file[0] = '\0';
    copy_text(err->field, sizeof err->field, field);
}

lorafmt_status lf_fail(lorafmt_error *err, lorafmt_status status, uint64_t offset, const char *field, const char *format, ...)
{
    if (err) {
        va_list args;
        fill(err, status, 0, offset, field);
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        end_whole(err->text, sizeof err->text);
    }
    return status;
}

lorafmt_status lf_fail_os(lorafmt_error *err, int os_error, const char *file, const char *format, ...)
{
    const bool missing = os_error == ENOENT || os_error == ENOTDIR;
    const lorafmt_status status = missing ? LORAFMT_NOT_FOUND : os_error == ENOMEM ? LORAFMT_NO_MEMORY : LORAFMT_IO;

    if (err) {
        va_list args;
        size_t n;
        fill(err, status, os_error, LORAFMT_NO_OFFSET, NULL);
        copy_text(err->file, sizeof err->file, file);
        va_start(args, format);
        vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        end_whole(err->text, sizeof err->text);
        n = strlen(err->text);
        snprintf(err->text + n, sizeof err->text - n, ": %s", strerror(os_error));
    }
    return status;
}

lorafmt_status lf_hint(lorafmt_error *err, lorafmt_status status, lorafmt_hint hint)
{
    if (err)
        err->hint = hint;
    return status;
}

lorafmt_status lf_no_memory(lorafmt_error *err)
{
    return lf_fail(err, LORAFMT_NO_MEMORY, LORAFMT_NO_OFFSET, NULL, "out of memory");
}

lorafmt_status lf_check_struct_size(size_t found, size_t wanted, lorafmt_error *err)
{
    if (found == wanted)
        return LORAFMT_OK;
    return lf_fail(err, LORAFMT_MISUSE, LORAFMT_NO_OFFSET, "struct_size", "%zu, this API version has %zu", found, wanted);
}

void lf_error_set_file(lorafmt_error *err, const char *path)
{
    if (err && !err->file[0])
        copy_text(err->file, sizeof err->file, path);
}

const char *lorafmt_status_name(lorafmt_status status)
{
    switch (status) {
    case LORAFMT_OK:
        return "OK";
    case LORAFMT_NOT_LORAFMT:
        return "NOT_LORAFMT";
    case LORAFMT_UNSUPPORTED:
        return "UNSUPPORTED";
    case LORAFMT_CORRUPT:
        return "CORRUPT";
    case LORAFMT_LIMIT:
        return "LIMIT";
    case LORAFMT_NO_MEMORY:
        return "NO_MEMORY";
    case LORAFMT_IO:
        return "IO";
    case LORAFMT_NOT_FOUND:
        return "NOT_FOUND";
    case LORAFMT_MISMATCH:
        return "MISMATCH";
    case LORAFMT_MISUSE:
        return "MISUSE";
    case LORAFMT_CANCELLED:
        return "CANCELLED";
    case LORAFMT_UNTRUSTED:
        return "UNTRUSTED";
    }
    return "UNKNOWN";
}

size_t lorafmt_error_format(const lorafmt_error *err, char *buf, size_t size)
{
    char where[32] = "";
    size_t length;

    if (size == 0)
        return 0;
    if (err->offset != LORAFMT_NO_OFFSET)
        snprintf(where, sizeof where, "%s0x%" PRIx64, err->field[0] ? " at " : "offset ", err->offset);
    snprintf(buf, size, "%s%s%s%s%s%s", err->file, err->file[0] ? ": " : "", err->field, where,
             err->field[0] || where[0] ? ": " : "", err->text);
    length = strlen(buf);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)buf[i] < 0x20 || buf[i] == 0x7f)
            buf[i] = '?';
    return length;
}
