/* SPDX-License-Identifier: MIT */
#include "format/base/recognise.h"

#include "format/base/bytes.h"

#include <stdbool.h>
#include <string.h>

typedef struct signature {
    const char *bytes;
    size_t size;
    const char *what;
} signature;

#define PICKLE_ADVICE "never opened: load it with PyTorch and write it with `from safetensors.torch import save_file`"

static const signature binaries[] = {
    {"\x89loraf"
     "mt\r\n\x1a\n",
     12, "a .lora file, which holds adapters"},
    {"GGUF", 4, "a GGUF file, which cannot be read here"},
    {"PK\x03\x04", 4, "a PyTorch pickle archive (zip), " PICKLE_ADVICE},
    {"\x80\x02", 2, "a pickle, " PICKLE_ADVICE},
    {"\x80\x03", 2, "a pickle, " PICKLE_ADVICE},
    {"\x80\x04", 2, "a pickle, " PICKLE_ADVICE},
    {"\x80\x05", 2, "a pickle, " PICKLE_ADVICE},
    {"\x1f\x8b", 2, "gzip data: decompress it first"},
};

/* In lower case; white space before them is skipped. */
static const signature texts[] = {
    {"version https://git-lfs", 23, "a Git-LFS pointer: fetch the file itself with `git lfs pull`"},
    {"<!doctype", 9, "a web page"},
    {"<html", 5, "a web page"},
    {"<?xml", 5, "an XML document"},
};

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool begins_with(const uint8_t *head, size_t size, const signature *s, bool any_case)
{
    if (size < s->size)
        return false;
    for (size_t i = 0; i < s->size; i++)
        if ((any_case ? lower(head[i]) : head[i]) != (uint8_t)s->bytes[i])
            return false;
    return true;
}

/* A header size of which four bytes are zero, and what follows it: no text and no archive begins like this. */
static bool is_safetensors(const uint8_t *head, size_t size)
{
    return size >= 8 && lf_load_u32le(head + 4) == 0 && (size == 8 || head[8] == '{');
}

static bool is_json(const uint8_t *head, size_t size)
{
    if (size == 0 || head[0] != '{')
        return false;
    return size == 1 || is_space(head[1]) || head[1] == '"' || head[1] == '}';
}

static const char *find(const signature *signatures, size_t n, const uint8_t *head, size_t size, bool any_case)
{
    for (size_t i = 0; i < n; i++)
        if (begins_with(head, size, &signatures[i], any_case))
            return signatures[i].what;
    return NULL;
}

const char *lf_recognise(const uint8_t *head, size_t size, lf_file_kind expected)
{
    const char *what;

    if (size == 0)
        return expected == LF_FILE_JSON ? NULL : "an empty file"; // a text may be one that is cut short
    if (is_safetensors(head, size))
        return expected == LF_FILE_SAFETENSORS ? NULL : "a safetensors file";
    what = find(binaries, sizeof binaries / sizeof binaries[0], head, size, false);
    if (what)
        return what;
    if (size >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0) { // byte order mark
        head += 3;
        size -= 3;
    }
    for (; size && is_space(*head); size--)
        head++;
    what = find(texts, sizeof texts / sizeof texts[0], head, size, true);
    if (what)
        return what;
    return expected != LF_FILE_JSON && is_json(head, size) ? "JSON text" : NULL;
}
