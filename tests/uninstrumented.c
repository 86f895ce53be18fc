/* SPDX-License-Identifier: MIT */
/*
 * MemorySanitizer sees what is written only where it has compiled the code. Here it is told what the libraries have written that
 * format/ and its tests call. The linker leads the calls to these functions (--wrap).
 */
#include <cjson/cJSON.h>
#include <nettle/sha2.h>
#include <sanitizer/msan_interface.h>
#include <sys/stat.h>
#include <zlib.h>

// NOLINTBEGIN(bugprone-reserved-identifier): names that the linker makes
int __real_inflate(z_stream *z, int flush);
int __wrap_inflate(z_stream *z, int flush);
int __real_deflate(z_stream *z, int flush);
int __wrap_deflate(z_stream *z, int flush);
int __real_compress2(Bytef *out, uLongf *out_size, const Bytef *in, uLong in_size, int level);
int __wrap_compress2(Bytef *out, uLongf *out_size, const Bytef *in, uLong in_size, int level);
int __real_stat64(const char *path, struct stat *out);
int __wrap_stat64(const char *path, struct stat *out);
void __real_nettle_sha256_digest(struct sha256_ctx *ctx, size_t size, uint8_t *digest);
void __wrap_nettle_sha256_digest(struct sha256_ctx *ctx, size_t size, uint8_t *digest);
cJSON *__real_cJSON_ParseWithLength(const char *text, size_t size);
cJSON *__wrap_cJSON_ParseWithLength(const char *text, size_t size);
char *__real_cJSON_PrintUnformatted(const cJSON *item);
char *__wrap_cJSON_PrintUnformatted(const cJSON *item);

int __wrap_inflate(z_stream *z, int flush)
{
    const uint8_t *const begin = z->next_out;
    const int result = __real_inflate(z, flush);

    __msan_unpoison(begin, (size_t)(z->next_out - begin));
    return result;
}

int __wrap_deflate(z_stream *z, int flush)
{
    const uint8_t *const begin = z->next_out;
    const int result = __real_deflate(z, flush);

    __msan_unpoison(begin, (size_t)(z->next_out - begin));
    return result;
}

int __wrap_compress2(Bytef *out, uLongf *out_size, const Bytef *in, uLong in_size, int level)
{
    const int result = __real_compress2(out, out_size, in, in_size, level);

    __msan_unpoison(out, *out_size);
    return result;
}

int __wrap_stat64(const char *path, struct stat *out)
{
    const int result = __real_stat64(path, out);

    if (result == 0)
        __msan_unpoison(out, sizeof *out);
    return result;
}

void __wrap_nettle_sha256_digest(struct sha256_ctx *ctx, size_t size, uint8_t *digest)
{
    __real_nettle_sha256_digest(ctx, size, digest);
    __msan_unpoison(digest, size);
}

static void unpoison_tree(const cJSON *item)
{
    for (; item; item = item->next) {
        __msan_unpoison(item, sizeof *item);
        if (item->string)
            __msan_unpoison_string(item->string);
        if (item->valuestring)
            __msan_unpoison_string(item->valuestring);
        unpoison_tree(item->child);
    }
}

cJSON *__wrap_cJSON_ParseWithLength(const char *text, size_t size)
{
    cJSON *const root = __real_cJSON_ParseWithLength(text, size);

    unpoison_tree(root);
    return root;
}

/* It has the length of its own text taken, which is not known to be written yet. */
char *__wrap_cJSON_PrintUnformatted(const cJSON *item)
{
    char *text;

    __msan_scoped_disable_interceptor_checks();
    text = __real_cJSON_PrintUnformatted(item);
    __msan_scoped_enable_interceptor_checks();
    if (text)
        __msan_unpoison_string(text);
    return text;
}
// NOLINTEND(bugprone-reserved-identifier)
