/* SPDX-License-Identifier: MIT */
#include "format/base/bytes.h"
#include "format/foreign/safetensors.h"

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
     12, "a .lora file, which holds adapters, not a model"},
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
    {"<!doctype", 9, "a web page, not a model file"},
    {"<html", 5, "a web page, not a model file"},
    {"<?xml", 5, "an XML document, not a model file"},
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
    return size >= 8 && lf_load_u64le(head) <= LF_SAFETENSORS_MAX_HEADER && (size == 8 || head[8] == '{');
}

static bool is_json(const uint8_t *head, size_t size)
{
    if (size == 0 || head[0] != '{')
        return false;
    return size == 1 || is_space(head[1]) || head[1] == '"' || head[1] == '}';
}

const char *lf_foreign_recognise(const uint8_t *head, size_t size)
{
    if (size == 0)
        return "an empty file";
    if (is_safetensors(head, size))
        return NULL;
    for (size_t i = 0; i < sizeof binaries / sizeof binaries[0]; i++)
        if (begins_with(head, size, &binaries[i], false))
            return binaries[i].what;
    if (size >= 3 && memcmp(head, "\xef\xbb\xbf", 3) == 0) { // byte order mark
        head += 3;
        size -= 3;
    }
    for (; size && is_space(*head); size--)
        head++;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (begins_with(head, size, &texts[i], true))
            return texts[i].what;
    return is_json(head, size) ? "JSON text, not a safetensors file" : NULL;
}
